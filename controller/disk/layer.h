/* One layer of an image: what its tables say of each place of the guest's disk. Internal to disk/.
 *
 * A layer is for one thread. It keeps no table in memory: entries are looked up through the image's page cache (disk/table_cache.h), so
 * what a header declares costs nothing. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cancel.h"
#include "disk/decoder.h"
#include "disk/input.h"
#include "disk/table_cache.h"

enum run_kind {
	RUN_HOLE, /* this layer says nothing: the parent's, or zero */
	RUN_ZERO, /* zero, whatever the parent has */
	RUN_DATA, /* len bytes at `at` of input */
	/* `stored` bytes at `at` that inflate to the disk's [whole_at, whole_at + whole_len), of which the run is a part; to less where the disk
	 * ends before */
	RUN_PACKED,
};

struct run {
	enum run_kind kind;
	uint64_t len;             /* bytes from where was asked */
	struct disk_input *input; /* the layer's, until it is asked again */
	const char *name;         /* of input, for errors; lives as long as the image */
	uint64_t at;
	uint32_t stored, whole_len; /* whole_len at most 2 MiB */
	uint64_t whole_at;
	enum piece_codec codec;
};

struct layer_ops;

struct layer {
	const struct layer_ops *ops;
	uint64_t capacity; /* bytes */
	uint32_t grain;    /* bytes of what it is allocated in; 0: none */
};

struct layer_ops {
	/* What is at byte `at`, for at most `most` bytes (1 at least, within the capacity). */
	int (*map)(struct layer *layer, uint64_t at, uint64_t most, struct run *run, struct error **err);
	/* disk_input_finish for what the layer itself has opened; NULL: nothing. */
	int (*finish)(struct layer *layer, struct error **err);
	void (*free)(struct layer *layer);
};

/* A map looks at so many entries that say the same before it returns: the walk between them can be cancelled. */
#define LAYER_ENTRIES_AT_ONCE 65536

/* The map of a layer with tables, by what one entry says: asks `look` for entry after entry and puts together what says the same. look
 * sets run->len to what its entry covers from `at` on, also beyond the capacity. */
typedef int layer_look(struct layer *layer, uint64_t at, struct run *run, struct error **err);
int layer_map_entries(struct layer *layer, layer_look *look, uint64_t at, uint64_t most, struct run *run, struct error **err);

/* What a layer's tables name, summed up while the walk ascends: more than the file holds shows that something is named twice, so that a
 * small file cannot stand for a huge disk. */
struct layer_sum {
	uint64_t counted; /* entries before this one are in */
	uint64_t bytes;
	bool over; /* it was more once: so it stays */
};

/* Adds bytes for the len entries from this one on, once. False when the sum is more than `most`. */
bool layer_sum_add(struct layer_sum *sum, uint64_t entry, uint64_t len, uint64_t bytes, uint64_t most);

static inline void layer_free_p(struct layer **layer)
{
	if (*layer)
		(*layer)->ops->free(*layer);
}

/* len bytes of the input from byte `at` on as they are. The input stays the caller's. */
struct layer *raw_layer_new(struct disk_input *in, const char *name, uint64_t at, uint64_t len, struct error **err);
