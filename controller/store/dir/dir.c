#include "store/dir/dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "json/codec.h"
#include "json/yaml.h"
#include "store/informer.h"
#include "store/selector.h"

/* A cache that is told of changes. */
struct watcher {
	struct dir_store *store;
	struct informer *informer;
	char *plural, *ns, *selector;
	struct watcher *next;
};

/* A change that the notifier's thread has to tell. */
struct change {
	json_t *object;
	bool deleted;
	struct change *next;
};

struct dir_store {
	struct store store;
	char *directory;
	pthread_mutex_t lock;     /* guards objects, version and the list of changes */
	json_t *objects;          /* "kind/namespace/name" -> object; kind in lower case */
	unsigned long version;
	pthread_cond_t woken;
	struct change *changes, **last;
	bool stopped;
	pthread_mutex_t watching; /* guards watchers; held while handlers run, so that a freed informer is not told; taken before lock */
	struct watcher *watchers;
	pthread_t notifier;
};

static struct dir_store *self(struct store *store)
{
	return (struct dir_store *)store;
}

static char *lower(const char *text)
{
	char *copy = strdup(text ? text : "");

	for (char *p = copy; p && *p; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p += 'a' - 'A';
	return copy;
}

static char *key_of(const char *kind, const char *ns, const char *name)
{
	AUTO_FREE char *k = lower(kind);
	char *key = NULL;

	return !k || asprintf(&key, "%s/%s/%s", k, ns ? ns : "", name ? name : "") < 0 ? NULL : key;
}

static bool is_secret(const json_t *object)
{
	const char *kind = json_path_string(object, "kind");

	return kind && !strcmp(kind, "Secret");
}

static char *path_of(const struct dir_store *d, const json_t *object)
{
	AUTO_FREE char *kind = lower(json_path_string(object, "kind"));
	const char *ns = json_path_string(object, "metadata.namespace"), *name = json_path_string(object, "metadata.name");
	char *path = NULL;

	return asprintf(&path, "%s/%s-%s-%s.yaml", d->directory, kind, ns ? ns : "", name) < 0 ? NULL : path;
}

/* Whole or not at all. Secrets never. */
static int persist(const struct dir_store *d, const json_t *object, struct error **err)
{
	AUTO_FREE char *path = NULL, *new = NULL, *text = NULL;
	AUTO_FILE FILE *f = NULL;

	if (is_secret(object))
		return 0;
	path = path_of(d, object);
	text = yaml_dump(object, err);
	if (!text)
		return -1;
	if (!path || asprintf(&new, "%s.new", path) < 0) {
		new = NULL;
		return error_set_errno(err, ENOMEM, "cannot write the object");
	}
	f = fopen(new, "we");
	if (!f || fputs(text, f) == EOF || fclose(move_ptr(f)) == EOF || rename(new, path) < 0)
		return error_set_errno(err, errno, "cannot write %s", path);
	return 0;
}

static void forget(const struct dir_store *d, const json_t *object)
{
	AUTO_FREE char *path = path_of(d, object);

	if (path)
		unlink(path);
}

/* The caller holds the lock. */
static void note(struct dir_store *d, const json_t *object, bool deleted)
{
	struct change *c = calloc(1, sizeof *c);

	if (!c)
		return;
	c->object = json_incref((json_t *)object);
	c->deleted = deleted;
	*d->last = c;
	d->last = &c->next;
	pthread_cond_signal(&d->woken);
}

static bool concerns(const struct watcher *w, const json_t *object)
{
	const char *kind = json_path_string(object, "kind"), *ns = json_path_string(object, "metadata.namespace");

	return kind && !strcmp(kind, informer_resource(w->informer)->kind) && (!w->ns || !strcmp(w->ns, ns ? ns : "")) &&
	       selector_matches(w->selector, object);
}

static void *notify(void *arg)
{
	struct dir_store *d = arg;

	for (;;) {
		struct change *c;

		pthread_mutex_lock(&d->lock);
		while (!d->changes && !d->stopped)
			pthread_cond_wait(&d->woken, &d->lock);
		c = d->changes;
		if (c) {
			d->changes = c->next;
			if (!d->changes)
				d->last = &d->changes;
		}
		pthread_mutex_unlock(&d->lock);
		if (!c)
			return NULL;
		pthread_mutex_lock(&d->watching);
		for (struct watcher *w = d->watchers; w; w = w->next) {
			if (!concerns(w, c->object))
				continue;
			if (c->deleted)
				informer_remove(w->informer, c->object);
			else
				informer_put(w->informer, c->object);
		}
		pthread_mutex_unlock(&d->watching);
		json_decref(c->object);
		free(c);
	}
}

static json_t *absent(const struct resource *res, const char *ns, const char *name, struct error **err)
{
	error_set_code(err, ERROR_NOT_FOUND, "NotFound", 404, "there is no %s %s/%s", res->kind, ns ? ns : "", name);
	return NULL;
}

static json_t *dir_get(struct store *store, const struct resource *res, const char *ns, const char *name, struct error **err)
{
	struct dir_store *d = self(store);
	AUTO_FREE char *key = key_of(res->kind, ns, name);

	LOCK_GUARD(&d->lock);
	json_t *object = key ? json_object_get(d->objects, key) : NULL;
	return object ? json_incref(object) : absent(res, ns, name, err);
}

/* The caller holds the lock. */
static json_t *list(struct dir_store *d, const char *kind, const char *ns, const char *selector)
{
	json_t *found = json_array(), *object;
	const char *key;

	json_object_foreach (d->objects, key, object) {
		const char *k = json_path_string(object, "kind"), *n = json_path_string(object, "metadata.namespace");

		if (k && !strcmp(k, kind) && (!ns || !strcmp(ns, n ? n : "")) && selector_matches(selector, object))
			json_array_append(found, object);
	}
	return found;
}

static json_t *dir_list(struct store *store, const struct resource *res, const char *ns, const char *selector, struct error **err)
{
	struct dir_store *d = self(store);

	(void)err;
	LOCK_GUARD(&d->lock);
	return list(d, res->kind, ns, selector);
}

static json_t *version_of(struct dir_store *d)
{
	char text[32];

	snprintf(text, sizeof text, "%lu", ++d->version);
	return json_string(text);
}

static void random_hex(char *out, size_t digits)
{
	unsigned char byte;

	for (size_t i = 0; i < digits; i++) {
		RAND_bytes(&byte, 1);
		out[i] = "0123456789abcdef"[byte & 15];
	}
	out[digits] = 0;
}

static json_t *new_uid(void)
{
	char h[33], uid[40];

	random_hex(h, 32);
	snprintf(uid, sizeof uid, "%.8s-%.4s-4%.3s-a%.3s-%.12s", h, h + 8, h + 12, h + 15, h + 18);
	return json_string(uid);
}

/* Stores the object under its key, on disk too, and tells of it. Takes the reference. The caller holds the lock. */
static json_t *put(struct dir_store *d, const char *key, json_t *object, struct error **err)
{
	if (persist(d, object, err) < 0) {
		json_decref(object);
		return NULL;
	}
	json_object_set(d->objects, key, object);
	note(d, object, false);
	return object;
}

static json_t *dir_create(struct store *store, const struct resource *res, const char *ns, const json_t *object, struct error **err)
{
	struct dir_store *d = self(store);
	AUTO_JSON json_t *made = json_deep_copy(object);
	json_t *metadata = json_object_get(made, "metadata");
	const char *name = json_path_string(made, "metadata.name"), *prefix = json_path_string(made, "metadata.generateName");
	char now[CLOCK_RFC3339_SIZE];
	AUTO_FREE char *key = NULL;

	if (!metadata || (!name && !prefix)) {
		error_set_code(err, ERROR_PERMANENT, "Invalid", 422, "the %s has no metadata.name", res->kind);
		return NULL;
	}
	if (!name) {
		char suffix[9], generated[256];

		random_hex(suffix, 8);
		snprintf(generated, sizeof generated, "%.200s%s", prefix, suffix);
		json_object_set_new(metadata, "name", json_string(generated));
		name = json_path_string(made, "metadata.name");
	}
	key = key_of(res->kind, ns, name);
	LOCK_GUARD(&d->lock);
	if (!key || json_object_get(d->objects, key)) {
		error_set_code(err, ERROR_CONFLICT, "AlreadyExists", 409, "the %s %s/%s exists", res->kind, ns ? ns : "", name);
		return NULL;
	}
	clock_rfc3339(now);
	if (ns)
		json_object_set_new(metadata, "namespace", json_string(ns));
	json_object_set_new(metadata, "uid", new_uid());
	json_object_set_new(metadata, "creationTimestamp", json_string(now));
	json_object_set_new(metadata, "generation", json_integer(1));
	json_object_set_new(metadata, "resourceVersion", version_of(d));
	if (res->status_subresource)
		json_object_del(made, "status");
	return put(d, key, move_ptr(made), err);
}

/* The object of the key is gone for good. The caller holds the lock. */
static void remove_object(struct dir_store *d, const char *key, json_t *object)
{
	forget(d, object);
	note(d, object, true);
	json_object_del(d->objects, key);
}

static json_t *dir_patch(struct store *store, const struct resource *res, const char *ns, const char *name, const char *subresource,
			 const json_t *patch, struct error **err)
{
	struct dir_store *d = self(store);
	AUTO_FREE char *key = key_of(res->kind, ns, name);
	const char *expected = json_path_string(patch, "metadata.resourceVersion"), *version;
	AUTO_JSON json_t *merged = NULL, *object = NULL;
	json_t *old, *metadata;
	bool status = subresource && !strcmp(subresource, "status");

	LOCK_GUARD(&d->lock);
	old = key ? json_object_get(d->objects, key) : NULL;
	if (!old)
		return absent(res, ns, name, err);
	version = json_path_string(old, "metadata.resourceVersion");
	if (expected && version && strcmp(expected, version)) {
		error_set_code(err, ERROR_CONFLICT, "Conflict", 409, "the %s %s/%s was changed meanwhile", res->kind, ns ? ns : "", name);
		return NULL;
	}
	merged = json_merge_apply(old, patch);
	if (status) { /* only the status changes */
		object = json_copy(old);
		json_object_set(object, "status", json_object_get(merged, "status"));
	} else {
		object = json_incref(merged);
		if (res->status_subresource) {
			if (json_object_get(old, "status"))
				json_object_set(object, "status", json_object_get(old, "status"));
			else
				json_object_del(object, "status");
		}
	}
	metadata = json_copy(json_object_get(object, "metadata"));
	json_object_set_new(object, "metadata", metadata);
	json_object_set(metadata, "uid", json_path(old, "metadata.uid"));
	if (!status && !json_equal(json_object_get(old, "spec"), json_object_get(object, "spec")))
		json_object_set_new(metadata, "generation", json_integer(json_integer_value(json_path(old, "metadata.generation")) + 1));
	json_object_set_new(metadata, "resourceVersion", version_of(d));
	if (json_object_get(metadata, "deletionTimestamp") && !json_array_size(json_object_get(metadata, "finalizers"))) {
		remove_object(d, key, object);
		return move_ptr(object);
	}
	return put(d, key, move_ptr(object), err);
}

static int dir_delete(struct store *store, const struct resource *res, const char *ns, const char *name, const char *uid, struct error **err)
{
	struct dir_store *d = self(store);
	AUTO_FREE char *key = key_of(res->kind, ns, name);
	char now[CLOCK_RFC3339_SIZE];
	json_t *old, *marked, *metadata;

	LOCK_GUARD(&d->lock);
	old = key ? json_object_get(d->objects, key) : NULL;
	if (!old)
		return 0;
	if (uid && strcmp(uid, json_path_string(old, "metadata.uid")))
		return error_set_code(err, ERROR_CONFLICT, "Conflict", 409, "the %s %s/%s is another one now", res->kind, ns ? ns : "", name);
	if (!json_array_size(json_path(old, "metadata.finalizers"))) {
		remove_object(d, key, old);
		return 0;
	}
	if (json_path(old, "metadata.deletionTimestamp"))
		return 0;
	clock_rfc3339(now);
	marked = json_copy(old);
	metadata = json_copy(json_object_get(old, "metadata"));
	json_object_set_new(metadata, "deletionTimestamp", json_string(now));
	json_object_set_new(metadata, "resourceVersion", version_of(d));
	json_object_set_new(marked, "metadata", metadata);
	marked = put(d, key, marked, err);
	json_decref(marked);
	return marked ? 0 : -1;
}

static void unwatch(void *arg)
{
	struct watcher *w = arg;
	struct dir_store *d = w->store;

	{
		LOCK_GUARD(&d->watching);
		struct watcher **p = &d->watchers;

		while (*p != w)
			p = &(*p)->next;
		*p = w->next;
	}
	free(w->plural);
	free(w->ns);
	free(w->selector);
	free(w);
}

static struct informer *dir_watch(struct store *store, const struct resource *res, const char *ns, const char *selector,
				  store_handler handler, void *arg, struct error **err)
{
	struct dir_store *d = self(store);
	struct watcher *w = calloc(1, sizeof *w);
	AUTO_JSON json_t *present = NULL;

	if (!w || !(w->informer = informer_new(res, handler, arg, unwatch, w))) {
		free(w);
		error_set_errno(err, ENOMEM, "cannot watch the %ss", res->kind);
		return NULL;
	}
	w->store = d;
	w->plural = strdup(res->plural);
	w->ns = ns ? strdup(ns) : NULL;
	w->selector = selector ? strdup(selector) : NULL;
	/* Registered and filled under the notifier's lock: what changes meanwhile is told after. */
	LOCK_GUARD(&d->watching);
	w->next = d->watchers;
	d->watchers = w;
	pthread_mutex_lock(&d->lock);
	present = list(d, res->kind, ns, selector);
	pthread_mutex_unlock(&d->lock);
	informer_replace(w->informer, present);
	return w->informer;
}

static void dir_close(struct store *store)
{
	struct dir_store *d = self(store);

	pthread_mutex_lock(&d->lock);
	d->stopped = true;
	pthread_cond_signal(&d->woken);
	pthread_mutex_unlock(&d->lock);
	pthread_join(d->notifier, NULL);
	json_decref(d->objects);
	pthread_cond_destroy(&d->woken);
	pthread_mutex_destroy(&d->lock);
	pthread_mutex_destroy(&d->watching);
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
	.close = dir_close,
};

static void close_directory_p(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

/* What an earlier run left. */
static int load(struct dir_store *d, struct error **err)
{
	CLEANUP(close_directory_p) DIR *dir = opendir(d->directory);
	struct dirent *entry;

	if (!dir)
		return error_set_errno(err, errno, "cannot read %s", d->directory);
	while ((entry = readdir(dir))) {
		size_t len = strlen(entry->d_name);
		AUTO_FREE char *path = NULL, *key = NULL;
		AUTO_JSON json_t *documents = NULL;
		const json_t *object;

		if (len < 5 || strcmp(entry->d_name + len - 5, ".yaml"))
			continue;
		if (asprintf(&path, "%s/%s", d->directory, entry->d_name) < 0) {
			path = NULL;
			return error_set_errno(err, ENOMEM, "cannot read %s", d->directory);
		}
		documents = yaml_load_file(path, err);
		if (!documents)
			return error_wrap(err, "cannot read what an earlier run left (remove the file to start anew)");
		object = json_array_get(documents, 0);
		const char *kind = json_path_string(object, "kind"), *name = json_path_string(object, "metadata.name");
		const char *version = json_path_string(object, "metadata.resourceVersion");
		if (!kind || !name || !json_path_string(object, "metadata.uid"))
			return error_set(err, ERROR_PERMANENT, "InvalidObject", "%s is no object of an earlier run; remove it to start anew", path);
		key = key_of(kind, json_path_string(object, "metadata.namespace"), name);
		if (version && strtoul(version, NULL, 10) > d->version)
			d->version = strtoul(version, NULL, 10);
		if (key)
			json_object_set(d->objects, key, (json_t *)object);
	}
	return 0;
}

struct store *dir_store_open(const char *directory, struct error **err)
{
	struct dir_store *d = calloc(1, sizeof *d);
	int failed;

	if (!d) {
		error_set_errno(err, ENOMEM, "cannot open %s", directory);
		return NULL;
	}
	d->store.ops = &dir_ops;
	d->directory = strdup(directory);
	d->objects = json_object();
	d->last = &d->changes;
	pthread_mutex_init(&d->lock, NULL);
	pthread_mutex_init(&d->watching, NULL);
	pthread_cond_init(&d->woken, NULL);
	if (mkdir(directory, 0755) < 0 && errno != EEXIST)
		error_set_errno(err, errno, "cannot create the directory %s", directory);
	else if (load(d, err) == 0) {
		failed = pthread_create(&d->notifier, NULL, notify, d);
		if (!failed)
			return &d->store;
		error_set_errno(err, failed, "cannot start a thread");
	}
	json_decref(d->objects);
	free(d->directory);
	free(d);
	return NULL;
}

/* stringData of a Secret becomes data, as the API server does it. */
static int fold_secret(json_t *object, struct error **err)
{
	AUTO_JSON json_t *data = json_copy(json_object_get(object, "data"));
	const char *key;
	json_t *value;

	if (!data)
		data = json_object();
	json_object_foreach (json_object_get(object, "stringData"), key, value) {
		size_t len = json_string_length(value);
		AUTO_FREE char *text = json_is_string(value) ? malloc(len / 3 * 4 + 8) : NULL;

		if (!text)
			return error_set(err, ERROR_PERMANENT, "InvalidObject", "stringData.%s of the Secret is no string", key);
		EVP_EncodeBlock((unsigned char *)text, (const unsigned char *)json_string_value(value), (int)len);
		json_object_set_new(data, key, json_string(text));
	}
	json_object_del(object, "stringData");
	json_object_set(object, "data", data);
	return 0;
}

int dir_store_apply(struct store *store, const json_t *object, struct error **err)
{
	struct dir_store *d = self(store);
	const char *api = json_path_string(object, "apiVersion"), *kind = json_path_string(object, "kind");
	const char *name = json_path_string(object, "metadata.name"), *ns = json_path_string(object, "metadata.namespace");
	AUTO_JSON json_t *wanted = json_deep_copy(object), *old = NULL, *made = NULL;
	AUTO_FREE char *key = NULL;
	struct resource res = { .kind = kind, .namespaced = true, .status_subresource = true };

	if (!api || !kind)
		return error_set(err, ERROR_PERMANENT, "InvalidObject", "the document is no Kubernetes object: apiVersion or kind is missing");
	if (!name || strchr(name, '/') || (ns && strchr(ns, '/')) || strchr(kind, '/'))
		return error_set(err, ERROR_PERMANENT, "InvalidObject", "the %s has no valid metadata.name", kind);
	if (!ns)
		ns = "default";
	if (is_secret(wanted) && fold_secret(wanted, err) < 0)
		return -1;
	key = key_of(kind, ns, name);
	pthread_mutex_lock(&d->lock);
	old = json_incref(json_object_get(d->objects, key ? key : ""));
	pthread_mutex_unlock(&d->lock);
	json_object_del(wanted, "status");
	if (!old)
		return (made = dir_create(store, &res, ns, wanted, err)) ? 0 : -1;
	/* Members that the manifest does not name any more go; the status and what the store keeps in metadata stay. */
	AUTO_JSON json_t *patch = json_pack("{s:O?, s:O?, s:{}}", "spec", json_object_get(wanted, "spec"), "data", json_object_get(wanted, "data"), "metadata");
	AUTO_JSON json_t *diff = json_merge_diff(json_object_get(old, "spec"), json_object_get(wanted, "spec"));
	if (!json_object_get(wanted, "data"))
		json_object_del(patch, "data");
	if (json_is_object(diff))
		json_object_set(patch, "spec", diff);
	if (json_path(wanted, "metadata.labels"))
		json_object_set(json_object_get(patch, "metadata"), "labels", json_path(wanted, "metadata.labels"));
	if (json_path(wanted, "metadata.annotations"))
		json_object_set(json_object_get(patch, "metadata"), "annotations", json_path(wanted, "metadata.annotations"));
	made = dir_patch(store, &res, ns, name, NULL, patch, err);
	return made ? 0 : -1;
}
