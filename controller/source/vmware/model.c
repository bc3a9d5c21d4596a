#include "source/vmware/model.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "source/vmware/notes.h"
#include "source/vmware/property.h"
#include "json/codec.h"

#define DEVICES_MAX 1024 /* a machine has at most some 300 */
#define MEMORY_MAX_MB (INT64_C(1) << 30)

static const struct {
	const char *type;
	enum vm_bus bus;
} controllers[] = {
	{ "VirtualIDEController", VM_BUS_IDE },       { "VirtualAHCIController", VM_BUS_SATA },
	{ "VirtualSATAController", VM_BUS_SATA },     { "ParaVirtualSCSIController", VM_BUS_PVSCSI },
	{ "VirtualLsiLogicController", VM_BUS_SCSI }, { "VirtualLsiLogicSASController", VM_BUS_SCSI },
	{ "VirtualBusLogicController", VM_BUS_SCSI }, { "VirtualNVMEController", VM_BUS_NVME },
	{ "VirtualUSBController", VM_BUS_USB },       { "VirtualUSBXHCIController", VM_BUS_USB },
};

/* A disk with what orders it. */
struct placed_disk {
	struct vm_disk disk;
	int64_t key, bus_number, unit;
	unsigned family; /* by the first device of the kind */
};

static const struct {
	const char *type, *model;
} cards[] = {
	{ "VirtualVmxnet3", "vmxnet3" }, { "VirtualVmxnet3Vrdma", "vmxnet3" },
	{ "VirtualVmxnet2", "vmxnet2" }, { "VirtualVmxnet", "vmxnet2" },
	{ "VirtualE1000", "e1000" },     { "VirtualE1000e", "e1000e" },
	{ "VirtualPCNet32", "pcnet32" }, { "VirtualSriovEthernetCard", "vmxnet3" },
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

/* Bytes that the files of a disk take, over all its snapshots: 0 when the source does not say. */
static uint64_t allocated_of(const xmlNode *layout, int64_t key)
{
	uint64_t sum = 0;

	for (const xmlNode *d = xml_child(layout, "disk"); d; d = xml_next(d, "disk")) {
		if (xml_path_number(d, "key", -1) != key)
			continue;
		for (const xmlNode *link = xml_child(d, "chain"); link; link = xml_next(link, "chain")) {
			for (const xmlNode *k = xml_child(link, "fileKey"); k; k = xml_next(k, "fileKey")) {
				int64_t file_key = xml_number(k, -1);

				for (const xmlNode *f = xml_child(layout, "file"); f; f = xml_next(f, "file")) {
					int64_t size = xml_path_number(f, "size", 0);

					if (xml_path_number(f, "key", -2) == file_key && xml_path_is(f, "type", "diskExtent") && size > 0 &&
					    __builtin_add_overflow(sum, (uint64_t)size, &sum))
						return 0;
				}
			}
		}
	}
	return sum;
}

static int read_disk(struct placed_disk *out, const xmlNode *list, const xmlNode *device, const xmlNode *layout)
{
	const xmlNode *controller = device_of(list, xml_path_number(device, "controllerKey", -1));
	AUTO_FREE char *type = xml_type(controller);
	int64_t bytes = xml_path_number(device, "capacityInBytes", 0), kib = xml_path_number(device, "capacityInKB", 0);
	struct placed_disk p = { .key = xml_path_number(device, "key", 0),
				 .bus_number = xml_path_number(controller, "busNumber", 0),
				 .unit = xml_path_number(device, "unitNumber", 0) };

	if (bytes <= 0 && (kib <= 0 || kib > INT64_MAX / 1024))
		return -1;
	p.disk = (struct vm_disk){ .capacity = (uint64_t)(bytes > 0 ? bytes : kib * 1024), .bus = bus_of(type) };
	p.disk.allocated = allocated_of(layout, p.key);
	if (p.disk.allocated > p.disk.capacity)
		p.disk.allocated = p.disk.capacity;
	p.disk.label = xml_path_text(device, "deviceInfo/label");
	if (asprintf(&p.disk.id, "%lld %s%lld:%lld", (long long)p.key, type ? type : "Controller", (long long)p.bus_number,
		     (long long)p.unit) < 0)
		p.disk.id = NULL;
	*out = p;
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

static struct vm_nic nic_of(const xmlNode *device, const char *model, const json_t *names)
{
	return (struct vm_nic){
		.network = network_of(xml_child(device, "backing"), names),
		.mac = xml_path_text(device, "macAddress"),
		.model = strdup(model),
		.label = xml_path_text(device, "deviceInfo/label"),
		.connected =
			xml_path_is(device, "connectable/connected", "true") || xml_path_is(device, "connectable/startConnected", "true"),
	};
}

static int keep_network(void *arg, const xmlNode *objects)
{
	json_t *names = arg;
	AUTO_FREE char *name = xml_text(vmware_property(objects, "name")), *ref = xml_text(xml_child(objects, "obj"));
	AUTO_FREE char *key = xml_text(vmware_property(objects, "key")),
		       *opaque = xml_path_text(vmware_property(objects, "summary"), "opaqueNetworkId");

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
		AUTO_FREE char *type = xml_reference_type(n), *ref = xml_text(n);

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

/* SCSI disks before or after SATA ones, as the devices are listed; within a kind by controller and unit, as a firmware looks for them. */
static int by_place(const void *a, const void *b)
{
	const struct placed_disk *x = a, *y = b;
	const int64_t order[][2] = { { x->family, y->family }, { x->bus_number, y->bus_number }, { x->unit, y->unit }, { x->key, y->key } };

	for (size_t i = 0; i < sizeof order / sizeof *order; i++)
		if (order[i][0] != order[i][1])
			return order[i][0] < order[i][1] ? -1 : 1;
	return 0;
}

static enum vm_bus family_of(enum vm_bus bus)
{
	return bus == VM_BUS_PVSCSI ? VM_BUS_SCSI : bus; /* they share bus numbers */
}

/* The disks that the boot order names come first, in its order. */
static void prefer_boot_disks(struct placed_disk *disks, size_t count, const xmlNode *boot_options)
{
	size_t placed = 0;

	for (const xmlNode *o = xml_child(boot_options, "bootOrder"); o; o = xml_next(o, "bootOrder")) {
		AUTO_FREE char *type = xml_type(o);
		int64_t key = xml_path_number(o, "deviceKey", -1);

		if (!type || strcmp(type, "VirtualMachineBootOptionsBootableDiskDevice"))
			continue;
		for (size_t i = placed; i < count; i++) {
			struct placed_disk next = disks[i];

			if (next.key != key)
				continue;
			memmove(disks + placed + 1, disks + placed, (i - placed) * sizeof *disks);
			disks[placed++] = next;
			break;
		}
	}
}

static int read_disks(struct vm_model *m, const xmlNode *list, size_t max, const xmlNode *layout, const xmlNode *boot_options,
		      struct error **err)
{
	AUTO_FREE struct placed_disk *disks = calloc(max + 1, sizeof *disks);
	size_t count = 0;
	bool complete = true;

	m->disks = calloc(max + 1, sizeof *m->disks);
	if (!disks || !m->disks)
		return error_set_errno(err, ENOMEM, "cannot keep the disks");
	for (const xmlNode *d = xml_first(list); d && complete; d = xml_next(d, NULL)) {
		AUTO_FREE char *type = xml_type(d);

		if (!type || strcmp(type, "VirtualDisk"))
			continue;
		complete = read_disk(&disks[count], list, d, layout) == 0;
		if (!complete)
			break;
		disks[count].family = (unsigned)count;
		for (size_t i = 0; i < count; i++) {
			if (family_of(disks[i].disk.bus) != family_of(disks[count].disk.bus))
				continue;
			disks[count].family = disks[i].family;
			break;
		}
		count++;
	}
	qsort(disks, count, sizeof *disks, by_place);
	prefer_boot_disks(disks, count, boot_options);
	for (size_t i = 0; i < count; i++) { /* owned by the model from here on */
		m->disks[i] = disks[i].disk;
		m->disks[i].boot_order = (unsigned)i + 1;
		complete = complete && m->disks[i].id;
	}
	m->disk_count = count;
	return complete ? 0 : error_set(err, ERROR_PERMANENT, "InvalidDisk", "a disk of %s has no capacity", m->name);
}

/* A card with what orders it: guests name their cards in this order. */
struct placed_nic {
	struct vm_nic nic;
	int64_t key;
};

static int by_key(const void *a, const void *b)
{
	const struct placed_nic *x = a, *y = b;

	return x->key < y->key ? -1 : x->key > y->key;
}

static int read_nics(struct vm_model *m, const xmlNode *list, size_t max, const json_t *names, struct error **err)
{
	AUTO_FREE struct placed_nic *nics = calloc(max + 1, sizeof *nics);
	size_t count = 0;

	m->nics = calloc(max + 1, sizeof *m->nics);
	if (!nics || !m->nics)
		return error_set_errno(err, ENOMEM, "cannot keep the devices");
	for (const xmlNode *d = xml_first(list); d; d = xml_next(d, NULL)) {
		AUTO_FREE char *type = xml_type(d);
		const char *model = card_model(type);

		if (!model)
			continue;
		nics[count].nic = nic_of(d, model, names);
		nics[count++].key = xml_path_number(d, "key", -1);
	}
	qsort(nics, count, sizeof *nics, by_key);
	for (size_t i = 0; i < count; i++)
		m->nics[m->nic_count++] = nics[i].nic;
	return 0;
}

static int read_devices(struct vm_model *m, const xmlNode *objects, const json_t *names, struct error **err)
{
	const xmlNode *list = vmware_property(objects, "config.hardware.device");
	size_t count = 0;

	for (const xmlNode *d = xml_first(list); d; d = xml_next(d, NULL))
		count++;
	if (count > DEVICES_MAX)
		return error_set(err, ERROR_PERMANENT, "TooManyDevices", "%s has %zu devices", m->name, count);
	for (const xmlNode *d = xml_first(list); d; d = xml_next(d, NULL)) {
		AUTO_FREE char *type = xml_type(d);

		if (type && !strcmp(type, "VirtualTPM"))
			m->tpm = true;
	}
	if (read_nics(m, list, count, names, err) < 0)
		return -1;
	return read_disks(m, list, count, vmware_property(objects, "layoutEx"), vmware_property(objects, "config.bootOptions"), err);
}

static int64_t number(const xmlNode *objects, const char *name)
{
	return xml_number(vmware_property(objects, name), 0);
}

static bool is_true(const xmlNode *objects, const char *name)
{
	AUTO_FREE char *text = xml_text(vmware_property(objects, name));

	return text && (!strcmp(text, "true") || !strcmp(text, "1"));
}

struct vm_model *vmware_model_of(const xmlNode *o, const json_t *networks, const char *ref, const char *path, struct error **err)
{
	AUTO_VM_MODEL struct vm_model *m = calloc(1, sizeof *m);
	AUTO_FREE char *firmware = xml_text(vmware_property(o, "config.firmware")),
		       *power = xml_text(vmware_property(o, "runtime.powerState"));
	AUTO_FREE char *tools = xml_text(vmware_property(o, "guest.toolsRunningStatus"));
	int64_t cpus = number(o, "config.hardware.numCPU"), cores = number(o, "config.hardware.numCoresPerSocket");
	int64_t memory = number(o, "config.hardware.memoryMB");

	if (m) {
		m->source_id = strdup(ref);
		m->path = strdup(path);
		m->name = xml_text(vmware_property(o, "name"));
		m->description = xml_text(vmware_property(o, "config.annotation"));
		m->guest_os = xml_text(vmware_property(o, "config.guestId"));
	}
	if (!m || !m->source_id || !m->path) {
		error_set_errno(err, ENOMEM, "cannot describe %s", path);
		return NULL;
	}
	if (!m->name || cpus < 1 || cpus > 4096 || memory < 1 || memory > MEMORY_MAX_MB) {
		error_set(
			err, ERROR_PERMANENT, "NoConfiguration",
			"%s has no readable configuration (%lld CPUs, %lld MB); it may be inaccessible or orphaned, or the user lacks the right to read it",
			path, (long long)cpus, (long long)memory);
		return NULL;
	}
	m->vcpus = (unsigned)cpus;
	m->cores_per_socket = cores < 1 || cores > cpus || cpus % cores ? 1 : (unsigned)cores; /* 0: vSphere decides at power on */
	m->memory = (uint64_t)memory << 20;
	m->efi = firmware && !strcmp(firmware, "efi");
	m->secure_boot = m->efi && xml_path_is(vmware_property(o, "config.bootOptions"), "efiSecureBootEnabled", "true");
	m->power = vmware_power_of(power);
	m->host = xml_text(vmware_property(o, "runtime.host"));
	m->guest_tools = tools && (!strcmp(tools, "guestToolsRunning") || !strcmp(tools, "guestToolsExecutingScripts"));
	m->cpu_hot_add = is_true(o, "config.cpuHotAddEnabled");
	m->memory_hot_add = is_true(o, "config.memoryHotAddEnabled");
	m->change_tracking = is_true(o, "config.changeTrackingEnabled");
	if (read_devices(m, o, networks, err) < 0)
		return NULL;
	m->notes = vmware_notes_of(o, m);
	return move_ptr(m);
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
					     "config.cpuHotAddEnabled",
					     "config.memoryHotAddEnabled",
					     "config.changeTrackingEnabled",
					     "runtime.powerState",
					     "runtime.host",
					     "guest.toolsRunningStatus",
					     "layoutEx",
					     "network",
					     "snapshot",
					     NULL };
	xmlNode *o = NULL;
	AUTO_XML xmlDoc *doc = vmware_properties(s, (struct vmware_ref){ "VirtualMachine", ref }, paths, &o, cancel, err);
	AUTO_JSON json_t *names = doc ? network_names(s, o, cancel, err) : NULL;

	return names ? vmware_model_of(o, names, ref, path, err) : NULL;
}
