#include "source/vmware/check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "source/vmware/property.h"
#include "json/codec.h"

#define PARENTS_MAX 64 /* vSphere allows 32 snapshots in a row */

__attribute__((format(printf, 2, 3))) static void complain(json_t *problems, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	if (text)
		json_array_append_new(problems, json_string(text));
	free(text);
}

static bool is(const char *text, const char *wanted)
{
	return text && !strcmp(text, wanted);
}

/* What is looked at. */
struct check {
	const xmlNode *devices, *layout;
	const json_t *offline;
	const char *path;
	json_t *problems;
};

static const xmlNode *controller_of(const struct check *c, const xmlNode *disk)
{
	int64_t key = xml_path_number(disk, "controllerKey", -1);

	for (const xmlNode *d = xml_first(c->devices); d; d = xml_next(d, NULL))
		if (xml_path_number(d, "key", -2) == key)
			return d;
	return NULL;
}

/* Disks that two machines write to, or that the host passes through. */
static void check_sharing(const struct check *c, const xmlNode *disk, const char *label)
{
	const xmlNode *controller = controller_of(c, disk);
	AUTO_FREE char *bus = xml_path_text(controller, "sharedBus"), *name = xml_path_text(controller, "deviceInfo/label");

	if (xml_path_is(disk, "backing/sharing", "sharingMultiWriter"))
		complain(c->problems,
			 "%s of %s is shared with other machines (multi-writer); a consistent copy cannot be made, detach it first", label,
			 c->path);
	else if (bus && strcmp(bus, "noSharing"))
		complain(
			c->problems,
			"%s of %s hangs on %s, whose bus is shared with other machines (%s); a consistent copy cannot be made, detach it first",
			label, c->path, name ? name : "a SCSI controller", bus);
}

static void check_backing(const struct check *c, const xmlNode *disk, const char *label)
{
	AUTO_FREE char *type = xml_type(xml_child(disk, "backing"));

	if (is(type, "VirtualDiskRawDiskMappingVer1BackingInfo") && xml_path_is(disk, "backing/compatibilityMode", "physicalMode"))
		complain(
			c->problems,
			"%s of %s is a raw device mapping in physical mode, which vSphere does not export; change it to virtual mode or detach it "
			"first",
			label, c->path);
	else if (is(type, "VirtualDiskRawDiskVer2BackingInfo") || is(type, "VirtualDiskPartitionedRawDiskVer2BackingInfo"))
		complain(c->problems, "%s of %s is a disk of its host, which vSphere does not export; detach it first", label, c->path);
	if (xml_child(xml_child(disk, "backing"), "keyId"))
		complain(c->problems,
			 "%s of %s is encrypted; decrypt it first (in the vSphere Client: VM Policies, with a storage policy without "
			 "encryption)",
			 label, c->path);
}

/* Whether the disk, or one that it is the snapshot or linked clone of, lies on a datastore out of reach. */
static bool check_datastores(const struct check *c, const xmlNode *disk, const char *label)
{
	const xmlNode *backing = xml_child(disk, "backing");

	for (int depth = 0; backing && depth < PARENTS_MAX; depth++, backing = xml_child(backing, "parent")) {
		AUTO_FREE char *ref = xml_path_text(backing, "datastore"), *file = xml_path_text(backing, "fileName");
		const char *name = ref ? json_string_value(json_object_get(c->offline, ref)) : NULL;

		if (!name)
			continue;
		complain(c->problems, "%s of %s lies on the datastore %s, which is not accessible at the source (%s)", label, c->path, name,
			 file ? file : "no file");
		return true;
	}
	return false;
}

static const xmlNode *file_of(const xmlNode *layout, int64_t key)
{
	for (const xmlNode *f = xml_child(layout, "file"); f; f = xml_next(f, "file"))
		if (xml_path_number(f, "key", -1) == key)
			return f;
	return NULL;
}

static void check_files(const struct check *c, const xmlNode *disk, const char *label)
{
	int64_t key = xml_path_number(disk, "key", -1);

	for (const xmlNode *d = xml_child(c->layout, "disk"); d; d = xml_next(d, "disk")) {
		if (xml_path_number(d, "key", -2) != key)
			continue;
		for (const xmlNode *link = xml_child(d, "chain"); link; link = xml_next(link, "chain")) {
			for (const xmlNode *k = xml_child(link, "fileKey"); k; k = xml_next(k, "fileKey")) {
				const xmlNode *f = file_of(c->layout, xml_number(k, -2));
				AUTO_FREE char *name = xml_path_text(f, "name");

				if (!xml_path_is(f, "accessible", "false"))
					continue;
				complain(c->problems, "%s of %s cannot be read at the source: its file %s is not accessible", label,
					 c->path, name ? name : "");
				return;
			}
		}
	}
}

static void check_device(const struct check *c, const xmlNode *device)
{
	AUTO_FREE char *type = xml_type(device), *text = xml_path_text(device, "deviceInfo/label");
	const char *label = text && *text ? text : "A disk";

	if (is(type, "VirtualNVDIMM"))
		complain(c->problems, "%s of %s holds data in persistent memory, which vSphere does not export; detach it first",
			 text && *text ? text : "An NVDIMM", c->path);
	if (!is(type, "VirtualDisk"))
		return;
	check_sharing(c, device, label);
	check_backing(c, device, label);
	if (!check_datastores(c, device, label))
		check_files(c, device, label);
}

static bool has_encrypted_disk(const xmlNode *devices)
{
	for (const xmlNode *d = xml_first(devices); d; d = xml_next(d, NULL)) {
		AUTO_FREE char *type = xml_type(d);

		if (is(type, "VirtualDisk") && xml_child(xml_child(d, "backing"), "keyId"))
			return true;
	}
	return false;
}

void vmware_check_of(const xmlNode *o, const json_t *offline, const struct vm_model *model, json_t *problems)
{
	struct check c = { .devices = vmware_property(o, "config.hardware.device"),
			   .layout = vmware_property(o, "layoutEx"),
			   .offline = offline,
			   .path = model->path,
			   .problems = problems };
	AUTO_FREE char *connection = xml_text(vmware_property(o, "runtime.connectionState"));
	AUTO_FREE char *fault_tolerance = xml_text(vmware_property(o, "runtime.faultToleranceState"));

	if (connection && strcmp(connection, "connected"))
		complain(problems, "%s is %s at the source: its host or its files cannot be reached", c.path, connection);
	if (!model->disk_count)
		complain(problems, "%s has no disks to import", c.path);
	if (model->power == VM_POWER_SUSPENDED)
		complain(problems, "%s is suspended, and what its memory holds would be lost; resume it and shut it down, or power it off",
			 c.path);
	if (fault_tolerance && *fault_tolerance && strcmp(fault_tolerance, "notConfigured"))
		complain(problems, "%s is protected by Fault Tolerance (%s), which forbids an export; turn it off first", c.path,
			 fault_tolerance);
	/* A vTPM makes vSphere encrypt the machine's own files, but not the disks: that is no hindrance. */
	if (vmware_property(o, "config.keyId") && !model->tpm && !has_encrypted_disk(c.devices))
		complain(problems, "The configuration of %s is encrypted; decrypt the virtual machine first", c.path);
	for (const xmlNode *d = xml_first(c.devices); d; d = xml_next(d, NULL))
		check_device(&c, d);
}

static int keep_offline(void *arg, const xmlNode *objects)
{
	AUTO_FREE char *ref = xml_text(xml_child(objects, "obj")), *name = xml_text(vmware_property(objects, "name"));
	AUTO_FREE char *accessible = xml_text(vmware_property(objects, "summary.accessible"));

	if (!ref || !is(accessible, "false"))
		return 0;
	return json_object_set_new(arg, ref, json_string(name ? name : ref));
}

/* The datastores that the machine uses and no host reaches: reference -> name. */
static json_t *offline_datastores(struct vmware_session *s, const xmlNode *objects, struct cancel *cancel, struct error **err)
{
	AUTO_JSON json_t *offline = json_object();
	CLEANUP(buffer_free) struct buffer spec = { 0 };
	size_t count = 0;

	buffer_init(&spec, 1 << 20);
	buffer_add_string(&spec,
			  "<specSet><propSet><type>Datastore</type><pathSet>name</pathSet><pathSet>summary.accessible</pathSet></propSet>");
	for (const xmlNode *n = xml_first(vmware_property(objects, "datastore")); n; n = xml_next(n, NULL), count++) {
		AUTO_FREE char *ref = xml_text(n);

		buffer_add_string(&spec, "<objectSet><obj type=\"Datastore\">");
		xml_add_escaped(&spec, ref ? ref : "");
		buffer_add_string(&spec, "</obj></objectSet>");
	}
	buffer_add_string(&spec, "</specSet>");
	if (count && vmware_retrieve(s, spec.data, keep_offline, offline, cancel, err) < 0) {
		error_wrap(err, "cannot read the state of the datastores");
		return NULL;
	}
	return move_ptr(offline);
}

void vmware_check_privileges_of(const xmlNode *answer, const struct vm_model *model, json_t *problems)
{
	for (const xmlNode *e = xml_child(answer, "returnval"); e; e = xml_next(e, "returnval")) {
		for (const xmlNode *p = xml_child(e, "privAvailability"); p; p = xml_next(p, "privAvailability")) {
			AUTO_FREE char *id = xml_path_text(p, "privId");

			if (id && xml_path_is(p, "isGranted", "false"))
				complain(problems, "the user lacks the privilege %s on %s; give it to the user's role at the source", id,
					 model->path);
		}
	}
}

/* Whether the user may do what an import does: ExportVm, PowerOffVM_Task, ShutdownGuest. Where that cannot be found out, it shows later. */
static int check_privileges(struct vmware_session *s, const struct vm_model *model, json_t *problems, struct cancel *cancel,
			    struct error **err)
{
	AUTO_FREE char *key = vmware_session_key(s);
	struct vmware_ref manager = { "AuthorizationManager", vmware_session_content(s)->authorization_manager };
	CLEANUP(buffer_free) struct buffer arguments = { 0 };
	xmlNode *result = NULL;
	AUTO_XML xmlDoc *doc = NULL;

	if (!key || !manager.value)
		return 0;
	buffer_init(&arguments, 65536);
	buffer_add_string(&arguments, "<entity type=\"VirtualMachine\">");
	xml_add_escaped(&arguments, model->source_id);
	buffer_add_string(&arguments, "</entity>");
	xml_add(&arguments, "sessionId", key);
	xml_add(&arguments, "privId", "VApp.Export");
	if (model->power != VM_POWER_OFF)
		xml_add(&arguments, "privId", "VirtualMachine.Interact.PowerOff");
	if (!arguments.failed)
		doc = vmware_call(s, "HasPrivilegeOnEntities", manager, arguments.data, &result, cancel, NULL);
	if (doc)
		vmware_check_privileges_of(result, model, problems);
	return cancel_check(cancel, err);
}

int vmware_check(struct vmware_session *s, const struct vm_model *model, json_t *problems, struct cancel *cancel, struct error **err)
{
	static const char *const paths[] = { "config.hardware.device",
					     "config.keyId",
					     "runtime.connectionState",
					     "runtime.faultToleranceState",
					     "layoutEx",
					     "datastore",
					     NULL };
	xmlNode *o = NULL;
	AUTO_XML xmlDoc *doc = vmware_properties(s, (struct vmware_ref){ "VirtualMachine", model->source_id }, paths, &o, cancel, err);
	AUTO_JSON json_t *offline = doc ? offline_datastores(s, o, cancel, err) : NULL;

	if (!offline)
		return -1;
	vmware_check_of(o, offline, model, problems);
	return check_privileges(s, model, problems, cancel, err);
}
