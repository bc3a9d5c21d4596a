// links: disk base
/* The decoder of streamed VMDKs: what it makes of a stream keeps the sink's contract, and is the same however the stream is cut. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "disk/decoder.h"
#include "disk/digest.h"

#define CHECK(condition)          \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

struct seen {
	uint64_t hash, capacity;
	uint32_t grain;
	bool have_capacity;
};

static void mix(struct seen *seen, const void *data, size_t len)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < len; i++)
		seen->hash = (seen->hash ^ p[i]) * UINT64_C(0x100000001b3);
}

static int on_capacity(void *arg, uint64_t bytes, uint32_t grain, struct error **err)
{
	struct seen *seen = arg;

	(void)err;
	CHECK(!seen->have_capacity && bytes <= INT64_MAX && grain >= 4096 && grain <= DISK_DIGEST_BLOCK && !(grain & (grain - 1)));
	*seen = (struct seen){ .hash = seen->hash, .capacity = bytes, .grain = grain, .have_capacity = true };
	mix(seen, &bytes, sizeof bytes);
	return 0;
}

static int on_piece(void *arg, uint64_t guest_offset, size_t guest_len, const void *data, size_t stored, enum piece_codec codec,
		    uint64_t stream_offset, struct error **err)
{
	struct seen *seen = arg;

	(void)err;
	CHECK(seen->have_capacity && codec == PIECE_ZLIB && guest_len && guest_len <= seen->grain && guest_offset % seen->grain == 0);
	CHECK(guest_offset < seen->capacity && guest_len <= seen->capacity - guest_offset && stored && stored <= 2 * (size_t)seen->grain);
	mix(seen, &guest_offset, sizeof guest_offset);
	mix(seen, &guest_len, sizeof guest_len);
	mix(seen, &stream_offset, sizeof stream_offset);
	mix(seen, data, stored);
	return 0;
}

static int decode(const uint8_t *data, size_t size, unsigned seed, struct seen *seen, struct error **err)
{
	struct piece_sink sink = { .arg = seen, .capacity = on_capacity, .piece = on_piece };
	struct decoder *decoder = vmdk_stream_decoder_new(&sink);
	unsigned most = seed % 3 == 1 ? 40 : 2000;
	int failed = 0;

	*seen = (struct seen){ .hash = UINT64_C(0xcbf29ce484222325) };
	for (size_t at = 0; !failed && at < size;) {
		size_t n = seed ? 1 + (size_t)rand_r(&seed) % most : size;
		unsigned char *part;

		if (n > size - at)
			n = size - at;
		part = malloc(n);
		CHECK(part);
		memcpy(part, data + at, n);
		failed = decoder->ops->push(decoder, part, n, err);
		free(part);
		at += n;
	}
	if (!failed)
		failed = decoder->ops->finish(decoder, err);
	decoder->ops->free(decoder);
	CHECK(!failed == !*err);
	return failed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_ERROR struct error *whole_err = NULL, *cut_err = NULL;
	struct seen whole, cut;
	unsigned seed = (unsigned)size;

	for (size_t i = 0; i < size && i < 600; i += 37)
		seed = seed * 31 + data[i];
	decode(data, size, 0, &whole, &whole_err);
	decode(data, size, seed ? seed : 1, &cut, &cut_err);
	CHECK(whole.hash == cut.hash && whole.capacity == cut.capacity);
	/* which of two faults in the front is told may differ, not what to do about it */
	CHECK(!whole_err == !cut_err && (!whole_err || whole_err->class == cut_err->class));
	return 0;
}
