#include "store/informer.h"

#include <pthread.h>
#include <string.h>

#include "json/codec.h"

struct informer {
	const struct resource *resource;
	store_handler handler;
	void *arg;
	void (*stop)(void *stop_arg);
	void *stop_arg;
	pthread_mutex_t lock; /* guards objects and synced; never held while the handler runs */
	json_t *objects;      /* "namespace/name" -> object */
	json_t *seen;         /* the keys that were put since informer_begin; NULL: it is over */
	bool synced;
};

struct informer *informer_new(const struct resource *res, store_handler handler, void *arg, void (*stop)(void *stop_arg), void *stop_arg)
{
	struct informer *i = calloc(1, sizeof *i);

	if (!i)
		return NULL;
	*i = (struct informer){ .resource = res, .handler = handler, .arg = arg, .objects = json_object() };
	pthread_mutex_init(&i->lock, NULL);
	if (!i->objects) {
		informer_free(i);
		return NULL;
	}
	i->stop = stop; /* only now: whoever gets NULL has nothing to stop */
	i->stop_arg = stop_arg;
	return i;
}

void informer_free(struct informer *i)
{
	if (!i)
		return;
	if (i->stop)
		i->stop(i->stop_arg);
	json_decref(i->objects);
	json_decref(i->seen);
	pthread_mutex_destroy(&i->lock);
	free(i);
}

const struct resource *informer_resource(const struct informer *i)
{
	return i->resource;
}

bool informer_synced(const struct informer *informer)
{
	struct informer *i = (struct informer *)informer;

	LOCK_GUARD(&i->lock);
	return i->synced;
}

bool informer_wait(struct informer *i, struct cancel *cancel)
{
	for (;;) {
		if (informer_synced(i))
			return true;
		if (cancel_wait(cancel, 20))
			return false;
	}
}

/* Owned by the caller. */
static char *key_of(const char *ns, const char *name)
{
	char *key = NULL;

	return asprintf(&key, "%s/%s", ns ? ns : "", name ? name : "") < 0 ? NULL : key;
}

static char *object_key(const json_t *object)
{
	return key_of(json_path_string(object, "metadata.namespace"), json_path_string(object, "metadata.name"));
}

json_t *informer_get(struct informer *i, const char *ns, const char *name)
{
	AUTO_FREE char *key = key_of(ns, name);

	if (!key)
		return NULL;
	LOCK_GUARD(&i->lock);
	return json_incref(json_object_get(i->objects, key));
}

json_t *informer_list(struct informer *i, const char *ns)
{
	json_t *list = json_array(), *object;
	size_t len = ns ? strlen(ns) : 0;
	const char *key;

	LOCK_GUARD(&i->lock);
	json_object_foreach (i->objects, key, object)
		if (!ns || (!strncmp(key, ns, len) && key[len] == '/'))
			json_array_append(list, object);
	return list;
}

size_t informer_count(struct informer *i)
{
	LOCK_GUARD(&i->lock);
	return json_object_size(i->objects);
}

/* managedFields are a third of an object and nothing to us. A new reference, NULL when memory is out. */
static json_t *trimmed(json_t *object)
{
	json_t *metadata = json_object_get(object, "metadata");
	AUTO_JSON json_t *copy = NULL, *lean = NULL;

	if (!json_object_get(metadata, "managedFields"))
		return json_incref(object);
	copy = json_copy(object);
	lean = json_copy(metadata);
	if (!copy || !lean || json_object_del(lean, "managedFields") < 0 || json_object_set(copy, "metadata", lean) < 0)
		return NULL;
	return move_ptr(copy);
}

static bool same(const json_t *a, const json_t *b, const char *path)
{
	const char *in_a = json_path_string(a, path), *in_b = json_path_string(b, path);

	return in_a && in_b && !strcmp(in_a, in_b);
}

static void tell(struct informer *i, enum store_event event, const json_t *old, const json_t *object)
{
	if (i->handler)
		i->handler(i->arg, event, old, object);
}

void informer_put(struct informer *i, json_t *object)
{
	AUTO_FREE char *key = object_key(object);
	AUTO_JSON json_t *now = trimmed(object), *old = NULL;
	bool news, other;

	if (!key || !now)
		return;
	pthread_mutex_lock(&i->lock);
	if (i->seen)
		json_object_set_new(i->seen, key, json_true());
	old = json_incref(json_object_get(i->objects, key));
	news = !old || !same(old, now, "metadata.resourceVersion");
	if (news)
		json_object_set(i->objects, key, now);
	pthread_mutex_unlock(&i->lock);
	if (!news)
		return;
	/* Deleted and made anew while nobody watched: two objects, though of one name. */
	other = old && json_path(old, "metadata.uid") && !same(old, now, "metadata.uid");
	if (other)
		tell(i, STORE_DELETED, old, old);
	tell(i, old && !other ? STORE_MODIFIED : STORE_ADDED, other ? NULL : old, now);
}

void informer_remove(struct informer *i, const json_t *object)
{
	AUTO_FREE char *key = object_key(object);
	AUTO_JSON json_t *last = trimmed((json_t *)object), *old = NULL;

	if (!key)
		return;
	pthread_mutex_lock(&i->lock);
	old = json_incref(json_object_get(i->objects, key));
	json_object_del(i->objects, key);
	pthread_mutex_unlock(&i->lock);
	if (old)
		tell(i, STORE_DELETED, old, last ? last : old);
}

void informer_begin(struct informer *i)
{
	LOCK_GUARD(&i->lock);
	json_decref(i->seen);
	i->seen = json_object();
}

void informer_end(struct informer *i)
{
	AUTO_JSON json_t *missing = json_array();
	const char *key;
	json_t *object;
	size_t n;

	pthread_mutex_lock(&i->lock);
	json_object_foreach (i->objects, key, object)
		if (i->seen && !json_object_get(i->seen, key))
			json_array_append(missing, object);
	json_decref(i->seen);
	i->seen = NULL;
	pthread_mutex_unlock(&i->lock);
	json_array_foreach (missing, n, object)
		informer_remove(i, object);
	LOCK_GUARD(&i->lock);
	i->synced = true;
}

void informer_replace(struct informer *i, const json_t *objects)
{
	json_t *object;
	size_t n;

	informer_begin(i);
	json_array_foreach (objects, n, object)
		informer_put(i, object);
	informer_end(i);
}
