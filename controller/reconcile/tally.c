#include "reconcile/tally.h"

#include <ctype.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "reconcile/reconciler.h"
#include "json/codec.h"

const char *const tally_states[] = { "",
				     STATE_VALID,
				     STATE_INVALID,
				     STATE_SOURCE_READY,
				     STATE_DISKS_EXPORTED,
				     STATE_IMAGE_SUBMITTED,
				     STATE_IMAGE_FAILED,
				     STATE_IMAGES_READY,
				     STATE_VM_CREATED,
				     STATE_RUNNING,
				     STATE_FAILED,
				     NULL };

#define STATES (sizeof tally_states / sizeof *tally_states)

struct tally {
	pthread_mutex_t lock;
	size_t counts[STATES]; /* the last: of states that are none of ours */
	json_t *waiting;       /* "namespace/name" of an import -> "kind/namespace/name" of its source, the kind in small letters */
};

struct tally *tally_new(void)
{
	struct tally *t = calloc(1, sizeof *t);

	if (!t || !(t->waiting = json_object())) {
		free(t);
		return NULL;
	}
	pthread_mutex_init(&t->lock, NULL);
	return t;
}

void tally_free(struct tally *t)
{
	if (!t)
		return;
	json_decref(t->waiting);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static size_t state_of(const json_t *import)
{
	const char *state = json_path_string(import, "status.importStatus");
	size_t i = 0;

	while (tally_states[i] && strcmp(tally_states[i], state ? state : ""))
		i++;
	return i;
}

/* Owned. */
static char *source_key(const char *kind, const char *ns, const char *name)
{
	char *key = NULL;

	if (asprintf(&key, "%s/%s/%s", kind, ns, name) < 0)
		return NULL;
	for (char *p = key; *p && *p != '/'; p++)
		*p = (char)tolower((unsigned char)*p);
	return key;
}

static char *source_of(const json_t *import)
{
	const char *kind = json_path_string(import, "spec.sourceCluster.kind"), *name = json_path_string(import, "spec.sourceCluster.name");
	const char *ns = json_path_string(import, "spec.sourceCluster.namespace");

	if (!ns || !*ns)
		ns = json_path_string(import, "metadata.namespace");
	return kind && name && ns ? source_key(kind, ns, name) : NULL;
}

void tally_event(struct tally *t, enum store_event event, const json_t *old, const json_t *import)
{
	const char *ns = json_path_string(import, "metadata.namespace"), *name = json_path_string(import, "metadata.name");
	bool waits = event != STORE_DELETED && !state_of(import);
	AUTO_FREE char *key = NULL, *source = waits ? source_of(import) : NULL;

	if (!ns || !name || asprintf(&key, "%s/%s", ns, name) < 0) {
		key = NULL;
		return;
	}
	LOCK_GUARD(&t->lock);
	if (event != STORE_ADDED && old)
		t->counts[state_of(old)]--;
	if (event != STORE_DELETED)
		t->counts[state_of(import)]++;
	if (source)
		json_object_set_new(t->waiting, key, json_string(source));
	else
		json_object_del(t->waiting, key);
}

size_t tally_count(struct tally *t, size_t state)
{
	LOCK_GUARD(&t->lock);
	return t->counts[state];
}

void tally_waiting(struct tally *t, const char *kind, const char *ns, const char *name,
		   void (*each)(void *arg, const char *ns, const char *name), void *arg)
{
	AUTO_FREE char *source = source_key(kind, ns, name);
	const char *key;
	json_t *of;

	if (!source)
		return;
	LOCK_GUARD(&t->lock);
	json_object_foreach (t->waiting, key, of) {
		const char *slash = strchr(key, '/');
		AUTO_FREE char *import_ns = strndup(key, (size_t)(slash - key));

		if (import_ns && !strcmp(json_string_value(of), source))
			each(arg, import_ns, slash + 1);
	}
}
