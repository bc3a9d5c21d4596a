#include "store/dir/dir.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "api/resources.h"
#include "base/backoff.h"
#include "base/clock.h"
#include "store/dir/manifest.h"
#include "store/dir/notifier.h"
#include "store/dir/secret.h"
#include "store/selector.h"
#include "json/codec.h"

/* Writers take turns and write the file before the change is seen; readers never wait for a disk. */
struct dir_store {
	struct store store;
	char *directory;
	pthread_mutex_t writing; /* serialises writers, guards version; taken before lock. Held across the write of one small file. */
	unsigned long version;
	pthread_mutex_t lock; /* guards objects */
	char *trouble;        /* guarded by lock; what the last write met */
	json_t *objects;      /* "Kind/namespace/name" -> object */
	struct notifier *notifier;
};

static struct dir_store *self(struct store *store)
{
	return (struct dir_store *)store;
}

static char *key_of(const struct resource *res, const char *ns, const char *name)
{
	char *key = NULL;

	return asprintf(&key, "%s/%s/%s", res->kind, res->namespaced && ns ? ns : "", name ? name : "") < 0 ? NULL : key;
}

static int absent(const struct resource *res, const char *ns, const char *name, struct error **err)
{
	ns = res->namespaced ? ns : NULL;
	return error_set_code(err, ERROR_NOT_FOUND, "NotFound", 404, "there is no %s %s%s%s", res->kind, ns ? ns : "", ns ? "/" : "",
			      name ? name : "");
}

static int conflict(const struct resource *res, const json_t *object, const char *reason, const char *what, struct error **err)
{
	const char *ns = json_path_string(object, "metadata.namespace");

	return error_set_code(err, ERROR_CONFLICT, reason, 409, "the %s %s%s%s %s", res->kind, ns ? ns : "", ns ? "/" : "",
			      json_path_string(object, "metadata.name"), what);
}

/* A new reference, or NULL with an error. */
static json_t *find(struct dir_store *d, const struct resource *res, const char *ns, const char *name, struct error **err)
{
	AUTO_FREE char *key = key_of(res, ns, name);
	json_t *object;

	LOCK_GUARD(&d->lock);
	object = key ? json_incref(json_object_get(d->objects, key)) : NULL;
	if (!object)
		absent(res, ns, name, err);
	return object;
}

static json_t *dir_get(struct store *store, const struct resource *res, const char *ns, const char *name, struct error **err)
{
	return find(self(store), res, ns, name, err);
}

/* The caller holds the lock. */
static json_t *list(struct dir_store *d, const struct resource *res, const char *ns, const char *selector)
{
	json_t *found = json_array(), *object;
	const char *key;

	json_object_foreach (d->objects, key, object) {
		const char *kind = json_path_string(object, "kind"), *in = json_path_string(object, "metadata.namespace");

		if (kind && !strcmp(kind, res->kind) && (!ns || !res->namespaced || !strcmp(ns, in ? in : "")) &&
		    selector_matches(selector, object))
			json_array_append(found, object);
	}
	return found;
}

static json_t *dir_list(struct store *store, const struct resource *res, const char *ns, const char *selector, struct error **err)
{
	struct dir_store *d = self(store);
	json_t *found;

	LOCK_GUARD(&d->lock);
	found = list(d, res, ns, selector);
	if (!found)
		error_set_errno(err, ENOMEM, "cannot list %s", res->plural);
	return found;
}

/* The caller holds writing. */
static json_t *next_version(struct dir_store *d)
{
	char text[32];

	snprintf(text, sizeof text, "%lu", ++d->version);
	return json_string(text);
}

static json_t *new_uid(void)
{
	char uid[40];

	snprintf(uid, sizeof uid, "%08x-%04x-4%03x-a%03x-%06x%06x", backoff_random(UINT32_MAX), backoff_random(0x10000),
		 backoff_random(0x1000), backoff_random(0x1000), backoff_random(0x1000000), backoff_random(0x1000000));
	return json_string(uid);
}

/* The object with a metadata of its own, to change. NULL when memory is out. */
static json_t *with_own_metadata(const json_t *object)
{
	AUTO_JSON json_t *copy = json_copy((json_t *)object), *metadata = json_copy(json_object_get(object, "metadata"));

	if (!copy || !metadata || json_object_set(copy, "metadata", metadata) < 0)
		return NULL;
	return move_ptr(copy);
}

static void note_trouble(struct dir_store *d, const char *trouble)
{
	LOCK_GUARD(&d->lock);
	free(d->trouble);
	d->trouble = trouble ? strdup(trouble) : NULL;
}

char *dir_store_trouble(struct store *store)
{
	struct dir_store *d = self(store);

	LOCK_GUARD(&d->lock);
	return d->trouble ? strdup(d->trouble) : NULL;
}

/* Writes the object and makes it seen. The caller holds writing. */
static int publish(struct dir_store *d, const struct resource *res, json_t *object, struct error **err)
{
	AUTO_FREE char *key = key_of(res, json_path_string(object, "metadata.namespace"), json_path_string(object, "metadata.name"));
	AUTO_ERROR struct error *failed = NULL;

	if (!key)
		return error_set_errno(err, ENOMEM, "cannot keep the %s", res->kind);
	if (manifest_write(d->directory, object, &failed) < 0) {
		note_trouble(d, error_message(failed));
		return error_move(err, move_ptr(failed));
	}
	note_trouble(d, NULL);
	LOCK_GUARD(&d->lock);
	if (json_object_set(d->objects, key, object) < 0)
		return error_set_errno(err, ENOMEM, "cannot keep the %s", res->kind);
	notifier_tell(d->notifier, object, false);
	return 0;
}

/* The object, in its last form, is gone for good. The caller holds writing. */
static void retract(struct dir_store *d, const struct resource *res, const json_t *object)
{
	AUTO_FREE char *key = key_of(res, json_path_string(object, "metadata.namespace"), json_path_string(object, "metadata.name"));

	manifest_remove(d->directory, object);
	LOCK_GUARD(&d->lock);
	notifier_tell(d->notifier, object, true);
	if (key)
		json_object_del(d->objects, key);
}

/* A copy of a new object with everything but the version. */
static json_t *prepare(const struct resource *res, const char *ns, const json_t *object, struct error **err)
{
	AUTO_JSON json_t *made = with_own_metadata(object);
	json_t *metadata = json_object_get(made, "metadata");
	const char *prefix = json_path_string(made, "metadata.generateName");
	char now[CLOCK_RFC3339_SIZE];

	if (!made) {
		error_set(err, ERROR_PERMANENT, "Invalid", "the %s to create has no metadata", res->kind);
		return NULL;
	}
	if (prefix && !json_path_string(made, "metadata.name")) {
		char name[256];

		snprintf(name, sizeof name, "%.200s%05x", prefix, backoff_random(0x100000));
		json_object_set_new(metadata, "name", json_string(name));
	}
	if (res->namespaced)
		json_object_set_new(metadata, "namespace", json_string(ns ? ns : "default"));
	else
		json_object_del(metadata, "namespace");
	if (!manifest_check(res->kind, json_path_string(made, "metadata.namespace"), json_path_string(made, "metadata.name"), err))
		return NULL;
	if (!json_object_get(made, "apiVersion") && res->version) {
		char api_version[256];

		snprintf(api_version, sizeof api_version, "%s%s%s", res->group, *res->group ? "/" : "", res->version);
		json_object_set_new(made, "apiVersion", json_string(api_version));
	}
	json_object_set_new(made, "kind", json_string(res->kind));
	clock_rfc3339(now);
	json_object_set_new(metadata, "uid", new_uid());
	json_object_set_new(metadata, "creationTimestamp", json_string(now));
	json_object_set_new(metadata, "generation", json_integer(1));
	json_object_del(metadata, "deletionTimestamp");
	if (res->status_subresource)
		json_object_del(made, "status");
	if (secret_fold(made, err) < 0)
		return NULL;
	return move_ptr(made);
}

static json_t *dir_create(struct store *store, const struct resource *res, const char *ns, const json_t *object, struct error **err)
{
	struct dir_store *d = self(store);
	AUTO_JSON json_t *made = NULL, *old = NULL;

	if (!strcmp(res->kind, api_events.kind)) {
		error_set_code(err, ERROR_PERMANENT, "MethodNotAllowed", 405, "a directory keeps no events");
		return NULL;
	}
	made = prepare(res, ns, object, err);
	if (!made)
		return NULL;
	LOCK_GUARD(&d->writing);
	old = find(d, res, json_path_string(made, "metadata.namespace"), json_path_string(made, "metadata.name"), NULL);
	if (old) {
		conflict(res, old, "AlreadyExists", "exists already", err);
		return NULL;
	}
	json_object_set_new(json_object_get(made, "metadata"), "resourceVersion", next_version(d));
	return publish(d, res, made, err) < 0 ? NULL : move_ptr(made);
}

/* What a patch cannot change. */
static void restore_metadata(json_t *metadata, const json_t *old)
{
	static const char *const kept[] = { "name",       "namespace",      "uid", "creationTimestamp", "deletionTimestamp",
					    "generation", "resourceVersion" };

	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
		json_t *value = json_object_get(old, kept[i]);

		if (value)
			json_object_set(metadata, kept[i], value);
		else
			json_object_del(metadata, kept[i]);
	}
}

/* The object that a patch makes of another, without a new version. */
static json_t *patched(const struct resource *res, const json_t *old, const json_t *patch, bool status, struct error **err)
{
	AUTO_JSON json_t *merged = json_merge_apply(old, patch), *object = with_own_metadata(status ? old : merged);
	json_t *metadata = json_object_get(object, "metadata");
	const json_t *kept = json_object_get(status ? merged : old, "status");

	if (!object) {
		error_set(err, ERROR_PERMANENT, "Invalid", "the patch of a %s is no object", res->kind);
		return NULL;
	}
	if (status || res->status_subresource) {
		if (kept)
			json_object_set(object, "status", (json_t *)kept);
		else
			json_object_del(object, "status");
	}
	restore_metadata(metadata, json_object_get(old, "metadata"));
	json_object_set(object, "kind", json_object_get(old, "kind"));
	json_object_set(object, "apiVersion", json_object_get(old, "apiVersion"));
	if (!status && !json_equal(json_object_get(old, "spec"), json_object_get(object, "spec")))
		json_object_set_new(metadata, "generation", json_integer(json_integer_value(json_path(old, "metadata.generation")) + 1));
	return secret_fold(object, err) < 0 ? NULL : move_ptr(object);
}

static json_t *dir_patch(struct store *store, const struct resource *res, const char *ns, const char *name, const char *subresource,
			 const json_t *patch, struct error **err)
{
	struct dir_store *d = self(store);
	const char *expected = json_path_string(patch, "metadata.resourceVersion"), *version;
	AUTO_JSON json_t *object = NULL, *old = NULL;

	if (subresource && (strcmp(subresource, "status") || !res->status_subresource)) {
		error_set_code(err, ERROR_NOT_FOUND, "NotFound", 404, "a %s has no subresource %s", res->kind, subresource);
		return NULL;
	}
	LOCK_GUARD(&d->writing);
	old = find(d, res, ns, name, err);
	if (!old)
		return NULL;
	version = json_path_string(old, "metadata.resourceVersion");
	if (expected && version && strcmp(expected, version)) {
		conflict(res, old, "Conflict", "was changed meanwhile", err);
		return NULL;
	}
	object = patched(res, old, patch, subresource != NULL, err);
	if (!object || json_equal(object, old)) /* nothing new is no new version, as with the API server */
		return move_ptr(object);
	json_object_set_new(json_object_get(object, "metadata"), "resourceVersion", next_version(d));
	if (json_path(object, "metadata.deletionTimestamp") && !json_array_size(json_path(object, "metadata.finalizers"))) {
		retract(d, res, object);
		return move_ptr(object);
	}
	return publish(d, res, object, err) < 0 ? NULL : move_ptr(object);
}

static int dir_delete(struct store *store, const struct resource *res, const char *ns, const char *name, const char *uid,
		      struct error **err)
{
	struct dir_store *d = self(store);
	AUTO_JSON json_t *old = NULL, *marked = NULL;
	const char *own;
	char now[CLOCK_RFC3339_SIZE];

	LOCK_GUARD(&d->writing);
	old = find(d, res, ns, name, NULL);
	if (!old)
		return 0;
	own = json_path_string(old, "metadata.uid");
	if (uid && (!own || strcmp(uid, own)))
		return conflict(res, old, "Conflict", "is another object of that name", err);
	if (!json_array_size(json_path(old, "metadata.finalizers"))) {
		retract(d, res, old);
		return 0;
	}
	if (json_path(old, "metadata.deletionTimestamp"))
		return 0;
	marked = with_own_metadata(old);
	if (!marked)
		return error_set_errno(err, ENOMEM, "cannot delete the %s %s", res->kind, name);
	clock_rfc3339(now);
	json_object_set_new(json_object_get(marked, "metadata"), "deletionTimestamp", json_string(now));
	json_object_set_new(json_object_get(marked, "metadata"), "resourceVersion", next_version(d));
	return publish(d, res, marked, err);
}

static struct informer *dir_watch(struct store *store, const struct resource *res, const char *ns, const char *selector,
				  store_handler handler, void *arg, struct error **err)
{
	struct dir_store *d = self(store);
	AUTO_JSON json_t *present = NULL;

	ns = res->namespaced ? ns : NULL;
	/* Under the lock: what is told before is in the list, what is told after is not. */
	LOCK_GUARD(&d->lock);
	present = list(d, res, ns, selector);
	if (present)
		return notifier_watch(d->notifier, res, ns, NULL, selector, present, handler, arg, err);
	error_set_errno(err, ENOMEM, "cannot watch %s", res->plural);
	return NULL;
}

static struct informer *dir_watch_object(struct store *store, const struct resource *res, const char *ns, const char *name,
					 store_handler handler, void *arg, struct error **err)
{
	struct dir_store *d = self(store);
	AUTO_FREE char *key = key_of(res, ns, name);
	AUTO_JSON json_t *present = json_array();
	json_t *object;

	ns = res->namespaced ? ns : NULL;
	LOCK_GUARD(&d->lock); /* as in dir_watch */
	object = key ? json_object_get(d->objects, key) : NULL;
	if (key && present && (!object || json_array_append(present, object) == 0))
		return notifier_watch(d->notifier, res, ns, name, NULL, present, handler, arg, err);
	error_set_errno(err, ENOMEM, "cannot watch %s", res->plural);
	return NULL;
}

static void dir_close(struct store *store)
{
	struct dir_store *d = self(store);

	notifier_stop(d->notifier);
	free(d->trouble);
	json_decref(d->objects);
	pthread_mutex_destroy(&d->lock);
	pthread_mutex_destroy(&d->writing);
	free(d->directory);
	free(d);
}

static const struct store_ops dir_ops = {
	.get = dir_get,
	.list = dir_list,
	.create = dir_create,
	.patch = dir_patch,
	.delete_object = dir_delete,
	.watch = dir_watch,
	.watch_object = dir_watch_object,
	.close = dir_close,
};

/* What an earlier run left. */
static int load(struct dir_store *d, struct error **err)
{
	AUTO_JSON json_t *left = manifest_load(d->directory, err);
	json_t *object;
	size_t i;

	if (!left)
		return -1;
	json_array_foreach (left, i, object) {
		const char *version = json_path_string(object, "metadata.resourceVersion"),
			   *ns = json_path_string(object, "metadata.namespace");
		struct resource res = { .kind = json_path_string(object, "kind"), .namespaced = true };
		AUTO_FREE char *key = key_of(&res, ns, json_path_string(object, "metadata.name"));
		unsigned long number = version ? strtoul(version, NULL, 10) : 0;

		if (!key || json_object_set(d->objects, key, object) < 0)
			return error_set_errno(err, ENOMEM, "cannot load %s", d->directory);
		if (number > d->version && number < ULONG_MAX / 2)
			d->version = number;
	}
	return 0;
}

struct store *dir_store_open(const char *directory, struct error **err)
{
	struct dir_store *d = calloc(1, sizeof *d);

	if (!d) {
		error_set_errno(err, ENOMEM, "cannot open %s", directory);
		return NULL;
	}
	d->store.ops = &dir_ops;
	pthread_mutex_init(&d->writing, NULL);
	pthread_mutex_init(&d->lock, NULL);
	d->directory = strdup(directory);
	d->objects = json_object();
	if (!d->directory || !d->objects)
		error_set_errno(err, ENOMEM, "cannot open %s", directory);
	else if (mkdir(directory, 0755) < 0 && errno != EEXIST)
		error_set_errno(err, errno, "cannot create the directory %s", directory);
	else if (load(d, err) == 0 && (d->notifier = notifier_start(err)))
		return &d->store;
	dir_close(&d->store);
	return NULL;
}
