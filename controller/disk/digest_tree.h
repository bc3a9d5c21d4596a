/* The digest of disk/digest.h, made of blocks of 1 MiB that come in ascending order. Internal to disk/. */
#pragma once

#include <stdbool.h>

#include "disk/digest.h"

#define DIGEST_SIZE 32
#define DIGEST_LEVELS 64
#define DIGEST_LEAF (64u << 10)
#define DIGEST_STEP 4096u /* zeros are told at this granularity: the block size of file systems */
#define DIGEST_STEPS (DISK_DIGEST_BLOCK / DIGEST_STEP)

/* Hashes; for one thread at a time. */
struct digest_hasher;
struct digest_hasher *digest_hasher_new(struct error **err);
void digest_hasher_free(struct digest_hasher *h); /* accepts NULL */

/* Which steps of a block hold data, a bit each; what lies behind its end does not. */
struct digest_map {
	uint64_t data[DIGEST_STEPS / 64];
};
void digest_map_block(struct digest_map *map, const void *block, size_t len);
static inline bool digest_map_has(const struct digest_map *map, size_t step)
{
	return map->data[step / 64] >> (step % 64) & 1;
}

/* The node of a block of at most 1 MiB, zero when all of it is. map is the block's. False when the hash library fails. */
bool digest_block(struct digest_hasher *h, const void *block, size_t len, const struct digest_map *map, unsigned char node[DIGEST_SIZE]);
bool digest_all_zero(const void *data, size_t len);

/* One pending node a level: what is to the left and waits for its right sibling. So it needs 2 KiB for any disk. */
struct digest_tree {
	struct digest_hasher *hasher; /* borrowed */
	uint64_t next;                /* index of the next block */
	unsigned char pending[DIGEST_LEVELS][DIGEST_SIZE];
	bool has[DIGEST_LEVELS];
	bool failed; /* the hash library did */
};

/* Puts in the node of block `index`, which is at least tree->next; blocks between are zero. */
void digest_tree_add(struct digest_tree *tree, uint64_t index, const unsigned char node[DIGEST_SIZE]);
/* All blocks of a disk of this capacity are in, or zero. */
int digest_tree_finish(struct digest_tree *tree, uint64_t capacity, char out[DISK_DIGEST_TEXT_SIZE], struct error **err);
/* What a disk is read from for its digest, by several threads at once. */
struct digest_reader {
	void *arg;
	/* The start of the first block, at or after `at`, a multiple of 1 MiB, that may hold data; `size` or more when there is none. */
	uint64_t (*next_data)(void *arg, uint64_t at, uint64_t size);
	int (*read)(void *arg, unsigned char *block, uint64_t at, size_t len, struct error **err); /* all of it, into aligned memory */
	/* Of 1 MiB, aligned: as many threads read, then; NULL: each thread makes its own. */
	unsigned char *const *buffers;
	unsigned buffer_count;
};
int digest_scan(const struct digest_reader *reader, uint64_t size, const struct disk_digest_options *options,
		char out[DISK_DIGEST_TEXT_SIZE], struct error **err);
/* The digest of the first `size` bytes of an open file or device that the message calls path. buffers as above. */
int digest_descriptor(int fd, const char *path, uint64_t size, unsigned char *const *buffers, unsigned buffer_count,
		      const struct disk_digest_options *options, char out[DISK_DIGEST_TEXT_SIZE], struct error **err);
