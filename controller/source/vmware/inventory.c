#include "source/vmware/inventory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "json/codec.h"

#define LISTED_MAX 12

/* What a traversal found: "reference" -> {type, name, parent}. */
struct inventory {
	json_t *objects;
};

static int keep(void *arg, const xmlNode *objects)
{
	struct inventory *inventory = arg;
	const xmlNode *obj = xml_child(objects, "obj"), *parent_node = vmware_property(objects, "parent");
	AUTO_FREE char *ref = xml_text(obj), *type = xml_type(obj), *name = xml_text(vmware_property(objects, "name"));
	AUTO_FREE char *parent = xml_text(parent_node), *folder = xml_text(vmware_property(objects, "vmFolder"));
	AUTO_FREE char *parent_folder = xml_text(vmware_property(objects, "parentFolder"));
	AUTO_FREE char *vapp = xml_text(vmware_property(objects, "parentVApp"));

	if (!ref || !type || !name)
		return 0; /* not readable by this user: as if it were not there */
	if (!parent && parent_folder)
		parent = move_ptr(parent_folder);
	if (!parent && vapp)
		parent = move_ptr(vapp);
	return json_object_set_new(inventory->objects, ref,
				   json_pack("{s:s, s:s, s:s*, s:s*}", "type", type, "name", name, "parent", parent, "vmFolder", folder));
}

/* vCenter writes /, \ and % of a name as %2f, %5c and %25. */
static char *decoded(const char *name)
{
	char *out = strdup(name), *to = out;
	static const struct {
		const char *code;
		char c;
	} codes[] = { { "%2f", '/' }, { "%2F", '/' }, { "%5c", '\\' }, { "%5C", '\\' }, { "%25", '%' } };

	if (!out)
		return NULL;
	for (const char *from = name; *from;) {
		bool found = false;

		for (size_t i = 0; !found && i < sizeof codes / sizeof *codes; i++) {
			if (!strncmp(from, codes[i].code, 3)) {
				*to++ = codes[i].c;
				from += 3;
				found = true;
			}
		}
		if (!found)
			*to++ = *from++;
	}
	*to = 0;
	return out;
}

static bool same_name(const char *have, const char *wanted)
{
	AUTO_FREE char *plain = decoded(have);

	return !strcmp(have, wanted) || (plain && !strcmp(plain, wanted));
}

/* "/top/below/name", from what was traversed; prefix stands for what lies above. Owned by the caller. */
static char *path_of(const struct inventory *inventory, const char *ref, const char *prefix)
{
	char *path = strdup("");

	for (int depth = 0; path && ref && depth < 64; depth++) {
		const json_t *object = json_object_get(inventory->objects, ref);
		char *longer = NULL;

		if (!object)
			break;
		if (asprintf(&longer, "/%s%s", json_path_string(object, "name"), path) < 0)
			longer = NULL;
		free(path);
		path = longer;
		ref = json_path_string(object, "parent");
	}
	if (path && *prefix) {
		char *whole = NULL;

		if (asprintf(&whole, "%s%s", prefix, path) < 0)
			whole = NULL;
		free(path);
		path = whole;
	}
	return path;
}

static int list_datacenters(struct vmware_session *s, struct inventory *inventory, struct cancel *cancel, struct error **err)
{
	CLEANUP(buffer_free) struct buffer spec = { 0 };

	buffer_init(&spec, 65536);
	buffer_add_string(&spec, "<specSet><propSet><type>Datacenter</type><pathSet>name</pathSet><pathSet>parent</pathSet><pathSet>vmFolder</pathSet></propSet>"
				 "<propSet><type>Folder</type><pathSet>name</pathSet><pathSet>parent</pathSet></propSet>"
				 "<objectSet><obj type=\"Folder\">");
	xml_add_escaped(&spec, vmware_root_folder(s));
	buffer_add_string(&spec, "</obj><skip>true</skip><selectSet xsi:type=\"TraversalSpec\"><name>folders</name><type>Folder</type>"
				 "<path>childEntity</path><skip>false</skip><selectSet><name>folders</name></selectSet></selectSet>"
				 "</objectSet></specSet>");
	return vmware_retrieve(s, spec.data, keep, inventory, cancel, err);
}

/* Appends a path to a message's list. */
static void list_path(struct buffer *list, size_t *count, const char *path)
{
	if (*count < LISTED_MAX)
		buffer_addf(list, "%s%s", *count ? ", " : "", path);
	else if (*count == LISTED_MAX)
		buffer_add_string(list, ", ...");
	(*count)++;
}

int vmware_find_datacenter(struct vmware_session *s, const char *dc, char **path_out, char **folder_out, struct cancel *cancel, struct error **err)
{
	AUTO_JSON json_t *objects = json_object();
	struct inventory inventory = { objects };
	CLEANUP(buffer_free) struct buffer all = { 0 }, matching = { 0 };
	size_t all_count = 0, found = 0;
	AUTO_FREE char *path = NULL, *folder = NULL;
	const char *ref;
	json_t *object;

	buffer_init(&all, 16384);
	buffer_init(&matching, 16384);
	buffer_add_string(&all, "");
	if (!dc || !*dc)
		return error_set(err, ERROR_PERMANENT, "DatacenterMissing", "spec.dc is empty; name the datacenter");
	if (list_datacenters(s, &inventory, cancel, err) < 0)
		return error_wrap(err, "cannot list the datacenters of %s", vmware_endpoint_host(s));
	json_object_foreach (objects, ref, object) {
		AUTO_FREE char *here = NULL;

		if (strcmp(json_path_string(object, "type"), "Datacenter"))
			continue;
		here = path_of(&inventory, ref, "");
		if (!here)
			return error_set_errno(err, ENOMEM, "cannot list the datacenters");
		list_path(&all, &all_count, here);
		if (strchr(dc, '/') ? strcmp(here + (*dc == '/' ? 0 : 1), dc) != 0 : !same_name(json_path_string(object, "name"), dc))
			continue;
		list_path(&matching, &found, here);
		free(path);
		path = move_ptr(here);
		free(folder);
		folder = strdup(json_path_string(object, "vmFolder") ? json_path_string(object, "vmFolder") : "");
	}
	if (!found)
		return error_set(err, ERROR_PERMANENT, "DatacenterNotFound", "%s has no datacenter %s; correct spec.dc. It has: %s", vmware_endpoint_host(s),
				 dc, all_count ? all.data : "none that this user may see");
	if (found > 1)
		return error_set(err, ERROR_PERMANENT, "DatacenterAmbiguous", "%zu datacenters are named %s; write one of these paths into spec.dc: %s", found, dc,
				 matching.data);
	*path_out = move_ptr(path);
	*folder_out = move_ptr(folder);
	return 0;
}

static int list_vms(struct vmware_session *s, const char *vm_folder, struct inventory *inventory, struct cancel *cancel, struct error **err)
{
	CLEANUP(buffer_free) struct buffer spec = { 0 };

	buffer_init(&spec, 65536);
	buffer_add_string(&spec, "<specSet><propSet><type>VirtualMachine</type><pathSet>name</pathSet><pathSet>parent</pathSet>"
				 "<pathSet>parentVApp</pathSet></propSet>"
				 "<propSet><type>Folder</type><pathSet>name</pathSet><pathSet>parent</pathSet></propSet>"
				 "<propSet><type>VirtualApp</type><pathSet>name</pathSet><pathSet>parentFolder</pathSet></propSet>"
				 "<objectSet><obj type=\"Folder\">");
	xml_add_escaped(&spec, vm_folder);
	/* A machine in a vApp has no parent folder: it is reached through the vApp. */
	buffer_add_string(&spec, "</obj><skip>false</skip>"
				 "<selectSet xsi:type=\"TraversalSpec\"><name>folders</name><type>Folder</type><path>childEntity</path><skip>false</skip>"
				 "<selectSet><name>folders</name></selectSet><selectSet><name>vapps</name></selectSet>"
				 "<selectSet><name>nested</name></selectSet></selectSet>"
				 "<selectSet xsi:type=\"TraversalSpec\"><name>vapps</name><type>VirtualApp</type><path>vm</path><skip>false</skip></selectSet>"
				 "<selectSet xsi:type=\"TraversalSpec\"><name>nested</name><type>VirtualApp</type><path>resourcePool</path><skip>false</skip>"
				 "<selectSet><name>vapps</name></selectSet><selectSet><name>nested</name></selectSet></selectSet>"
				 "</objectSet></specSet>");
	return vmware_retrieve(s, spec.data, keep, inventory, cancel, err);
}

/* Whether a machine at this path is in the folder that the user named: relative to the datacenter's vm folder, or absolute. */
static bool in_folder(const char *path, const char *name, const char *dc_path, const char *folder)
{
	AUTO_FREE char *wanted = NULL;
	size_t len = strlen(folder ? folder : ""), dir = strlen(path) - strlen(name) - 1;

	if (!len)
		return true;
	while (len && folder[len - 1] == '/')
		len--;
	if (*folder == '/' ? asprintf(&wanted, "%.*s", (int)len, folder) < 0 : asprintf(&wanted, "%s/vm/%.*s", dc_path, (int)len, folder) < 0) {
		wanted = NULL;
		return false;
	}
	return strlen(wanted) == dir && !strncmp(path, wanted, dir);
}

/* "vm-123", the managed object id, in place of a name. */
static bool is_reference(const char *name)
{
	const char *digits = !strncmp(name, "vm-", 3) ? name + 3 : "";

	return *digits && strspn(digits, "0123456789") == strlen(digits);
}

int vmware_find_vm(struct vmware_session *s, const char *dc_path, const char *vm_folder, const struct source_vm_name *name, char **ref_out,
		   char **path_out, struct cancel *cancel, struct error **err)
{
	AUTO_JSON json_t *objects = json_object();
	struct inventory inventory = { objects };
	CLEANUP(buffer_free) struct buffer matching = { 0 };
	AUTO_FREE char *path = NULL, *found_ref = NULL;
	size_t found = 0;
	const char *ref;
	json_t *object;

	buffer_init(&matching, 16384);
	if (list_vms(s, vm_folder, &inventory, cancel, err) < 0)
		return error_wrap(err, "cannot list the virtual machines of %s", dc_path);
	for (int by_reference = 0; by_reference < 2 && !found; by_reference++) {
		json_object_foreach (objects, ref, object) {
			const char *have = json_path_string(object, "name");
			AUTO_FREE char *here = NULL;

			if (strcmp(json_path_string(object, "type"), "VirtualMachine"))
				continue;
			if (by_reference ? !is_reference(name->name) || strcmp(ref, name->name) : !same_name(have, name->name))
				continue;
			here = path_of(&inventory, ref, dc_path);
			if (!here)
				return error_set_errno(err, ENOMEM, "cannot list the virtual machines");
			if (!by_reference && !in_folder(here, have, dc_path, name->folder))
				continue;
			list_path(&matching, &found, here);
			free(path);
			path = move_ptr(here);
			free(found_ref);
			found_ref = strdup(ref);
		}
	}
	if (!found && name->folder && *name->folder)
		return error_set(err, ERROR_NOT_FOUND, "VirtualMachineNotFound",
				 "there is no virtual machine %s in the folder %s of %s; correct spec.virtualMachineName or spec.folder", name->name, name->folder,
				 dc_path);
	if (!found)
		return error_set(err, ERROR_NOT_FOUND, "VirtualMachineNotFound", "there is no virtual machine %s in %s; correct spec.virtualMachineName",
				 name->name, dc_path);
	if (found > 1)
		return error_set(err, ERROR_PERMANENT, "VirtualMachineAmbiguous", "%zu virtual machines are named %s; set spec.folder to the one meant of: %s",
				 found, name->name, matching.data);
	*ref_out = move_ptr(found_ref);
	*path_out = move_ptr(path);
	return 0;
}
