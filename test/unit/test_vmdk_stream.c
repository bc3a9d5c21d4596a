// links: disk base PkgConfig::deflate
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk/decoder.h"
#include "disk_fixture.h"
#include "vmdk_writer.h"

/* The disk as the pieces tell it, without the pipeline. */
struct image {
	unsigned char *bytes;
	uint64_t capacity;
	uint32_t grain;
	size_t pieces;
};

static int on_capacity(void *arg, uint64_t bytes, uint32_t grain, struct error **err)
{
	struct image *image = arg;

	(void)err;
	assert_null(image->bytes);
	assert_true(bytes <= 64 << 20);
	image->capacity = bytes;
	image->grain = grain;
	image->bytes = calloc(1, bytes + 1);
	return 0;
}

static int on_piece(void *arg, uint64_t guest_offset, size_t guest_len, const void *data, size_t stored, enum piece_codec codec,
		    uint64_t stream_offset, struct error **err)
{
	struct libdeflate_decompressor *inflate = libdeflate_alloc_decompressor();
	struct image *image = arg;

	(void)stream_offset;
	assert_int_equal(codec, PIECE_ZLIB);
	assert_true(guest_len && guest_len <= image->grain && guest_offset % image->grain == 0);
	assert_true(guest_offset < image->capacity && guest_len <= image->capacity - guest_offset);
	int result = (int)libdeflate_zlib_decompress(inflate, data, stored, image->bytes + guest_offset, guest_len, NULL);
	libdeflate_free_decompressor(inflate);
	image->pieces++;
	return result ? error_set(err, ERROR_TRANSIENT, "CorruptGrain", "it does not inflate") : 0;
}

/* Pushes the stream in pieces of at most `most` bytes, each in memory of its own so that a sanitizer sees a read beyond. */
static int decode(const unsigned char *data, size_t len, size_t most, struct image *image, struct error **err)
{
	struct piece_sink sink = { .arg = image, .capacity = on_capacity, .piece = on_piece };
	struct decoder *decoder = vmdk_stream_decoder_new(&sink);
	unsigned seed = (unsigned)len;
	int failed = 0;

	*image = (struct image){ 0 };
	for (size_t at = 0; !failed && at < len;) {
		size_t n = most > 1 ? (size_t)rand_r(&seed) % most + 1 : 1;
		unsigned char *part;

		if (n > len - at)
			n = len - at;
		part = malloc(n);
		memcpy(part, data + at, n);
		failed = decoder->ops->push(decoder, part, n, err);
		free(part);
		at += n;
	}
	if (!failed)
		failed = decoder->ops->finish(decoder, err);
	decoder->ops->free(decoder);
	return failed;
}

static unsigned char *make_image(size_t sectors, unsigned seed)
{
	unsigned char *bytes = calloc(1, sectors * 512 + 1);

	for (size_t at = 0; at < sectors * 512; at += 4096) {
		int kind = rand_r(&seed) % 4;

		for (size_t i = at; kind && i < at + 4096 && i < sectors * 512; i++)
			bytes[i] = kind == 1 ? (unsigned char)rand_r(&seed) : kind == 2 ? (unsigned char)(i / 100) : 0;
	}
	return bytes;
}

/* The image as qemu-img's streamOptimized VMDK. */
static unsigned char *qemu_stream(const unsigned char *bytes, size_t sectors, size_t *len)
{
	AUTO_FREE char *raw = file("in.raw"), *vmdk = file("out.vmdk");
	FILE *f = fopen(raw, "we");

	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 512, sectors, f), sectors);
	assert_int_equal(fclose(f), 0);
	run("rm -f %s; qemu-img convert -f raw -O vmdk -o subformat=streamOptimized %s %s", vmdk, raw, vmdk);
	return load(vmdk, len);
}

static void check_decodes(const unsigned char *data, size_t len, size_t most, const unsigned char *bytes, size_t sectors)
{
	AUTO_ERROR struct error *err = NULL;
	struct image image;

	if (decode(data, len, most, &image, &err) < 0)
		fail_msg("%zu sectors in pieces of %zu: %s", sectors, most, error_message(err));
	assert_int_equal(image.capacity, sectors * 512);
	assert_memory_equal(image.bytes, bytes, sectors * 512);
	free(image.bytes);
}

static void test_qemu_at_any_split(void **state)
{
	static const size_t sectors[] = { 1, 8, 127, 128, 129, 2047, 2048, 2049, 70000 };
	static const size_t splits[] = { 1, 7, 511, 512, 513, 4096, 65536, 1 << 24 };

	(void)state;
	for (size_t i = 0; i < sizeof sectors / sizeof *sectors; i++) {
		AUTO_FREE unsigned char *bytes = make_image(sectors[i], (unsigned)i + 1), *data = NULL;
		size_t len;

		data = qemu_stream(bytes, sectors[i], &len);
		for (size_t k = sectors[i] > 3000 ? 2 : 0; k < sizeof splits / sizeof *splits; k++)
			check_decodes(data, len, splits[k], bytes, sectors[i]);
	}
}

static void test_esxi_at_any_split(void **state)
{
	static const struct {
		size_t sectors, grain;
		uint32_t entries;
	} disks[] = {
		{ 1, 128, 512 },   { 127, 128, 512 }, { 129, 128, 512 }, { 8, 8, 512 },        { 100, 8, 3 },
		{ 5000, 16, 128 }, { 5001, 128, 2 },  { 6000, 2048, 1 }, { 9000, 512, 65536 },
	};
	static const size_t splits[] = { 1, 7, 513, 65536, 1 << 24 };

	(void)state;
	for (size_t i = 0; i < sizeof disks / sizeof *disks; i++) {
		AUTO_FREE unsigned char *bytes = make_image(disks[i].sectors, (unsigned)i + 50);
		struct vmdk_writer w;

		vmdk_of_image(&w, bytes, disks[i].sectors, disks[i].grain, disks[i].entries);
		for (size_t k = 0; k < sizeof splits / sizeof *splits; k++)
			check_decodes(w.data, w.len, splits[k], bytes, disks[i].sectors);
		/* what comes behind the end does not matter */
		memset(vmdk_room(&w, 700), 'x', 700);
		check_decodes(w.data, w.len, 100, bytes, disks[i].sectors);
		vmdk_free(&w);
	}
}

/* A flipped bit in the place of a sound grain: within its table; in front, where the tables' order is known, also across them. */
static void test_a_grain_in_another_place(void **state)
{
	enum { GRAINS = 520, SECTORS = GRAINS * 128 };
	AUTO_FREE unsigned char *bytes = calloc(SECTORS, 512);
	struct vmdk_writer w;

	(void)state;
	assert_non_null(bytes);
	for (size_t grain = 1; grain < GRAINS; grain += 500)
		memset(bytes + grain * 65536, (int)grain, 65536);
	vmdk_of_image(&w, bytes, SECTORS, 128, 512);
	for (int i = 0; i < 3; i++) {
		AUTO_ERROR struct error *err = NULL;
		AUTO_FREE unsigned char *stream = NULL;
		unsigned char *data = w.data, *marker;
		struct image image;
		size_t len = w.len;

		if (i)
			data = stream = qemu_stream(bytes, SECTORS, &len);
		check_decodes(data, len, 70000, bytes, SECTORS);
		marker = data + 512 * (size_t)(data[64] | data[65] << 8); /* where the markers begin */
		assert_int_equal(marker[0], 128);
		assert_int_equal(marker[1], 0);
		marker[i == 2 ? 2 : 1] ^= 1; /* grain 3; 513 */
		assert_int_equal(decode(data, len, 70000, &image, &err), -1);
		assert_string_equal(err->reason, "CorruptGrain");
		free(image.bytes);
	}
	vmdk_free(&w);
}

static void test_disks_without_data(void **state)
{
	AUTO_FREE unsigned char *bytes = calloc(1, 4 << 20);
	static const size_t sectors[] = { 0, 1, 8000 };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct vmdk_writer w;
		struct image image;

		vmdk_of_image(&w, bytes, sectors[i], 128, 512);
		assert_int_equal(decode(w.data, w.len, 700, &image, NULL), 0);
		assert_non_null(image.bytes); /* the capacity was told, also when it is 0 */
		assert_int_equal(image.capacity, sectors[i] * 512);
		assert_int_equal(image.pieces, 0);
		free(image.bytes);
		vmdk_free(&w);
	}
	/* qemu-img's has its tables in front, and nothing behind them. */
	for (size_t i = 0; i < 2; i++) {
		AUTO_FREE char *vmdk = file("none.vmdk");
		AUTO_FREE unsigned char *data = NULL;
		struct image image;
		size_t len;

		run("qemu-img create -q -f vmdk -o subformat=streamOptimized %s %zu", vmdk, i * 512);
		data = load(vmdk, &len);
		assert_int_equal(decode(data, len, 700, &image, NULL), 0);
		assert_int_equal(image.capacity, i * 512);
		free(image.bytes);
		assert_int_equal(decode(data, len - 1, 700, &image, NULL), -1);
		free(image.bytes);
	}
}

static void test_signs_of_life_between_grains(void **state)
{
	AUTO_FREE unsigned char *bytes = make_image(16, 4);
	struct vmdk_writer w;

	(void)state;
	memset(bytes, 'a', 16 * 512);
	vmdk_begin(&w, 16, 8, 512);
	vmdk_marker(&w, 0, 4);
	vmdk_grain(&w, 0, bytes, 8 * 512);
	vmdk_marker(&w, 8, 4); /* a number, but no data behind it */
	vmdk_marker(&w, 0, 4);
	vmdk_grain(&w, 8, bytes + 8 * 512, 8 * 512);
	vmdk_end(&w);
	check_decodes(w.data, w.len, 1, bytes, 16);
	check_decodes(w.data, w.len, 1 << 20, bytes, 16);
	vmdk_free(&w);
}

static void check_truncated(const unsigned char *data, size_t len, size_t step, const unsigned char *bytes, size_t sectors)
{
	size_t refused = 0;

	for (size_t cut = 0; cut < len; cut += step) {
		AUTO_ERROR struct error *err = NULL;
		struct image image;
		int failed = decode(data, cut, 1 << 20, &image, &err);

		/* qemu-img leaves room behind the last grain: without it the disk is whole */
		if (!failed)
			assert_memory_equal(image.bytes, bytes, sectors * 512);
		free(image.bytes);
		if (!failed)
			continue;
		if (err->class != ERROR_TRANSIENT || strcmp(err->reason, "StreamTruncated"))
			fail_msg("cut at %zu: %s %s", cut, err->reason, err->message);
		assert_true(!cut || strstr(err->message, "byte "));
		refused++;
	}
	assert_true(refused > 20);
}

static void test_truncation_is_seen_everywhere(void **state)
{
	AUTO_FREE unsigned char *bytes = make_image(1024, 5), *qemu = NULL;
	struct vmdk_writer w;
	size_t len;

	(void)state;
	qemu = qemu_stream(bytes, 1024, &len);
	check_truncated(qemu, len, 512, bytes, 1024);
	vmdk_of_image(&w, bytes, 1024, 16, 4);
	check_truncated(w.data, w.len, 512, bytes, 1024);
	vmdk_free(&w);
	vmdk_of_image(&w, bytes, 64, 8, 3);
	check_truncated(w.data, w.len, 1, bytes, 64);
	vmdk_free(&w);
}

/* A storage that lost the rest of a file gives zeros: a sector of them is an end marker. */
static void test_zeros_instead_of_the_rest(void **state)
{
	AUTO_FREE unsigned char *bytes = make_image(1024, 6), *qemu = NULL;
	struct vmdk_writer w;
	size_t len;

	(void)state;
	memset(bytes, 'a', 1024 * 512);
	vmdk_of_image(&w, bytes, 1024, 16, 4);
	for (size_t from = 1024; from + 1024 < w.len; from += 512) {
		AUTO_FREE unsigned char *copy = malloc(w.len);
		struct image image;

		memcpy(copy, w.data, w.len);
		memset(copy + from, 0, w.len - from);
		assert_int_equal(decode(copy, w.len, 1 << 20, &image, NULL), -1);
		free(image.bytes);
	}
	vmdk_free(&w);
	qemu = qemu_stream(bytes, 1024, &len);
	for (size_t from = 65536; from < len - 65536; from += 4096) {
		AUTO_FREE unsigned char *copy = malloc(len);
		struct image image;

		memcpy(copy, qemu, len);
		memset(copy + from, 0, len - from);
		assert_int_equal(decode(copy, len, 1 << 20, &image, NULL), -1);
		free(image.bytes);
	}
}

static void expect(const unsigned char *data, size_t len, enum error_class class, const char *reason, const char *part)
{
	static const size_t splits[] = { 1 << 20, 1, 600 };

	for (size_t i = 0; i < 3; i++) {
		AUTO_ERROR struct error *err = NULL;
		struct image image;

		if (decode(data, len, splits[i], &image, &err) == 0)
			fail_msg("expected %s with \"%s\", got no error", reason, part);
		free(image.bytes);
		if (err->class != class || strcmp(err->reason, reason) || !strstr(err->message, part))
			fail_msg("expected %s with \"%s\", got %s: %s", reason, part, err->reason, err->message);
	}
}

static void test_hostile_headers(void **state)
{
	static const struct {
		size_t at;
		uint64_t value;
		int bytes;
		const char *reason, *part;
	} headers[] = {
		{ 4, 0, 4, "InvalidVMDK", "version 0" },
		{ 4, 4, 4, "InvalidVMDK", "version 4" },
		{ 8, 1, 4, "NotAStream", "not streamOptimized" },
		{ 8, 0x10001, 4, "NotAStream", "not streamOptimized" },
		{ 12, UINT64_C(1) << 55, 8, "InvalidVMDK", "capacity" },
		{ 12, UINT64_C(1) << 54, 8, "InvalidVMDK", "capacity" }, /* 2^63 bytes */
		{ 12, UINT64_MAX, 8, "InvalidVMDK", "capacity" },
		{ 20, 0, 8, "InvalidVMDK", "grain of 0 sectors" },
		{ 20, 4, 8, "InvalidVMDK", "grain of 4 sectors" },
		{ 20, 96, 8, "InvalidVMDK", "grain of 96 sectors" },
		{ 20, 4096, 8, "InvalidVMDK", "grain of 4096 sectors" },
		{ 20, UINT64_C(1) << 63, 8, "InvalidVMDK", "grain of" },
		{ 28, 2, 8, "InvalidVMDK", "descriptor" },
		{ 28, UINT64_MAX, 8, "InvalidVMDK", "descriptor" },
		{ 36, UINT64_MAX, 8, "InvalidVMDK", "descriptor" },
		{ 44, 0, 4, "InvalidVMDK", "grain table" },
		{ 44, UINT32_MAX, 4, "InvalidVMDK", "grain table" },
		{ 56, 2, 8, "InvalidVMDK", "grain directory" },
		{ 56, UINT64_MAX - 1, 8, "InvalidVMDK", "grain directory" },
		{ 64, 0, 8, "InvalidVMDK", "descriptor" },
		{ 64, UINT64_MAX, 8, "InvalidVMDK", "descriptor" },
		{ 73, '\r', 1, "InvalidVMDK", "text mode" },
		{ 77, 0, 2, "InvalidVMDK", "compression method 0" },
		{ 77, 2, 2, "InvalidVMDK", "compression method 2" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
		struct vmdk_writer w;

		vmdk_begin(&w, 2048, 128, 512);
		vmdk_put(w.data + headers[i].at, headers[i].value, headers[i].bytes);
		vmdk_end(&w);
		expect(w.data, w.len, ERROR_PERMANENT, headers[i].reason, headers[i].part);
		vmdk_free(&w);
	}
}

static void test_hostile_grains(void **state)
{
	static const struct {
		uint64_t sector;
		uint32_t size;
		const char *part;
	} grains[] = {
		{ 2048, 8, "beyond the disk's" },
		{ UINT64_MAX - 127, 8, "beyond the disk's" },
		{ UINT64_MAX, 8, "beyond the disk's" },
		{ 5, 8, "not where a grain begins" },
		{ 0, 0x7fffffff, "compressed bytes" },
		{ 0, UINT32_MAX, "compressed bytes" },
		{ 0, 65536 + 16384 + 513, "compressed bytes" },
	};
	struct vmdk_writer w;

	(void)state;
	for (size_t i = 0; i < sizeof grains / sizeof *grains; i++) {
		vmdk_begin(&w, 2048, 128, 512);
		vmdk_grain_packed(&w, grains[i].sector, "", 1);
		vmdk_put(w.data + 1024 + 8, grains[i].size, 4);
		vmdk_end(&w);
		expect(w.data, w.len, ERROR_PERMANENT, "InvalidVMDK", grains[i].part);
		vmdk_free(&w);
	}
	/* the same grain twice: the tables know better */
	vmdk_begin(&w, 2048, 128, 512);
	for (int i = 0; i < 2; i++)
		vmdk_grain(&w, 128, (unsigned char[65536]){ 1 }, 65536);
	vmdk_end(&w);
	expect(w.data, w.len, ERROR_PERMANENT, "InvalidVMDK", "2 grains came");
	vmdk_free(&w);
}

static void test_hostile_markers(void **state)
{
	static const struct {
		uint64_t sectors;
		uint32_t kind;
	} markers[] = {
		{ 1, 9 },          { 1, UINT32_MAX },        { 5, 0 }, { 3, 1 }, { 0, 1 }, { UINT64_MAX, 1 },
		{ UINT64_MAX, 2 }, { UINT64_C(1) << 40, 2 }, { 2, 3 }, { 0, 3 },
	};
	struct vmdk_writer w;

	(void)state;
	for (size_t i = 0; i < sizeof markers / sizeof *markers; i++) {
		vmdk_begin(&w, 2048, 128, 512);
		vmdk_marker(&w, markers[i].sectors, markers[i].kind);
		vmdk_end(&w);
		expect(w.data, w.len, ERROR_PERMANENT, "InvalidVMDK", "a marker of");
		vmdk_free(&w);
	}
	vmdk_begin(&w, 2048, 128, 512);
	vmdk_end(&w);
	vmdk_put(w.data + w.len - 1024 + 12, 4096, 8);
	expect(w.data, w.len, ERROR_PERMANENT, "InvalidVMDK", "footer");
	vmdk_free(&w);
}

static void test_hostile_tables_in_front(void **state)
{
	AUTO_FREE unsigned char *bytes = make_image(128, 8), *data = NULL;
	uint64_t directory_at, front;
	size_t len;

	(void)state;
	memset(bytes, 'a', 128 * 512);
	data = qemu_stream(bytes, 128, &len);
	memcpy(&directory_at, data + 56, 8);
	memcpy(&front, data + 64, 8);
	assert_true(directory_at < front);
	for (size_t i = 0; i < 4; i++) {
		vmdk_put(data + directory_at * 512, (uint64_t[]){ 1, UINT32_MAX, front - 1, front }[i], 4);
		expect(data, len, ERROR_PERMANENT, "InvalidVMDK", "where it cannot be");
	}
	vmdk_put(data + 12, (UINT64_C(1) << 32) * 128 * 512, 8); /* as many tables as 32 bits can count, none of which is there */
	expect(data, len, ERROR_PERMANENT, "InvalidVMDK", "the grain directory does not lie in");
	vmdk_put(data + 12, 1024, 8); /* 128 tables: their directory is the last sector of the front, and names one */
	vmdk_put(data + 20, 8, 8);
	vmdk_put(data + 44, 1, 4);
	vmdk_put(data + 56, front - 1, 8);
	vmdk_put(data + (front - 1) * 512 + 508, front, 4);
	expect(data, len, ERROR_PERMANENT, "InvalidVMDK", "grain table 127 is at sector");
}

static int count_capacity(void *arg, uint64_t bytes, uint32_t grain, struct error **err)
{
	(void)grain;
	(void)err;
	((struct image *)arg)->capacity = bytes;
	return 0;
}

static int count_piece(void *arg, uint64_t guest_offset, size_t guest_len, const void *data, size_t stored, enum piece_codec codec,
		       uint64_t stream_offset, struct error **err)
{
	(void)data;
	(void)stored;
	(void)codec;
	(void)stream_offset;
	(void)err;
	assert_int_equal(guest_len, 4096);
	((struct image *)arg)->pieces += guest_offset == ((struct image *)arg)->capacity - 4096;
	return 0;
}

/* Tables in front of 16 TiB in the smallest grains: a directory of 32 MiB, of which nothing is kept. Each of its tables may lie anywhere, but not
 * each apart from the others. */
static void test_a_large_directory_in_front(void **state)
{
	static const uint64_t capacity = UINT64_C(1) << 35, tables = 1 << 23; /* sectors; of 512 entries */
	static const uint64_t front = 2 + (1 << 16) + 4;
	static unsigned char zeros[65536];

	(void)state;
	for (int apart = 0; apart < 2; apart++) {
		struct image image = { 0 };
		struct piece_sink sink = { .arg = &image, .capacity = count_capacity, .piece = count_piece };
		struct decoder *decoder = vmdk_stream_decoder_new(&sink);
		size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
		AUTO_ERROR struct error *err = NULL;
		unsigned char part[65536] = { 0 };
		struct vmdk_writer w;
		int failed;

		vmdk_begin(&w, capacity, 8, 512);
		vmdk_put(w.data + 56, 2, 8);
		vmdk_put(w.data + 64, apart ? front + (1 << 20) : front, 8);
		failed = decoder->ops->push(decoder, w.data, 1024, &err);
		vmdk_free(&w);
		for (uint64_t at = 0; !failed && at < tables * 4; at += sizeof part) {
			for (size_t i = 0; apart && i < sizeof part; i += 4)
				vmdk_put(part + i, front + 5 * (at + i) / 4, 4);
			if (!apart && at + sizeof part == tables * 4)
				vmdk_put(part + sizeof part - 4, front - 4, 4);
			failed = decoder->ops->push(decoder, part, sizeof part, &err);
		}
		if (!apart) {
			memset(part, 0, sizeof part);
			vmdk_put(part + 2048 - 4, front, 4); /* the last grain, of a sector */
			vmdk_put(part + 2048, capacity - 8, 8);
			vmdk_put(part + 2048 + 8, 100, 4);
			assert_int_equal(decoder->ops->push(decoder, part, 2048 + 512, &err), 0);
			assert_true(mallinfo2().uordblks + mallinfo2().hblkhd - before < 1 << 18);
			assert_int_equal(decoder->ops->push(decoder, zeros, 512, &err), 0);
			assert_int_equal(decoder->ops->finish(decoder, &err), 0);
			assert_int_equal(image.pieces, 1);
		} else {
			assert_int_equal(failed, -1);
			assert_non_null(strstr(err->message, "lie in more than"));
			assert_true(mallinfo2().uordblks + mallinfo2().hblkhd - before < 1 << 20);
		}
		decoder->ops->free(decoder);
	}
}

static void test_other_things_than_a_vmdk(void **state)
{
	unsigned char data[1024] = { 0 };
	struct vmdk_writer w;

	(void)state;
	strcpy((char *)data, "<html><body>\nService unavailable</body></html>");
	memset(data + strlen((char *)data), ' ', 900);
	expect(data, 900, ERROR_TRANSIENT, "NotAVMDK", "\"<html><body> Service unavailable");
	expect(data, 20, ERROR_TRANSIENT, "NotAVMDK", "a text came instead of a VMDK"); /* shorter than a header */
	expect((const unsigned char *)"{\"error\": \"busy\"}", 17, ERROR_TRANSIENT, "NotAVMDK", "busy");
	expect((const unsigned char *)"# Disk DescriptorFile\nversion=1\n", 32, ERROR_PERMANENT, "NotAStream", "descriptor");
	expect((const unsigned char *)"QFI\xfb\0\0\0\3", 8, ERROR_PERMANENT, "NotAVMDK", "51 46 49 fb");
	expect((const unsigned char *)"KDM", 3, ERROR_TRANSIENT, "StreamTruncated", "byte 3");
	expect((const unsigned char *)"", 0, ERROR_TRANSIENT, "StreamTruncated", "byte 0");
	vmdk_begin(&w, 2048, 128, 512);
	strcpy((char *)w.data + 512, "# Disk DescriptorFile\r\nversion=1\r\ncreateType = \"monolithicSparse\"\r\n");
	vmdk_end(&w);
	expect(w.data, w.len, ERROR_PERMANENT, "NotAStream", "\"monolithicSparse\"");
	vmdk_free(&w);
	vmdk_begin(&w, 2048, 128, 512);
	memset(w.data + 512, 0xff, 512); /* a descriptor that says nothing is none of our business */
	vmdk_end(&w);
	expect(w.data, w.len - 512, ERROR_TRANSIENT, "StreamTruncated", "before its end");
	vmdk_free(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_qemu_at_any_split),
		cmocka_unit_test(test_esxi_at_any_split),
		cmocka_unit_test(test_a_grain_in_another_place),
		cmocka_unit_test(test_disks_without_data),
		cmocka_unit_test(test_signs_of_life_between_grains),
		cmocka_unit_test(test_truncation_is_seen_everywhere),
		cmocka_unit_test(test_zeros_instead_of_the_rest),
		cmocka_unit_test(test_hostile_headers),
		cmocka_unit_test(test_hostile_grains),
		cmocka_unit_test(test_hostile_markers),
		cmocka_unit_test(test_hostile_tables_in_front),
		cmocka_unit_test(test_a_large_directory_in_front),
		cmocka_unit_test(test_other_things_than_a_vmdk),
	};

	return cmocka_run_group_tests(tests, disks_begin, disks_end);
}
