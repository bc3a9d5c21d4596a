/* Where a disk is written: a sparse file, a block device, or a qcow2 image (disk/qcow2_writer.h). Internal to disk/.
 *
 * Long runs go past the page cache (O_DIRECT, where there is it): half of the work of writing is the cache's. Short runs, of which each
 * would wait for the storage, go through it; their writeback is started as they come, and what lies far behind leaves the cache.
 *
 * A new file is all holes. On a device, and in a file that is kept from an earlier try, what is to be zero is made so: by punching holes,
 * where the device turns those into zeros for certain; else zeros are written. That it was zero before is never assumed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cancel.h"
#include "base/error.h"
#include "disk/digest_tree.h"

struct disk_output;

/* Creates the file, or opens the device, which nobody else may use (O_EXCL). Of a raw one the bytes before `kept`, a multiple of 1 MiB, stay.
 * path NULL: nothing is written, for the digest alone. */
struct disk_output *output_open(const char *path, bool qcow2, uint64_t kept, struct error **err);
void output_close(struct disk_output *o); /* accepts NULL */
/* The disk's size in bytes is known. Too small a device is an error (DeviceTooSmall); of a larger one the rest is left alone.
 * written: all of it was written, or made zero, already. */
int output_set_size(struct disk_output *o, uint64_t size, bool written, struct error **err);
/* Whether the block at `at` is to be written or zeroed also when it has no data. */
bool output_needs_zeros(const struct disk_output *o, uint64_t at);
/* Makes [from, to) zero where it may not be: in the kept part of a file, on a device. */
int output_zero_unknown(struct disk_output *o, uint64_t from, uint64_t to, struct cancel *cancel, struct error **err);
/* Writes what the map names of a block of len bytes at `at`; whole: and makes the rest zero where that is needed. Thread-safe for distinct
 * blocks. Fast when the block is aligned (disk/direct.h). */
int output_write_block(struct disk_output *o, const unsigned char *block, size_t len, uint64_t at, const struct digest_map *map, bool whole,
		       struct error **err);
/* Everything before `end` was written: lets go of the cache behind it. One thread only. */
void output_passed(struct disk_output *o, uint64_t end);
/* Waits until the storage has it (fdatasync). Once that failed it always does. */
int output_sync(struct disk_output *o, struct error **err);
/* All of a disk of this capacity was written; what its format still wants is written, too. sync: and waits until the storage has all. */
int output_finish(struct disk_output *o, uint64_t capacity, bool sync, struct error **err);
/* Reads the disk's bytes that were written; fewer than len where a file ends. Thread-safe. -1 with errno. */
ssize_t output_read(struct disk_output *o, void *data, size_t len, uint64_t at);
/* The digest of what was written, read again into these buffers (disk/digest_tree.h), at least one. */
int output_digest(struct disk_output *o, uint64_t capacity, unsigned char *const *buffers, unsigned buffer_count, struct cancel *cancel,
		  char out[DISK_DIGEST_TEXT_SIZE], struct error **err);
