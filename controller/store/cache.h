/* Objects by their keys, kept small: as text, which is packed when there are many. As json_t an object takes ten times its text, packed a
 * quarter of it; unpacking one takes some ten microseconds. Not thread-safe. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct cache;

struct cache *cache_new(void); /* NULL when memory is out */
void cache_free(struct cache *c);
/* Keeps the object under the key, instead of what was there. -1 when memory is out: then nothing has changed. */
int cache_put(struct cache *c, const char *key, const json_t *object);
void cache_remove(struct cache *c, const char *key); /* an absent one is no error */
json_t *cache_get(struct cache *c, const char *key); /* a new object of the caller's own; NULL: there is none, or no memory */
size_t cache_count(const struct cache *c);
size_t cache_bytes(const struct cache *c); /* that it has allocated */
/* Calls each with every key, in no order, until it returns false. It must not change the cache. */
void cache_each(struct cache *c, bool (*each)(void *arg, const char *key), void *arg);
