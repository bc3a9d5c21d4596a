/* Works on ConfigMaps as a controller does, for test_kube_faults.sh: a watch that keeps a copy of what there is, and writes that are tried until
 * they succeed.
 *
 *   kube_worker LABEL COPY      COPY: a file with a line NAME=VALUE for each object with that label, as the watch has told it, sorted
 *
 * Commands, a line each on standard input:
 *   set NAME VALUE    changes an object; then prints "set NAME VALUE after TRIES"
 *   make TOKEN        creates an object of a generated name with the label made=TOKEN; before each further try it looks for one that is there
 *                     already; then prints "made TOKEN NAME after TRIES"
 *   connections       prints "connections N"
 *   quit
 * What goes wrong meanwhile is printed as "failed CLASS REASON CODE MESSAGE". */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/backoff.h"
#include "base/log.h"
#include "store/informer.h"
#include "store/kube/kube.h"
#include "json/codec.h"

static const struct resource configmaps = { "", "v1", "ConfigMap", "configmaps", true, false };

struct worker {
	struct store *store;
	const char *label, *copy;
	json_t *objects; /* name -> value; the watch's thread only */
};

static const char *name_of(const json_t *object)
{
	return json_path_string(object, "metadata.name");
}

static void write_copy(const struct worker *w)
{
	AUTO_FREE char *fresh = NULL, *text = json_dumps(w->objects, JSON_SORT_KEYS | JSON_INDENT(1));
	AUTO_JSON json_t *sorted = json_loads(text, 0, NULL);
	const char *name;
	json_t *value;
	FILE *f;

	if (asprintf(&fresh, "%s.new", w->copy) < 0 || !(f = fopen(fresh, "w")))
		return;
	json_object_foreach (sorted, name, value)
		fprintf(f, "%s=%s\n", name, json_string_value(value));
	fclose(f);
	rename(fresh, w->copy);
}

/* Built from what is told alone, so that what is not told is missed. */
static void on_change(void *arg, enum store_event event, const json_t *old, const json_t *object)
{
	struct worker *w = arg;
	const char *value = json_path_string(object, "data.key"), *name = name_of(object);
	json_t *before = json_object_get(w->objects, name);

	(void)old;
	if ((event == STORE_ADDED) != !before)
		printf("wrong event %d for %s\n", (int)event, name);
	if (event == STORE_DELETED)
		json_object_del(w->objects, name);
	else
		json_object_set_new(w->objects, name, json_string(value ? value : ""));
	write_copy(w);
}

static void print_failure(const struct error *err)
{
	printf("failed %s %s %d %s\n", error_class_name(err->class), err->reason, err->code, err->message);
	fflush(stdout);
}

static void set(struct worker *w, const char *name, const char *value)
{
	AUTO_JSON json_t *patch = json_pack("{s:{s:s}}", "data", "key", value);
	struct backoff backoff = { .base_ms = 100, .cap_ms = 2000 };

	for (unsigned tries = 1;; tries++) {
		AUTO_ERROR struct error *err = NULL;
		AUTO_JSON json_t *done = store_patch(w->store, &configmaps, "default", name, NULL, patch, &err);

		if (done) {
			printf("set %s %s after %u\n", name, value, tries);
			return;
		}
		print_failure(err);
		cancel_wait(NULL, backoff_next(&backoff));
	}
}

/* The object that an earlier try made, if that can be told. Returns false when it cannot. */
static bool find_made(struct worker *w, const char *token, json_t **found)
{
	char selector[128];
	AUTO_JSON json_t *all = NULL;

	snprintf(selector, sizeof selector, "made=%s", token);
	all = store_list(w->store, &configmaps, "default", selector, NULL);
	*found = json_incref(json_array_get(all, 0));
	return all != NULL;
}

static void make(struct worker *w, const char *token)
{
	AUTO_JSON json_t *object = json_pack("{s:{s:s, s:{s:s, s:s}}, s:{s:s}}", "metadata", "generateName", "made-", "labels", w->label,
					     "1", "made", token, "data", "key", token);
	struct backoff backoff = { .base_ms = 100, .cap_ms = 2000 };

	for (unsigned tries = 1;; tries++) {
		AUTO_ERROR struct error *err = NULL;
		AUTO_JSON json_t *done = NULL;
		bool known = tries == 1 || find_made(w, token, &done);

		if (known && !done)
			done = store_create(w->store, &configmaps, "default", object, &err);
		if (done) {
			printf("made %s %s after %u\n", token, name_of(done), tries);
			return;
		}
		if (err)
			print_failure(err);
		cancel_wait(NULL, backoff_next(&backoff));
	}
}

static void serve(struct worker *w)
{
	char line[256], verb[32], name[100], value[100];

	while (fgets(line, sizeof line, stdin)) {
		int words = sscanf(line, "%31s %99s %99s", verb, name, value);

		if (words == 3 && !strcmp(verb, "set"))
			set(w, name, value);
		else if (words == 2 && !strcmp(verb, "make"))
			make(w, name);
		else if (words == 1 && !strcmp(verb, "connections"))
			printf("connections %u\n", kube_store_connections(w->store));
		else if (words == 1 && !strcmp(verb, "quit"))
			return;
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	AUTO_ERROR struct error *err = NULL;
	struct kube_options options = { .user_agent = "kube-worker/1" };
	struct worker w = { .store = argc == 3 ? kube_store_open(&options, NULL, &err) : NULL, .objects = json_object() };
	struct informer *informer = NULL;

	log_setup(LOG_DEBUG, false);
	if (w.store) {
		w.label = argv[1];
		w.copy = argv[2];
		informer = store_watch(w.store, &configmaps, "default", w.label, on_change, &w, &err);
	}
	if (!informer) {
		fprintf(stderr, "kube_worker: %s\n", argc == 3 ? error_message(err) : "see the head of its source");
		return 2;
	}
	serve(&w);
	informer_free(informer);
	store_close(w.store);
	json_decref(w.objects);
	return 0;
}
