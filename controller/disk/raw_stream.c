/* A raw image as a stream: pieces of at most 1 MiB on its boundaries. */
#include <stdlib.h>

#include "disk/decoder.h"
#include "disk/digest.h"

struct raw_decoder {
	struct decoder decoder;
	struct piece_sink sink;
	uint64_t capacity, at;
	bool declared;
};

static int declare(struct raw_decoder *d, struct error **err)
{
	if (d->declared || !d->capacity)
		return 0;
	d->declared = true;
	return d->sink.capacity(d->sink.arg, d->capacity, 0, err);
}

static int raw_push(struct decoder *decoder, const unsigned char *data, size_t len, struct error **err)
{
	struct raw_decoder *d = (struct raw_decoder *)decoder;

	if (declare(d, err) < 0)
		return -1;
	if (d->capacity && len > d->capacity - d->at)
		return error_set(err, ERROR_PERMANENT, "StreamTooLong", "the stream is longer than the disk's %llu bytes",
				 (unsigned long long)d->capacity);
	while (len) {
		size_t room = DISK_DIGEST_BLOCK - (size_t)(d->at % DISK_DIGEST_BLOCK), n = len < room ? len : room;

		if (d->sink.piece(d->sink.arg, d->at, n, data, n, PIECE_STORED, d->at, err) < 0)
			return -1;
		d->at += n;
		data += n;
		len -= n;
	}
	return 0;
}

static int raw_finish(struct decoder *decoder, struct error **err)
{
	struct raw_decoder *d = (struct raw_decoder *)decoder;

	if (declare(d, err) < 0)
		return -1;
	if (d->capacity && d->at < d->capacity)
		return error_set(err, ERROR_TRANSIENT, "StreamTruncated", "the stream ended after %llu of %llu bytes",
				 (unsigned long long)d->at, (unsigned long long)d->capacity);
	if (!d->capacity && d->at % 512)
		return error_set(err, ERROR_TRANSIENT, "StreamTruncated", "the stream ended after %llu bytes, in the middle of a sector",
				 (unsigned long long)d->at);
	return 0;
}

static void raw_free(struct decoder *decoder)
{
	free(decoder);
}

struct decoder *raw_decoder_new(const struct piece_sink *sink, uint64_t capacity, uint64_t at)
{
	static const struct decoder_ops ops = { raw_push, raw_finish, raw_free };
	struct raw_decoder *d = calloc(1, sizeof *d);

	if (!d)
		return NULL;
	d->decoder.ops = &ops;
	d->sink = *sink;
	d->capacity = capacity;
	d->at = at;
	return &d->decoder;
}
