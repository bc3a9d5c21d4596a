#include "source/vmware/model.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "json/codec.h"

#define DEVICES_MAX 1024

static const struct {
	const char *type;
	enum vm_bus bus;
} controllers[] = {
	{ "VirtualIDEController", VM_BUS_IDE },
	{ "VirtualAHCIController", VM_BUS_SATA },
	{ "VirtualSATAController", VM_BUS_SATA },
	{ "ParaVirtualSCSIController", VM_BUS_PVSCSI },
	{ "VirtualLsiLogicController", VM_BUS_SCSI },
	{ "VirtualLsiLogicSASController", VM_BUS_SCSI },
	{ "VirtualBusLogicController", VM_BUS_SCSI },
	{ "VirtualNVMEController", VM_BUS_NVME },
	{ "VirtualUSBController", VM_BUS_USB },
	{ "VirtualUSBXHCIController", VM_BUS_USB },
};

static const struct {
	const char *type, *model;
} cards[] = {
	{ "VirtualVmxnet3", "vmxnet3" },     { "VirtualVmxnet3Vrdma", "vmxnet3" }, { "VirtualVmxnet2", "vmxnet2" }, { "VirtualVmxnet", "vmxnet2" },
	{ "VirtualE1000", "e1000" },	     { "VirtualE1000e", "e1000e" },	   { "VirtualPCNet32", "pcnet32" }, { "VirtualSriovEthernetCard", "vmxnet3" },
};

static enum vm_bus bus_of(const char *type)
{
	for (size_t i = 0; type && i < sizeof controllers / sizeof *controllers; i++)
		if (!strcmp(controllers[i].type, type))
			return controllers[i].bus;
	return VM_BUS_UNKNOWN;
}

static const char *card_model(const char *type)
{
	for (size_t i = 0; type && i < sizeof cards / sizeof *cards; i++)
		if (!strcmp(cards[i].type, type))
			return cards[i].model;
	return NULL;
}

enum vm_power vmware_power_of(const char *state)
{
	if (state && !strcmp(state, "poweredOn"))
		return VM_POWER_ON;
	if (state && !strcmp(state, "poweredOff"))
		return VM_POWER_OFF;
	return state && !strcmp(state, "suspended") ? VM_POWER_SUSPENDED : VM_POWER_UNKNOWN;
}

/* The device of this key. */
static const xmlNode *device_of(const xmlNode *list, int64_t key)
{
	for (const xmlNode *d = xml_first(list); d; d = xml_next(d, NULL))
		if (xml_path_number(d, "key", -1) == key)
			return d;
	return NULL;
}

static int add_disk(struct vm_model *m, const xmlNode *list, const xmlNode *device)
{
	struct vm_disk *disk = &m->disks[m->disk_count];
	const xmlNode *controller = device_of(list, xml_path_number(device, "controllerKey", -1));
	AUTO_FREE char *type = xml_type(controller);
	int64_t bytes = xml_path_number(device, "capacityInBytes", 0), kib = xml_path_number(device, "capacityInKB", 0);

	if (bytes <= 0 && (kib <= 0 || kib > INT64_MAX / 1024))
		return -1;
	*disk = (struct vm_disk){ .capacity = (uint64_t)(bytes > 0 ? bytes : kib * 1024), .bus = bus_of(type) };
	if (asprintf(&disk->id, "%lld %s%lld:%lld", (long long)xml_path_number(device, "key", 0), type ? type : "Controller",
		     (long long)xml_path_number(controller, "busNumber", 0), (long long)xml_path_number(device, "unitNumber", 0)) < 0)
		disk->id = NULL;
	disk->label = xml_path_text(device, "deviceInfo/label");
	m->disk_count++;
	return 0;
}

/* The name of a standard network is in the device; of others an id, which names maps to the name. */
static char *network_of(const xmlNode *backing, const json_t *names)
{
	AUTO_FREE char *type = xml_type(backing), *id = NULL;
	const char *name;

	if (type && !strcmp(type, "VirtualEthernetCardDistributedVirtualPortBackingInfo"))
		id = xml_path_text(backing, "port/portgroupKey");
	else if (type && !strcmp(type, "VirtualEthernetCardOpaqueNetworkBackingInfo"))
		id = xml_path_text(backing, "opaqueNetworkId");
	else
		return xml_path_text(backing, "deviceName");
	name = id ? json_string_value(json_object_get(names, id)) : NULL;
	return name ? strdup(name) : move_ptr(id);
}

static void add_nic(struct vm_model *m, const xmlNode *device, const char *model, const json_t *names)
{
	m->nics[m->nic_count++] = (struct vm_nic){
		.network = network_of(xml_child(device, "backing"), names),
		.mac = xml_path_text(device, "macAddress"),
		.model = strdup(model),
		.label = xml_path_text(device, "deviceInfo/label"),
		.connected = xml_path_is(device, "connectable/connected", "true") || xml_path_is(device, "connectable/startConnected", "true"),
	};
}

static int keep_network(void *arg, const xmlNode *objects)
{
	json_t *names = arg;
	AUTO_FREE char *name = xml_text(vmware_property(objects, "name")), *ref = xml_text(xml_child(objects, "obj"));
	AUTO_FREE char *key = xml_text(vmware_property(objects, "key")), *opaque = xml_path_text(vmware_property(objects, "summary"), "opaqueNetworkId");

	if (name && ref)
		json_object_set_new(names, ref, json_string(name));
	if (name && key)
		json_object_set_new(names, key, json_string(name));
	if (name && opaque)
		json_object_set_new(names, opaque, json_string(name));
	return 0;
}

/* Ids of the distributed and opaque networks that the machine is on -> their names. */
static json_t *network_names(struct vmware_session *s, const xmlNode *objects, struct cancel *cancel, struct error **err)
{
	AUTO_JSON json_t *names = json_object();
	CLEANUP(buffer_free) struct buffer spec = { 0 };
	size_t count = 0;

	buffer_init(&spec, 1 << 20);
	buffer_add_string(&spec, "<specSet><propSet><type>Network</type><pathSet>name</pathSet></propSet>"
				 "<propSet><type>DistributedVirtualPortgroup</type><pathSet>name</pathSet><pathSet>key</pathSet></propSet>"
				 "<propSet><type>OpaqueNetwork</type><pathSet>name</pathSet><pathSet>summary</pathSet></propSet>");
	for (const xmlNode *n = xml_first(vmware_property(objects, "network")); n; n = xml_next(n, NULL)) {
		AUTO_FREE char *type = xml_type(n), *ref = xml_text(n);

		if (!type || !ref || (strcmp(type, "DistributedVirtualPortgroup") && strcmp(type, "OpaqueNetwork")))
			continue;
		buffer_addf(&spec, "<objectSet><obj type=\"%s\">", type);
		xml_add_escaped(&spec, ref);
		buffer_add_string(&spec, "</obj></objectSet>");
		count++;
	}
	buffer_add_string(&spec, "</specSet>");
	if (count && vmware_retrieve(s, spec.data, keep_network, names, cancel, err) < 0) {
		error_wrap(err, "cannot read the networks' names");
		return NULL;
	}
	return move_ptr(names);
}

/* The disk that the firmware boots from comes first, the others in the order of the devices. */
static void order_disks(struct vm_model *m, const xmlNode *boot_options)
{
	for (const xmlNode *o = xml_child(boot_options, "bootOrder"); o; o = xml_next(o, "bootOrder")) {
		AUTO_FREE char *type = xml_type(o);
		int64_t key = xml_path_number(o, "deviceKey", -1);

		if (!type || strcmp(type, "VirtualMachineBootOptionsBootableDiskDevice"))
			continue;
		for (size_t i = 0; i < m->disk_count; i++) {
			struct vm_disk first = m->disks[i];

			if (!first.id || strtoll(first.id, NULL, 10) != key)
				continue;
			memmove(m->disks + 1, m->disks, i * sizeof *m->disks);
			m->disks[0] = first;
			break;
		}
		break;
	}
	for (size_t i = 0; i < m->disk_count; i++)
		m->disks[i].boot_order = (unsigned)i + 1;
}

static int read_devices(struct vm_model *m, const xmlNode *list, const json_t *names, struct error **err)
{
	size_t count = 0;

	for (const xmlNode *d = xml_first(list); d; d = xml_next(d, NULL))
		count++;
	if (count > DEVICES_MAX)
		return error_set(err, ERROR_PERMANENT, "TooManyDevices", "%s has %zu devices", m->name, count);
	m->disks = calloc(count + 1, sizeof *m->disks);
	m->nics = calloc(count + 1, sizeof *m->nics);
	if (!m->disks || !m->nics)
		return error_set_errno(err, ENOMEM, "cannot keep the devices");
	for (const xmlNode *d = xml_first(list); d; d = xml_next(d, NULL)) {
		AUTO_FREE char *type = xml_type(d);
		const char *model = card_model(type);

		if (type && !strcmp(type, "VirtualDisk") && add_disk(m, list, d) < 0)
			return error_set(err, ERROR_PERMANENT, "InvalidDisk", "a disk of %s has no capacity", m->name);
		if (model)
			add_nic(m, d, model, names);
		if (type && !strcmp(type, "VirtualTPM"))
			m->tpm = true;
	}
	return 0;
}

static int64_t number(const xmlNode *objects, const char *name)
{
	AUTO_FREE char *text = xml_text(vmware_property(objects, name));

	return text ? strtoll(text, NULL, 10) : 0;
}

struct vm_model *vmware_describe(struct vmware_session *s, const char *ref, const char *path, struct cancel *cancel, struct error **err)
{
	static const char *const paths[] = { "name",
					     "config.hardware.numCPU",
					     "config.hardware.numCoresPerSocket",
					     "config.hardware.memoryMB",
					     "config.hardware.device",
					     "config.firmware",
					     "config.bootOptions",
					     "config.guestId",
					     "config.annotation",
					     "runtime.powerState",
					     "guest.toolsRunningStatus",
					     "network",
					     NULL };
	xmlNode *o = NULL;
	AUTO_XML xmlDoc *doc = vmware_properties(s, (struct vmware_ref){ "VirtualMachine", ref }, paths, &o, cancel, err);
	AUTO_VM_MODEL struct vm_model *m = doc ? calloc(1, sizeof *m) : NULL;
	AUTO_JSON json_t *names = m ? network_names(s, o, cancel, err) : NULL;
	AUTO_FREE char *firmware = NULL, *power = NULL, *tools = NULL;
	int64_t cpus, cores, memory;

	if (!names)
		return NULL;
	m->source_id = strdup(ref);
	m->path = strdup(path);
	m->name = xml_text(vmware_property(o, "name"));
	m->description = xml_text(vmware_property(o, "config.annotation"));
	m->guest_os = xml_text(vmware_property(o, "config.guestId"));
	firmware = xml_text(vmware_property(o, "config.firmware"));
	power = xml_text(vmware_property(o, "runtime.powerState"));
	tools = xml_text(vmware_property(o, "guest.toolsRunningStatus"));
	cpus = number(o, "config.hardware.numCPU");
	cores = number(o, "config.hardware.numCoresPerSocket");
	memory = number(o, "config.hardware.memoryMB");
	if (!m->name || cpus < 1 || cpus > 4096 || memory < 1 || memory > (INT64_C(1) << 30)) {
		error_set(err, ERROR_PERMANENT, "NoConfiguration",
			  "%s has no readable configuration (%lld CPUs, %lld MB); it may be inaccessible or orphaned, or the user lacks the right to read it", path,
			  (long long)cpus, (long long)memory);
		return NULL;
	}
	m->vcpus = (unsigned)cpus;
	m->cores_per_socket = cores < 1 || cores > cpus ? 1 : (unsigned)cores;
	m->memory = (uint64_t)memory << 20;
	m->efi = firmware && !strcmp(firmware, "efi");
	m->secure_boot = m->efi && xml_path_is(vmware_property(o, "config.bootOptions"), "efiSecureBootEnabled", "true");
	m->power = vmware_power_of(power);
	m->guest_tools = tools && !strcmp(tools, "guestToolsRunning");
	if (read_devices(m, vmware_property(o, "config.hardware.device"), names, err) < 0)
		return NULL;
	order_disks(m, vmware_property(o, "config.bootOptions"));
	return move_ptr(m);
}

static void complain(json_t *problems, const char *path, const char *label, const char *what)
{
	char *text = NULL;

	if (asprintf(&text, "%s of %s %s", label ? label : "a disk", path, what) >= 0)
		json_array_append_new(problems, json_string(text));
	free(text);
}

int vmware_check_devices(struct vmware_session *s, const char *ref, json_t *problems, struct cancel *cancel, struct error **err)
{
	static const char *const paths[] = { "name", "config.hardware.device", "config.keyId", NULL };
	xmlNode *o = NULL;
	AUTO_XML xmlDoc *doc = vmware_properties(s, (struct vmware_ref){ "VirtualMachine", ref }, paths, &o, cancel, err);
	AUTO_FREE char *name = xml_text(vmware_property(o, "name"));

	if (!doc)
		return -1;
	if (vmware_property(o, "config.keyId"))
		complain(problems, name, "The configuration", "is encrypted; decrypt the virtual machine first");
	for (const xmlNode *d = xml_first(vmware_property(o, "config.hardware.device")); d; d = xml_next(d, NULL)) {
		AUTO_FREE char *type = xml_type(d), *label = xml_path_text(d, "deviceInfo/label"), *backing = xml_type(xml_child(d, "backing"));

		if (!type || strcmp(type, "VirtualDisk"))
			continue;
		if (xml_path_is(d, "backing/sharing", "sharingMultiWriter"))
			complain(problems, name, label, "is shared with other machines (multi-writer); a consistent copy cannot be made, detach it first");
		if (backing && !strcmp(backing, "VirtualDiskRawDiskMappingVer1BackingInfo") && xml_path_is(d, "backing/compatibilityMode", "physicalMode"))
			complain(problems, name, label, "is a raw device mapping in physical mode, which vSphere does not export; detach it first");
	}
	return 0;
}
