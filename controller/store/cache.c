#include "store/cache.h"

#include <libdeflate.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define BUCKETS_MIN 8
#define PACK_COUNT 64 /* the packer is worth its memory from so many objects on */
#define PACK_LEN 512  /* bytes; shorter texts stay as they are */
#define LEVEL 6
#define TEXT_MAX (64u << 20) /* far above what a server keeps */

struct entry {
	struct entry *next;
	uint32_t len, packed; /* bytes of the text, and of what is kept of it; packed 0: all */
	char data[];          /* key, 0, text */
};

struct cache {
	struct entry **buckets;
	size_t bucket_count, count, bytes;
	struct libdeflate_compressor *packer; /* once there are many */
	struct libdeflate_decompressor *unpacker;
};

struct cache *cache_new(void)
{
	struct cache *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->bucket_count = BUCKETS_MIN;
	c->buckets = calloc(c->bucket_count, sizeof *c->buckets);
	if (c->buckets)
		return c;
	free(c);
	return NULL;
}

void cache_free(struct cache *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->bucket_count; i++) {
		while (c->buckets[i]) {
			struct entry *e = c->buckets[i];

			c->buckets[i] = e->next;
			free(e);
		}
	}
	if (c->packer)
		libdeflate_free_compressor(c->packer);
	if (c->unpacker)
		libdeflate_free_decompressor(c->unpacker);
	free((void *)c->buckets);
	free(c);
}

/* FNV-1a, 64 bit. */
static size_t hash(const char *key)
{
	uint64_t h = 14695981039346656037u;

	for (; *key; key++)
		h = (h ^ (unsigned char)*key) * 1099511628211u;
	return (size_t)h;
}

static struct entry **place_of(const struct cache *c, const char *key)
{
	struct entry **at = &c->buckets[hash(key) % c->bucket_count];

	while (*at && strcmp((*at)->data, key))
		at = &(*at)->next;
	return at;
}

static size_t size_of(const struct entry *e)
{
	return sizeof *e + strlen(e->data) + 1 + (e->packed ? e->packed : e->len);
}

/* Without memory it stays as it is, and gets slower. */
static void grow(struct cache *c)
{
	size_t count = c->bucket_count * 2;
	struct entry **buckets = calloc(count, sizeof *buckets);

	if (!buckets)
		return;
	for (size_t i = 0; i < c->bucket_count; i++) {
		while (c->buckets[i]) {
			struct entry *e = c->buckets[i], **at = &buckets[hash(e->data) % count];

			c->buckets[i] = e->next;
			e->next = *at;
			*at = e;
		}
	}
	free((void *)c->buckets);
	c->buckets = buckets;
	c->bucket_count = count;
}

/* The text packed, owned; NULL when that is not worth it. */
static void *pack(struct cache *c, const char *text, size_t len, size_t *packed)
{
	size_t bound;
	void *out;

	if (c->count < PACK_COUNT || len < PACK_LEN)
		return NULL;
	if (!c->packer)
		c->packer = libdeflate_alloc_compressor(LEVEL);
	if (!c->packer)
		return NULL;
	bound = libdeflate_deflate_compress_bound(c->packer, len);
	out = malloc(bound);
	*packed = out ? libdeflate_deflate_compress(c->packer, text, len, out, bound) : 0;
	if (*packed && *packed < len)
		return out;
	free(out);
	return NULL;
}

static struct entry *make(struct cache *c, const char *key, const json_t *object)
{
	AUTO_FREE char *text = json_dumps(object, JSON_COMPACT);
	size_t len = text ? strlen(text) : 0, key_size = strlen(key) + 1, packed = 0;
	AUTO_FREE void *small = NULL;
	struct entry *e;

	if (!text || len > TEXT_MAX)
		return NULL;
	small = pack(c, text, len, &packed);
	e = malloc(sizeof *e + key_size + (small ? packed : len));
	if (!e)
		return NULL;
	*e = (struct entry){ .len = (uint32_t)len, .packed = small ? (uint32_t)packed : 0 };
	memcpy(e->data, key, key_size);
	memcpy(e->data + key_size, small ? small : text, small ? packed : len);
	return e;
}

int cache_put(struct cache *c, const char *key, const json_t *object)
{
	struct entry *e = make(c, key, object), **at;

	if (!e)
		return -1;
	at = place_of(c, key);
	if (*at) {
		struct entry *old = *at;

		e->next = old->next;
		c->bytes -= size_of(old);
		c->count--;
		free(old);
	}
	*at = e;
	c->bytes += size_of(e);
	if (++c->count > c->bucket_count)
		grow(c);
	return 0;
}

void cache_remove(struct cache *c, const char *key)
{
	struct entry **at = place_of(c, key), *e = *at;

	if (!e)
		return;
	*at = e->next;
	c->bytes -= size_of(e);
	c->count--;
	free(e);
}

json_t *cache_get(struct cache *c, const char *key)
{
	const struct entry *e = *place_of(c, key);
	AUTO_FREE char *text = NULL;
	const char *kept;

	if (!e)
		return NULL;
	kept = e->data + strlen(e->data) + 1;
	if (!e->packed)
		return json_loadb(kept, e->len, JSON_ALLOW_NUL, NULL);
	text = malloc(e->len);
	if (!c->unpacker)
		c->unpacker = libdeflate_alloc_decompressor();
	if (!text || !c->unpacker || libdeflate_deflate_decompress(c->unpacker, kept, e->packed, text, e->len, NULL) != LIBDEFLATE_SUCCESS)
		return NULL;
	return json_loadb(text, e->len, JSON_ALLOW_NUL, NULL);
}

size_t cache_count(const struct cache *c)
{
	return c->count;
}

size_t cache_bytes(const struct cache *c)
{
	return c->bytes + c->bucket_count * sizeof *c->buckets + sizeof *c;
}

void cache_each(struct cache *c, bool (*each)(void *arg, const char *key), void *arg)
{
	for (size_t i = 0; i < c->bucket_count; i++)
		for (const struct entry *e = c->buckets[i]; e; e = e->next)
			if (!each(arg, e->data))
				return;
}
