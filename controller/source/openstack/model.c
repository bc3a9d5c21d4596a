#include "source/openstack/model.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"
#include "source/openstack/answer.h"
#include "source/openstack/topology.h"
#include "json/codec.h"

#define GIB (UINT64_C(1) << 30)
#define MIB (UINT64_C(1) << 20)
#define SIZE_MAX_GIB (UINT64_C(1) << 20) /* a PiB */
#define VCPUS_MAX 4096
#define MEMORY_MAX_MIB (UINT64_C(1) << 26) /* 64 TiB */
#define NAME_MAX_LEN 1024
#define EMPTY_DISK 4096 /* bytes that a disk takes which has nothing, or a header */

static int no_memory(struct error **err)
{
	return error_set_errno(err, ENOMEM, "cannot describe the machine");
}

bool openstack_has_local_root(const json_t *server)
{
	return json_object_get(json_object_get(server, "image"), "id") != NULL;
}

enum vm_power openstack_power(const json_t *server)
{
	static const struct {
		const char *status;
		enum vm_power power;
	} known[] = { { "ACTIVE", VM_POWER_ON },        { "SHUTOFF", VM_POWER_OFF },          { "STOPPED", VM_POWER_OFF },
		      { "PAUSED", VM_POWER_SUSPENDED }, { "SUSPENDED", VM_POWER_SUSPENDED },  { "SHELVED", VM_POWER_OFF },
		      { "RESCUE", VM_POWER_ON },        { "PASSWORD", VM_POWER_ON },          { "REBOOT", VM_POWER_ON },
		      { "HARD_REBOOT", VM_POWER_ON },   { "SHELVED_OFFLOADED", VM_POWER_OFF } };
	const char *status = answer_text(server, "status"), *task = answer_text(server, "OS-EXT-STS:task_state");
	uint64_t state = 0;

	if (status && task && !strcmp(status, "SHUTOFF") && !strcmp(task, "powering-on"))
		return VM_POWER_ON;
	for (size_t i = 0; status && i < sizeof known / sizeof *known; i++)
		if (!strcmp(status, known[i].status))
			return known[i].power;
	/* What the hypervisor says: 1 running, 3 paused, 4 shut down, 6 crashed, 7 suspended (nova.compute.power_state). */
	if (!answer_number(server, "OS-EXT-STS:power_state", &state))
		return VM_POWER_UNKNOWN;
	switch (state) {
	case 1:
		return VM_POWER_ON;
	case 3:
	case 7:
		return VM_POWER_SUSPENDED;
	case 4:
	case 6:
		return VM_POWER_OFF;
	}
	return VM_POWER_UNKNOWN;
}

/* --- disks ----------------------------------------------------------------------------------------------------------------- */

/* "/dev/vdb" -> 1, "/dev/sdaa" -> 26; what cannot be told comes last. */
static size_t device_rank(const char *device)
{
	const char *name = device && !strncmp(device, "/dev/", 5) ? device + 5 : device, *d;
	size_t rank = 0, n = 0;

	d = name ? strchr(name, 'd') : NULL;
	if (!d || d - name > 2)
		return SIZE_MAX;
	for (d++; *d >= 'a' && *d <= 'z' && n < 4; d++, n++)
		rank = rank * 26 + (size_t)(*d - 'a') + 1;
	return n && !*d ? rank - 1 : SIZE_MAX;
}

/* The volumes by device, those of the same rank as they were: an array of borrowed entries. */
static const json_t **sort_volumes(const json_t *volumes)
{
	size_t n = json_array_size(volumes);
	const json_t **list = calloc(n + 1, sizeof *list);

	for (size_t i = 0; list && i < n; i++) {
		const json_t *entry = json_array_get(volumes, i);
		size_t rank = device_rank(answer_text(entry, "device")), at = i;

		for (; at && device_rank(answer_text(list[at - 1], "device")) > rank; at--)
			list[at] = list[at - 1];
		list[at] = entry;
	}
	return list;
}

/* Of a server that boots from a volume, that one comes first. */
static void boot_volume_first(const json_t *server, const json_t **list, size_t n)
{
	const char *root = answer_text(server, "OS-EXT-SRV-ATTR:root_device_name"); /* administrators see it */
	size_t boot = n;

	for (size_t i = 0; root && i < n && boot == n; i++) {
		const char *device = answer_text(list[i], "device");

		if (device && !strcmp(device, root))
			boot = i;
	}
	for (size_t i = 0; i < n && boot == n; i++)
		if (answer_true(json_object_get(list[i], "volume"), "bootable"))
			boot = i;
	if (boot == n)
		return;
	const json_t *entry = list[boot];

	memmove(&list[1], &list[0], boot * sizeof *list);
	list[0] = entry;
}

/* The properties that say what the guest's machine is like: of the image, or of the boot volume. */
static const json_t *properties_of(const json_t *gathered, const json_t **volumes, size_t n)
{
	if (openstack_has_local_root(json_object_get(gathered, "server")))
		return json_object_get(gathered, "image");
	return n ? json_object_get(json_object_get(volumes[0], "volume"), "volume_image_metadata") : NULL;
}

static enum vm_bus bus_of(const json_t *properties)
{
	static const struct {
		const char *name;
		enum vm_bus bus;
	} known[] = { { "virtio", VM_BUS_VIRTIO }, { "scsi", VM_BUS_SCSI }, { "ide", VM_BUS_IDE },
		      { "sata", VM_BUS_SATA },     { "usb", VM_BUS_USB },   { "nvme", VM_BUS_NVME } };
	const char *name = answer_text(properties, "hw_disk_bus");

	for (size_t i = 0; name && i < sizeof known / sizeof *known; i++)
		if (!strcasecmp(name, known[i].name))
			return known[i].bus;
	return name ? VM_BUS_UNKNOWN : VM_BUS_VIRTIO; /* Nova's default with KVM */
}

static int add_disk(struct vm_model *m, const char *id, const char *label, uint64_t bytes, uint64_t allocated, enum vm_bus bus,
		    struct error **err)
{
	struct vm_disk *disk = &m->disks[m->disk_count];

	*disk = (struct vm_disk){ .id = strdup(id),
				  .label = strdup(label),
				  .capacity = bytes,
				  .allocated = allocated,
				  .bus = bus,
				  .boot_order = (unsigned)m->disk_count + 1 };
	m->disk_count++;
	return disk->id && disk->label ? 0 : no_memory(err);
}

static int add_root(struct vm_model *m, const json_t *flavor, const json_t *image, enum vm_bus bus, struct error **err)
{
	const char *format = answer_text(image, "disk_format");
	uint64_t gib = 0, bytes = 0;

	if (answer_number(flavor, "disk", &gib) && gib > SIZE_MAX_GIB)
		return error_set(err, ERROR_PERMANENT, "InvalidDisk", "the flavor's root disk of %llu GiB is larger than a PiB",
				 (unsigned long long)gib);
	if (gib)
		return add_disk(m, OPENSTACK_ROOT, "root disk", gib * GIB, 0, bus, err);
	if (!answer_number(image, "virtual_size", &bytes) && format && !strcmp(format, "raw"))
		answer_number(image, "size", &bytes);
	if (!bytes || bytes > SIZE_MAX_GIB * GIB)
		return error_set(err, ERROR_PERMANENT, "InvalidDisk",
				 "the size of the root disk cannot be told: the flavor leaves it to the image, which %s",
				 image ? "does not tell it (virtual_size)" : "is gone");
	return add_disk(m, OPENSTACK_ROOT, "root disk", (bytes + 511) / 512 * 512, 0, bus, err);
}

/* Disks of the hypervisor's that no API gives out. */
static int add_local(struct vm_model *m, const json_t *flavor, enum vm_bus bus, struct error **err)
{
	uint64_t ephemeral = 0, swap = 0;

	answer_number(flavor, "ephemeral", &ephemeral);
	answer_number(flavor, "swap", &swap);
	if (ephemeral > SIZE_MAX_GIB || swap > SIZE_MAX_GIB * 1024)
		return error_set(err, ERROR_PERMANENT, "InvalidDisk", "the flavor's ephemeral or swap disk is larger than a PiB");
	if (ephemeral) {
		model_note(m, "the ephemeral disk of %llu GiB arrives empty, for OpenStack gives its content to nobody",
			   (unsigned long long)ephemeral);
		if (add_disk(m, OPENSTACK_EPHEMERAL, "ephemeral disk", ephemeral * GIB, EMPTY_DISK, bus, err) < 0)
			return -1;
	}
	if (swap && add_disk(m, OPENSTACK_SWAP, "swap disk", swap * MIB, EMPTY_DISK, bus, err) < 0)
		return -1;
	return 0;
}

static int add_volume(struct vm_model *m, const json_t *entry, enum vm_bus bus, struct error **err)
{
	const json_t *volume = json_object_get(entry, "volume");
	const char *id = answer_id(volume, "id"), *name = answer_text(volume, "name");
	size_t others = json_array_size(json_object_get(volume, "attachments"));
	uint64_t gib = 0;

	if (!id || !answer_is_uuid(id))
		return error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "a volume of the server has no id");
	if (!answer_number(volume, "size", &gib) || !gib || gib > SIZE_MAX_GIB)
		return error_set(err, ERROR_PERMANENT, "InvalidDisk", "the volume %s has no size that can be", id);
	if (answer_true(volume, "multiattach") && others > 1)
		model_note(m, "the volume %s is attached to %zu servers: what is imported is a copy of it, shared with none of them",
			   answer_shown(name ? name : id).text, others);
	return add_disk(m, id, name ? name : id, gib * GIB, 0, bus, err);
}

static int read_disks(struct vm_model *m, const json_t *gathered, const json_t **volumes, size_t n, const json_t *properties,
		      struct error **err)
{
	const json_t *flavor = json_object_get(gathered, "flavor");
	bool local_root = openstack_has_local_root(json_object_get(gathered, "server"));
	enum vm_bus bus = bus_of(properties);
	size_t first = 0;

	m->disks = calloc(n + 4, sizeof *m->disks);
	if (!m->disks)
		return no_memory(err);
	if (local_root) {
		if (add_root(m, flavor, json_is_object(properties) ? properties : NULL, bus, err) < 0)
			return -1;
	} else if (n && add_volume(m, volumes[first++], bus, err) < 0) {
		return -1;
	}
	if (add_local(m, flavor, bus, err) < 0)
		return -1;
	for (size_t i = first; i < n; i++)
		if (add_volume(m, volumes[i], bus, err) < 0)
			return -1;
	return 0;
}

/* --- NICs ------------------------------------------------------------------------------------------------------------------ */

static bool has_mac(const struct vm_model *m, const char *mac)
{
	for (size_t i = 0; i < m->nic_count; i++)
		if (m->nics[i].mac && !strcasecmp(m->nics[i].mac, mac))
			return true;
	return false;
}

static const json_t *port_of(const json_t *ports, const char *mac)
{
	const json_t *port;
	size_t i;

	json_array_foreach (ports, i, port) {
		const char *other = answer_text(port, "mac_address");

		if (other && !strcasecmp(other, mac))
			return port;
	}
	return NULL;
}

/* label: how Nova calls the network; NULL: not told. */
static int add_nic(struct vm_model *m, const json_t *gathered, const json_t *port, const char *mac, const char *label, const char *model,
		   struct error **err)
{
	const char *id = answer_id(port, "network_id"), *port_name = answer_text(port, "name");
	const char *name = id ? answer_text(json_object_get(gathered, "networks"), id) : NULL,
		   *type = answer_text(port, "binding:vnic_type");
	struct vm_nic *nic = &m->nics[m->nic_count++];

	*nic = (struct vm_nic){ .network = strdup(name    ? name
						  : label ? label
						  : id    ? id
							  : ""),
				.mac = strdup(mac),
				.model = strdup(model),
				.label = port_name ? strdup(port_name) : NULL,
				.connected = !json_is_false(json_object_get(port, "admin_state_up")) };
	if (type && strcasecmp(type, "normal"))
		model_note(m, "the port with the MAC address %s is of the type %s and becomes an ordinary interface",
			   answer_shown(mac).text, answer_shown(type).text);
	return nic->network && nic->mac && nic->model ? 0 : no_memory(err);
}

/* The port that was made first of those that are not yet in the model. */
static const json_t *next_port(const struct vm_model *m, const json_t *ports)
{
	const json_t *port, *first = NULL;
	size_t i;

	json_array_foreach (ports, i, port) {
		const char *mac = answer_text(port, "mac_address"), *made = answer_text(port, "created_at");
		const char *best = first ? answer_text(first, "created_at") : NULL;

		if (!mac || has_mac(m, mac))
			continue;
		if (!first || (made && best && strcmp(made, best) < 0))
			first = port;
	}
	return first;
}

static int read_nics(struct vm_model *m, const json_t *gathered, const json_t *properties, struct error **err)
{
	const json_t *addresses = json_object_get(json_object_get(gathered, "server"), "addresses"), *list, *address, *port;
	const json_t *ports = json_object_get(gathered, "ports");
	const char *model = answer_text(properties, "hw_vif_model"), *label;
	size_t most = json_array_size(ports), i;
	bool floating = false;

	json_object_foreach ((json_t *)addresses, label, list)
		most += json_array_size(list);
	m->nics = calloc(most + 1, sizeof *m->nics);
	if (!m->nics)
		return no_memory(err);
	if (!model)
		model = "virtio"; /* Nova's default with KVM */
	json_object_foreach ((json_t *)addresses, label, list) {
		json_array_foreach (list, i, address) {
			const char *mac = answer_text(address, "OS-EXT-IPS-MAC:mac_addr"), *type = answer_text(address, "OS-EXT-IPS:type");

			floating = floating || (type && !strcmp(type, "floating"));
			if (mac && !has_mac(m, mac) && add_nic(m, gathered, port_of(ports, mac), mac, label, model, err) < 0)
				return -1;
		}
	}
	while ((port = next_port(m, ports)))
		if (add_nic(m, gathered, port, answer_text(port, "mac_address"), NULL, model, err) < 0)
			return -1;
	if (floating)
		model_note(m, "floating IP addresses do not come along");
	return 0;
}

/* --- the rest -------------------------------------------------------------------------------------------------------------- */

static int read_hardware(struct vm_model *m, const json_t *flavor, const json_t *properties, struct error **err)
{
	const json_t *specs = json_object_get(flavor, "extra_specs");
	const char *firmware = answer_text(properties, "hw_firmware_type"), *secure = answer_text(specs, "os:secure_boot");
	const char *name = answer_text(flavor, "original_name");
	uint64_t vcpus = 0, ram = 0;
	unsigned sockets, cores, threads;

	if (!answer_number(flavor, "vcpus", &vcpus) || !vcpus || vcpus > VCPUS_MAX || !answer_number(flavor, "ram", &ram) || !ram ||
	    ram > MEMORY_MAX_MIB)
		return error_set(err, ERROR_PERMANENT, "NoConfiguration",
				 "the flavor %s of the server has no number of CPUs or memory that can be", answer_shown(name).text);
	openstack_topology((unsigned)vcpus, specs, properties, &sockets, &cores, &threads);
	m->vcpus = (unsigned)vcpus;
	m->cores_per_socket = cores * threads;
	if (threads > 1)
		model_note(m, "%u threads of a core become cores", threads);
	m->memory = ram * MIB;
	m->efi = firmware && !strcasecmp(firmware, "uefi");
	if (!secure)
		secure = answer_text(properties, "os_secure_boot");
	m->secure_boot = m->efi && secure && !strcasecmp(secure, "required");
	if (m->efi && secure && !strcasecmp(secure, "optional"))
		model_note(m, "secure boot, which is optional for the server, is off");
	m->tpm = answer_text(specs, "hw:tpm_version") || answer_text(specs, "hw:tpm_model") || answer_text(properties, "hw_tpm_version") ||
		 answer_text(properties, "hw_tpm_model");
	if (m->tpm)
		model_note(m, "what the TPM holds does not come along");
	return 0;
}

static void note_security_groups(struct vm_model *m, const json_t *server)
{
	AUTO_BUFFER struct buffer names;
	const json_t *group;
	size_t i;

	buffer_init(&names, 1000);
	json_array_foreach (json_object_get(server, "security_groups"), i, group) {
		const char *name = answer_text(group, "name");
		bool twice = false;

		for (size_t k = 0; name && k < i; k++) {
			const char *other = answer_text(json_array_get(json_object_get(server, "security_groups"), k), "name");

			twice = twice || (other && !strcmp(other, name));
		}
		if (name && !twice)
			buffer_addf(&names, "%s%s", names.len ? ", " : "", answer_shown(name).text);
	}
	if (names.len)
		model_note(m, "security groups do not come along: %s", names.data);
}

static int read_names(struct vm_model *m, const json_t *server, const json_t *properties, struct error **err)
{
	const char *id = answer_id(server, "id"), *name = json_string_value(json_object_get(server, "name"));
	const char *description = answer_text(server, "description"), *os = answer_text(properties, "os_distro");

	if (!id || !name || strlen(name) > NAME_MAX_LEN)
		return error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the server has no id or name that can be");
	m->source_id = strdup(id);
	m->name = strdup(name);
	if (asprintf(&m->path, "%s (%s)", answer_shown(name).text, id) < 0)
		m->path = NULL;
	if (description && strcmp(description, name)) /* Nova puts the name there by itself */
		m->description = strdup(description);
	if (!os)
		os = answer_text(properties, "os_type");
	m->guest_os = os ? strdup(os) : NULL;
	return m->source_id && m->name && m->path ? 0 : no_memory(err);
}

struct vm_model *openstack_model(const json_t *gathered, struct error **err)
{
	const json_t *server = json_object_get(gathered, "server"), *flavor = json_object_get(gathered, "flavor"), *properties;
	AUTO_VM_MODEL struct vm_model *m = calloc(1, sizeof *m);
	size_t n = json_array_size(json_object_get(gathered, "volumes"));
	AUTO_FREE const json_t **volumes = sort_volumes(json_object_get(gathered, "volumes"));

	if (!m || !volumes)
		return no_memory(err), NULL;
	if (!openstack_has_local_root(server))
		boot_volume_first(server, volumes, n);
	properties = properties_of(gathered, volumes, n);
	m->power = openstack_power(server);
	m->guest_tools = true; /* Nova asks the guest by ACPI, and powers it off when it does not follow */
	if (read_names(m, server, properties, err) < 0 || read_hardware(m, flavor, properties, err) < 0 ||
	    read_disks(m, gathered, volumes, n, properties, err) < 0 || read_nics(m, gathered, properties, err) < 0)
		return NULL;
	if (openstack_has_local_root(server) && !json_is_object(properties))
		model_note(m, "the image of the server is gone, so that firmware and devices are taken to be the usual ones");
	note_security_groups(m, server);
	return move_ptr(m);
}
