/* <VirtualHardwareSection>, and what VMware, VirtualBox and oVirt say beside it. */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"
#include "source/ova/document.h"
#include "source/ova/unit.h"

#define ITEMS_MAX 2048
#define CPUS_MAX 4096
#define MEMORY_MIN (UINT64_C(1) << 20)
#define MEMORY_MAX (UINT64_C(64) << 40)
#define NO_NUMBER UINT64_MAX

/* CIM_ResourceAllocationSettingData.ResourceType */
enum resource { CPU = 3, MEMORY = 4, IDE = 5, SCSI = 6, ETHERNET = 10, CD = 15, DVD = 16, DISK = 17, STORAGE = 20, USB = 23 };

struct item {
	const xmlNode *node;
	uint64_t type;
	char *id;      /* InstanceID; oVirt writes InstanceId */
	char *subtype; /* ResourceSubType */
	bool optional; /* of a deployment option */
};

struct items {
	struct item *list;
	size_t count;
};

static void items_free(struct items *items)
{
	for (size_t i = 0; i < items->count; i++) {
		free(items->list[i].id);
		free(items->list[i].subtype);
	}
	free(items->list);
}

static uint64_t number_of(const xmlNode *node, const char *child)
{
	AUTO_FREE char *text = ovf_text(node, child);
	uint64_t n;

	return ovf_number(text, &n) ? n : NO_NUMBER;
}

/* Whether a list of words ("small medium") has this one. */
static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = list; *p;) {
		size_t n = strcspn(p, " \t\r\n");

		if (n == len && !strncmp(p, word, n))
			return true;
		p += n;
		p += strspn(p, " \t\r\n");
	}
	return false;
}

/* --- deployment options and items -------------------------------------------------------------------------------------- */

/* The id of the deployment option that is the default, else of the first one; owned, NULL when there are none. Others are noted. */
static char *choose_option(const struct ovf *o, struct vm_model *m)
{
	const xmlNode *section = ovf_section(o->envelope, "DeploymentOptionSection", NULL);
	AUTO_BUFFER struct buffer all = { 0 };
	AUTO_FREE char *chosen = NULL;
	bool is_default = false;
	size_t count = 0;

	buffer_init(&all, 2048);
	for (const xmlNode *n = xml_child(section, "Configuration"); n; n = xml_next(n, "Configuration")) {
		AUTO_FREE char *id = ovf_attribute(n, "id"), *wanted = ovf_attribute(n, "default");
		bool now = wanted && (!strcasecmp(wanted, "true") || !strcmp(wanted, "1"));

		if (!id)
			continue;
		buffer_addf(&all, "%s%.100s", count++ ? ", " : "", id);
		if (!chosen || (now && !is_default)) {
			free(chosen);
			chosen = strdup(id);
			is_default = now;
		}
	}
	if (count > 1 && chosen)
		ovf_note(m, "of the package's deployment options (%s) the %s one, %.100s, is taken", all.data ? all.data : "",
			 is_default ? "default" : "first", chosen);
	return move_ptr(chosen);
}

/* Items of a range (minimum and maximum) and of other deployment options do not count. */
static bool applies(const xmlNode *node, const char *option, bool *optional)
{
	AUTO_FREE char *bound = ovf_attribute(node, "bound"), *configuration = ovf_attribute(node, "configuration");

	*optional = configuration;
	if (bound && strcasecmp(bound, "normal"))
		return false;
	return !configuration || (option && has_word(configuration, option));
}

static int add_item(struct items *items, const xmlNode *node, bool optional, struct error **err)
{
	struct item new = { .node = node, .type = number_of(node, "ResourceType"), .optional = optional };

	new.id = ovf_text(node, "InstanceID");
	if (!new.id)
		new.id = ovf_text(node, "InstanceId");
	new.subtype = ovf_text(node, "ResourceSubType");
	/* An item of the chosen option stands for the general one of the same id (DSP0243 9.8). */
	for (size_t i = 0; new.id &&i < items->count; i++) {
		struct item *old = &items->list[i];

		if (old->type != new.type || old->optional == optional || !old->id || strcmp(old->id, new.id))
			continue;
		if (optional) {
			struct item replaced = *old;

			*old = new;
			new = replaced;
		}
		free(new.id);
		free(new.subtype);
		return 0;
	}
	if (items->count == ITEMS_MAX) {
		free(new.id);
		free(new.subtype);
		return error_set(err, ERROR_PERMANENT, "TooManyDevices", "the virtual hardware has more than %d items", ITEMS_MAX);
	}
	items->list[items->count++] = new;
	return 0;
}

static int collect_items(const xmlNode *hardware, const char *option, struct items *items, struct error **err)
{
	items->list = calloc(ITEMS_MAX, sizeof *items->list);
	if (!items->list)
		return error_set_errno(err, ENOMEM, "cannot read the virtual hardware");
	for (const xmlNode *n = xml_first(hardware); n; n = xml_next(n, NULL)) {
		bool optional;

		if (!xml_named(n, "Item") && !xml_named(n, "StorageItem") && !xml_named(n, "EthernetPortItem"))
			continue;
		if (applies(n, option, &optional) && add_item(items, n, optional, err) < 0)
			return -1;
	}
	return 0;
}

static const struct item *find_item(const struct items *items, const char *id)
{
	for (size_t i = 0; id && i < items->count; i++)
		if (items->list[i].id && !strcmp(items->list[i].id, id))
			return &items->list[i];
	return NULL;
}

/* --- processor and memory ---------------------------------------------------------------------------------------------- */

static void read_cpu(const xmlNode *node, struct vm_model *m)
{
	uint64_t cpus = number_of(node, "VirtualQuantity"), cores = number_of(node, "CoresPerSocket"), threads = 1;

	if (cores == NO_NUMBER) { /* oVirt */
		uint64_t sockets = number_of(node, "num_of_sockets");

		cores = number_of(node, "cpu_per_socket");
		threads = number_of(node, "threads_per_cpu");
		if (threads == NO_NUMBER || !threads || threads > CPUS_MAX)
			threads = 1;
		if (cores != NO_NUMBER && cores <= CPUS_MAX)
			cores *= threads;
		if (sockets != NO_NUMBER && sockets && sockets <= CPUS_MAX && cores && cores <= CPUS_MAX)
			cpus = sockets * cores;
	}
	if (cpus == NO_NUMBER || cpus < 1 || cpus > CPUS_MAX)
		return;
	m->vcpus = (unsigned)cpus;
	m->cores_per_socket = cores < 1 || cores > cpus || cpus % cores ? 1 : (unsigned)cores;
}

static bool read_memory(const xmlNode *node, struct vm_model *m)
{
	AUTO_FREE char *quantity = ovf_text(node, "VirtualQuantity"), *unit = ovf_text(node, "AllocationUnits"),
		       *own = ovf_text(node, "VirtualQuantityUnits");
	uint64_t n;

	if (!unit)
		unit = move_ptr(own); /* OVF 2 */
	/* A small number without a unit is meant in MiB, whatever the standard says. */
	if (!ovf_bytes(quantity, unit, ovf_number(quantity, &n) && n < MEMORY_MIN ? MEMORY_MIN : 1, &n) || n < MEMORY_MIN || n > MEMORY_MAX)
		return false;
	m->memory = n;
	return true;
}

static int read_resources(const struct items *items, struct vm_model *m, struct error **err)
{
	const xmlNode *cpu = NULL, *memory = NULL;

	for (size_t i = 0; i < items->count; i++) {
		if (items->list[i].type == CPU && !cpu)
			cpu = items->list[i].node;
		if (items->list[i].type == MEMORY && !memory)
			memory = items->list[i].node;
	}
	read_cpu(cpu, m);
	if (!m->vcpus) {
		AUTO_FREE char *n = ovf_text(cpu, "VirtualQuantity");

		return error_set(err, ERROR_PERMANENT, "NoConfiguration", "%.200s has \"%.40s\" processors (1 to %d are possible)", m->name,
				 n ? n : "", CPUS_MAX);
	}
	if (!read_memory(memory, m)) {
		AUTO_FREE char *n = ovf_text(memory, "VirtualQuantity"), *unit = ovf_text(memory, "AllocationUnits");

		return error_set(err, ERROR_PERMANENT, "NoConfiguration",
				 "%.200s has \"%.40s\" of memory in units of \"%.60s\", which is not understood or impossible", m->name,
				 n ? n : "", unit ? unit : "");
	}
	return 0;
}

/* --- firmware ---------------------------------------------------------------------------------------------------------- */

/* A value of <vmw:Config vmw:key= vmw:value=> or <vmw:ExtraConfig>; owned. */
static char *config_of(const xmlNode *hardware, const char *key)
{
	for (const xmlNode *n = xml_first(hardware); n; n = xml_next(n, NULL)) {
		AUTO_FREE char *have = NULL;

		if (!xml_named(n, "Config") && !xml_named(n, "ExtraConfig"))
			continue;
		have = ovf_attribute(n, "key");
		if (have && !strcasecmp(have, key))
			return ovf_attribute(n, "value");
	}
	return NULL;
}

static bool config_is(const xmlNode *hardware, const char *key, const char *value)
{
	AUTO_FREE char *have = config_of(hardware, key);

	return have && !strcasecmp(have, value);
}

static bool attribute_is(const xmlNode *node, const char *name, const char *value)
{
	AUTO_FREE char *have = ovf_attribute(node, name);

	return have && !strcasecmp(have, value);
}

/* VirtualBox puts its own description of the machine beside: <vbox:Machine><Hardware>. */
static const xmlNode *virtualbox_hardware(const xmlNode *system)
{
	return xml_path(system, "Machine/Hardware");
}

static void read_virtualbox_firmware(const xmlNode *hardware, struct vm_model *m)
{
	AUTO_FREE char *firmware = ovf_attribute(xml_child(hardware, "Firmware"), "type"),
		       *tpm = ovf_attribute(xml_child(hardware, "TrustedPlatformModule"), "type");
	static const char *const places[] = { "NVRAM/SecureBoot", "BIOS/NVRAM/SecureBoot", "BIOS/SecureBoot", "Firmware/SecureBoot" };

	m->efi = m->efi || (firmware && !strncasecmp(firmware, "EFI", 3));
	m->tpm = m->tpm || (tpm && strcasecmp(tpm, "None"));
	for (size_t i = 0; i < sizeof places / sizeof *places; i++)
		m->secure_boot = m->secure_boot || attribute_is(xml_path(hardware, places[i]), "enabled", "true");
}

/* oVirt's BiosType: 3 is OVMF on Q35, 4 the same with secure boot. */
static void read_ovirt_firmware(const xmlNode *system, struct vm_model *m)
{
	uint64_t type = number_of(system, "BiosType");

	m->efi = m->efi || type == 3 || type == 4;
	m->secure_boot = m->secure_boot || type == 4;
}

static void read_firmware(const xmlNode *system, const xmlNode *hardware, const struct items *items, struct vm_model *m)
{
	m->efi = config_is(hardware, "firmware", "efi");
	m->secure_boot =
		config_is(hardware, "bootOptions.efiSecureBootEnabled", "true") || config_is(hardware, "uefi.secureBoot.enabled", "true");
	m->tpm = config_is(hardware, "vtpm.present", "true");
	for (size_t i = 0; i < items->count; i++) {
		AUTO_FREE char *type = ovf_text(items->list[i].node, "Type");

		m->tpm = m->tpm || (items->list[i].subtype && strcasestr(items->list[i].subtype, "vtpm")) || (type && !strcmp(type, "tpm"));
	}
	read_virtualbox_firmware(virtualbox_hardware(system), m);
	read_ovirt_firmware(system, m);
	m->secure_boot = m->secure_boot && m->efi;
}

static char *guest_os(const xmlNode *system)
{
	const xmlNode *section = ovf_section(system, "OperatingSystemSection", NULL);
	char *id = ovf_attribute(section, "osType");

	if (!id)
		id = ovf_text(section, "OSType");
	return id ? id : ovf_text(section, "Description");
}

/* --- disks ------------------------------------------------------------------------------------------------------------- */

/* A disk with its place, for the order. */
struct placed {
	struct vm_disk disk;
	size_t family; /* where disks of its kind of controller come among the kinds */
	size_t bus;    /* which controller of the kind */
	uint64_t unit;
	size_t position; /* in the descriptor */
	const char *id;  /* of the item */
	bool boot;
};

static enum vm_bus controller_bus(const struct item *c)
{
	const char *subtype = c && c->subtype ? c->subtype : "";

	switch (c ? c->type : 0) {
	case IDE:
		return VM_BUS_IDE;
	case SCSI:
		return !strcasecmp(subtype, "VirtualSCSI") ? VM_BUS_PVSCSI : VM_BUS_SCSI;
	case USB:
		return VM_BUS_USB;
	case STORAGE:
		if (strcasestr(subtype, "ahci") || strcasestr(subtype, "sata"))
			return VM_BUS_SATA;
		if (strcasestr(subtype, "nvme"))
			return VM_BUS_NVME;
		return strcasestr(subtype, "scsi") ? VM_BUS_SCSI : strcasestr(subtype, "virtio") ? VM_BUS_VIRTIO : VM_BUS_UNKNOWN;
	default:
		return VM_BUS_UNKNOWN;
	}
}

static enum vm_bus interface_bus(const char *interface)
{
	static const struct {
		const char *name;
		enum vm_bus bus;
	} names[] = { { "VirtIO", VM_BUS_VIRTIO },
		      { "VirtIO_SCSI", VM_BUS_SCSI },
		      { "IDE", VM_BUS_IDE },
		      { "SATA", VM_BUS_SATA },
		      { "SPAPR_VSCSI", VM_BUS_SCSI } };

	for (size_t i = 0; interface && i < sizeof names / sizeof *names; i++)
		if (!strcasecmp(interface, names[i].name))
			return names[i].bus;
	return VM_BUS_UNKNOWN;
}

/* The disk that <HostResource> means: "ovf:/disk/ID", also without "ovf:"; or the disk of a file, "ovf:/file/ID"; or either by the bare name. */
static const struct ovf_disk *resource_disk(const struct ovf *o, const char *reference)
{
	const char *p = !strncasecmp(reference, "ovf:", 4) ? reference + 4 : reference;
	bool disk_only, file_only;
	const struct ovf_disk *d;

	while (*p == '/')
		p++;
	disk_only = !strncmp(p, "disk/", 5);
	file_only = !strncmp(p, "file/", 5);
	if (disk_only || file_only)
		p += 5;
	d = file_only ? NULL : ovf_disk(o, p);
	for (size_t i = 0; !d && !disk_only && i < o->disk_count; i++) {
		const struct ovf_file *f = o->disks[i].file == OVF_NO_FILE ? NULL : &o->files[o->disks[i].file];

		if (f && (!strcmp(f->id, p) || ovf_href_is(f->href, p)))
			d = &o->disks[i];
	}
	return d;
}

static int read_disk(const struct ovf *o, const struct items *items, const struct item *item, struct placed *p, const struct vm_model *m,
		     struct error **err)
{
	AUTO_FREE char *resource = ovf_text(item->node, "HostResource"), *parent = ovf_text(item->node, "Parent"),
		       *label = ovf_text(item->node, "ElementName");
	const struct ovf_disk *d = resource ? resource_disk(o, resource) : NULL;
	const struct item *controller = find_item(items, parent);
	enum vm_bus bus = controller_bus(controller);

	if (!label)
		label = ovf_text(item->node, "Caption");
	if (!d)
		return error_set(err, ERROR_PERMANENT, "InvalidDisk", "%.200s of %.200s is on \"%.200s\", which is no disk of the package",
				 label ? label : "a disk", m->name, resource ? resource : "(no HostResource)");
	if (d->problem)
		return error_set(err, ERROR_PERMANENT, "InvalidDisk", "the disk %.200s of %.200s cannot be imported: %s", d->id, m->name,
				 d->problem);
	p->unit = number_of(item->node, "AddressOnParent");
	p->bus = controller ? (size_t)(controller - items->list) : SIZE_MAX;
	p->id = item->id;
	p->boot = d->boot;
	p->disk = (struct vm_disk){ .id = strdup(d->id),
				    .label = move_ptr(label),
				    .capacity = d->capacity,
				    .allocated = d->populated < d->capacity ? d->populated : d->capacity,
				    .bus = bus == VM_BUS_UNKNOWN ? interface_bus(d->interface) : bus };
	return p->disk.id ? 0 : error_set_errno(err, ENOMEM, "cannot read the disks");
}

static int by_place(const void *a, const void *b)
{
	const struct placed *x = a, *y = b;
	const uint64_t order[][2] = { { x->boot ? 0 : 1, y->boot ? 0 : 1 },
				      { x->family, y->family },
				      { x->bus, y->bus },
				      { x->unit, y->unit },
				      { x->position, y->position } };

	for (size_t i = 0; i < sizeof order / sizeof *order; i++)
		if (order[i][0] != order[i][1])
			return order[i][0] < order[i][1] ? -1 : 1;
	return 0;
}

/* The bus numbers of controllers are their Address where all of a kind have one; else they come as they are listed. */
static void place_controllers(const struct items *items, struct placed *disks, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct item *c = disks[i].bus == SIZE_MAX ? NULL : &items->list[disks[i].bus];
		uint64_t address = c ? number_of(c->node, "Address") : NO_NUMBER;

		if (address < 256) /* SATA and SCSI controllers number their buses on their own; PCI addresses are no numbers */
			disks[i].bus = (size_t)address * ITEMS_MAX + disks[i].bus;
		disks[i].family = disks[i].position;
		for (size_t k = 0; k < i; k++)
			if (disks[k].disk.bus == disks[i].disk.bus && disks[k].family < disks[i].family)
				disks[i].family = disks[k].family;
	}
}

/* VMware: <vmw:BootOrderSection vmw:instanceId="8" vmw:type="disk">, the first of which counts. */
static void prefer_boot_disk(const xmlNode *system, struct placed *disks, size_t count)
{
	for (const xmlNode *s = ovf_section(system, "BootOrderSection", NULL); s; s = ovf_section(system, "BootOrderSection", s)) {
		AUTO_FREE char *id = ovf_attribute(s, "instanceId");

		if (!id || !attribute_is(s, "type", "disk"))
			continue;
		for (size_t i = 0; i < count; i++) {
			if (!disks[i].id || strcmp(disks[i].id, id))
				continue;
			for (size_t k = 0; k < count; k++)
				disks[k].boot = k == i;
			return;
		}
	}
}

static int read_disks(const struct ovf *o, const xmlNode *system, const struct items *items, struct vm_model *m, struct error **err)
{
	AUTO_FREE struct placed *disks = calloc(items->count + 1, sizeof *disks);
	size_t count = 0;
	int result = 0;

	m->disks = calloc(items->count + 1, sizeof *m->disks);
	if (!disks || !m->disks)
		return error_set_errno(err, ENOMEM, "cannot read the disks");
	for (size_t i = 0; i < items->count && !result; i++) {
		if (items->list[i].type != DISK)
			continue;
		disks[count].position = count;
		result = read_disk(o, items, &items->list[i], &disks[count], m, err);
		count += result == 0;
		for (size_t k = 0; !result && k + 1 < count; k++)
			if (!strcmp(disks[k].disk.id, disks[count - 1].disk.id))
				result = error_set(err, ERROR_PERMANENT, "InvalidDisk", "%.200s has the disk %.200s twice", m->name,
						   disks[k].disk.id);
	}
	place_controllers(items, disks, count);
	prefer_boot_disk(system, disks, count);
	qsort(disks, count, sizeof *disks, by_place);
	for (size_t i = 0; i < count; i++) { /* the model owns them, also after an error */
		m->disks[i] = disks[i].disk;
		m->disks[i].boot_order = (unsigned)i + 1;
	}
	m->disk_count = count;
	return result;
}

/* --- NICs -------------------------------------------------------------------------------------------------------------- */

/* A ResourceSubType may name several, the best first; oVirt has numbers. */
static char *card_model(const char *subtype)
{
	static const struct {
		const char *word, *model;
	} cards[] = {
		{ "vmxnet3", "vmxnet3" },   { "vmxnet2", "vmxnet2" },
		{ "vmxnet", "vmxnet2" },    { "e1000", "e1000" },
		{ "e1000e", "e1000e" },     { "pcnet32", "pcnet32" },
		{ "pcnet", "pcnet32" },     { "virtio", "virtio" },
		{ "virtio-net", "virtio" }, { "virtionet", "virtio" },
		{ "rtl8139", "rtl8139" },   { "ne2k_pci", "ne2k_pci" },
		{ "1", "rtl8139" },         { "2", "e1000" },
		{ "3", "virtio" },          { "VmxNet3VirtualEthernetCard", "vmxnet3" },
	};

	for (const char *p = subtype ? subtype : ""; *p;) {
		size_t n = strcspn(p, " ,;\t\r\n");

		for (size_t i = 0; i < sizeof cards / sizeof *cards; i++)
			if (strlen(cards[i].word) == n && !strncasecmp(cards[i].word, p, n))
				return strdup(cards[i].model);
		p += n;
		p += strspn(p, " ,;\t\r\n");
	}
	return NULL;
}

/* "00:50:56:AA:00:01", with dashes or without anything, in the form of vm_nic; owned, NULL when it is no unicast address. */
static char *mac_of(const char *text)
{
	char hex[13] = "", out[18];
	size_t n = 0;

	for (const char *p = text ? text : ""; *p; p++) {
		if (isxdigit((unsigned char)*p) && n < 12)
			hex[n++] = (char)tolower((unsigned char)*p);
		else if ((*p != ':' && *p != '-' && *p != '.') || n == 12)
			return NULL;
	}
	if (n != 12 || !strcmp(hex, "000000000000") || strchr("13579bdf", hex[1]))
		return NULL;
	snprintf(out, sizeof out, "%.2s:%.2s:%.2s:%.2s:%.2s:%.2s", hex, hex + 2, hex + 4, hex + 6, hex + 8, hex + 10);
	return strdup(out);
}

/* The MAC of VirtualBox's index-th adapter that is enabled. */
static char *virtualbox_mac(const xmlNode *hardware, size_t index)
{
	for (const xmlNode *a = xml_path(hardware, "Network/Adapter"); a; a = xml_next(a, "Adapter")) {
		AUTO_FREE char *text = NULL;

		if (!attribute_is(a, "enabled", "true") || index--)
			continue;
		text = ovf_attribute(a, "MACAddress");
		return mac_of(text);
	}
	return NULL;
}

static void add_nic(const xmlNode *system, const struct item *item, struct vm_model *m)
{
	AUTO_FREE char *mac = ovf_text(item->node, "MACAddress"), *automatic = ovf_text(item->node, "AutomaticAllocation"), *linked = NULL;
	struct vm_nic *nic = &m->nics[m->nic_count];

	if (!mac)
		mac = ovf_text(item->node, "Address");
	linked = ovf_text(item->node, "Linked"); /* oVirt */
	nic->mac = mac_of(mac);
	if (mac && !nic->mac && !strpbrk(mac, "{}$")) /* oVirt has a PCI address there */
		ovf_note(m, "the MAC address \"%.40s\" is not understood, so a new one will be made", mac);
	if (!nic->mac)
		nic->mac = virtualbox_mac(virtualbox_hardware(system), m->nic_count);
	nic->network = ovf_text(item->node, "Connection");
	nic->model = card_model(item->subtype);
	nic->label = ovf_text(item->node, "ElementName");
	if (!nic->label)
		nic->label = ovf_text(item->node, "Caption");
	nic->connected = !(automatic && !strcasecmp(automatic, "false")) && !(linked && !strcasecmp(linked, "false"));
	m->nic_count++;
}

static int read_nics(const xmlNode *system, const struct items *items, struct vm_model *m, struct error **err)
{
	m->nics = calloc(items->count + 1, sizeof *m->nics);
	if (!m->nics)
		return error_set_errno(err, ENOMEM, "cannot read the NICs");
	for (size_t i = 0; i < items->count; i++)
		if (items->list[i].type == ETHERNET)
			add_nic(system, &items->list[i], m);
	return 0;
}

static void note_media(const struct ovf *o, const struct items *items, struct vm_model *m)
{
	for (size_t i = 0; i < items->count; i++) {
		AUTO_FREE char *resource = NULL;

		if (items->list[i].type != CD && items->list[i].type != DVD)
			continue;
		resource = ovf_text(items->list[i].node, "HostResource");
		for (size_t k = 0; resource && k < o->file_count; k++) {
			const char *last = strrchr(resource, '/');

			if (!strcmp(last ? last + 1 : resource, o->files[k].id))
				ovf_note(m, "the CD image %.200s will not come along", o->files[k].href);
		}
	}
}

int ovf_read_hardware(const struct ovf *o, const xmlNode *system, struct vm_model *m, struct error **err)
{
	const xmlNode *hardware = ovf_section(system, "VirtualHardwareSection", NULL);
	CLEANUP(items_free) struct items items = { 0 };
	AUTO_FREE char *option = choose_option(o, m);

	if (!hardware)
		return error_set(err, ERROR_PERMANENT, "NoConfiguration", "%.200s has no VirtualHardwareSection", m->name);
	m->guest_os = guest_os(system);
	if (collect_items(hardware, option, &items, err) < 0 || read_resources(&items, m, err) < 0)
		return -1;
	read_firmware(system, hardware, &items, m);
	note_media(o, &items, m);
	return read_nics(system, &items, m, err) < 0 ? -1 : read_disks(o, system, &items, m, err);
}
