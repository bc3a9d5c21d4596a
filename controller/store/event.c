#include "store/event.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "api/resources.h"
#include "base/backoff.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "json/codec.h"

#define WAITING_MAX 1000
#define SERIES_MS (6 * 60 * 1000) /* the same event within this time is one more of a series */
#define SERIES_KEPT 256
#define NOTE_MAX 1024 /* events.k8s.io/v1 refuses a longer note */

/* An event that was sent, to add to when it comes again. */
struct sent {
	char *signature, *ns, *name;
	unsigned count;
	uint64_t last;
};

struct event_recorder {
	struct store *store;
	char *component, instance[129]; /* reportingInstance has at most 128 */
	pthread_mutex_t lock;           /* guards waiting and stopped */
	pthread_cond_t woken;
	json_t *waiting;
	bool stopped, quiet;
	pthread_t thread;
	struct sent kept[SERIES_KEPT]; /* the thread's own; the oldest is replaced */
};

/* How long the UTF-8 character at p is; 0: it is none (RFC 3629: not overlong, no surrogate). */
static size_t character(const unsigned char *p)
{
	size_t len = *p < 0x80 ? 1 : *p >= 0xc2 && *p < 0xe0 ? 2 : *p >= 0xe0 && *p < 0xf0 ? 3 : *p >= 0xf0 && *p < 0xf5 ? 4 : 0;

	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f))
		return 0;
	return len;
}

/* At most NOTE_MAX bytes of whole characters; "?" for what is none, as a source's own words may hold. */
static json_t *make_note(const char *text)
{
	char note[NOTE_MAX];
	size_t n = 0;

	while (*text) {
		size_t len = character((const unsigned char *)text);

		if (n + (len ? len : 1) > sizeof note)
			break;
		memcpy(note + n, len ? text : "?", len ? len : 1);
		n += len ? len : 1;
		text += len ? len : 1;
	}
	return json_stringn(note, n);
}

/* "<name>.<random>", owned: a name that Kubernetes accepts when the object's is one. */
static char *make_name(const char *object)
{
	int len = (int)strnlen(object, 200);
	char *name = NULL;

	while (len > 1 && strchr("-.", object[len - 1])) /* where it was cut */
		len--;
	return asprintf(&name, "%.*s.%08x%08x", len, object, backoff_random(UINT32_MAX), backoff_random(UINT32_MAX)) < 0 ? NULL : name;
}

static struct sent *find_sent(struct event_recorder *r, const char *signature)
{
	uint64_t now = clock_monotonic_ms();

	for (size_t i = 0; i < SERIES_KEPT; i++)
		if (r->kept[i].signature && now - r->kept[i].last < SERIES_MS && !strcmp(r->kept[i].signature, signature))
			return &r->kept[i];
	return NULL;
}

static void sent_clear(struct sent *s)
{
	free(s->signature);
	free(s->ns);
	free(s->name);
	*s = (struct sent){ 0 };
}

static void keep_sent(struct event_recorder *r, const char *signature, const char *ns, const char *name)
{
	struct sent *oldest = &r->kept[0];

	for (size_t i = 1; i < SERIES_KEPT; i++)
		if (r->kept[i].last < oldest->last)
			oldest = &r->kept[i];
	sent_clear(oldest);
	*oldest = (struct sent){ strdup(signature), strdup(ns), name ? strdup(name) : NULL, 1, clock_monotonic_ms() };
	if (!oldest->signature || !oldest->ns || !oldest->name)
		sent_clear(oldest);
}

/* One more of an event that was sent; false when that one is no more. */
static bool add_to_series(struct event_recorder *r, struct sent *s)
{
	char now[CLOCK_RFC3339_SIZE];
	AUTO_JSON json_t *patch = NULL, *done = NULL;

	clock_rfc3339_us(now);
	patch = json_pack("{s:{s:i, s:s}}", "series", "count", (int)s->count + 1, "lastObservedTime", now);
	done = patch ? store_patch(r->store, &api_events, s->ns, s->name, NULL, patch, NULL) : NULL;
	if (!done) {
		sent_clear(s);
		return false;
	}
	s->count++;
	s->last = clock_monotonic_ms();
	return true;
}

static void send_event(struct event_recorder *r, json_t *event)
{
	static const char *const parts[] = { "regarding.uid", "regarding.name", "type", "reason", "note" };
	const char *ns = json_path_string(event, "metadata.namespace");
	AUTO_BUFFER struct buffer signature = { 0 };
	AUTO_ERROR struct error *err = NULL;
	AUTO_JSON json_t *made = NULL;
	struct sent *before;

	if (r->quiet)
		return;
	buffer_init(&signature, 4096);
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		buffer_addf(&signature, "%s\n", json_path_string(event, parts[i]) ? json_path_string(event, parts[i]) : "");
	if (signature.failed)
		return;
	before = find_sent(r, signature.data);
	if (before && add_to_series(r, before))
		return;
	made = store_create(r->store, &api_events, ns, event, &err);
	if (made) {
		keep_sent(r, signature.data, ns, json_path_string(made, "metadata.name"));
	} else if (err->class == ERROR_PERMANENT && (err->code == 405 || !strcmp(err->reason, "Forbidden"))) {
		/* Not "NamespaceTerminating", which is 403 too, nor the refusals of a server that has just started. */
		log_write(LOG_INFO, "no events will be written", "error", error_message(err), NULL);
		r->quiet = true;
	} else {
		log_write(LOG_DEBUG, "an event was not written", "error", error_message(err), NULL);
	}
}

static void *send_events(void *arg)
{
	struct event_recorder *r = arg;

	for (;;) {
		AUTO_JSON json_t *event = NULL;

		pthread_mutex_lock(&r->lock);
		while (!json_array_size(r->waiting) && !r->stopped)
			pthread_cond_wait(&r->woken, &r->lock);
		event = json_incref(json_array_get(r->waiting, 0));
		json_array_remove(r->waiting, 0);
		pthread_mutex_unlock(&r->lock);
		if (!event)
			return NULL;
		send_event(r, event);
	}
}

struct event_recorder *event_recorder_new(struct store *store, const char *component, struct error **err)
{
	struct event_recorder *r = calloc(1, sizeof *r);
	int failed = ENOMEM;

	if (r) {
		r->store = store;
		r->component = strdup(component);
		r->waiting = json_array();
		gethostname(r->instance, sizeof r->instance - 1);
		pthread_mutex_init(&r->lock, NULL);
		pthread_cond_init(&r->woken, NULL);
		if (r->component && r->waiting && !(failed = pthread_create(&r->thread, NULL, send_events, r)))
			return r;
		json_decref(r->waiting);
		free(r->component);
		free(r);
	}
	error_set_errno(err, failed, "cannot start the recorder of events");
	return NULL;
}

void event_record(struct event_recorder *r, const json_t *object, const char *type, const char *reason, const char *note)
{
	const char *ns = json_path_string(object, "metadata.namespace"), *name = json_path_string(object, "metadata.name");
	char now[CLOCK_RFC3339_SIZE];
	AUTO_FREE char *event_name = NULL;
	AUTO_JSON json_t *event = NULL;

	if (!r || !name || !(event_name = make_name(name)))
		return;
	clock_rfc3339_us(now);
	event = json_pack("{s:s, s:s, s:{s:s, s:s}, s:s, s:s, s:s, s:s, s:o, s:s, s:s, s:{s:s*, s:s*, s:s*, s:s*, s:s*, s:s*}}",
			  "apiVersion", "events.k8s.io/v1", "kind", "Event", "metadata", "name", event_name, "namespace",
			  ns ? ns : "default", "eventTime", now, "type", type, "reason", reason, "action", reason, "note", make_note(note),
			  "reportingController", r->component, "reportingInstance", *r->instance ? r->instance : r->component, "regarding",
			  "apiVersion", json_path_string(object, "apiVersion"), "kind", json_path_string(object, "kind"), "namespace", ns,
			  "name", name, "uid", json_path_string(object, "metadata.uid"), "resourceVersion",
			  json_path_string(object, "metadata.resourceVersion"));
	if (!event)
		return;
	LOCK_GUARD(&r->lock);
	if (json_array_size(r->waiting) < WAITING_MAX) {
		json_array_append(r->waiting, event);
		pthread_cond_signal(&r->woken);
	}
}

void event_recorder_free(struct event_recorder *r)
{
	struct timespec until;

	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	r->stopped = true;
	pthread_cond_signal(&r->woken);
	pthread_mutex_unlock(&r->lock);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 2;
	if (pthread_timedjoin_np(r->thread, NULL, &until)) {
		/* A server that does not answer: give up what waits. The request in hand has a deadline of its own. */
		pthread_mutex_lock(&r->lock);
		json_array_clear(r->waiting);
		pthread_mutex_unlock(&r->lock);
		pthread_join(r->thread, NULL);
	}
	for (size_t i = 0; i < SERIES_KEPT; i++)
		sent_clear(&r->kept[i]);
	json_decref(r->waiting);
	pthread_cond_destroy(&r->woken);
	pthread_mutex_destroy(&r->lock);
	free(r->component);
	free(r);
}
