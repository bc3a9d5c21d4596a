#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/resources.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "reconcile/context.h"

#define LEFT_MAX 600 /* bytes of the list of what is left: an event holds 1,024 */

bool ledger_has(const struct vmimport_status *status, const char *kind)
{
	for (size_t i = 0; i < status->ledger_count; i++)
		if (status->ledger[i].kind && !strcmp(status->ledger[i].kind, kind))
			return true;
	return false;
}

void ledger_add(struct vmimport_status *status, const char *kind, const char *id)
{
	struct vmimport_ledger_entry *list = realloc(status->ledger, (status->ledger_count + 1) * sizeof *list);
	char now[CLOCK_RFC3339_SIZE];

	if (!list)
		return;
	clock_rfc3339(now);
	status->ledger = list;
	list[status->ledger_count++] = (struct vmimport_ledger_entry){ strdup(kind), strdup(id), strdup(now) };
}

static void drop_at(struct vmimport_status *status, size_t i)
{
	free(status->ledger[i].kind);
	free(status->ledger[i].id);
	free(status->ledger[i].since);
	status->ledger_count--;
	memmove(&status->ledger[i], &status->ledger[i + 1], (status->ledger_count - i) * sizeof *status->ledger);
}

void ledger_drop(struct vmimport_status *status, const char *kind)
{
	for (size_t i = status->ledger_count; i-- > 0;)
		if (status->ledger[i].kind && !strcmp(status->ledger[i].kind, kind))
			drop_at(status, i);
}

/* The ledger with the entry put in or taken out: a new array. */
static json_t *changed(const json_t *old, bool made, const char *kind, const char *id)
{
	json_t *list = json_array(), *entry;
	char now[CLOCK_RFC3339_SIZE];
	size_t i;

	json_array_foreach (old, i, entry) {
		const char *k = json_string_value(json_object_get(entry, "kind")), *d = json_string_value(json_object_get(entry, "id"));

		if (!k || !d || strcmp(k, kind) || strcmp(d, id))
			json_array_append(list, entry);
	}
	clock_rfc3339(now);
	if (made)
		json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "kind", kind, "id", id, "since", now));
	return list;
}

int ledger_write(void *arg, bool made, const char *kind, const char *id, struct error **err)
{
	struct ledger_writer *w = arg;

	for (unsigned attempt = 0;; attempt++) {
		AUTO_ERROR struct error *failed = NULL;
		AUTO_JSON json_t *object = store_get(w->store, &api_vmimports, w->ns, w->name, &failed), *patch = NULL, *done = NULL;
		const char *uid = json_path_string(object, "metadata.uid");

		if (object && (!uid || strcmp(uid, w->uid)))
			return error_set(err, ERROR_CANCELLED, "ImportGone", "the import %s/%s was deleted", w->ns, w->name);
		if (object) {
			patch = json_pack("{s:{s:O}, s:{s:o}}", "metadata", "resourceVersion",
					  json_path(object, "metadata.resourceVersion"), "status", "sourceLedger",
					  changed(json_path(object, "status.sourceLedger"), made, kind, id));
			done = patch ? store_patch(w->store, &api_vmimports, w->ns, w->name, "status", patch, &failed) : NULL;
		}
		if (done)
			return 0;
		if (!failed)
			return error_set_errno(err, ENOMEM, "cannot write the source ledger");
		if (failed->class == ERROR_CONFLICT && attempt < 10)
			continue;
		error_wrap(&failed, "cannot write status.sourceLedger of %s/%s", w->ns, w->name);
		return error_move(err, move_ptr(failed));
	}
}

struct noted {
	pthread_mutex_t lock; /* guards ids */
	json_t *ids;
};

struct noted *noted_new(void)
{
	struct noted *n = calloc(1, sizeof *n);

	if (!n || !(n->ids = json_object())) {
		free(n);
		return NULL;
	}
	pthread_mutex_init(&n->lock, NULL);
	return n;
}

void noted_free(struct noted *n)
{
	if (!n)
		return;
	json_decref(n->ids);
	pthread_mutex_destroy(&n->lock);
	free(n);
}

static bool is_ours(struct noted *n, const char *id)
{
	LOCK_GUARD(&n->lock);
	return json_object_get(n->ids, id) != NULL;
}

bool ledger_note_session(struct step *s, const struct session *session)
{
	struct source *source = session_source(session);
	AUTO_FREE char *id = source->ops->session_id ? source->ops->session_id(source) : NULL;

	for (size_t i = 0; id && i < s->status->ledger_count; i++) {
		const struct vmimport_ledger_entry *entry = &s->status->ledger[i];

		if (entry->kind && entry->id && !strcmp(entry->kind, LEDGER_SESSION) && !strcmp(entry->id, id))
			return false;
	}
	if (!id)
		return false;
	ledger_add(s->status, LEDGER_SESSION, id);
	LOCK_GUARD(&s->r->noted->lock);
	json_object_set_new(s->r->noted->ids, id, json_true());
	return true;
}

static int undo(struct step *s, struct session **session, const struct vmimport_ledger_entry *entry, struct error **err)
{
	if (!*session && step_session(s, session, err) < 0)
		return -1;
	struct source *source = session_source(*session);
	return source->ops->cleanup(source, entry->kind, entry->id, s->r->cancel, err);
}

bool ledger_is_busy(const struct error *failed)
{
	return failed->class == ERROR_TRANSIENT && !strcmp(failed->reason, "SourceBusy");
}

/* Something that is to be removed: neither a machine's power nor a session, which ends by itself. */
static bool is_thing(const struct vmimport_ledger_entry *entry)
{
	return entry->kind && entry->id && strcmp(entry->kind, LEDGER_POWER) != 0 && strcmp(entry->kind, LEDGER_SESSION) != 0;
}

char *ledger_left(const struct vmimport_status *status)
{
	AUTO_BUFFER struct buffer text;

	buffer_init(&text, LEFT_MAX);
	for (size_t i = 0; i < status->ledger_count; i++) {
		const struct vmimport_ledger_entry *entry = &status->ledger[i];

		if (is_thing(entry))
			buffer_addf(&text, "%s%s %s", text.len ? ", " : "", entry->kind, entry->id);
	}
	return text.len ? strdup(text.data) : NULL;
}

char *ledger_tell(const struct vmimport_status *status, const struct error *why, unsigned again_ms)
{
	AUTO_FREE char *left = ledger_left(status);
	char when[CLOCK_RFC3339_SIZE], *text = NULL;
	size_t count = 0;

	for (size_t i = 0; i < status->ledger_count; i++)
		count += is_thing(&status->ledger[i]);
	clock_rfc3339_of(clock_unix() + (again_ms + 999) / 1000, when);
	return asprintf(&text, "%zu %s left at the source: %s; %s%s%s", count, count == 1 ? "thing is" : "things are", left ? left : "",
			why->message, again_ms ? LEDGER_NEXT_TRY : "", again_ms ? when : "") < 0
		       ? NULL
		       : text;
}

int ledger_clean(struct step *s, struct error **err)
{
	AUTO_SESSION struct session *session = NULL;
	AUTO_ERROR struct error *busy = NULL;

	/* What was made last goes first. */
	for (size_t i = s->status->ledger_count; i-- > 0;) {
		const struct vmimport_ledger_entry *entry = &s->status->ledger[i];
		AUTO_ERROR struct error *failed = NULL;

		if (!entry->kind || !entry->id) {
			drop_at(s->status, i);
			continue;
		}
		bool is_session = !strcmp(entry->kind, LEDGER_SESSION);
		if (!strcmp(entry->kind, LEDGER_POWER) || (is_session && is_ours(s->r->noted, entry->id)))
			continue;
		/* A session that cannot be ended ends by itself: no reason to wait for a source that does not answer. */
		if (undo(s, &session, entry, &failed) < 0 && !is_session) {
			if (!ledger_is_busy(failed)) {
				error_wrap(&failed, "cannot undo %s %s at the source", entry->kind, entry->id);
				return error_move(err, move_ptr(failed));
			}
			/* The source answers, and may let go of others. Of one it is told why not: the rest mostly waits for the same. */
			if (!busy)
				busy = move_ptr(failed);
			continue;
		}
		drop_at(s->status, i);
	}
	return busy ? error_move(err, move_ptr(busy)) : 0;
}
