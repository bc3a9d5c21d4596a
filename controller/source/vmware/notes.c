#include "source/vmware/notes.h"

#include <stdarg.h>
#include <string.h>

#include "api/guest_os.h"
#include "source/vmware/property.h"

#define NOTES_MAX 8192

static bool is(const char *text, const char *wanted)
{
	return text && !strcmp(text, wanted);
}

__attribute__((format(printf, 2, 3))) static void add(struct buffer *b, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	if (text)
		buffer_addf(b, "%s%s", b->len ? "; " : "", text);
	free(text);
}

static bool connected(const xmlNode *device)
{
	return xml_path_is(device, "connectable/connected", "true") || xml_path_is(device, "connectable/startConnected", "true");
}

static void note_disk(struct buffer *b, const xmlNode *device, const char *label, const struct vm_model *m)
{
	AUTO_FREE char *backing = xml_type(xml_child(device, "backing")), *mode = xml_path_text(device, "backing/diskMode");

	if (is(backing, "VirtualDiskRawDiskMappingVer1BackingInfo") && !xml_path_is(device, "backing/compatibilityMode", "physicalMode"))
		add(b, "%s is a raw device mapping and becomes an ordinary disk", label);
	if ((is(mode, "independent_nonpersistent") || is(mode, "nonpersistent") || is(mode, "undoable")) && m->power == VM_POWER_ON)
		add(b, "%s is %s: vSphere drops what the guest has written to it when it is powered off", label, mode);
}

static void note_drive(struct buffer *b, const xmlNode *device, const char *label)
{
	AUTO_FREE char *backing = xml_type(xml_child(device, "backing")), *file = xml_path_text(device, "backing/fileName");

	if ((is(backing, "VirtualCdromIsoBackingInfo") || is(backing, "VirtualFloppyImageBackingInfo")) && file && *file)
		add(b, "%s holds %s, which stays behind", label, file);
	else if (connected(device))
		add(b, "%s is a drive of the host and stays behind", label);
}

static void note_device(struct buffer *b, const xmlNode *device, const struct vm_model *m)
{
	/* What a machine on the target has no counterpart for. */
	static const char *const left[] = { "VirtualPCIPassthrough",  "VirtualUSB",
					    "VirtualSerialPort",      "VirtualParallelPort",
					    "VirtualSCSIPassthrough", "VirtualSoundCard",
					    "VirtualSoundBlaster16",  "VirtualEnsoniq1371",
					    "VirtualHdAudioCard",     "VirtualPrecisionClock" };
	AUTO_FREE char *type = xml_type(device), *text = xml_path_text(device, "deviceInfo/label");
	const char *label = text && *text ? text : type;

	if (!type)
		return;
	if (is(type, "VirtualDisk"))
		note_disk(b, device, label, m);
	else if (is(type, "VirtualCdrom") || is(type, "VirtualFloppy"))
		note_drive(b, device, label);
	else if (is(type, "VirtualSriovEthernetCard"))
		add(b, "%s is a function of a card of the host (SR-IOV) and becomes a virtual one", label);
	else if (is(type, "VirtualTPM"))
		add(b, "the vTPM comes empty, and what is sealed in it stays behind: suspend BitLocker, or have its recovery key at hand");
	for (size_t i = 0; i < sizeof left / sizeof *left; i++)
		if (is(type, left[i]))
			add(b, "%s (%s) does not come along", label, type);
}

static size_t count_snapshots(const xmlNode *tree)
{
	size_t n = 0;

	for (const xmlNode *c = xml_first(tree); c; c = xml_next(c, NULL))
		if (xml_named(c, "rootSnapshotList") || xml_named(c, "childSnapshotList"))
			n += 1 + count_snapshots(c);
	return n;
}

/* Windows starts from a virtio disk, and sees a virtio card, only with drivers that it does not bring along. */
static void note_drivers(struct buffer *b, const struct vm_model *m)
{
	bool disk = false, nic = false;

	if (!guest_os_is_windows(m->guest_os))
		return;
	for (size_t i = 0; i < m->disk_count; i++)
		disk = disk || m->disks[i].bus == VM_BUS_NVME;
	for (size_t i = 0; i < m->nic_count; i++)
		nic = nic || is(m->nics[i].model, "vmxnet3") || is(m->nics[i].model, "vmxnet2");
	if (disk)
		add(b, "its NVMe disks become virtio ones: install the virtio drivers in Windows first");
	if (nic)
		add(b,
		    "its vmxnet cards become virtio ones: install the virtio drivers in Windows, or set spec.networkMapping[].networkInterfaceModel "
		    "to e1000");
}

char *vmware_notes_of(const xmlNode *o, const struct vm_model *m)
{
	struct buffer b;
	size_t snapshots = count_snapshots(vmware_property(o, "snapshot"));

	buffer_init(&b, NOTES_MAX);
	if (snapshots)
		add(&b, "its %zu snapshots stay behind: the disks come as they are now", snapshots);
	if (m->cpu_hot_add || m->memory_hot_add)
		add(&b, "adding %s while it runs is allowed at the source, and is to be enabled anew on the target",
		    m->cpu_hot_add && m->memory_hot_add ? "CPUs and memory"
		    : m->cpu_hot_add                    ? "CPUs"
							: "memory");
	for (size_t i = 0; i < m->nic_count; i++)
		if (!m->nics[i].connected)
			add(&b, "%s is disconnected at the source and comes connected",
			    m->nics[i].label ? m->nics[i].label : "a network card");
	for (const xmlNode *d = xml_first(vmware_property(o, "config.hardware.device")); d; d = xml_next(d, NULL))
		note_device(&b, d, m);
	note_drivers(&b, m);
	b.failed = false; /* what fits is told */
	if (!b.len) {
		buffer_free(&b);
		return NULL;
	}
	return buffer_steal(&b);
}
