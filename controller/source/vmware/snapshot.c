#include "source/vmware/snapshot.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "source/vmware/property.h"

#define DEPTH_MAX 64 /* vSphere allows 32 */

static const xmlNode *device_of(const xmlNode *list, int64_t key)
{
	for (const xmlNode *n = xml_first(list); n; n = xml_next(n, NULL))
		if (xml_path_number(n, "key", -1) == key)
			return n;
	return NULL;
}

/* The entry of a snapshot in the tree of them. */
static const xmlNode *find_entry(const xmlNode *list, const char *element, const char *ref, unsigned depth)
{
	for (const xmlNode *n = xml_child(list, element); n && depth < DEPTH_MAX; n = xml_next(n, element)) {
		const xmlNode *below;

		if (xml_path_is(n, "snapshot", ref))
			return n;
		below = find_entry(n, "childSnapshotList", ref, depth + 1);
		if (below)
			return below;
	}
	return NULL;
}

/* 1: nothing of the disk was written since the change id, 0: something was, or it is not known. */
static int is_unchanged(struct vmware_session *s, const struct vm_model *model, int64_t key, uint64_t capacity, const char *change_id,
			struct cancel *cancel)
{
	uint64_t at = 0;

	while (at < capacity) {
		CLEANUP(buffer_free) struct buffer arguments;
		AUTO_XML xmlDoc *doc = NULL;
		xmlNode *result = NULL;
		int64_t start, length;

		buffer_init(&arguments, 4096);
		/* No snapshot is named: of a machine that is off, that is its disks as they are. */
		buffer_addf(&arguments, "<deviceKey>%" PRId64 "</deviceKey><startOffset>%" PRIu64 "</startOffset>", key, at);
		xml_add(&arguments, "changeId", change_id);
		if (arguments.failed)
			return 0;
		doc = vmware_call(s, "QueryChangedDiskAreas", (struct vmware_ref){ "VirtualMachine", model->source_id }, arguments.data,
				  &result, cancel, NULL);
		if (!doc || xml_path(result, "returnval/changedArea"))
			return 0;
		start = xml_path_number(result, "returnval/startOffset", -1);
		length = xml_path_number(result, "returnval/length", -1);
		if (start != (int64_t)at || length <= 0 || (uint64_t)length > capacity - at)
			return 0;
		at += (uint64_t)length;
	}
	return 1;
}

/* Whether the snapshot has all disks of the machine, and nothing was written to them since. */
static bool holds_all(struct vmware_session *s, const struct vm_model *model, const char *snapshot, struct cancel *cancel)
{
	static const char *const paths[] = { "config.hardware.device", NULL };
	xmlNode *o = NULL;
	AUTO_XML xmlDoc *doc = vmware_properties(s, (struct vmware_ref){ "VirtualMachineSnapshot", snapshot }, paths, &o, cancel, NULL);
	const xmlNode *devices = vmware_property(o, "config.hardware.device");

	for (size_t i = 0; i < model->disk_count; i++) {
		int64_t key = model->disks[i].id ? strtoll(model->disks[i].id, NULL, 10) : -1;
		const xmlNode *disk = device_of(devices, key);
		AUTO_FREE char *change_id = xml_path_text(disk, "backing/changeId");
		int64_t bytes = xml_path_number(disk, "capacityInBytes", xml_path_number(disk, "capacityInKB", 0) * 1024);

		if (!change_id || !*change_id || bytes < 0 || (uint64_t)bytes != model->disks[i].capacity ||
		    !is_unchanged(s, model, key, model->disks[i].capacity, change_id, cancel))
			return false;
	}
	return doc && model->disk_count;
}

char *snapshot_of_now(struct vmware_session *s, const struct vm_model *model, char **name, struct cancel *cancel, struct error **err)
{
	static const char *const paths[] = { "snapshot", "runtime.powerState", NULL };
	xmlNode *o = NULL;
	AUTO_XML xmlDoc *doc = vmware_properties(s, (struct vmware_ref){ "VirtualMachine", model->source_id }, paths, &o, cancel, err);
	const xmlNode *tree = vmware_property(o, "snapshot");
	AUTO_FREE char *current = xml_path_text(tree, "currentSnapshot"), *state = xml_text(vmware_property(o, "runtime.powerState"));

	if (!doc || !current || !state || strcmp(state, "poweredOff") || !holds_all(s, model, current, cancel))
		return NULL;
	*name = xml_path_text(find_entry(tree, "rootSnapshotList", current, 0), "name");
	return move_ptr(current);
}
