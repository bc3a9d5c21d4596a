#include "store/informer.h"

#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "store/cache.h"
#include "json/codec.h"

struct informer {
	const struct resource *resource;
	store_handler handler;
	void *arg;
	void (*stop)(void *stop_arg);
	void *stop_arg;
	pthread_mutex_t lock;  /* guards objects and synced; never held while the handler runs */
	struct cache *objects; /* by "namespace/name" */
	json_t *seen;          /* the keys that were put since informer_begin; NULL: it is over */
	bool synced;
	_Atomic uint64_t beat; /* when the store's thread was last seen to be alive; 0: it does not tell */
};

struct informer *informer_new(const struct resource *res, store_handler handler, void *arg, void (*stop)(void *stop_arg), void *stop_arg)
{
	struct informer *i = calloc(1, sizeof *i);

	if (!i)
		return NULL;
	*i = (struct informer){ .resource = res, .handler = handler, .arg = arg, .objects = cache_new() };
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
	cache_free(i->objects);
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

void informer_beat(struct informer *i)
{
	i->beat = clock_monotonic_ms();
}

uint64_t informer_silent_ms(const struct informer *i)
{
	uint64_t beat = i->beat, now = clock_monotonic_ms();

	return beat && now > beat ? now - beat : 0;
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
	return cache_get(i->objects, key);
}

/* Keys, of a namespace or all; taken while the lock is held. */
struct keys {
	char **list;
	size_t count, size;
	const char *ns;
	const json_t *but; /* not those that are in here; NULL: all */
};

static bool add_key(void *arg, const char *key)
{
	struct keys *k = arg;
	size_t len = k->ns ? strlen(k->ns) : 0;

	if ((k->ns && (strncmp(key, k->ns, len) || key[len] != '/')) || json_object_get(k->but, key))
		return true;
	if (k->count == k->size) {
		size_t size = k->size ? 2 * k->size : 64;
		char **list = realloc((void *)k->list, size * sizeof(char *));

		if (!list)
			return false;
		k->list = list;
		k->size = size;
	}
	k->list[k->count] = strdup(key);
	return k->list[k->count++] != NULL;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* In the order of the alphabet. */
static void take_keys(struct informer *i, struct keys *keys)
{
	cache_each(i->objects, add_key, keys);
	if (keys->count && !keys->list[keys->count - 1])
		keys->count--;
	if (keys->count)
		qsort((void *)keys->list, keys->count, sizeof(char *), by_name);
}

static void free_keys_p(struct keys *keys)
{
	for (size_t n = 0; n < keys->count; n++)
		free(keys->list[n]);
	free((void *)keys->list);
}

json_t *informer_list(struct informer *i, const char *ns)
{
	CLEANUP(free_keys_p) struct keys keys = { .ns = ns };
	json_t *list = json_array();

	LOCK_GUARD(&i->lock);
	take_keys(i, &keys);
	for (size_t n = 0; n < keys.count; n++)
		json_array_append_new(list, cache_get(i->objects, keys.list[n]));
	return list;
}

size_t informer_count(struct informer *i)
{
	LOCK_GUARD(&i->lock);
	return cache_count(i->objects);
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
	old = cache_get(i->objects, key);
	news = !old || !same(old, now, "metadata.resourceVersion");
	if (news && cache_put(i->objects, key, now) < 0) {
		/* Better no object than one of the past; who asks for it finds it gone, until it changes or is listed again. */
		cache_remove(i->objects, key);
	}
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
	old = cache_get(i->objects, key);
	cache_remove(i->objects, key);
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
	CLEANUP(free_keys_p) struct keys missing = { 0 };

	pthread_mutex_lock(&i->lock);
	missing.but = i->seen;
	if (i->seen)
		take_keys(i, &missing);
	json_decref(i->seen);
	i->seen = NULL;
	pthread_mutex_unlock(&i->lock);
	for (size_t n = 0; n < missing.count; n++) {
		AUTO_JSON json_t *object = NULL;

		pthread_mutex_lock(&i->lock);
		object = cache_get(i->objects, missing.list[n]);
		pthread_mutex_unlock(&i->lock);
		if (object)
			informer_remove(i, object);
	}
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
