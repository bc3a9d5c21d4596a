/* A disk image of which any part can be read: VMDK in all its forms, qcow2, raw. It is told by its content, its tables say what it holds,
 * and what it names (extents, parents) is opened only within the set it is given. Pieces come from it in the order of the guest's disk.
 * Memory is the same for any size it declares. For one thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/error.h"
#include "disk/format.h"
#include "disk/input.h"

struct disk_image;
struct piece_sink;

/* A file that the image is made of. */
struct disk_image_file {
	char *name;
	char *kind;        /* what part it is: "raw", "qcow2", "descriptor", an extent's type as the descriptor has it ("SPARSE", "FLAT") */
	uint64_t capacity; /* bytes of the guest's disk that it stands for; 0: none */
	uint64_t size;     /* bytes of the file; 0: an extent without one (ZERO) */
	unsigned layer;    /* 0: the image itself, 1: its parent, ... */
};

struct disk_image_info {
	enum disk_format format;
	char subformat[64]; /* "monolithicSparse", "v3 zlib" ...; "" */
	uint64_t capacity;  /* bytes */
	const struct disk_image_file *files;
	size_t file_count;
	unsigned layers;
	/* What is wrong with it but does not keep it from being read, as sentences: it was in use, its writer noticed damage. */
	char *const *problems;
	size_t problem_count;
};

/* in becomes the image's, also on failure. set must outlive the image; NULL: it may name no files. format is "raw" or "vmdk" or "qcow2" where that
 * is known, else NULL. VHD, VHDX, VDI, old qcow, QED and Parallels images
 * are read by qemu-img (disk/foreign.h), as files of their own only; what is left is refused with the reason UnsupportedFormat. */
struct disk_image *disk_image_open(struct disk_input *in, const struct disk_set *set, const char *format, struct error **err);
void disk_image_close(struct disk_image *image); /* accepts NULL */
/* By its content: by how it begins, and by the end of a VHD of fixed size. */
int disk_image_format(struct disk_input *in, enum disk_format *format, struct error **err);
/* So much may be read ahead of it by all of its inputs together, from now on; at first DISK_INPUT_AHEAD. */
void disk_image_limit_ahead(struct disk_image *image, size_t most);
/* After the last piece: whether the files say that what came of them is right (disk_input_finish). */
int disk_image_finish(struct disk_image *image, struct error **err);
/* Lives as long as the image. */
const struct disk_image_info *disk_image_info(const struct disk_image *image);
/* Tells the sink the capacity, then all pieces at or after byte `from` of the disk, ascending. Internal to disk/. */
int disk_image_walk(struct disk_image *image, uint64_t from, const struct piece_sink *sink, struct cancel *cancel, struct error **err);
/* The bytes of the disk that the tables say are there, in [0, capacity): without reading them. Of what another program reads: a guess by
 * the file's size. */
int disk_image_allocated(struct disk_image *image, uint64_t *bytes, struct cancel *cancel, struct error **err);
