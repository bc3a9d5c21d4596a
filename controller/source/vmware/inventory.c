#include "source/vmware/inventory.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "source/vmware/property.h"
#include "json/codec.h"

#define LISTED_MAX 12
#define LISTING_MS 20000 /* how long a listing is good */

/* What a traversal found: "reference" -> {type, name, parent}. */
struct inventory {
	json_t *objects;
};

static int keep(void *arg, const xmlNode *objects)
{
	struct inventory *inventory = arg;
	const xmlNode *obj = xml_child(objects, "obj"), *parent_node = vmware_property(objects, "parent");
	AUTO_FREE char *ref = xml_text(obj), *type = xml_reference_type(obj), *name = xml_text(vmware_property(objects, "name"));
	AUTO_FREE char *parent = xml_text(parent_node), *folder = xml_text(vmware_property(objects, "vmFolder"));
	AUTO_FREE char *parent_folder = xml_text(vmware_property(objects, "parentFolder"));
	AUTO_FREE char *vapp = xml_text(vmware_property(objects, "parentVApp"));
	AUTO_FREE char *uuid = xml_text(vmware_property(objects, "config.instanceUuid"));

	if (!ref || !type || !name)
		return 0; /* not readable by this user: as if it were not there */
	/* A vApp's parent is its resource pool, or the vApp around it; only the folder, where it has one, is in its path. */
	if (parent_folder) {
		free(parent);
		parent = move_ptr(parent_folder);
	}
	if (!parent && vapp)
		parent = move_ptr(vapp);
	return json_object_set_new(
		inventory->objects, ref,
		json_pack("{s:s, s:s, s:s*, s:s*, s:s*}", "type", type, "name", name, "parent", parent, "vmFolder", folder, "uuid", uuid));
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

/* Whether a name or path that vCenter gave is the one that the user wrote, in either form. */
static bool same_name(const char *have, const char *wanted)
{
	AUTO_FREE char *plain = decoded(have), *wanted_plain = decoded(wanted);

	return !strcmp(have, wanted) || (plain && wanted_plain && (!strcmp(plain, wanted) || !strcmp(plain, wanted_plain)));
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
	buffer_add_string(
		&spec,
		"<specSet><propSet><type>Datacenter</type><pathSet>name</pathSet><pathSet>parent</pathSet><pathSet>vmFolder</pathSet></propSet>"
		"<propSet><type>Folder</type><pathSet>name</pathSet><pathSet>parent</pathSet></propSet>"
		"<objectSet><obj type=\"Folder\">");
	xml_add_escaped(&spec, vmware_session_content(s)->root_folder);
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

int vmware_find_datacenter(struct vmware_session *s, const char *dc, char **path_out, char **folder_out, struct cancel *cancel,
			   struct error **err)
{
	AUTO_JSON json_t *objects = json_object();
	struct inventory inventory = { objects };
	CLEANUP(buffer_free) struct buffer all = { 0 }, matching = { 0 };
	size_t all_count = 0, found = 0;
	AUTO_FREE char *path = NULL, *folder = NULL, *wanted = strdup(dc ? dc : "");
	const char *ref;
	json_t *object;

	for (char *end = wanted ? strchr(wanted, 0) : NULL; end && end > wanted + 1 && end[-1] == '/';)
		*--end = 0;
	buffer_init(&all, 16384);
	buffer_init(&matching, 16384);
	buffer_add_string(&all, "");
	if (!objects || !wanted)
		return error_set_errno(err, ENOMEM, "cannot list the datacenters");
	if (list_datacenters(s, &inventory, cancel, err) < 0)
		return error_wrap(err, "cannot list the datacenters of %s", vmware_session_host(s));
	json_object_foreach (objects, ref, object) {
		AUTO_FREE char *here = NULL;

		if (strcmp(json_path_string(object, "type"), "Datacenter"))
			continue;
		here = path_of(&inventory, ref, "");
		if (!here)
			return error_set_errno(err, ENOMEM, "cannot list the datacenters");
		list_path(&all, &all_count, here);
		if (*wanted && !same_name(json_path_string(object, "name"), wanted) && !same_name(here + (*wanted == '/' ? 0 : 1), wanted))
			continue; /* not named: the only one is meant, as of an ESXi host */
		list_path(&matching, &found, here);
		free(path);
		path = move_ptr(here);
		free(folder);
		folder = strdup(json_path_string(object, "vmFolder") ? json_path_string(object, "vmFolder") : "");
		if (!folder)
			return error_set_errno(err, ENOMEM, "cannot list the datacenters");
	}
	if (!*wanted && found != 1)
		return error_set(err, ERROR_PERMANENT, "DatacenterMissing", "spec.dc is empty, and %s has %s; write one of them there: %s",
				 vmware_session_host(s), found ? "several datacenters" : "no datacenter", found ? matching.data : "none");
	if (!found)
		return error_set(err, ERROR_PERMANENT, "DatacenterNotFound", "%s has no datacenter %s; correct spec.dc. It has: %s",
				 vmware_session_host(s), dc, all_count ? all.data : "none that this user may see");
	if (found > 1)
		return error_set(err, ERROR_PERMANENT, "DatacenterAmbiguous",
				 "%zu datacenters are named %s; write one of these paths into spec.dc: %s", found, dc, matching.data);
	*path_out = move_ptr(path);
	*folder_out = move_ptr(folder);
	return 0;
}

/* 8-4-4-4-12 hexadecimal digits. */
static bool is_uuid(const char *text)
{
	size_t i = 0;

	for (; text[i] && i < 36; i++)
		if (i == 8 || i == 13 || i == 18 || i == 23 ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
			return false;
	return i == 36 && !text[i];
}

static int list_vms(struct vmware_session *s, const char *vm_folder, bool uuids, struct inventory *inventory, struct cancel *cancel,
		    struct error **err)
{
	CLEANUP(buffer_free) struct buffer spec = { 0 };

	buffer_init(&spec, 65536);
	buffer_add_string(&spec, "<specSet><propSet><type>VirtualMachine</type><pathSet>name</pathSet><pathSet>parent</pathSet>"
				 "<pathSet>parentVApp</pathSet>");
	if (uuids)
		buffer_add_string(&spec, "<pathSet>config.instanceUuid</pathSet>");
	buffer_add_string(
		&spec,
		"</propSet><propSet><type>Folder</type><pathSet>name</pathSet><pathSet>parent</pathSet></propSet>"
		"<propSet><type>VirtualApp</type><pathSet>name</pathSet><pathSet>parent</pathSet><pathSet>parentFolder</pathSet></propSet>"
		"<objectSet><obj type=\"Folder\">");
	xml_add_escaped(&spec, vm_folder);
	/* A machine in a vApp has no parent folder: it is reached through the vApp. */
	buffer_add_string(
		&spec,
		"</obj><skip>false</skip>"
		"<selectSet xsi:type=\"TraversalSpec\"><name>folders</name><type>Folder</type><path>childEntity</path><skip>false</skip>"
		"<selectSet><name>folders</name></selectSet><selectSet><name>vapps</name></selectSet>"
		"<selectSet><name>nested</name></selectSet></selectSet>"
		"<selectSet xsi:type=\"TraversalSpec\"><name>vapps</name><type>VirtualApp</type><path>vm</path><skip>false</skip></selectSet>"
		"<selectSet xsi:type=\"TraversalSpec\"><name>nested</name><type>VirtualApp</type><path>resourcePool</path><skip>false</skip>"
		"<selectSet><name>vapps</name></selectSet><selectSet><name>nested</name></selectSet></selectSet>"
		"</objectSet></specSet>");
	return vmware_retrieve(s, spec.data, keep, inventory, cancel, err);
}

/* Whether a machine at this path is the one named: in that folder, or (no folder) anywhere. The folder is relative to the datacenter's
 * vm folder, with or without a slash before it, or absolute. */
static bool is_named(const char *path, const char *have, const char *dc_path, const struct source_vm_name *name)
{
	const char *folder = name->folder ? name->folder : "", *relative = folder + strspn(folder, "/");
	int len = (int)strlen(relative);
	AUTO_FREE char *below = NULL, *absolute = NULL;

	if (!len && same_name(have, name->name))
		return true;
	while (len && relative[len - 1] == '/')
		len--;
	if (asprintf(&below, "%s/vm/%.*s%s%s", dc_path, len, relative, len ? "/" : "", name->name) < 0)
		below = NULL;
	if (asprintf(&absolute, "/%.*s/%s", len, relative, name->name) < 0)
		absolute = NULL;
	return below && absolute && (same_name(path, below) || (*folder == '/' && same_name(path, absolute)));
}

/* "vm-123", the managed object id, in place of a name; an ESXi host has plain numbers. */
static bool is_reference(const char *name)
{
	const char *digits = !strncmp(name, "vm-", 3) ? name + 3 : name;

	return *digits && strspn(digits, "0123456789") == strlen(digits);
}

/* The machines that the user may mean; several when the name is not enough. */
struct candidates {
	char *ref, *path; /* of the last one */
	size_t count;
	struct buffer paths;
};

static void candidates_free(struct candidates *c)
{
	free(c->ref);
	free(c->path);
	buffer_free(&c->paths);
}

enum manner { BY_PLACE, BY_NAME, BY_REFERENCE, BY_UUID };

static bool matches(enum manner how, const char *ref, const json_t *object, const char *path, const char *dc_path,
		    const struct source_vm_name *name)
{
	const char *have = json_path_string(object, "name"), *uuid = json_path_string(object, "uuid");
	AUTO_FREE char *direct = NULL;

	switch (how) {
	case BY_PLACE: /* directly in the vm folder */
		if (asprintf(&direct, "%s/vm/%s", dc_path, have) < 0)
			direct = NULL;
		return direct && !(name->folder && *name->folder) && !strcmp(path, direct) && same_name(have, name->name);
	case BY_NAME:
		return is_named(path, have, dc_path, name);
	case BY_REFERENCE:
		return is_reference(name->name) && !strcmp(ref, name->name);
	case BY_UUID:
		return is_uuid(name->name) && uuid && !strcasecmp(uuid, name->name);
	}
	return false;
}

static int collect(const struct inventory *inventory, enum manner how, const char *dc_path, const struct source_vm_name *name,
		   struct candidates *out)
{
	const char *ref;
	json_t *object;

	json_object_foreach (inventory->objects, ref, object) {
		AUTO_FREE char *path = NULL;

		if (strcmp(json_path_string(object, "type"), "VirtualMachine"))
			continue;
		path = path_of(inventory, ref, dc_path);
		if (!path)
			return -1;
		if (!matches(how, ref, object, path, dc_path, name))
			continue;
		list_path(&out->paths, &out->count, path);
		free(out->path);
		out->path = move_ptr(path);
		free(out->ref);
		out->ref = strdup(ref);
		if (!out->ref)
			return -1;
	}
	return 0;
}

void vmware_listing_init(struct vmware_listing *l)
{
	*l = (struct vmware_listing){ .objects = NULL };
	pthread_mutex_init(&l->lock, NULL);
}

void vmware_listing_clear(struct vmware_listing *l)
{
	json_decref(l->objects);
	pthread_mutex_destroy(&l->lock);
}

void vmware_listing_forget(struct vmware_listing *l)
{
	LOCK_GUARD(&l->lock);
	json_decref(move_ptr(l->objects));
}

static int collect_all(const struct inventory *inventory, const char *dc_path, const struct source_vm_name *name, struct candidates *found,
		       struct error **err)
{
	static const enum manner manners[] = { BY_PLACE, BY_NAME, BY_REFERENCE, BY_UUID };

	for (size_t i = 0; i < sizeof manners / sizeof *manners && !found->count; i++)
		if (collect(inventory, manners[i], dc_path, name, found) < 0)
			return error_set_errno(err, ENOMEM, "cannot list the virtual machines");
	return 0;
}

/* By a listing: a recent one when it knows one machine that is meant, else one that is made now. */
static int look_up(struct vmware_session *s, const char *dc_path, const char *vm_folder, const struct source_vm_name *name,
		   struct vmware_listing *recent, struct candidates *found, struct cancel *cancel, struct error **err)
{
	AUTO_JSON json_t *objects = NULL;
	struct inventory inventory;

	LOCK_GUARD(&recent->lock);
	if (recent->objects && clock_monotonic_ms() - recent->made < LISTING_MS && !is_uuid(name->name)) {
		inventory.objects = recent->objects;
		if (collect_all(&inventory, dc_path, name, found, err) < 0)
			return -1;
		if (found->count == 1)
			return 0;
		candidates_free(found);
		*found = (struct candidates){ 0 };
		buffer_init(&found->paths, 16384);
	}
	objects = json_object();
	if (!objects)
		return error_set_errno(err, ENOMEM, "cannot list the virtual machines");
	inventory.objects = objects;
	if (list_vms(s, vm_folder, is_uuid(name->name), &inventory, cancel, err) < 0)
		return error_wrap(err, "cannot list the virtual machines of %s", dc_path);
	json_decref(recent->objects);
	recent->objects = move_ptr(objects);
	recent->made = clock_monotonic_ms();
	return collect_all(&inventory, dc_path, name, found, err);
}

int vmware_find_vm(struct vmware_session *s, const char *dc_path, const char *vm_folder, const struct source_vm_name *name,
		   struct vmware_listing *recent, char **ref_out, char **path_out, struct cancel *cancel, struct error **err)
{
	CLEANUP(candidates_free) struct candidates found = { 0 };

	buffer_init(&found.paths, 16384);
	if (look_up(s, dc_path, vm_folder, name, recent, &found, cancel, err) < 0)
		return -1;
	if (!found.count && name->folder && *name->folder)
		return error_set(err, ERROR_NOT_FOUND, "VirtualMachineNotFound",
				 "there is no virtual machine %s in the folder %s of %s; correct spec.virtualMachineName or spec.folder",
				 name->name, name->folder, dc_path);
	if (!found.count)
		return error_set(err, ERROR_NOT_FOUND, "VirtualMachineNotFound",
				 "there is no virtual machine %s in %s; correct spec.virtualMachineName", name->name, dc_path);
	if (found.count > 1)
		return error_set(err, ERROR_PERMANENT, "VirtualMachineAmbiguous",
				 "%zu virtual machines are named %s; set spec.folder to the one meant of: %s", found.count, name->name,
				 found.paths.data ? found.paths.data : "");
	*ref_out = move_ptr(found.ref);
	*path_out = move_ptr(found.path);
	return 0;
}

static int keep_name(void *arg, const xmlNode *objects)
{
	struct vm_model *m = arg;
	AUTO_FREE char *name = xml_text(vmware_property(objects, "name"));
	char **longer = name ? realloc(m->networks, (m->network_count + 1) * sizeof *longer) : NULL;

	if (!name)
		return 0;
	if (!longer)
		return -1;
	m->networks = longer;
	m->networks[m->network_count++] = move_ptr(name);
	return 0;
}

int vmware_list_networks(struct vmware_session *s, const char *vm_folder, struct vm_model *model, struct cancel *cancel, struct error **err)
{
	CLEANUP(buffer_free) struct buffer spec = { 0 };

	buffer_init(&spec, 65536);
	buffer_add_string(&spec, "<specSet><propSet><type>Network</type><pathSet>name</pathSet></propSet><objectSet><obj type=\"Folder\">");
	xml_add_escaped(&spec, vm_folder);
	buffer_add_string(&spec,
			  "</obj><skip>true</skip>"
			  "<selectSet xsi:type=\"TraversalSpec\"><name>up</name><type>Folder</type><path>parent</path><skip>true</skip>"
			  "<selectSet xsi:type=\"TraversalSpec\"><name>networks</name><type>Datacenter</type><path>network</path>"
			  "<skip>false</skip></selectSet></selectSet></objectSet></specSet>");
	if (vmware_retrieve(s, spec.data, keep_name, model, cancel, err) < 0)
		return error_wrap(err, "cannot list the networks");
	return 0;
}
