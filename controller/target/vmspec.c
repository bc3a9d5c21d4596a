#include "target/vmspec.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/guest_os.h"
#include "api/names.h"
#include "api/resources.h"

#define MIB (UINT64_C(1) << 20)
#define DESCRIPTION_MAX 65536 /* annotations of an object may have 256 KiB together */

const char *vmspec_disk_bus(enum vm_bus bus, const char *fallback)
{
	switch (bus) {
	case VM_BUS_VIRTIO:
	case VM_BUS_NVME:
		return "virtio";
	case VM_BUS_IDE:
	case VM_BUS_SATA:
	case VM_BUS_PVSCSI:
		return "sata";
	case VM_BUS_SCSI:
		return "scsi";
	case VM_BUS_USB:
		return "usb";
	case VM_BUS_UNKNOWN:
		break;
	}
	return fallback;
}

const char *vmspec_nic_model(const char *model, const char *fallback)
{
	static const struct {
		const char *from, *to;
	} models[] = {
		{ "vmxnet2", "virtio" }, { "vmxnet3", "virtio" },  { "virtio", "virtio" },
		{ "e1000", "e1000" },    { "e1000e", "e1000e" },   { "pcnet32", "pcnet" },
		{ "pcnet", "pcnet" },    { "rtl8139", "rtl8139" }, { "ne2k_pci", "ne2k_pci" },
	};

	for (size_t i = 0; model && i < sizeof models / sizeof *models; i++)
		if (!strcasecmp(model, models[i].from))
			return models[i].to;
	return fallback;
}

static const char *or_default(const char *text, const char *fallback)
{
	return text && *text ? text : fallback;
}

/* The mapping of a source's network, NULL when there is none. */
static const struct api_network_mapping *mapping_of(const struct vmimport *import, const char *network)
{
	for (size_t i = 0; network && i < import->spec.network_mapping_count; i++) {
		const struct api_network_mapping *m = &import->spec.network_mapping[i];

		if (m->source_network && vm_same_network(m->source_network, network))
			return m;
	}
	return NULL;
}

/* Six pairs of hexadecimal digits: KubeVirt refuses the machine otherwise, and gives an address of its own where there is none. */
static bool is_mac(const char *text)
{
	size_t i = 0;

	for (; text && text[i] && i < 17; i++)
		if (i % 3 == 2 ? text[i] != ':' && text[i] != '-' : !isxdigit((unsigned char)text[i]))
			return false;
	return text && i == 17 && !text[i];
}

/* Interfaces and networks, a pair for each NIC whose network is mapped, in the source's order. */
static int add_nics(const struct target_import *t, const struct vm_model *model, json_t *interfaces, json_t *networks, struct error **err)
{
	const char *fallback = or_default(t->import->spec.default_network_interface_model, "virtio");
	const char *default_ns = json_path_string(t->object, "metadata.namespace");
	size_t n = 0;

	for (size_t i = 0; i < model->nic_count; i++) {
		const struct vm_nic *nic = &model->nics[i];
		const struct api_network_mapping *m = mapping_of(t->import, nic->network);
		AUTO_FREE char *ns = NULL, *net = NULL, *full = NULL;
		char name[32];

		if (!m || !m->destination_network)
			continue;
		name_split(m->destination_network, default_ns, &ns, &net);
		if (!ns || !net || asprintf(&full, "%s/%s", ns, net) < 0) {
			full = NULL;
			return error_set_errno(err, ENOMEM, "cannot describe the machine");
		}
		snprintf(name, sizeof name, "migrated-%zu", n++);
		json_array_append_new(interfaces,
				      json_pack("{s:s, s:s*, s:s, s:{}}", "name", name, "macAddress", is_mac(nic->mac) ? nic->mac : NULL,
						"model", or_default(m->network_interface_model, vmspec_nic_model(nic->model, fallback)),
						"bridge"));
		json_array_append_new(networks, json_pack("{s:s, s:{s:s}}", "name", name, "multus", "networkName", full));
	}
	if (n)
		return 0;
	json_array_append_new(interfaces, json_pack("{s:s, s:s, s:{}}", "name", "pod-network", "model", fallback, "masquerade"));
	json_array_append_new(networks, json_pack("{s:s, s:{}}", "name", "pod-network", "pod"));
	return 0;
}

static void add_disks(const struct target_disk *disks, size_t count, json_t *list, json_t *volumes, bool local)
{
	for (size_t i = 0; i < count; i++) {
		char name[32];

		snprintf(name, sizeof name, "disk-%zu", i);
		json_array_append_new(list, json_pack("{s:s, s:i, s:{s:s}}", "name", name, "bootOrder", (int)i + 1, "disk", "bus",
						      or_default(disks[i].bus, "virtio")));
		/* Without a cluster there is no claim: the name says which file is to become it. */
		json_array_append_new(volumes, json_pack("{s:s, s:{s:s}}", "name", name, "persistentVolumeClaim", "claimName",
							 local ? disks[i].name : disks[i].image));
	}
}

static json_t *firmware_of(const struct vm_model *model)
{
	if (!model->efi)
		return json_pack("{s:{s:{}}}", "bootloader", "bios");
	return json_pack("{s:{s:{s:b}}}", "bootloader", "efi", "secureBoot", (int)model->secure_boot);
}

/* What Windows knows of the hypervisor under it: without, it looks at clocks that are slow to emulate, and takes a busy host for a fault of
 * its own. Chosen as KubeVirt's own preferences for Windows do, but for what ties a machine to hosts of one kind (reenlightenment, evmcs). */
static json_t *enlightenments_of(const struct vm_model *model)
{
	enum guest_windows windows = guest_os_windows(model->guest_os);
	json_t *hyperv;

	if (windows < GUEST_WINDOWS_VISTA)
		return NULL;
	hyperv = json_pack("{s:{}, s:{}, s:{s:i}}", "relaxed", "vapic", "spinlocks", "spinlocks", 8191);
	if (windows >= GUEST_WINDOWS_TEN)
		json_object_update_new(hyperv, json_pack("{s:{}, s:{}, s:{}, s:{}, s:{s:{}}, s:{}, s:{}, s:{}}", "vpindex", "runtime",
							 "reset", "synic", "synictimer", "direct", "frequencies", "tlbflush", "ipi"));
	return hyperv;
}

/* The clock that Windows keeps time by; others ask for what they want. */
static json_t *clock_of(const struct vm_model *model)
{
	if (!guest_os_is_windows(model->guest_os))
		return NULL;
	return json_pack("{s:{}, s:{s:{s:b}, s:{s:s}, s:{s:s}, s:{}}}", "utc", "timer", "hpet", "present", 0, "pit", "tickPolicy", "delay",
			 "rtc", "tickPolicy", "catchup", "hyperv");
}

static json_t *features_of(const struct vm_model *model)
{
	json_t *features = json_pack("{s:{s:b}}", "acpi", "enabled", 1);

	json_t *hyperv = enlightenments_of(model);

	if (hyperv) {
		json_object_set_new(features, "apic", json_object());
		json_object_set_new(features, "hyperv", hyperv);
	}
	if (model->efi && model->secure_boot) /* KubeVirt wants system management mode for it */
		json_object_set_new(features, "smm", json_pack("{s:b}", "enabled", 1));
	return features;
}

static json_t *domain_of(const struct vm_model *model, json_t *disks, json_t *interfaces)
{
	/* What does not divide is kept right in number: as sockets of one core. */
	bool divides = model->cores_per_socket && model->vcpus % model->cores_per_socket == 0;
	unsigned cores = divides ? model->cores_per_socket : 1;
	char memory[32], cpus[16];
	json_t *domain, *clock = clock_of(model);

	snprintf(memory, sizeof memory, "%lluMi", (unsigned long long)(model->memory / MIB + (model->memory % MIB != 0)));
	snprintf(cpus, sizeof cpus, "%u", model->vcpus);
	/* Harvester wants both limits, and makes the requests of them by its overcommit; elsewhere the guest's memory is there as a whole. */
	domain = json_pack("{s:{s:i, s:i, s:i}, s:{s:s}, s:{s:{s:s, s:s}, s:{s:s}}, s:o, s:o, s:{s:o, s:o}}", "cpu", "cores", (int)cores,
			   "sockets", (int)(model->vcpus / cores), "threads", 1, "memory", "guest", memory, "resources", "limits", "cpu",
			   cpus, "memory", memory, "requests", "memory", memory, "features", features_of(model), "firmware",
			   firmware_of(model), "devices", "disks", disks, "interfaces", interfaces);
	if (clock)
		json_object_set_new(domain, "clock", clock);
	if (model->tpm)
		json_object_set_new(json_object_get(domain, "devices"), "tpm", json_object());
	return domain;
}

/* Whether the machine is to run: spec.targetPowerState, where auto means as it was at the source. */
static bool runs(const struct target_import *t, const struct vm_model *model)
{
	const char *state = or_default(t->import->spec.target_power_state, "on");

	if (!strcmp(state, "auto"))
		return model->power == VM_POWER_ON;
	return strcmp(state, "off") != 0;
}

/* The description as an annotation: bounded, at the end of a character. Text in another encoding is kept as far as it is ASCII. */
static json_t *description_of(const char *text)
{
	size_t len = strlen(text);
	AUTO_FREE char *ascii = NULL;
	json_t *value;

	if (len > DESCRIPTION_MAX) {
		len = DESCRIPTION_MAX;
		while (len && ((unsigned char)text[len] & 0xc0) == 0x80)
			len--;
	}
	value = json_stringn(text, len);
	if (value)
		return value;
	ascii = strndup(text, len);
	for (size_t i = 0; ascii && i < len; i++)
		if ((unsigned char)ascii[i] >= 0x80)
			ascii[i] = '?';
	return ascii ? json_string(ascii) : NULL;
}

json_t *vmspec_build(const struct target_import *t, const struct vm_model *model, const struct target_disk *disks, size_t count, bool local,
		     struct error **err)
{
	const char *ns = json_path_string(t->object, "metadata.namespace"), *name = json_path_string(t->object, "metadata.name");
	AUTO_JSON json_t *interfaces = json_array(), *networks = json_array(), *list = json_array(), *volumes = json_array();
	AUTO_JSON json_t *vm = NULL;
	AUTO_FREE char *import = NULL;
	json_t *annotations, *description;

	if (!model->vcpus || !model->memory || model->vcpus > INT_MAX) {
		error_set(err, ERROR_PERMANENT, "IncompleteDescription", "the source describes %s with %u CPUs and %llu bytes of memory",
			  model->name, model->vcpus, (unsigned long long)model->memory);
		return NULL;
	}
	if (add_nics(t, model, interfaces, networks, err) < 0)
		return NULL;
	add_disks(disks, count, list, volumes, local);
	if (asprintf(&import, "%s/%s", ns ? ns : "", name ? name : "") < 0) {
		import = NULL;
		error_set_errno(err, ENOMEM, "cannot describe the machine");
		return NULL;
	}
	vm = json_pack("{s:s, s:s, s:{s:s, s:s*, s:{s:s}, s:{s:s, s:s*}}, s:{s:s, s:{s:{s:{s:s, s:s}}, s:{s:s, s:o, s:O, s:O}}}}",
		       "apiVersion", "kubevirt.io/v1", "kind", "VirtualMachine", "metadata", "name", t->vm_name, "namespace", ns, "labels",
		       API_LABEL_IMPORTED, "true", "annotations", API_ANNOTATION_IMPORT, import, API_ANNOTATION_IMPORT_UID,
		       json_path_string(t->object, "metadata.uid"), "spec", "runStrategy", runs(t, model) ? "RerunOnFailure" : "Halted",
		       "template", "metadata", "labels", "harvesterhci.io/vmName", t->vm_name, API_LABEL_IMPORTED, "true", "spec",
		       "evictionStrategy", "LiveMigrateIfPossible", "domain", domain_of(model, json_incref(list), json_incref(interfaces)),
		       "networks", networks, "volumes", volumes);
	if (!vm) {
		error_set(err, ERROR_PERMANENT, "InvalidDescription",
			  "the virtual machine %s cannot be described: a name in it is missing or no UTF-8 text",
			  t->vm_name ? t->vm_name : "");
		return NULL;
	}
	if (guest_os_label(model->guest_os))
		json_object_set_new(json_path(vm, "metadata.labels"), API_LABEL_OS, json_string(guest_os_label(model->guest_os)));
	annotations = json_path(vm, "metadata.annotations");
	if (model->description && *model->description && (description = description_of(model->description)))
		json_object_set_new(annotations, "field.cattle.io/description", description);
	return move_ptr(vm);
}
