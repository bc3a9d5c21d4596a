/* The digest of disk/digest.h, made of leaves that come in ascending order. Internal to disk/. */
#pragma once

#include <stdbool.h>

#include "base/cancel.h"
#include "disk/digest.h"

#define DIGEST_SIZE 32
#define DIGEST_LEVELS 64

/* One pending node a level: what is to the left and waits for its right sibling. So it needs 2 KiB for any disk. */
struct digest_tree {
	uint64_t next; /* index of the next leaf */
	unsigned char pending[DIGEST_LEVELS][DIGEST_SIZE];
	bool has[DIGEST_LEVELS];
	bool failed; /* the hash library did */
};

/* SHA-256(prefix || a || b); false when the hash library fails. */
bool digest_hash(unsigned char prefix, const void *a, size_t a_len, const void *b, size_t b_len, unsigned char out[DIGEST_SIZE]);
/* The leaf of a block's bytes: zero when they all are. */
bool digest_leaf(const void *data, size_t len, unsigned char out[DIGEST_SIZE]);
/* Puts in leaf `index`, which is at least tree->next; leaves between are zero. */
void digest_tree_add(struct digest_tree *tree, uint64_t index, const unsigned char leaf[DIGEST_SIZE]);
/* All leaves of a disk of this capacity are in, or zero. */
int digest_tree_finish(struct digest_tree *tree, uint64_t capacity, char out[DISK_DIGEST_TEXT_SIZE], struct error **err);
bool digest_all_zero(const void *data, size_t len);
/* The digest of the first `size` bytes of an open file or device that the message calls path. cancel may be NULL. */
int digest_descriptor(int fd, const char *path, uint64_t size, struct cancel *cancel, char out[DISK_DIGEST_TEXT_SIZE], struct error **err);
