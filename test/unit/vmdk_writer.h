/* Streams of the form that ESXi writes, made in memory piece by piece, so that a test can put in what no writer would.
 * A stream is: vmdk_begin, any number of vmdk_grain, vmdk_marker and vmdk_table, then vmdk_end. */
#pragma once

#include <libdeflate.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct vmdk_writer {
	unsigned char *data;
	size_t len, cap;
	uint64_t capacity, grain; /* sectors */
	uint32_t entries;         /* of a table */
	uint32_t *offsets;        /* of the grains in the stream, in sectors; 0: none */
	uint64_t grains, tables;
	uint32_t *directory; /* offsets of the tables */
};

static inline void vmdk_put(unsigned char *p, uint64_t v, int bytes)
{
	for (int i = 0; i < bytes; i++)
		p[i] = (unsigned char)(v >> 8 * i);
}

/* Room for so many zero bytes at the end of the stream. */
static inline unsigned char *vmdk_room(struct vmdk_writer *w, size_t len)
{
	if (w->cap - w->len < len) {
		w->cap = 2 * (w->len + len);
		w->data = realloc(w->data, w->cap);
		if (!w->data)
			abort();
	}
	memset(w->data + w->len, 0, len);
	w->len += len;
	return w->data + w->len - len;
}

static inline void vmdk_header(const struct vmdk_writer *w, unsigned char *h, uint64_t directory_at)
{
	memcpy(h, "KDMV", 4);
	vmdk_put(h + 4, 3, 4);
	vmdk_put(h + 8, 0x30001, 4);
	vmdk_put(h + 12, w->capacity, 8);
	vmdk_put(h + 20, w->grain, 8);
	vmdk_put(h + 28, 1, 8); /* the descriptor's sector and length */
	vmdk_put(h + 36, 1, 8);
	vmdk_put(h + 44, w->entries, 4);
	vmdk_put(h + 56, directory_at, 8);
	vmdk_put(h + 64, 2, 8); /* where the markers begin */
	memcpy(h + 73, "\n \r\n", 4);
	h[77] = 1;
}

/* Header and descriptor: two sectors. */
static inline void vmdk_begin(struct vmdk_writer *w, uint64_t capacity, uint64_t grain, uint32_t entries)
{
	*w = (struct vmdk_writer){ .capacity = capacity, .grain = grain, .entries = entries };
	w->grains = capacity / grain + (capacity % grain != 0);
	w->tables = w->grains / entries + (w->grains % entries != 0);
	w->offsets = calloc(w->tables * entries + 1, sizeof *w->offsets);
	w->directory = calloc(w->tables + 1, sizeof *w->directory);
	if (!w->offsets || !w->directory)
		abort();
	vmdk_header(w, vmdk_room(w, 512), UINT64_MAX);
	strcpy((char *)vmdk_room(w, 512), "# Disk DescriptorFile\nversion=1\ncreateType=\"streamOptimized\"\n");
}

/* A grain marker with these bytes as they are; the tables name it when its sector is that of a grain. */
static inline void vmdk_grain_packed(struct vmdk_writer *w, uint64_t sector, const void *packed, size_t size)
{
	unsigned char *to;

	if (!(sector % w->grain) && sector < w->capacity)
		w->offsets[sector / w->grain] = (uint32_t)(w->len / 512);
	to = vmdk_room(w, (12 + size + 511) / 512 * 512);
	vmdk_put(to, sector, 8);
	vmdk_put(to + 8, size, 4);
	memcpy(to + 12, packed, size);
}

static inline void vmdk_grain(struct vmdk_writer *w, uint64_t sector, const void *bytes, size_t len)
{
	struct libdeflate_compressor *deflate = libdeflate_alloc_compressor(1);
	size_t room = libdeflate_zlib_compress_bound(deflate, len);
	void *packed = malloc(room);

	if (!packed)
		abort();
	vmdk_grain_packed(w, sector, packed, libdeflate_zlib_compress(deflate, bytes, len, packed, room));
	libdeflate_free_compressor(deflate);
	free(packed);
}

static inline void vmdk_marker(struct vmdk_writer *w, uint64_t sectors, uint32_t kind)
{
	unsigned char *to = vmdk_room(w, 512);

	vmdk_put(to, sectors, 8);
	vmdk_put(to + 12, kind, 4);
}

/* The table of these grains, of those that came so far; nothing when none did. */
static inline void vmdk_table(struct vmdk_writer *w, uint64_t table)
{
	const uint32_t *offsets = w->offsets + table * w->entries;
	size_t bytes = ((size_t)w->entries * 4 + 511) / 512 * 512;
	unsigned char *to;
	bool any = false;

	for (uint32_t i = 0; i < w->entries; i++)
		any = any || offsets[i];
	if (!any || w->directory[table])
		return;
	vmdk_marker(w, bytes / 512, 1);
	w->directory[table] = (uint32_t)(w->len / 512);
	to = vmdk_room(w, bytes);
	for (uint32_t i = 0; i < w->entries; i++)
		vmdk_put(to + 4 * (size_t)i, offsets[i], 4);
}

/* The tables that were not put yet, the directory, the footer, the end marker. */
static inline void vmdk_end(struct vmdk_writer *w)
{
	size_t bytes = ((size_t)w->tables * 4 + 511) / 512 * 512;
	uint64_t directory_at;
	unsigned char *to;

	for (uint64_t i = 0; i < w->tables; i++)
		vmdk_table(w, i);
	vmdk_marker(w, bytes / 512, 2);
	directory_at = w->len / 512;
	to = vmdk_room(w, bytes);
	for (uint64_t i = 0; i < w->tables; i++)
		vmdk_put(to + 4 * i, w->directory[i], 4);
	vmdk_marker(w, 1, 3);
	vmdk_header(w, vmdk_room(w, 512), directory_at);
	vmdk_marker(w, 0, 0);
}

static inline void vmdk_free(struct vmdk_writer *w)
{
	free(w->data);
	free(w->offsets);
	free(w->directory);
	*w = (struct vmdk_writer){ 0 };
}

/* A whole stream of an image in ascending order, as ESXi writes it: a table behind its grains, none for zeros. The last grain is as short
 * as the disk's end makes it. */
static inline void vmdk_of_image(struct vmdk_writer *w, const unsigned char *image, uint64_t sectors, uint64_t grain, uint32_t entries)
{
	vmdk_begin(w, sectors, grain, entries);
	for (uint64_t i = 0; i < w->grains; i++) {
		uint64_t at = i * grain, n = sectors - at < grain ? sectors - at : grain;
		bool zero = true;

		for (uint64_t k = at * 512; k < (at + n) * 512 && zero; k++)
			zero = !image[k];
		if (!zero)
			vmdk_grain(w, at, image + at * 512, (size_t)n * 512);
		if ((i + 1) % entries == 0)
			vmdk_table(w, i / entries);
	}
	vmdk_end(w);
}
