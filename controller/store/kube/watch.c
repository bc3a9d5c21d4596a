#include "store/kube/watch.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/kube/list.h"
#include "store/kube/watch_decoder.h"
#include "json/codec.h"

#define WATCH_MIN_S 240  /* the server ends the watch after a random time from here ... */
#define WATCH_MAX_S 480  /* ... to here, so that watches do not all come back at once */
#define GRACE_S 30       /* for the server to do so */
#define ABSENT_MS 10000  /* until a kind that is not served is asked for again */
#define UNFINISHED_MAX 4 /* streamed lists in a row that ended too soon: then pages are tried */
#define SHORT_MS 1000    /* a watch that ends sooner is not opened again at once */

struct watch {
	struct kube_client *client;
	struct informer *informer;
	struct resource res; /* the strings are the caller's, which are constants */
	char *ns;
	char *selection; /* of a query: "&labelSelector=...", "&fieldSelector=..." or "" */
	char *version;   /* where the watch goes on; NULL: list first */
	struct cancel *cancel;
	struct backoff backoff;
	bool absent, failing; /* was logged */
	bool streamed;        /* the present stream has brought something */
	bool initial;         /* the present stream lists what there is, and has not come to the end of it */
	bool no_streaming;    /* the server does not stream lists */
	unsigned unfinished;  /* such streams in a row that ended too soon */
	bool started;
	pthread_t thread;
};

static void works(struct watch *w)
{
	if (w->failing || w->absent)
		log_write(LOG_INFO, "the watch works again", "resource", w->res.plural, NULL);
	w->failing = w->absent = false;
}

/* The bookmark that ends a list ("Streaming lists", Kubernetes API concepts). */
static bool ends_list(const json_t *object)
{
	const char *end = json_string_value(json_object_get(json_path(object, "metadata.annotations"), "k8s.io/initial-events-end"));

	return end && !strcmp(end, "true");
}

static void on_listed(struct watch *w, enum watch_type type, json_t *object)
{
	if (type == WATCH_DELETED)
		informer_remove(w->informer, object);
	else if (type != WATCH_BOOKMARK)
		informer_put(w->informer, object);
	else if (ends_list(object)) {
		w->initial = false;
		w->unfinished = 0;
		informer_end(w->informer);
	}
}

static void on_event(void *arg, enum watch_type type, json_t *object)
{
	struct watch *w = arg;
	char *version;

	w->streamed = true;
	if (w->initial)
		on_listed(w, type, object);
	if (w->initial) /* in no order: there is no version to go on from before the end */
		return;
	version = strdup(json_path_string(object, "metadata.resourceVersion"));
	/* Without memory for the version the watch goes on at an older one: events come twice, none is lost. */
	if (version) {
		free(w->version);
		w->version = version;
	}
	backoff_reset(&w->backoff);
	works(w);
	if (type == WATCH_DELETED)
		informer_remove(w->informer, object);
	else if (type != WATCH_BOOKMARK)
		informer_put(w->informer, object);
}

static int on_data(void *arg, const void *data, size_t len, struct error **err)
{
	return watch_decoder_feed(arg, data, len, err);
}

static int list(struct watch *w, struct error **err)
{
	char *version = NULL;
	AUTO_JSON json_t *objects = kube_list(w->client, &w->res, w->ns, w->selection, w->cancel, &version, err);

	if (!objects)
		return -1;
	free(w->version);
	w->version = version;
	informer_replace(w->informer, objects);
	return 0;
}

static char *watch_query(const struct watch *w, unsigned seconds)
{
	AUTO_FREE char *version = w->version ? kube_escape(w->version) : NULL;
	char *query = NULL;

	if (!w->version)
		return asprintf(
			       &query,
			       "watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=%u%s",
			       seconds, w->selection) < 0
			       ? NULL
			       : query;
	if (!version ||
	    asprintf(&query, "watch=1&allowWatchBookmarks=true&resourceVersion=%s&timeoutSeconds=%u%s", version, seconds, w->selection) < 0)
		return NULL;
	return query;
}

static void free_decoder_p(struct watch_decoder **d)
{
	watch_decoder_free(*d);
}

static int watch(struct watch *w, struct error **err)
{
	unsigned seconds = WATCH_MIN_S + backoff_random(WATCH_MAX_S - WATCH_MIN_S + 1);
	AUTO_FREE char *query = watch_query(w, seconds);
	CLEANUP(free_decoder_p) struct watch_decoder *decoder = watch_decoder_new(on_event, w);
	struct kube_call call = { .verb = "watch", .method = "GET", .res = &w->res, .ns = w->ns, .query = query, .cancel = w->cancel };

	if (!query || !decoder)
		return error_set_errno(err, ENOMEM, "cannot watch %s", w->res.plural);
	return kube_client_stream(w->client, &call, (seconds + GRACE_S) * 1000, on_data, decoder, err);
}

/* Logs what is new only: a server that is away for an hour makes two lines, not a thousand. Returns how long to wait. */
static unsigned failed(struct watch *w, const struct error *err)
{
	unsigned wait, pause;

	if (err->class == ERROR_NOT_FOUND) {
		if (!w->absent)
			log_write(LOG_INFO, "the cluster does not serve this kind; it is asked for again every 10 s", "resource",
				  w->res.plural, "group", w->res.group, NULL);
		w->absent = true;
		return ABSENT_MS;
	}
	/* A server that asks for patience is well: it sets up a kind that was just defined, for example. */
	log_write(w->failing || err->code == 429 ? LOG_DEBUG : LOG_WARNING, "a watch failed and is tried again", "resource", w->res.plural,
		  "error", error_message(err), NULL);
	w->failing = w->failing || err->code != 429;
	wait = backoff_next(&w->backoff);
	pause = kube_client_pause_ms(w->client);
	return wait > pause ? wait : pause;
}

/* A watch that ended at once, in good order: a server does that while it sets up a kind that was just defined, several times in a row. It
 * costs little to ask again, and much to miss what happens meanwhile. */
static unsigned short_wait(struct watch *w)
{
	unsigned ms = backoff_next(&w->backoff);

	return ms < SHORT_MS ? ms : SHORT_MS;
}

/* A stream that began with a list failed (NULL: ended) before it came to the end of it. Returns how long to wait. A server that does not
 * know how to stream a list says that the query is wrong, or ends the stream in good order; one that breaks off again and again, for
 * whatever reason, is asked for pages. */
static unsigned list_failed(struct watch *w, const struct error *err)
{
	w->unfinished += w->streamed;
	if (!err || err->code == 400 || err->code == 422 || w->unfinished >= UNFINISHED_MAX) {
		w->no_streaming = true;
		return 0;
	}
	return failed(w, err);
}

/* The history is gone, or cannot be read: only a list tells what happened. Returns how long to wait. */
static unsigned start_over(struct watch *w, const struct error *err, bool fresh)
{
	free(w->version);
	w->version = NULL;
	if (err->class != ERROR_GONE)
		return failed(w, err);
	log_write(LOG_DEBUG, "the history of a watch is gone: listing again", "resource", w->res.plural, NULL);
	if (fresh && !w->streamed) /* gone right after a list: no reason to hurry */
		return backoff_next(&w->backoff);
	backoff_reset(&w->backoff);
	return 0;
}

/* One round: a list when it is needed, then a watch until it ends; both in one stream where the server can do that. Returns how long to wait
 * before the next. */
static unsigned run_round(struct watch *w)
{
	AUTO_ERROR struct error *err = NULL;
	bool fresh = !w->version;
	uint64_t start;

	if (fresh && w->no_streaming) {
		if (list(w, &err) < 0)
			return cancel_requested(w->cancel) ? 0 : failed(w, err);
		works(w);
	}
	start = clock_monotonic_ms();
	w->streamed = false;
	w->initial = !w->version;
	if (w->initial)
		informer_begin(w->informer);
	if (watch(w, &err) == 0 && !w->initial) {
		works(w);
		return clock_monotonic_ms() - start < SHORT_MS ? short_wait(w) : backoff_random(100);
	}
	if (cancel_requested(w->cancel))
		return 0;
	if (w->initial)
		return list_failed(w, err);
	if (err->class == ERROR_GONE || err->class == ERROR_NOT_FOUND || !strcmp(err->reason, "InvalidEvent"))
		return start_over(w, err, fresh);
	/* A connection that was cut in the middle of a watch is no news; one that cannot be made is. */
	if (err->class == ERROR_TRANSIENT && w->streamed)
		return backoff_random(500);
	return failed(w, err);
}

static void *run(void *arg)
{
	struct watch *w = arg;

	while (!cancel_requested(w->cancel)) {
		informer_beat(w->informer);
		cancel_wait(w->cancel, run_round(w));
	}
	return NULL;
}

static void watch_free(struct watch *w)
{
	if (!w)
		return;
	cancel_free(w->cancel);
	free(w->ns);
	free(w->selection);
	free(w->version);
	free(w);
}

/* From informer_free. */
static void stop(void *arg)
{
	struct watch *w = arg;

	cancel_request(w->cancel);
	if (w->started)
		pthread_join(w->thread, NULL);
	watch_free(w);
}

struct informer *kube_watch_start(struct kube_client *client, const struct resource *res, const char *ns, const char *name,
				  const char *label_selector, struct cancel *parent, store_handler handler, void *arg, struct error **err)
{
	struct watch *w = calloc(1, sizeof *w);
	int code;

	if (w) {
		w->client = client;
		w->res = *res;
		w->backoff = (struct backoff){ .base_ms = 250, .cap_ms = 5000 };
		w->ns = ns ? strdup(ns) : NULL;
		w->selection = kube_selection(name, label_selector);
		w->cancel = cancel_new(parent);
	}
	if (w && w->cancel && (!ns || w->ns) && w->selection)
		w->informer = informer_new(res, handler, arg, stop, w);
	if (!w || !w->informer) {
		watch_free(w);
		error_set_errno(err, ENOMEM, "cannot watch %s", res->plural);
		return NULL;
	}
	w->started = true;
	code = pthread_create(&w->thread, NULL, run, w);
	if (!code)
		return w->informer;
	w->started = false;
	error_set_errno(err, code, "cannot watch %s", res->plural);
	informer_free(w->informer); /* frees the watch too */
	return NULL;
}
