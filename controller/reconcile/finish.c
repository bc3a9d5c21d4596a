/* The ends of an import: done, failed, deleted. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/conditions.h"
#include "api/resources.h"
#include "base/clock.h"
#include "base/log.h"
#include "reconcile/context.h"
#include "transfer/claim.h"
#include "transfer/journal.h"

/* How often the source is asked to undo things before a deletion goes on without. */
#define DELETE_TRIES 8

static int remove_disks(struct step *s, struct error **err)
{
	AUTO_FREE char *directory = step_directory(s);

	if (s->r->options.keep_disks || !directory)
		return 0;
	return journal_remove(directory, err);
}

/* What was fetched stays for a retry, until the import is deleted; but the source may change in between. */
static void doubt_disks(struct step *s)
{
	AUTO_FREE char *directory = step_directory(s), *holder = directory && s->r->options.keep_disks ? claim_holder(directory) : NULL;
	AUTO_FREE char *import = NULL;

	if (asprintf(&import, "%s/%s", s->ns, s->name) < 0)
		import = NULL;
	if (directory && import && (!holder || !strcmp(holder, import))) /* another import's are none of ours */
		journal_doubt(directory);
}

/* Final states are cleaned up once: the Ready condition of this generation tells that it was done. */
static bool settled(const struct step *s, const char *type)
{
	return condition_is_true(s->status->conditions, s->status->condition_count, type) && !s->status->ledger_count;
}

/* How often the source was asked to undo things is counted apart. */
static char *left_key(const struct step *s)
{
	char *key = NULL;

	return asprintf(&key, "%s left", s->key) < 0 ? NULL : key;
}

/* Whether what is left at the source was asked for a moment ago; the status that was patched then wakes us, too. */
static bool waits_to_clean(struct step *s)
{
	AUTO_FREE char *key = left_key(s);

	s->again_ms = key ? attempts_held(s->r->attempts, key) : 0;
	return s->again_ms;
}

/* Says what is left at the source, after `before`, and when that is tried again. Takes the error, which it hands on where that is not it. */
static int tell_left_behind(struct step *s, const char *before, struct error *failed, struct error **err)
{
	AUTO_FREE char *key = left_key(s), *left = ledger_left(s->status), *text = NULL, *reported = NULL;
	const char *last = s->import->status.message;

	if (failed->class == ERROR_CONFLICT || failed->class == ERROR_CANCELLED || !key || !left)
		return error_move(err, failed);
	s->again_ms = attempts_hold(s->r->attempts, key);
	text = ledger_tell(s->status, failed, s->again_ms);
	step_say(s, "%s%s", before, text ? text : failed->message);
	snprintf(s->reason, sizeof s->reason, "SourceNotCleaned");
	/* An event for each that is let go of, and not for each try. */
	if (!last || !strstr(last, left)) {
		reported = ledger_tell(s->status, failed, 0);
		event_record(s->r->options.events, s->object, "Warning", "SourceNotCleaned", reported ? reported : failed->message);
		log_write(LOG_WARNING, reported ? reported : failed->message, "reason", failed->reason, NULL);
	}
	error_free(failed);
	return 0;
}

static void forget_left(const struct step *s)
{
	AUTO_FREE char *key = left_key(s);

	if (key)
		attempts_reset(s->r->attempts, key);
}

/* A lease holds the machine; what else there may be holds up nobody. */
bool step_left_stands_aside(struct step *s)
{
	AUTO_FREE char *key = left_key(s);

	return key && attempts_held(s->r->attempts, key) && !ledger_has(s->status, LEDGER_LEASE);
}

int step_running(struct step *s, struct error **err)
{
	struct target *target = s->r->options.target;
	struct target_import import = step_target_import(s);
	const char *name = import.vm_name ? import.vm_name : "";
	AUTO_ERROR struct error *failed = NULL;
	AUTO_FREE char *before = NULL;

	if (settled(s, "Ready") || waits_to_clean(s))
		return 0;
	transfer_end(s->r->transfers, s->key);
	if (target->ops->release(target, &import, err) < 0)
		return error_wrap(err, "cannot release the images");
	if (remove_disks(s, err) < 0)
		return -1;
	if (ledger_clean(s, &failed) < 0) {
		if (asprintf(&before, "The virtual machine %s is imported, but ", name) < 0)
			before = NULL;
		return tell_left_behind(s, before ? before : "", move_ptr(failed), err);
	}
	forget_left(s);
	ledger_drop(s->status, LEDGER_POWER);
	ledger_drop(s->status, LEDGER_SESSION);
	step_say(s, "The virtual machine %s is imported", name); /* whatever was said of what was left */
	condition_set(&s->status->conditions, &s->status->condition_count, "Ready", "True", "Imported", s->status->message, false);
	return 0;
}

/* Starts the machine at the source again. What stands in the way for good is not tried for ever: *unrecovered tells it (owned). */
static int start_source(struct step *s, char **unrecovered, struct error **err)
{
	struct source_vm_name name = { s->import->spec.virtual_machine_name, s->import->spec.folder };
	AUTO_SESSION struct session *session = NULL;
	AUTO_VM_MODEL struct vm_model *model = NULL;
	AUTO_ERROR struct error *failed = NULL;

	if (step_session(s, &session, &failed) == 0) {
		struct source *source = session_source(session);

		model = source->ops->describe(source, &name, s->r->cancel, &failed);
		if (model && (model->power == VM_POWER_ON || source->ops->power_on(source, model, s->r->cancel, &failed) == 0))
			return 0;
	}
	error_wrap(&failed, "cannot start %s again at the source", name.name);
	if (failed->class != ERROR_PERMANENT && failed->class != ERROR_NOT_FOUND)
		return error_move(err, move_ptr(failed));
	event_record(s->r->options.events, s->object, "Warning", "SourceNotRecovered", failed->message);
	*unrecovered = strdup(failed->message);
	return 0;
}

/* spec.sourceRecovery: what we powered off is started again when nothing was imported. */
static int recover_source(struct step *s, char **unrecovered, struct error **err)
{
	const char *policy = s->import->spec.source_recovery;

	if (!ledger_has(s->status, LEDGER_POWER))
		return 0;
	if (policy && !strcmp(policy, "PowerOn") && start_source(s, unrecovered, err) < 0)
		return -1;
	ledger_drop(s->status, LEDGER_POWER);
	return 0;
}

/* Between why the import failed and what its cleanup meets: the first is what the user must learn. */
#define BESIDES "; besides, "

/* Why the import failed, without what its cleanup added. Owned. */
static char *first_cause(const struct step *s)
{
	const char *message = s->import->status.message ? s->import->status.message : "The import failed";
	const char *besides = strstr(message, BESIDES);

	return besides ? strndup(message, (size_t)(besides - message)) : strdup(message);
}

int step_failed(struct step *s, struct error **err)
{
	AUTO_FREE char *cause = first_cause(s), *unrecovered = NULL;
	AUTO_ERROR struct error *failed = NULL;

	if (settled(s, "Stalled") || waits_to_clean(s))
		return 0;
	if (!cause)
		return error_set_errno(err, ENOMEM, "cannot clean up");
	transfer_end(s->r->transfers, s->key);
	if (ledger_clean(s, &failed) < 0) {
		AUTO_FREE char *before = NULL;

		if (asprintf(&before, "%s" BESIDES, cause) < 0)
			before = NULL;
		return tell_left_behind(s, before ? before : "", move_ptr(failed), err);
	}
	forget_left(s);
	if (recover_source(s, &unrecovered, &failed) < 0)
		return error_set_code(err, failed->class, failed->reason, failed->code, "%s" BESIDES "%s", cause, failed->message);
	step_say(s, "%s%s%s", cause, unrecovered ? BESIDES : "", unrecovered ? unrecovered : "");
	ledger_drop(s->status, LEDGER_SESSION);
	doubt_disks(s);
	if (!s->status->completion_time) {
		char now[CLOCK_RFC3339_SIZE];

		clock_rfc3339(now);
		s->status->completion_time = strdup(now);
	}
	condition_set(&s->status->conditions, &s->status->condition_count, "Stalled", "True", "ImportFailed", s->status->message, false);
	return 0;
}

/* An import that cannot start has made nothing, but an earlier attempt may have. */
int step_invalid(struct step *s, struct error **err)
{
	AUTO_FREE char *left = ledger_left(s->status), *cause = first_cause(s), *before = NULL;
	AUTO_ERROR struct error *failed = NULL;

	if (!left || waits_to_clean(s))
		return 0;
	if (!cause || asprintf(&before, "%s" BESIDES, cause) < 0) {
		before = NULL;
		return error_set_errno(err, ENOMEM, "cannot clean up");
	}
	if (ledger_clean(s, &failed) < 0)
		return tell_left_behind(s, before, move_ptr(failed), err);
	forget_left(s);
	step_say(s, "%s", cause);
	return 0;
}

/* Claims were made but no machine that owns them: nobody would ever remove them. */
static int remove_claims(struct step *s, struct error **err)
{
	const char *state = s->status->import_status;

	if (s->r->options.keep_disks || !state || strcmp(state, STATE_IMAGES_READY))
		return 0;
	AUTO_ERROR struct error *failed = NULL;
	AUTO_JSON json_t *vm = store_get(s->r->options.store, &api_vms, s->ns, s->status->imported_virtual_machine_name, &failed);
	if (vm)
		return 0;
	if (failed->class != ERROR_NOT_FOUND)
		return error_move(err, move_ptr(failed));
	for (size_t i = 0; i < s->status->disk_count; i++)
		if (s->status->disks[i].image && *s->status->disks[i].image &&
		    store_delete(s->r->options.store, &api_pvcs, s->ns, s->status->disks[i].image, NULL, err) < 0)
			return -1;
	return 0;
}

static void tell_left(struct step *s, const char *why, bool again)
{
	AUTO_FREE char *left = ledger_left(s->status), *text = NULL;

	if (asprintf(&text, "%s: %s: %s",
		     again ? "Still at the source, and tried again" : "Left behind at the source, to be removed by hand", left ? left : "",
		     why) < 0)
		text = NULL;
	event_record(s->r->options.events, s->object, "Warning", "SourceNotCleaned", text ? text : why);
}

int step_deleted(struct step *s, bool *gone, struct error **err)
{
	struct target *target = s->r->options.target;
	struct target_import import = step_target_import(s);
	const char *state = s->status->import_status;
	AUTO_ERROR struct error *failed = NULL;
	AUTO_FREE char *key = NULL;

	transfer_end(s->r->transfers, s->key);
	/* A machine that was created lives on with its disks: the images must not go with the import. */
	if (state && (!strcmp(state, STATE_VM_CREATED) || !strcmp(state, STATE_RUNNING) || !strcmp(state, STATE_IMAGES_READY))) {
		if (remove_claims(s, err) < 0)
			return -1;
		if (strcmp(state, STATE_IMAGES_READY) && target->ops->release(target, &import, err) < 0)
			return -1;
	}
	if (remove_disks(s, err) < 0)
		return -1;
	if (asprintf(&key, "%s delete", s->key) < 0)
		key = NULL;
	if (ledger_clean(s, &failed) < 0) {
		/* We are stopped, or others are at the source: it has not been asked. */
		if (failed->class == ERROR_CANCELLED || failed->class == ERROR_CONFLICT)
			return error_move(err, move_ptr(failed));
		unsigned tries = key ? attempts_add(s->r->attempts, key) : 1;
		bool busy = ledger_is_busy(failed);
		/* A source that is gone for good must not hold the object for ever; one that answers will let go some time. */
		bool again = busy || (failed->class == ERROR_TRANSIENT && tries < DELETE_TRIES && strcmp(failed->reason, "SecretNotFound"));

		if (busy || !again || tries == 1)
			tell_left(s, failed->message, again);
		if (again)
			return error_move(err, move_ptr(failed));
	}
	if (key)
		attempts_reset(s->r->attempts, key);
	attempts_reset(s->r->attempts, s->key);
	*gone = true;
	return 0;
}
