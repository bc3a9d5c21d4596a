/* The pages of an image's tables that were looked at last. Internal to disk/. For one thread. */
#pragma once

#include <stdint.h>

#include "disk/input.h"

struct table_cache;

struct table_cache *table_cache_new(struct error **err); /* a quarter of a MiB, for any number of inputs */
void table_cache_free(struct table_cache *c);            /* accepts NULL */
/* len bytes, at most 4 KiB, at `at` of the input. Errors as of disk_input_read; what says what is read ("grain table"). */
int table_cache_read(struct table_cache *c, struct disk_input *in, uint64_t at, void *data, size_t len, const char *what,
		     struct error **err);
/* How many entries, each of entry_bytes (a power of two, at most 16), are zero from `at` on: at least as many as the same page tells, at most
 * `most`. The one at `at` was read just now. */
uint64_t table_cache_zeros(const struct table_cache *c, uint64_t at, size_t entry_bytes, uint64_t most);
/* The input goes, or changed. */
void table_cache_drop(struct table_cache *c, const struct disk_input *in);
