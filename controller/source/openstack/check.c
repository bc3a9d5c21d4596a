#include "source/openstack/check.h"

#include <string.h>
#include <strings.h>

#include "api/problem.h"
#include "base/buffer.h"
#include "source/openstack/answer.h"
#include "source/openstack/model.h"
#include "source/openstack/quota.h"
#include "source/openstack/server.h"
#include "json/codec.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

#define SHARERS_MAX 32 /* servers of shared volumes that are looked at */

/* States in which a server can neither be stopped nor copied as it is, and what to do. */
static const struct {
	const char *status, *advice;
} refused[] = {
	{ "ERROR", "it is in an error state; mend it (openstack server show tells the fault), or reset its state" },
	{ "BUILD", "it is being built; wait until that is done" },
	{ "REBUILD", "it is being rebuilt; wait until that is done" },
	{ "RESIZE", "it is being resized; wait until that is done" },
	{ "VERIFY_RESIZE", "it was resized, which is not confirmed yet; confirm or revert the resize" },
	{ "REVERT_RESIZE", "its resize is being reverted; wait until that is done" },
	{ "MIGRATING", "it is being migrated; wait until that is done" },
	{ "RESCUE", "it is in rescue mode, with another root disk; unrescue it" },
	{ "DELETED", "it is being deleted" },
	{ "SOFT_DELETED", "it is deleted and not yet gone; restore it" },
	{ "UNKNOWN", "its state is not known; ask the operator of the cloud" },
};

static void check_status(const json_t *server, const struct vm_model *m, json_t *problems)
{
	const char *status = answer_text(server, "status"), *fault = answer_text(json_object_get(server, "fault"), "message");

	for (size_t i = 0; status && i < sizeof refused / sizeof *refused; i++)
		if (!strcmp(status, refused[i].status))
			problem_add(problems, "%s has the status %s: %s%s%s", answer_shown(m->path).text, status, refused[i].advice,
				    fault ? ": " : "", answer_shown(fault).text);
	if (status && !strncmp(status, "SHELVED", 7) && openstack_has_local_root(server))
		problem_add(problems, "%s is shelved, and its root disk with it; unshelve it", answer_shown(m->path).text);
	if (json_is_true(json_object_get(server, "locked")) && m->power != VM_POWER_OFF)
		problem_add(problems, "%s is locked, so it cannot be stopped; unlock it, or stop it yourself", answer_shown(m->path).text);
}

/* A volume that others may write to while it is copied: named with them. others: server id -> server, of those that were found. */
static void check_sharers(const json_t *volume, const char *name, const struct vm_model *m, const json_t *others, json_t *problems)
{
	AUTO_BUFFER struct buffer names;
	const json_t *attachment;
	size_t i;

	buffer_init(&names, 1000);
	json_array_foreach (json_object_get(volume, "attachments"), i, attachment) {
		const char *id = answer_text(attachment, "server_id");
		const json_t *other = id ? json_object_get(others, id) : NULL;
		const char *other_name = answer_text(other, "name");

		if (!id || !strcmp(id, m->source_id) || (other && openstack_power(other) == VM_POWER_OFF))
			continue;
		buffer_addf(&names, "%s%s (%s)", names.len ? ", " : "", answer_shown(other_name ? other_name : "a server").text,
			    answer_shown(id).text);
	}
	if (names.len)
		problem_add(
			problems,
			"the volume %s (%s) of %s is shared with servers that may write to it: %s; a consistent copy cannot be made, stop them or detach it from them first",
			answer_shown(name).text, answer_shown(answer_text(volume, "id")).text, answer_shown(m->path).text, names.data);
}

static void check_volume(const json_t *volume, const struct vm_model *m, const json_t *others, json_t *problems)
{
	const char *id = answer_text(volume, "id"), *name = answer_text(volume, "name"), *status = answer_text(volume, "status");

	if (!name)
		name = id ? id : "";
	if (answer_true(volume, "encrypted"))
		problem_add(
			problems,
			"the volume %s (%s) of %s is encrypted, and what Cinder gives out of it would be, too; copy it to a volume of a type without encryption",
			answer_shown(name).text, answer_shown(id).text, answer_shown(m->path).text);
	if (!status || (strcasecmp(status, "in-use") && strcasecmp(status, "available") && strcasecmp(status, "reserved") &&
			strcasecmp(status, "uploading")))
		problem_add(problems, "the volume %s (%s) of %s has the status %s; it must be in-use or available", answer_shown(name).text,
			    answer_shown(id).text, answer_shown(m->path).text, answer_shown(status ? status : "(none)").text);
	if (answer_true(volume, "multiattach"))
		check_sharers(volume, name, m, others, problems);
}

void openstack_check_server(const json_t *gathered, const struct vm_model *m, json_t *problems)
{
	const json_t *entry;
	size_t i;

	check_status(json_object_get(gathered, "server"), m, problems);
	json_array_foreach (json_object_get(gathered, "volumes"), i, entry)
		check_volume(json_object_get(entry, "volume"), m, json_object_get(gathered, "others"), problems);
	if (!m->disk_count)
		problem_add(problems, "%s has no disks to import", answer_shown(m->path).text);
}

/* What is left of one of Glance's quotas, {"limit": …, "usage": …}; -1 is no limit. */
static uint64_t image_quota(const json_t *images, const char *name)
{
	const json_t *quota = json_object_get(json_object_get(images, "usage"), name);
	uint64_t limit = 0, usage = 0;

	if (!answer_number(quota, "limit", &limit))
		return UINT64_MAX;
	answer_number(quota, "usage", &usage);
	return usage < limit ? limit - usage : 0;
}

void openstack_check_quota(const json_t *gathered, const struct vm_model *m, const struct quota_need *left, const json_t *images,
			   json_t *problems)
{
	const char *format = answer_text(json_object_get(gathered, "image"), "disk_format");
	uint64_t largest = 0, size_left = image_quota(images, "image_size_total");
	bool any = false;

	for (size_t i = 0; i < m->disk_count; i++) {
		const struct vm_disk *disk = &m->disks[i];
		bool root = !strcmp(disk->id, OPENSTACK_ROOT);
		uint64_t gib = disk->capacity / GIB + (disk->capacity % GIB != 0);
		struct quota_need by_snapshot = quota_by_snapshot(gib), by_copy = quota_by_copy(gib);
		char lacks[160];

		if (!root && !answer_is_uuid(disk->id))
			continue;
		any = true;
		largest = disk->capacity > largest ? disk->capacity : largest;
		if (root && (!format || !strcmp(format, "raw")))
			continue;
		if ((root || !quota_fits(&by_snapshot, left, lacks)) && !quota_fits(&by_copy, left, lacks))
			problem_add(problems, "the project's block storage quota lacks %s to copy \"%s\"; raise it or delete something",
				    lacks, answer_shown(disk->label ? disk->label : disk->id).text);
	}
	if (any && !image_quota(images, "image_count_total"))
		problem_add(problems, "the project's quota of images is used up; raise it or delete an image");
	if (any && size_left != UINT64_MAX && largest / MIB > size_left)
		problem_add(
			problems,
			"the project's quota of images has %llu MiB left, and the image of a disk may take %llu MiB; raise it or delete images",
			(unsigned long long)size_left, (unsigned long long)(largest / MIB));
}

/* "others" in gathered: the servers that shared volumes are attached to, too. Those that we may not see, as of another project, are missing. */
static int gather_others(struct openstack_session *s, const struct vm_model *m, json_t *gathered, struct cancel *cancel, struct error **err)
{
	json_t *others = json_object();
	const json_t *entry, *attachment;
	size_t i, k;

	if (!others || json_object_set_new(gathered, "others", others) < 0)
		return error_set(err, ERROR_TRANSIENT, NULL, "out of memory");
	json_array_foreach (json_object_get(gathered, "volumes"), i, entry) {
		const json_t *volume = json_object_get(entry, "volume");

		json_array_foreach (answer_true(volume, "multiattach") ? json_object_get(volume, "attachments") : NULL, k, attachment) {
			const char *id = answer_id(attachment, "server_id");
			AUTO_ERROR struct error *failed = NULL;
			json_t *other;

			if (!id || !strcmp(id, m->source_id) || json_object_get(others, id) || json_object_size(others) >= SHARERS_MAX)
				continue;
			other = openstack_server(s, id, cancel, &failed);
			if (other)
				json_object_set_new(others, id, other);
			else if (failed->class == ERROR_TRANSIENT || failed->class == ERROR_CANCELLED)
				return error_move(err, move_ptr(failed));
		}
	}
	return 0;
}

int openstack_check(struct openstack_session *s, const struct vm_model *m, json_t *problems, struct cancel *cancel, struct error **err)
{
	AUTO_JSON json_t *gathered = openstack_gather(s, m->source_id, cancel, err), *images = NULL;
	AUTO_ERROR struct error *ignored = NULL;
	struct quota_need left;

	if (!gathered || gather_others(s, m, gathered, cancel, err) < 0 || quota_ask(s, &left, cancel, err) < 0)
		return -1;
	images = openstack_get(s, OPENSTACK_IMAGE, cancel, &ignored, "/info/usage"); /* since version 2.13 */
	openstack_check_server(gathered, m, problems);
	openstack_check_quota(gathered, m, &left, images, problems);
	return 0;
}
