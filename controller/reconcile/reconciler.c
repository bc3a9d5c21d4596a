#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "api/resources.h"
#include "base/log.h"
#include "reconcile/context.h"

#define SESSION_IDLE_MS 5000
#define REAP_KEY "sessions"
#define BUSY_MS 1000 /* until a source that is busy is asked again */
/* A step takes seconds; one that reads a big disk again, which somebody touched, or waits for a slow host takes minutes. */
#define STUCK_MS (60 * 60 * 1000)
#define WATCH_STUCK_MS (20 * 60 * 1000) /* a round of a watch takes nine minutes at most */
#define DRAIN_MS 2000                   /* a step in hand may end in good order, before what it waits for is broken off */

static const struct resource *const source_resources[SOURCE_KINDS] = { &api_vmware_sources, &api_openstack_sources, &api_ova_sources,
								       &api_kvm_sources };

/* The queue's classes, by the first part of a key: imports first, for whom the last free worker is kept. What looks after the sessions is
 * one of its own, for it must not wait for hundreds of imports. */
static const char *const classes[] = {
	"virtualmachineimports", "vmwaresources", "openstacksources", "ovasources", "kvmsources", REAP_KEY, NULL
};

/* A key is PLURAL/NAMESPACE/NAME. */
static void add(struct reconciler *r, const char *plural, const char *ns, const char *name, void (*how)(struct queue *, const char *key))
{
	AUTO_FREE char *key = NULL;

	if (!ns || !name || (r->options.concerns && !r->options.concerns(r->options.concerns_arg, plural, ns, name)))
		return;
	if (asprintf(&key, "%s/%s/%s", plural, ns, name) < 0) {
		key = NULL;
		return;
	}
	how(r->queue, key);
}

static bool is_final(const json_t *import)
{
	static const char *const states[] = { STATE_RUNNING, STATE_FAILED, STATE_INVALID };
	const char *state = json_path_string(import, "status.importStatus");

	for (size_t i = 0; state && i < sizeof states / sizeof *states; i++)
		if (!strcmp(state, states[i]))
			return true;
	return false;
}

/* What is done with at the start, and mostly needs nothing, comes behind what changes. */
static void on_import(void *arg, enum store_event event, const json_t *old, const json_t *object)
{
	struct reconciler *r = arg;
	const char *ns = json_path_string(object, "metadata.namespace"), *name = json_path_string(object, "metadata.name");

	tally_event(r->tally, event, old, object);
	add(r, api_vmimports.plural, ns, name, event == STORE_ADDED && is_final(object) ? queue_add_low : queue_add);
}

static void wake_import(void *arg, const char *ns, const char *name)
{
	add(arg, api_vmimports.plural, ns, name, queue_add);
}

/* A source that changed is verified; imports that wait for it are woken when its status moved. */
static void on_source(void *arg, enum store_event event, const json_t *old, const json_t *object)
{
	struct reconciler *r = arg;
	const char *ns = json_path_string(object, "metadata.namespace"), *name = json_path_string(object, "metadata.name");
	const char *kind = json_path_string(object, "kind");
	const struct resource *resource = api_source_resource(kind);
	bool spec_changed = event == STORE_ADDED || !json_equal(json_object_get(old, "spec"), json_object_get(object, "spec"));
	const char *was = json_path_string(old, "status.status"), *is = json_path_string(object, "status.status");

	if (!resource || !ns || !name)
		return;
	if (event == STORE_DELETED || spec_changed)
		add(r, resource->plural, ns, name, queue_add);
	if (event != STORE_MODIFIED || strcmp(was ? was : "", is ? is : ""))
		tally_waiting(r->tally, kind, ns, name, wake_import, r);
}

/* An image wakes the import that owns it. */
static void on_image(void *arg, enum store_event event, const json_t *old, const json_t *object)
{
	const json_t *owner;
	size_t i;

	(void)event;
	(void)old;
	json_array_foreach (json_path(object, "metadata.ownerReferences"), i, owner) {
		const char *kind = json_path_string(owner, "kind");

		if (kind && !strcmp(kind, api_vmimports.kind))
			add(arg, api_vmimports.plural, json_path_string(object, "metadata.namespace"), json_path_string(owner, "name"),
			    queue_add);
	}
}

/* A machine names its import in an annotation: it is no dependent of it. */
static void on_machine(void *arg, enum store_event event, const json_t *old, const json_t *object)
{
	const char *import = json_string_value(json_object_get(json_path(object, "metadata.annotations"), API_ANNOTATION_IMPORT));
	const char *slash = import ? strchr(import, '/') : NULL;
	AUTO_FREE char *ns = NULL;

	(void)event;
	(void)old;
	if (slash && (ns = strndup(import, (size_t)(slash - import))))
		add(arg, api_vmimports.plural, ns, slash + 1, queue_add);
}

static void on_key(void *arg, const char *key)
{
	struct reconciler *r = arg;

	queue_add(r->queue, key);
}

static int dispatch(struct reconciler *r, const char *key, struct error **err)
{
	AUTO_FREE char *copy = strdup(key);
	char *ns = copy ? strchr(copy, '/') : NULL, *name = ns ? strchr(ns + 1, '/') : NULL;

	if (!strcmp(key, REAP_KEY)) {
		if (sessions_reap(r->sessions, SESSION_IDLE_MS))
			queue_add_after(r->queue, REAP_KEY, SESSION_IDLE_MS / 2);
		else
			malloc_trim(0); /* the work is done: what it took goes back to the system */
		return 0;
	}
	if (!name)
		return error_set_errno(err, ENOMEM, "cannot read the key %s", key);
	*ns++ = 0;
	*name++ = 0;
	if (!strcmp(copy, api_vmimports.plural))
		return reconcile_vmimport(r, key, ns, name, err);
	return reconcile_source(r, key, copy, ns, name, err);
}

static struct controller_metrics *numbers_of(struct reconciler *r, const char *key)
{
	size_t len = strcspn(key, "/");

	for (size_t i = 0; classes[i]; i++)
		if (!strncmp(classes[i], key, len) && !classes[i][len])
			return &r->numbers.controllers[i];
	return NULL;
}

/* Runs a key and says when it comes again. */
static void run_key(struct reconciler *r, const char *key)
{
	struct controller_metrics none = { 0 }, *n = numbers_of(r, key);
	AUTO_ERROR struct error *err = NULL;
	uint64_t start = clock_monotonic_us();
	char delay[16];
	int result;

	n = n ? n : &none;
	series_add(n->active, 1);
	result = dispatch(r, key, &err);
	if (strcmp(key, REAP_KEY) != 0 && sessions_count(r->sessions)) /* nothing wakes for sessions when there is none */
		queue_add_after(r->queue, REAP_KEY, SESSION_IDLE_MS);
	series_add(n->active, -1);
	series_observe(n->seconds, (double)(clock_monotonic_us() - start) / 1e6);
	if (result == 0) {
		queue_forget(r->queue, key);
		series_add(n->success, 1);
	} else if (err && !strcmp(err->reason, SESSION_BUSY)) {
		queue_add_after(r->queue, key, BUSY_MS);
		series_add(n->again, 1);
	} else if (err && err->class == ERROR_CONFLICT) {
		queue_add_limited(r->queue, key); /* the cache is behind: its next event may come sooner */
		series_add(n->again, 1);
	} else if (!cancel_requested(r->cancel)) {
		series_add(n->error, 1);
		series_add(n->errors, 1);
		snprintf(delay, sizeof delay, "%u", queue_add_limited(r->queue, key));
		log_write(LOG_WARNING, "will try again", "error", error_message(err), "class", err ? error_class_name(err->class) : "",
			  "delay_ms", delay, NULL);
	}
}

static void *work(void *arg)
{
	struct reconciler *r = arg;
	char *key;

	while ((key = queue_get(r->queue))) {
		const char *object = strchr(key, '/');

		log_set_object(object ? object + 1 : NULL);
		run_key(r, key);
		log_set_object(NULL);
		queue_done(r->queue, key);
		free(key);
	}
	return NULL;
}

char *reconciler_unready(const struct reconciler *r)
{
	/* Targets' kinds may be served later (or never, on another cluster): only ours count, and of these what every cluster has. */
	const struct informer *needed[] = { r->imports, r->sources[0] };
	AUTO_BUFFER struct buffer b = { 0 };

	buffer_init(&b, 1024);
	for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
		if (!informer_synced(needed[i]))
			buffer_addf(&b, "%s%s", b.len ? ", " : "not ready: not listed yet: ", informer_resource(needed[i])->plural);
	return b.len ? buffer_steal(&b) : NULL;
}

static char *stuck_watch(const struct informer *i)
{
	uint64_t ms = i ? informer_silent_ms(i) : 0;
	char *text = NULL;

	if (ms < WATCH_STUCK_MS)
		return NULL;
	return asprintf(&text, "the watch of %s has not been seen to for %llu s", informer_resource(i)->plural,
			(unsigned long long)ms / 1000) < 0
		       ? NULL
		       : text;
}

char *reconciler_stuck(const struct reconciler *r)
{
	uint64_t ms = 0;
	AUTO_FREE char *key = queue_longest(r->queue, &ms);
	char *text = stuck_watch(r->imports);

	for (size_t i = 0; i < SOURCE_KINDS && !text; i++)
		text = stuck_watch(r->sources[i]);
	text = text ? text : stuck_watch(r->images);
	text = text ? text : stuck_watch(r->machines);
	if (text || !key || ms < STUCK_MS)
		return text;
	return asprintf(&text, "a worker has been busy with %s for %llu s", key, (unsigned long long)ms / 1000) < 0 ? NULL : text;
}

void reconciler_interrupt(struct reconciler *r)
{
	queue_stop(r->queue);
	cancel_request(r->cancel);
	transfer_engine_interrupt(r->transfers);
}

static int watch(struct reconciler *r, struct error **err)
{
	struct store *store = r->options.store;

	r->imports = store_watch(store, &api_vmimports, NULL, NULL, on_import, r, err);
	if (!r->imports)
		return -1;
	for (size_t i = 0; i < SOURCE_KINDS; i++) {
		r->sources[i] = store_watch(store, source_resources[i], NULL, NULL, on_source, r, err);
		if (!r->sources[i])
			return -1;
	}
	r->images = store_watch(store, &api_vmimages, NULL, API_LABEL_IMPORTED "=true", on_image, r, err);
	r->machines = r->images ? store_watch(store, &api_vms, NULL, API_LABEL_IMPORTED "=true", on_machine, r, err) : NULL;
	return r->machines ? 0 : -1;
}

struct reconciler *reconciler_start(const struct reconciler_options *options, struct error **err)
{
	struct reconciler *r = calloc(1, sizeof *r);
	unsigned workers = options->workers ? options->workers : 4;

	if (!r)
		goto memory;
	r->options = *options;
	if (!r->options.progress_ms)
		r->options.progress_ms = 3000;
	if (!r->options.reverify_s)
		r->options.reverify_s = 300;
	r->scratch = strdup(options->scratch);
	r->cancel = cancel_new(NULL);
	struct queue_options queue = {
		.backoff_base_ms = 500,
		.backoff_cap_ms = 60000,
		.classes = classes,
		.workers = workers,
		.metrics = options->metrics,
	};
	r->queue = queue_new(&queue);
	r->attempts = attempts_new();
	r->tally = tally_new();
	r->outdated = outdated_new();
	struct secrets_options secrets = {
		.store = options->store,
		.may_watch = options->may_watch_secret,
		.may_watch_arg = options->may_watch_secret_arg,
		.changed = on_key,
		.changed_arg = r,
	};
	r->noted = noted_new();
	r->names = names_new();
	r->secrets = secrets_new(&secrets);
	struct sessions_options sessions = {
		.store = options->store, .sources = &options->sources, .cancel = r->cancel, .secrets = r->secrets, .workers = workers
	};
	r->sessions = r->cancel ? sessions_new(&sessions) : NULL;
	r->threads = calloc(workers, sizeof *r->threads);
	if (!r->scratch || !r->queue || !r->attempts || !r->tally || !r->outdated || !r->noted || !r->names || !r->secrets ||
	    !r->sessions || !r->threads)
		goto memory;
	struct transfer_options transfers = {
		.place = options->keep_disks ? TRANSFER_DIRECTORY : TRANSFER_SCRATCH,
		.max_streams = options->max_streams,
		.max_host_streams = options->max_host_streams,
		.max_endpoint_streams = options->max_endpoint_streams,
		.verify = options->verify_disks,
		.notify_ms = r->options.progress_ms,
		.notify = on_key,
		.arg = r,
		.metrics = options->metrics,
	};
	r->transfers = transfer_engine_new(&transfers, err);
	if (!r->transfers)
		goto fail;
	if (reconcile_metrics_begin(r, classes, workers) < 0)
		goto memory;
	if (watch(r, err) < 0)
		goto fail;
	for (; r->thread_count < workers; r->thread_count++) {
		int failed = pthread_create(&r->threads[r->thread_count], NULL, work, r);

		if (failed) {
			error_set_errno(err, failed, "cannot start a reconcile worker");
			goto fail;
		}
	}
	return r;
memory:
	error_set_errno(err, ENOMEM, "cannot start the reconcilers");
fail:
	reconciler_stop(r);
	return NULL;
}

void reconciler_stop(struct reconciler *r)
{
	if (!r)
		return;
	if (r->queue)
		queue_drain(r->queue, DRAIN_MS);
	if (r->cancel)
		cancel_request(r->cancel);
	for (size_t i = 0; i < r->thread_count; i++)
		pthread_join(r->threads[i], NULL);
	reconcile_metrics_end(r);
	transfer_engine_free(r->transfers);
	informer_free(r->machines);
	informer_free(r->images);
	for (size_t i = 0; i < SOURCE_KINDS; i++)
		informer_free(r->sources[i]);
	informer_free(r->imports);
	secrets_free(r->secrets); /* who is told of changes uses the queue */
	sessions_free(r->sessions);
	queue_free(r->queue);
	attempts_free(r->attempts);
	tally_free(r->tally);
	outdated_free(r->outdated);
	noted_free(r->noted);
	names_free(r->names);
	cancel_free(r->cancel);
	free(r->threads);
	free(r->scratch);
	free(r);
}
