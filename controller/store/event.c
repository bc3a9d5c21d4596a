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
#define SERIES_SEND_MS 60000 /* its count is sent so often at most, after the first time */
/* As client-go's filter of spam: an object may have so many events at once, and then one more every so often. */
#define BURST 25
#define REFILL_MS (5 * 60 * 1000)
#define OBJECTS_KEPT 512
#define QUIET_MS (5 * 60 * 1000) /* where events are not allowed, it is tried again after so long */
#define NOTE_MAX 1024            /* events.k8s.io/v1 refuses a longer note */

/* An event that was sent, to add to when it comes again. */
struct sent {
	char *signature, *ns, *name;
	unsigned count, told; /* how often it came, and what the API server knows of that */
	uint64_t last, sent;
};

/* How many events an object may still have. */
struct bucket {
	uint64_t object; /* a hash of its identity */
	uint64_t filled; /* when tokens was true; 0: not in use */
	double tokens;
};

struct event_recorder {
	struct store *store;
	char *component, instance[129]; /* reportingInstance has at most 128 */
	pthread_mutex_t lock;           /* guards waiting and stopped */
	pthread_cond_t woken;
	json_t *waiting;
	bool stopped;
	pthread_t thread;
	/* The thread's own; the oldest is replaced. */
	struct sent kept[SERIES_KEPT];
	struct bucket buckets[OBJECTS_KEPT];
	uint64_t quiet_until;
	bool quiet_told;
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
	*oldest = (struct sent){ strdup(signature), strdup(ns), name ? strdup(name) : NULL, 1, 1, clock_monotonic_ms(), 0 };
	if (!oldest->signature || !oldest->ns || !oldest->name)
		sent_clear(oldest);
}

/* Tells how often the event came; false when it is no more. */
static bool send_count(struct event_recorder *r, struct sent *s)
{
	char now[CLOCK_RFC3339_SIZE];
	AUTO_JSON json_t *patch = NULL, *done = NULL;

	clock_rfc3339_us(now);
	patch = json_pack("{s:{s:i, s:s}}", "series", "count", (int)s->count, "lastObservedTime", now);
	done = patch ? store_patch(r->store, &api_events, s->ns, s->name, NULL, patch, NULL) : NULL;
	if (!done) {
		sent_clear(s);
		return false;
	}
	s->told = s->count;
	s->sent = clock_monotonic_ms();
	return true;
}

/* One more of an event that was sent; false when that one is no more. The first time is told at once, then now and then. */
static bool add_to_series(struct event_recorder *r, struct sent *s)
{
	s->count++;
	s->last = clock_monotonic_ms();
	return (s->sent && s->last - s->sent < SERIES_SEND_MS) || send_count(r, s);
}

/* Tells what was not told yet, where it is time, or all. Returns the milliseconds until it is time for the next; 0: there is none. */
static unsigned send_counts(struct event_recorder *r, bool all)
{
	uint64_t now = clock_monotonic_ms(), next = UINT64_MAX;

	for (size_t i = 0; i < SERIES_KEPT; i++) {
		struct sent *s = &r->kept[i];

		if (!s->signature || s->count == s->told)
			continue;
		if (all || now - s->sent >= SERIES_SEND_MS)
			send_count(r, s);
		else if (s->sent + SERIES_SEND_MS - now < next)
			next = s->sent + SERIES_SEND_MS - now;
	}
	return next == UINT64_MAX ? 0 : (unsigned)next;
}

/* FNV-1a, 64 bit. */
static uint64_t hash(uint64_t h, const char *text)
{
	for (; text && *text; text++)
		h = (h ^ (unsigned char)*text) * 1099511628211u;
	return (h ^ 0xff) * 1099511628211u;
}

/* Whether the event's object may have one more. */
static bool take_token(struct event_recorder *r, const json_t *event)
{
	uint64_t now = clock_monotonic_ms(), object = 14695981039346656037u;
	struct bucket *b = &r->buckets[0];

	object = hash(object, json_path_string(event, "regarding.kind"));
	object = hash(object, json_path_string(event, "regarding.namespace"));
	object = hash(object, json_path_string(event, "regarding.name"));
	object = hash(object, json_path_string(event, "regarding.uid"));
	for (size_t i = 0; i < OBJECTS_KEPT; i++) {
		if (r->buckets[i].filled && r->buckets[i].object == object) {
			b = &r->buckets[i];
			break;
		}
		if (r->buckets[i].filled < b->filled)
			b = &r->buckets[i];
	}
	if (!b->filled || b->object != object)
		*b = (struct bucket){ .object = object, .tokens = BURST };
	else
		b->tokens += (double)(now - b->filled) / REFILL_MS;
	b->filled = now;
	if (b->tokens > BURST)
		b->tokens = BURST;
	if (b->tokens < 1)
		return false;
	b->tokens -= 1;
	return true;
}

static void create_event(struct event_recorder *r, const char *signature, const json_t *event)
{
	const char *ns = json_path_string(event, "metadata.namespace");
	AUTO_ERROR struct error *err = NULL;
	AUTO_JSON json_t *made = store_create(r->store, &api_events, ns, event, &err);

	if (made) {
		r->quiet_told = false;
		keep_sent(r, signature, ns, json_path_string(made, "metadata.name"));
	} else if (err->class == ERROR_PERMANENT && (err->code == 405 || !strcmp(err->reason, "Forbidden"))) {
		/* Not "NamespaceTerminating", which is 403 too, nor the refusals of a server that has just started. */
		if (!r->quiet_told)
			log_write(LOG_INFO, "no events will be written", "error", error_message(err), NULL);
		r->quiet_told = true;
		r->quiet_until = clock_monotonic_ms() + QUIET_MS;
	} else {
		log_write(LOG_DEBUG, "an event was not written", "error", error_message(err), NULL);
	}
}

static void send_event(struct event_recorder *r, json_t *event)
{
	static const char *const parts[] = { "regarding.uid", "regarding.name", "type", "reason", "note" };
	AUTO_BUFFER struct buffer signature = { 0 };
	struct sent *before;

	if (clock_monotonic_ms() < r->quiet_until)
		return;
	buffer_init(&signature, 4096);
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		buffer_addf(&signature, "%s\n", json_path_string(event, parts[i]) ? json_path_string(event, parts[i]) : "");
	if (signature.failed)
		return;
	before = find_sent(r, signature.data);
	if (before && add_to_series(r, before))
		return;
	if (take_token(r, event))
		create_event(r, signature.data, event);
	else
		log_write(LOG_DEBUG, "an event was not written: its object has had many", "name", json_path_string(event, "regarding.name"),
			  "reason", json_path_string(event, "reason"), NULL);
}

/* Waits for an event, or until counts are to be sent. The lock is held. */
static void wait_event(struct event_recorder *r, unsigned ms)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ms / 1000 + 1;
	if (ms)
		pthread_cond_timedwait(&r->woken, &r->lock, &until);
	else
		pthread_cond_wait(&r->woken, &r->lock);
}

static void *send_events(void *arg)
{
	struct event_recorder *r = arg;

	for (;;) {
		unsigned until_counts = send_counts(r, false);
		AUTO_JSON json_t *event = NULL;
		bool ends;

		pthread_mutex_lock(&r->lock);
		if (!json_array_size(r->waiting) && !r->stopped)
			wait_event(r, until_counts);
		event = json_incref(json_array_get(r->waiting, 0));
		json_array_remove(r->waiting, 0);
		ends = r->stopped;
		pthread_mutex_unlock(&r->lock);
		if (event) {
			send_event(r, event);
		} else if (ends) {
			send_counts(r, true);
			return NULL;
		}
	}
}

struct event_recorder *event_recorder_new(struct store *store, const char *component, struct error **err)
{
	struct event_recorder *r = calloc(1, sizeof *r);
	pthread_condattr_t attr;
	int failed = ENOMEM;

	if (r) {
		r->store = store;
		r->component = strdup(component);
		r->waiting = json_array();
		gethostname(r->instance, sizeof r->instance - 1);
		pthread_mutex_init(&r->lock, NULL);
		pthread_condattr_init(&attr);
		pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
		pthread_cond_init(&r->woken, &attr);
		pthread_condattr_destroy(&attr);
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
