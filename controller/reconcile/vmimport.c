#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/conditions.h"
#include "api/resources.h"
#include "base/clock.h"
#include "base/log.h"
#include "reconcile/context.h"

static const struct {
	const char *state;
	int (*step)(struct step *s, struct error **err);
} steps[] = {
	{ "", step_new },
	{ STATE_VALID, step_valid },
	{ STATE_SOURCE_READY, step_source_ready },
	{ STATE_DISKS_EXPORTED, step_disks_exported },
	{ STATE_IMAGE_SUBMITTED, step_image_submitted },
	{ STATE_IMAGE_FAILED, step_image_failed },
	{ STATE_IMAGES_READY, step_images_ready },
	{ STATE_VM_CREATED, step_vm_created },
	{ STATE_RUNNING, step_running },
	{ STATE_FAILED, step_failed },
};

static bool is(const char *state, const char *name)
{
	return !strcmp(state ? state : "", name);
}

/* The three conditions by which kubectl wait, GitOps tools and Harvester's UI judge an object. */
static void set_kstatus(struct step *s)
{
	struct vmimport_status *st = s->status;
	bool failed = is(st->import_status, STATE_FAILED) || is(st->import_status, STATE_INVALID);
	bool done = is(st->import_status, STATE_RUNNING);
	bool ready = done && condition_is_true(st->conditions, st->condition_count, "Ready");
	const char *message = st->message ? st->message : "";
	const char *reason = *s->reason ? s->reason : failed ? "ImportFailed" : "Importing";

	if (!ready) {
		const struct api_condition *old = condition_find(st->conditions, st->condition_count, "Ready");

		condition_set(&st->conditions, &st->condition_count, "Ready", "False", *s->reason || !old ? reason : old->reason, message,
			      false);
	}
	condition_set(&st->conditions, &st->condition_count, "Reconciling", ready || failed ? "False" : "True",
		      ready || failed ? "Settled" : "Importing", ready || failed ? "" : message, false);
	/* VMMigrationFailed is stalled once it is cleaned up, which step_failed says. */
	if (is(st->import_status, STATE_INVALID))
		condition_set(&st->conditions, &st->condition_count, "Stalled", "True", reason, message, false);
	else if (!is(st->import_status, STATE_FAILED))
		condition_set(&st->conditions, &st->condition_count, "Stalled", "False", "Importing", "", false);
	for (size_t i = 0; i < st->condition_count; i++)
		st->conditions[i].observed_generation = s->generation;
	st->observed_generation = s->generation;
}

/* Writes to the object as the step knows it. After a success, and after a conflict, what the cache has may be of the past. */
static int write_object(struct step *s, const char *subresource, const json_t *patch, struct error **err)
{
	const char *version = json_path_string(s->object, "metadata.resourceVersion");
	AUTO_ERROR struct error *failed = NULL;
	AUTO_JSON json_t *done = store_patch(s->r->options.store, &api_vmimports, s->ns, s->name, subresource, patch, &failed);
	const char *now = json_path_string(done, "metadata.resourceVersion");

	if (done ? !now || strcmp(now, version ? version : "") != 0 : failed->class == ERROR_CONFLICT)
		outdated_note(s->r->outdated, s->key, version);
	return done ? 0 : error_move(err, move_ptr(failed));
}

static int patch_status(struct step *s, struct error **err)
{
	AUTO_JSON json_t *from = json_encode(&api_vmimport_status_type, &s->import->status);
	AUTO_JSON json_t *to = json_encode(&api_vmimport_status_type, s->status);
	AUTO_JSON json_t *diff = NULL, *patch = NULL;

	/* No progress is 0 to us; to who reads it, it is to be there. */
	if (from && !json_path(s->object, "status.progress"))
		json_object_del(from, "progress");
	diff = from && to ? json_merge_diff(from, to) : NULL;
	if (!diff)
		return error_set_errno(err, ENOMEM, "cannot write the status");
	if (!json_object_size(diff))
		return 0;
	patch = json_pack("{s:{s:O}, s:O}", "metadata", "resourceVersion", json_path(s->object, "metadata.resourceVersion"), "status",
			  diff);
	if (!patch)
		return error_set_errno(err, ENOMEM, "cannot write the status");
	return write_object(s, "status", patch, err);
}

/* Replaces the finalizers: ours is put in, or taken out together with the one of Harvester's own controller. */
static int patch_finalizers(struct step *s, bool present, struct error **err)
{
	const json_t *old = json_path(s->object, "metadata.finalizers"), *entry;
	AUTO_JSON json_t *list = json_array(), *patch = NULL;
	size_t i;

	json_array_foreach (old, i, entry) {
		const char *f = json_string_value(entry);

		if (f && strcmp(f, API_FINALIZER) && (present || strncmp(f, "wrangler.cattle.io/virtualmachine", 33)))
			json_array_append(list, (json_t *)entry);
	}
	if (present)
		json_array_append_new(list, json_string(API_FINALIZER));
	patch = json_pack("{s:{s:O, s:O}}", "metadata", "resourceVersion", json_path(s->object, "metadata.resourceVersion"), "finalizers",
			  list);
	return patch ? write_object(s, NULL, patch, err) : error_set_errno(err, ENOMEM, "cannot write the finalizers");
}

static bool has_finalizer(const json_t *object)
{
	const json_t *entry;
	size_t i;

	json_array_foreach (json_path(object, "metadata.finalizers"), i, entry)
		if (is(json_string_value(entry), API_FINALIZER))
			return true;
	return false;
}

/* Starts the import anew: the status becomes empty, but for what is still to be undone at the source. */
static int reset(struct step *s, struct error **err)
{
	const struct vmimport_status anew = { .ledger = s->import->status.ledger, .ledger_count = s->import->status.ledger_count };
	AUTO_JSON json_t *from = json_encode(&api_vmimport_status_type, &s->import->status);
	AUTO_JSON json_t *to = json_encode(&api_vmimport_status_type, &anew);
	AUTO_JSON json_t *diff = from && to ? json_merge_diff(from, to) : NULL;
	AUTO_JSON json_t *patch = NULL;

	if (!diff)
		return error_set_errno(err, ENOMEM, "cannot write the status");
	patch = json_pack("{s:{s:O}, s:O}", "metadata", "resourceVersion", json_path(s->object, "metadata.resourceVersion"), "status",
			  diff);
	return patch ? write_object(s, "status", patch, err) : error_set_errno(err, ENOMEM, "cannot write the status");
}

/* A final state is left when the user says so. 1: something was patched, and its event brings the key again. */
static int leave_final(struct step *s, struct error **err)
{
	const char *state = s->import->status.import_status;
	const json_t *retry = json_object_get(json_path(s->object, "metadata.annotations"), API_ANNOTATION_RETRY);
	AUTO_JSON json_t *patch = NULL;

	if (is(state, STATE_INVALID) && s->import->status.observed_generation != s->generation)
		return reset(s, err) < 0 ? -1 : 1;
	if (!retry || !(is(state, STATE_FAILED) || is(state, STATE_INVALID)))
		return 0;
	/* Cleaned up first. What the source does not let go of yet is no reason to wait, and is tried again later. */
	if (s->import->status.ledger_count && !step_left_stands_aside(s))
		return 0;
	/* The status first: a crash in between repeats the reset of an empty status, not a second attempt. */
	if (reset(s, err) < 0)
		return -1;
	patch = json_pack("{s:{s:{s:n}}}", "metadata", "annotations", API_ANNOTATION_RETRY);
	if (!patch)
		return error_set_errno(err, ENOMEM, "cannot take the annotation away");
	return write_object(s, NULL, patch, err) < 0 ? -1 : 1;
}

static int run_step(struct step *s, struct error **err)
{
	const char *state = s->import->status.import_status ? s->import->status.import_status : "";

	if (!strcmp(state, STATE_INVALID))
		return step_invalid(s, err);
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
		if (!strcmp(steps[i].state, state))
			return steps[i].step(s, err);
	step_fail(s, STATE_FAILED, "UnknownState", "status.importStatus is \"%s\", which is no state of an import", state);
	return 0;
}

/* A transient error is told in the message; the caller retries with back-off. */
static void show_error(struct step *s, const struct error *failed)
{
	if (failed->class == ERROR_CONFLICT || failed->class == ERROR_CANCELLED)
		return;
	step_say(s, "%c%s", failed->message[0] >= 'a' && failed->message[0] <= 'z' ? failed->message[0] - 32 : failed->message[0],
		 failed->message[0] ? failed->message + 1 : "");
	snprintf(s->reason, sizeof s->reason, "%s", failed->reason);
	s->failed = true;
}

static void tell(struct step *s)
{
	const char *before = s->import->status.import_status, *after = s->status->import_status;
	const char *old_message = s->import->status.message ? s->import->status.message : "";
	const char *message = s->status->message ? s->status->message : "";
	bool moved = strcmp(before ? before : "", after ? after : "");

	if (moved || (s->failed && strcmp(old_message, message))) {
		event_record(s->r->options.events, s->object, s->failed ? "Warning" : "Normal", *s->reason ? s->reason : "Importing",
			     message);
		if (moved && (is(after, STATE_FAILED) || is(after, STATE_INVALID)))
			reconcile_metrics_failure(s->r, s->reason);
		log_write(s->failed ? LOG_WARNING : LOG_INFO, message, "state", after ? after : "", "reason", s->reason, NULL);
	}
}

static int delete_import(struct step *s, struct error **err)
{
	bool gone = false;

	if (!has_finalizer(s->object))
		return 0;
	if (step_deleted(s, &gone, err) < 0)
		return -1;
	if (!gone)
		return 0;
	log_write(LOG_INFO, "deleted", NULL);
	return patch_finalizers(s, false, err);
}

static void free_status_p(struct vmimport_status *status)
{
	json_type_free(&api_vmimport_status_type, status);
}

static void free_import_p(struct vmimport *import)
{
	json_type_free(&api_vmimport_type, import);
}

/* The object as the cache has it, or as it is, when it is known that the cache is behind: a step on an object of the past does the same
 * again, and its outcome is refused. *out NULL: there is none. */
static int read_object(struct reconciler *r, const char *key, const char *ns, const char *name, json_t **out, struct error **err)
{
	AUTO_JSON json_t *cached = informer_get(r->imports, ns, name), *object = NULL;
	AUTO_ERROR struct error *failed = NULL;

	if (!cached)
		outdated_is(r->outdated, key, NULL); /* what was known of it is of no use any more */
	if (!cached || !outdated_is(r->outdated, key, json_path_string(cached, "metadata.resourceVersion"))) {
		*out = move_ptr(cached);
		return 0;
	}
	object = store_get(r->options.store, &api_vmimports, ns, name, &failed);
	if (!object && failed->class != ERROR_NOT_FOUND)
		return error_move(err, move_ptr(failed));
	*out = move_ptr(object);
	return 0;
}

int reconcile_vmimport(struct reconciler *r, const char *key, const char *ns, const char *name, struct error **err)
{
	AUTO_JSON json_t *object = NULL;
	CLEANUP(free_import_p) struct vmimport import = { 0 };
	CLEANUP(free_status_p) struct vmimport_status status = { 0 };
	AUTO_ERROR struct error *failed = NULL;
	struct step s = { .r = r, .key = key, .ns = ns, .name = name, .import = &import, .status = &status };
	int result;

	if (read_object(r, key, ns, name, &object, err) < 0)
		return -1;
	s.object = object;
	if (!object) {
		transfer_end(r->transfers, key); /* removed without its finalizer */
		attempts_reset(r->attempts, key);
		return 0;
	}
	s.uid = json_path_string(object, "metadata.uid");
	s.generation = json_integer_value(json_path(object, "metadata.generation"));
	if (!s.uid || json_decode(&api_vmimport_type, object, &import, err) < 0 ||
	    json_decode(&api_vmimport_status_type, json_object_get(object, "status"), &status, err) < 0)
		return error_wrap(err, "cannot read the object");
	if (json_path(object, "metadata.deletionTimestamp"))
		return delete_import(&s, err);
	if (!has_finalizer(object))
		return patch_finalizers(&s, true, err);
	result = leave_final(&s, err);
	if (result)
		return result < 0 ? -1 : 0;
	result = run_step(&s, &failed);
	if (result < 0 && failed)
		show_error(&s, failed);
	if (result == 0 || (failed && failed->class != ERROR_CONFLICT && failed->class != ERROR_CANCELLED)) {
		set_kstatus(&s);
		/* What is told must be true: the event comes after the patch. */
		if (patch_status(&s, err) < 0)
			return -1;
		tell(&s);
	}
	if (result < 0)
		return error_move(err, move_ptr(failed));
	if (s.again_ms)
		queue_add_after(r->queue, key, s.again_ms);
	return 0;
}
