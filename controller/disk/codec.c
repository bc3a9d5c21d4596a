#include "disk/codec.h"

#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

struct codec {
	struct libdeflate_decompressor *deflate;
	ZSTD_DCtx *zstd; /* made when first needed: few disks have it */
};

static const char too_long[] = "inflates to more than it may", too_short[] = "inflates to less than it must",
		  corrupt[] = "is corrupt: it does not inflate or its checksum is wrong";

struct codec *codec_new(void)
{
	struct codec *c = calloc(1, sizeof *c);

	if (c && (c->deflate = libdeflate_alloc_decompressor()))
		return c;
	codec_free(c);
	return NULL;
}

void codec_free(struct codec *c)
{
	if (!c)
		return;
	if (c->deflate)
		libdeflate_free_decompressor(c->deflate);
	ZSTD_freeDCtx(c->zstd);
	free(c);
}

static const char *of_deflate(enum libdeflate_result result, size_t got, size_t least)
{
	return result == LIBDEFLATE_SUCCESS ? got < least ? too_short : NULL : result == LIBDEFLATE_INSUFFICIENT_SPACE ? too_long : corrupt;
}

/* Frame by frame straight into the output, so that a frame that asks for a large window gets none. What follows the last frame that is
 * needed is padding. */
static const char *inflate_zstd(struct codec *c, const unsigned char *data, size_t stored, unsigned char *out, size_t least, size_t most)
{
	size_t done = 0;

	if (!c->zstd && !(c->zstd = ZSTD_createDCtx()))
		return "cannot be inflated: memory is out";
	while (done < least) {
		size_t frame = ZSTD_findFrameCompressedSize(data, stored), n;

		if (!stored)
			return too_short;
		if (ZSTD_isError(frame) || !frame)
			return corrupt;
		n = ZSTD_decompressDCtx(c->zstd, out + done, most - done, data, frame);
		if (ZSTD_isError(n))
			return ZSTD_getErrorCode(n) == ZSTD_error_dstSize_tooSmall ? too_long : corrupt;
		done += n;
		data += frame;
		stored -= frame;
	}
	return NULL;
}

const char *codec_inflate(struct codec *c, enum piece_codec codec, const void *data, size_t stored, void *out, size_t least, size_t most)
{
	size_t got = 0;
	enum libdeflate_result result;

	switch (codec) {
	case PIECE_ZLIB:
		result = libdeflate_zlib_decompress(c->deflate, data, stored, out, most, &got);
		return of_deflate(result, got, least);
	case PIECE_DEFLATE:
		result = libdeflate_deflate_decompress(c->deflate, data, stored, out, most, &got);
		return of_deflate(result, got, least);
	case PIECE_ZSTD:
		return inflate_zstd(c, data, stored, out, least, most);
	case PIECE_STORED:
		break;
	}
	if (stored < least || stored > most)
		return stored > most ? too_long : too_short;
	memcpy(out, data, stored);
	return NULL;
}
