/* Speaks to a cluster through store/kube for test_kube_store.sh. ConfigMaps are the objects. One command a run:
 *
 *   get NAME | list [SELECTOR] | create NAME KEY=VALUE | patch NAME KEY=VALUE [VERSION] | delete NAME [UID] | serves GROUP VERSION PLURAL
 *   event NAME REASON NOTE TIMES | namespace | apply FILE
 *   load WATCHES THREADS SECONDS   as many watches, and threads that write and read for so long; prints what came of it
 *   watch            prints "synced", then a line a change: ADDED|MODIFIED|DELETED NAME VALUE; ends with a line on standard input
 *
 * Errors go to standard output as "error CLASS REASON CODE MESSAGE", with exit code 1. */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/resources.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/event.h"
#include "store/informer.h"
#include "store/kube/kube.h"
#include "json/codec.h"

#define TOLD_MS 60000

static const struct resource configmaps = { "", "v1", "ConfigMap", "configmaps", true, false };

static const char *ns_of(const struct store *store)
{
	return kube_store_namespace(store);
}

static const char *value_of(const json_t *object)
{
	const char *value = json_path_string(object, "data.key");

	return value ? value : "-";
}

static int print(json_t *owned)
{
	AUTO_JSON json_t *object = owned;

	if (!object)
		return 1;
	printf("%s %s %s %s\n", json_path_string(object, "metadata.name"), value_of(object),
	       json_path_string(object, "metadata.resourceVersion"), json_path_string(object, "metadata.uid"));
	return 0;
}

static int list(struct store *store, const char *selector, struct error **err)
{
	AUTO_JSON json_t *objects = store_list(store, &configmaps, ns_of(store), selector, err);
	const json_t *object;
	size_t i;

	json_array_foreach (objects, i, object)
		printf("%s %s %s\n", json_path_string(object, "kind"), json_path_string(object, "metadata.name"), value_of(object));
	return objects ? 0 : 1;
}

static int create(struct store *store, const char *name, const char *value, struct error **err)
{
	AUTO_JSON json_t *object =
		json_pack("{s:{s:s, s:{s:s}}, s:{s:s}}", "metadata", "name", name, "labels", "probe", value, "data", "key", value);

	return print(store_create(store, &configmaps, ns_of(store), object, err));
}

static int patch(struct store *store, const char *name, const char *value, const char *version, struct error **err)
{
	AUTO_JSON json_t *object = json_pack("{s:{s:s}, s:{s:s*}}", "data", "key", value, "metadata", "resourceVersion", version);

	return print(store_patch(store, &configmaps, ns_of(store), name, NULL, object, err));
}

static void on_change(void *arg, enum store_event event, const json_t *old, const json_t *object)
{
	static const char *const names[] = { "ADDED", "MODIFIED", "DELETED" };

	(void)arg;
	(void)old;
	if (json_path(object, "metadata.managedFields"))
		printf("managedFields are still there\n");
	printf("%s %s %s\n", names[event], json_path_string(object, "metadata.name"), value_of(object));
	fflush(stdout);
}

static int watch(struct store *store, struct error **err)
{
	struct informer *informer = store_watch(store, &configmaps, ns_of(store), "probe", on_change, NULL, err);
	struct pollfd end = { .fd = 0, .events = POLLIN };
	uint64_t start;

	if (!informer)
		return 1;
	informer_wait(informer, NULL);
	printf("synced %zu\n", informer_count(informer));
	fflush(stdout);
	poll(&end, 1, -1);
	start = clock_monotonic_ms();
	informer_free(informer);
	printf("stopped after %s\n", clock_monotonic_ms() - start <= 10000 ? "less than 10 s" : "too long");
	return 0;
}

struct load {
	struct store *store;
	unsigned number, seconds;
	unsigned long requests, failures;
	atomic_ulong *told;
};

static void on_load(void *arg, enum store_event event, const json_t *old, const json_t *object)
{
	(void)event;
	(void)old;
	(void)object;
	++*(atomic_ulong *)arg;
}

static void *make_load(void *arg)
{
	struct load *l = arg;
	uint64_t end = clock_monotonic_ms() + l->seconds * 1000ull;
	char name[32];

	snprintf(name, sizeof name, "load-%u", l->number);
	for (unsigned long n = 0; clock_monotonic_ms() < end; n++) {
		AUTO_ERROR struct error *err = NULL;
		AUTO_JSON json_t *body = json_pack("{s:{s:s, s:{s:s}}, s:{s:I}}", "metadata", "name", name, "labels", "load", "1", "data",
						   "n", (json_int_t)n);
		AUTO_JSON json_t *done = NULL;

		json_object_set_new(json_object_get(body, "data"), "n", json_sprintf("%lu", n));
		if (n == 0)
			done = store_create(l->store, &configmaps, "default", body, &err);
		else if (n % 2)
			done = store_patch(l->store, &configmaps, "default", name, NULL, body, &err);
		else
			done = store_get(l->store, &configmaps, "default", name, &err);
		l->requests++;
		if (!done && (n || err->class != ERROR_CONFLICT)) {
			fprintf(stderr, "%s\n", error_message(err));
			l->failures++;
		}
	}
	return NULL;
}

static int load(struct store *store, char **argv, struct error **err)
{
	unsigned watches = (unsigned)atoi(argv[0]), threads = (unsigned)atoi(argv[1]);
	struct informer *informers[200] = { 0 };
	struct load loads[64] = { 0 };
	pthread_t ids[64];
	atomic_ulong told = 0;
	unsigned long requests = 0, failures = 0;

	for (unsigned i = 0; i < watches && i < 200; i++) {
		informers[i] = store_watch(store, &configmaps, NULL, "load", on_load, &told, err);
		if (!informers[i])
			return 1;
		informer_wait(informers[i], NULL);
	}
	for (unsigned i = 0; i < threads && i < 64; i++) {
		loads[i] = (struct load){ .store = store, .number = i, .seconds = (unsigned)atoi(argv[2]) };
		pthread_create(&ids[i], NULL, make_load, &loads[i]);
	}
	for (unsigned i = 0; i < threads && i < 64; i++) {
		pthread_join(ids[i], NULL);
		requests += loads[i].requests;
		failures += loads[i].failures;
	}
	/* The watches hear of a write some time after it was answered. */
	for (uint64_t end = clock_monotonic_ms() + TOLD_MS; told < (unsigned long)watches * threads && clock_monotonic_ms() < end;)
		usleep(10000);
	printf("requests %lu failures %lu told %lu connections %u\n", requests, failures, told, kube_store_connections(store));
	for (unsigned i = 0; i < watches && i < 200; i++)
		informer_free(informers[i]);
	return failures != 0;
}

static int events(struct store *store, char **argv, struct error **err)
{
	struct event_recorder *recorder = event_recorder_new(store, "vm-import-controller", err);
	AUTO_JSON json_t *object = store_get(store, &configmaps, ns_of(store), argv[0], err);

	for (int i = 0; object && recorder && i < atoi(argv[3]); i++)
		event_record(recorder, object, "Warning", argv[1], argv[2]);
	event_recorder_free(recorder);
	return object && recorder ? 0 : 1;
}

static int apply(struct store *store, const char *file, struct error **err)
{
	AUTO_JSON json_t *object = json_load_file(file, 0, NULL);

	return kube_store_apply(store, &configmaps, object, "probe", err) < 0 ? 1 : 0;
}

static int run(struct store *store, int argc, char **argv, struct error **err)
{
	const char *verb = argv[1];

	if (!strcmp(verb, "namespace"))
		return puts(ns_of(store)) == EOF;
	if (!strcmp(verb, "list"))
		return list(store, argv[2], err);
	if (!strcmp(verb, "load") && argc == 5)
		return load(store, argv + 2, err);
	if (!strcmp(verb, "watch"))
		return watch(store, err);
	if (!strcmp(verb, "get") && argc == 3)
		return print(store_get(store, &configmaps, ns_of(store), argv[2], err));
	if (!strcmp(verb, "create") && argc == 4)
		return create(store, argv[2], argv[3], err);
	if (!strcmp(verb, "patch") && argc >= 4)
		return patch(store, argv[2], argv[3], argv[4], err);
	if (!strcmp(verb, "delete") && argc >= 3)
		return store_delete(store, &configmaps, ns_of(store), argv[2], argv[3], err) < 0;
	if (!strcmp(verb, "event") && argc == 6)
		return events(store, argv + 2, err);
	if (!strcmp(verb, "apply") && argc == 3)
		return apply(store, argv[2], err);
	if (!strcmp(verb, "serves") && argc == 5) {
		struct resource res = { argv[2], argv[3], "Any", argv[4], true, false };
		int served = kube_store_serves(store, &res, err);

		printf("%d\n", served);
		return served < 0;
	}
	fprintf(stderr, "kube_probe: see the head of its source\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct kube_options options = { .context = getenv("PROBE_CONTEXT"), .user_agent = "kube_probe" };
	AUTO_ERROR struct error *err = NULL;
	struct store *store;
	int code = 1;

	if (argc < 2)
		return 2;
	log_setup(LOG_DEBUG, false);
	store = kube_store_open(&options, NULL, &err);
	if (store)
		code = run(store, argc, argv, &err);
	if (err)
		printf("error %s %s %d %s\n", error_class_name(err->class), err->reason, err->code, error_message(err));
	store_close(store);
	return code;
}
