/* What the formats put together to an image. Internal to disk/. */
#pragma once

#include "disk/image.h"
#include "disk/layer.h"

#define LAYERS_MAX 64 /* VMware has at most 32 */

/* What a layer lies upon. */
struct parent {
	char *name;   /* NULL: nothing */
	char *format; /* "raw", "qcow2", "vmdk"; NULL: by content */
	bool has_cid;
	uint32_t cid; /* of a VMDK's parent: what it must have */
};

/* A place of the disk of which a layer says nothing. */
struct hole {
	uint64_t from, to; /* bytes */
};

/* An image while it is opened; its files and problems are noted in it. */
struct disk_image {
	const struct disk_set *set;
	struct table_cache *cache;
	struct disk_input *inputs[LAYERS_MAX]; /* of the layers: for a descriptor, its own */
	struct layer *layers[LAYERS_MAX];      /* each upon the next */
	unsigned layer_count;
	struct hole holes
		[LAYERS_MAX]; /* the last one that was found: what is below it may be in many pieces, for each of which it was looked through */
	struct foreign *foreign; /* instead of layers: what another program reads */
	struct disk_image_info info;
	struct disk_image_file *files;
	size_t files_room;
	char **problems;
	_Atomic size_t ahead; /* what each of its inputs may read ahead: disk_input_share_ahead */
};

/* Notes a file; returns its name, which lives as long as the image, or NULL when memory is out. */
const char *image_add_file(struct disk_image *image, const char *name, const char *kind, uint64_t capacity, uint64_t size,
			   struct error **err);
/* Notes a problem, unless there are too many already. */
void image_add_problem(struct disk_image *image, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The error (permanent, InvalidImage) of what the file has at byte `at`. Returns -1. */
int image_broken(const char *name, uint64_t at, struct error **err, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* The same where what byte at tells of has need bytes at byte place, and the file ends before, at byte size. fmt: what it is, "a cluster". */
int image_too_short(const char *name, uint64_t at, uint64_t place, uint64_t need, uint64_t size, struct error **err, const char *fmt, ...)
	__attribute__((format(printf, 7, 8)));
