/* What turns the bytes of a format into pieces of a guest's disk. Internal to disk/. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Where a decoder puts what it found. Pieces do not overlap (the sink refuses it) and should ascend; what lies between them is zero. */
struct piece_sink {
	void *arg;
	/* The size of the disk is known: once, before any piece; never by a format that tells it only by ending. A compressed piece is a
	 * grain of this many bytes of the disk, or less at its end; 0: the format has no grains. */
	int (*capacity)(void *arg, uint64_t bytes, uint32_t grain, struct error **err);
	/* A piece of guest_len bytes at guest_offset, at most 1 MiB and not crossing a multiple of it; compressed
	 * ones begin at a multiple of 4 KiB. data is copied. With compressed it is a zlib stream (RFC 1950) of stored bytes.
	 * stream_offset, the place in the input, is for errors. */
	int (*piece)(void *arg, uint64_t guest_offset, size_t guest_len, const void *data, size_t stored, bool compressed,
		     uint64_t stream_offset, struct error **err);
};

struct decoder {
	const struct decoder_ops *ops;
};

struct decoder_ops {
	int (*push)(struct decoder *, const unsigned char *data, size_t len, struct error **err);
	int (*finish)(struct decoder *, struct error **err); /* the input has ended: is it whole? */
	void (*free)(struct decoder *);
};

struct decoder *vmdk_stream_decoder_new(const struct piece_sink *sink);
/* capacity 0: the disk is as long as the stream, which must be a multiple of 512 bytes. The stream begins at byte `at` of the disk. */
struct decoder *raw_decoder_new(const struct piece_sink *sink, uint64_t capacity, uint64_t at);
