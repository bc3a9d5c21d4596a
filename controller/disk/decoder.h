/* What turns the bytes of a format into pieces of a guest's disk. Internal to disk/. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* How a piece is stored. What is compressed stays so on its way to the workers, which inflate it. */
enum piece_codec {
	PIECE_STORED,
	PIECE_ZLIB,    /* RFC 1950; exactly the stored bytes */
	PIECE_DEFLATE, /* RFC 1951; bytes may follow it */
	PIECE_ZSTD,    /* RFC 8878, one frame or several; bytes may follow */
};

/* A piece whose data is still to be read. */
struct piece_place {
	uint64_t guest_offset;
	size_t guest_len, stored;
	enum piece_codec codec;
	uint64_t from;    /* where it lies in the file, for errors */
	const char *file; /* the file's name for errors; must outlive the piece. NULL: the stream */
};

/* Where a decoder puts what it found. Pieces do not overlap (the sink refuses it) and should ascend; what lies between them is zero. */
struct piece_sink {
	void *arg;
	/* The size of the disk is known: once, before any piece; never by a format that tells it only by ending. A compressed piece is a
	 * grain of this many bytes of the disk, or less at its end; 0: the format has no grains. */
	int (*capacity)(void *arg, uint64_t bytes, uint32_t grain, struct error **err);
	/* A piece of guest_len bytes at guest_offset, at most 1 MiB and not crossing a multiple of it; compressed
	 * ones begin at a multiple of 4 KiB. data, of `stored` bytes, is copied.
	 * stream_offset, the place in the input, is for errors. */
	int (*piece)(void *arg, uint64_t guest_offset, size_t guest_len, const void *data, size_t stored, enum piece_codec codec,
		     uint64_t stream_offset, struct error **err);
	/* The same without a copy: where the data is to be put, before the next call; NULL on failure. Whoever cannot put it there gives up
	 * the whole disk. */
	void *(*room)(void *arg, const struct piece_place *place, struct error **err);
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
