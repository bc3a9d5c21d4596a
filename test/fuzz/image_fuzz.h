/* What the fuzz targets of image formats share: files in memory, and a sink that holds the walk to its contract. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "disk/codec.h"
#include "disk/decoder.h"
#include "disk/digest.h"
#include "disk/image.h"

#define CHECK(condition)          \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)
#define ENOUGH (UINT64_C(8) << 20) /* bytes of pieces after which a walk is ended: the rest would be more of the same */

struct memory_file {
	const char *name;
	const uint8_t *data;
	size_t size;
};

static int memory_read(void *arg, uint64_t offset, void *data, size_t len, struct error **err)
{
	const struct memory_file *f = arg;

	(void)err;
	CHECK(len && offset <= f->size && len <= f->size - offset);
	memcpy(data, f->data + offset, len);
	return 0;
}

static struct disk_input *memory_input(struct memory_file *f, const char *name, struct error **err)
{
	static const struct disk_input_ops ops = { .read = memory_read };

	return disk_input_new(name, f->size, &ops, f, err);
}

/* arg: files, ended by one without a name; the last one stands for all other names. */
static struct disk_input *memory_open(void *arg, const char *name, struct error **err)
{
	struct memory_file *f = arg;

	for (; f->name; f++)
		if (!strcmp(f->name, name))
			return memory_input(f, name, err);
	if (f->data)
		return memory_input(f, name, err);
	error_set(err, ERROR_NOT_FOUND, "NoFile", "no file %s", name);
	return NULL;
}

struct seen {
	uint64_t hash, capacity, end, bytes;
	bool have_capacity, enough;
	unsigned in_block; /* pieces of the MiB that are not joined to the one before */
	bool joined;       /* the last one was stored, and ended at end */
	struct codec *codec;
	unsigned char *room;
	struct piece_place place; /* what is in room */
};

static void mix(struct seen *seen, const void *data, size_t len)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < len; i++)
		seen->hash = (seen->hash ^ p[i]) * UINT64_C(0x100000001b3);
}

/* Looks at the piece that was put into the room. */
static void settle(struct seen *seen)
{
	static unsigned char out[DISK_DIGEST_BLOCK];

	if (!seen->room)
		return;
	mix(seen, &seen->place.guest_offset, sizeof seen->place.guest_offset);
	mix(seen, &seen->place.guest_len, sizeof seen->place.guest_len);
	mix(seen, seen->room, seen->place.stored);
	codec_inflate(seen->codec, seen->place.codec, seen->room, seen->place.stored, out, seen->place.guest_len, seen->place.guest_len);
	free(seen->room);
	seen->room = NULL;
}

static int on_capacity(void *arg, uint64_t bytes, uint32_t grain, struct error **err)
{
	struct seen *seen = arg;

	(void)err;
	(void)grain;
	CHECK(!seen->have_capacity && bytes <= INT64_MAX && bytes % 512 == 0);
	seen->have_capacity = true;
	seen->capacity = bytes;
	return 0;
}

static void *on_room(void *arg, const struct piece_place *place, struct error **err)
{
	struct seen *seen = arg;
	uint64_t at = place->guest_offset;

	settle(seen);
	CHECK(seen->have_capacity && place->guest_len && place->guest_len <= DISK_DIGEST_BLOCK && place->stored && place->file);
	CHECK(at >= seen->end && at < seen->capacity && place->guest_len <= seen->capacity - at);
	CHECK(at / DISK_DIGEST_BLOCK == (at + place->guest_len - 1) / DISK_DIGEST_BLOCK);
	CHECK(place->codec == PIECE_STORED ? place->stored == place->guest_len
					   : at % 4096 == 0 && place->stored <= place->guest_len + place->guest_len / 4 + 512);
	if (at / DISK_DIGEST_BLOCK != seen->end / DISK_DIGEST_BLOCK || !seen->end)
		seen->in_block = 0;
	if (!(place->codec == PIECE_STORED && seen->joined && at == seen->end && seen->in_block))
		CHECK(++seen->in_block <= 256);
	seen->joined = place->codec == PIECE_STORED;
	seen->end = at + place->guest_len;
	seen->bytes += place->stored;
	if (seen->bytes > ENOUGH) {
		seen->enough = true;
		error_set(err, ERROR_CANCELLED, "Enough", "enough");
		return NULL;
	}
	seen->place = *place;
	seen->room = malloc(place->stored);
	CHECK(seen->room);
	return seen->room;
}

static int walk_from(struct disk_image *image, uint64_t from, struct seen *seen, struct error **err)
{
	struct piece_sink sink = { .arg = seen, .capacity = on_capacity, .room = on_room };
	int failed;

	*seen = (struct seen){ .hash = UINT64_C(0xcbf29ce484222325), .end = from, .codec = codec_new() };
	CHECK(seen->codec);
	failed = disk_image_walk(image, from, &sink, NULL, err);
	settle(seen);
	codec_free(seen->codec);
	CHECK(!failed == !*err);
	return failed;
}

/* Opens the first of the files as an image, and reads all of it, twice. */
static void fuzz_image(struct memory_file *files, const char *format)
{
	AUTO_ERROR struct error *open_err = NULL, *err = NULL, *again_err = NULL, *sum_err = NULL;
	struct disk_set set = { memory_open, files };
	struct disk_input *in = memory_input(&files[0], files[0].name, NULL);
	struct disk_image *image = disk_image_open(in, &set, format, &open_err);
	struct seen seen, again;
	uint64_t allocated = 0;

	CHECK(!image == !!open_err);
	if (!image)
		return;
	walk_from(image, 0, &seen, &err);
	walk_from(image, 0, &again, &again_err);
	CHECK(!err == !again_err && (err || seen.hash == again.hash));
	if (!seen.enough && !err) {
		CHECK(disk_image_allocated(image, &allocated, NULL, &sum_err) == 0 && allocated <= seen.capacity);
		/* a part of a cluster is inflated there, which the workers do else */
		if (seen.capacity > 512 && walk_from(image, seen.capacity / 1024 * 512, &again, &again_err) < 0)
			CHECK(!strcmp(again_err->reason, "CorruptGrain"));
	}
	for (size_t i = 0; i < disk_image_info(image)->file_count; i++)
		CHECK(disk_image_info(image)->files[i].name && disk_image_info(image)->files[i].kind);
	disk_image_close(image);
}
