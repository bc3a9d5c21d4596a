// links: disk base PkgConfig::deflate PkgConfig::zstd
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <libdeflate.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "image_files.h"

/* --- qcow2: clusters of 512 bytes: header, L1 at 512, L2 at 1024, clusters from 1536 on --- */

static unsigned char *qcow2(const char *name, unsigned version, uint64_t size, unsigned clusters)
{
	unsigned char *h = add_file(name, 1536 + 512 * (size_t)clusters);

	memcpy(h, "QFI\xfb", 4);
	put_be(h + 4, version, 4);
	put_be(h + 20, 9, 4);
	put_be(h + 24, size, 8);
	put_be(h + 36, 64, 4);
	put_be(h + 40, 512, 8);
	if (version > 2)
		put_be(h + 100, 104, 4);
	put_be(h + 512, 1024, 8);
	for (unsigned i = 0; i < clusters && i < 64; i++) {
		put_be(h + 1024 + 8 * (size_t)i, 1536 + 512 * i, 8);
		memset(h + 1536 + 512 * i, (int)i + 1, 512);
	}
	return h;
}

static void test_qcow2_broken(void **state)
{
	AUTO_ERROR struct error *err = NULL;
	unsigned char *h, *bytes;
	uint64_t size;

	(void)state;
	qcow2("x", 3, 1536, 3);
	bytes = read_image("x", &size, &err);
	assert_non_null(bytes);
	assert_true(size == 1536 && bytes[0] == 1 && bytes[1535] == 3);
	free(bytes);
	h = qcow2("cluster-outside", 3, 1536, 3);
	put_be(h + 1032, 3072, 8);
	refused("cluster-outside", "InvalidImage", "at byte 1032", "byte 3072");
	h = qcow2("cluster-in-header", 3, 1536, 3);
	put_be(h + 1032, 0, 8);
	bytes = read_image("cluster-in-header", &size, &err); /* place 0 is none */
	assert_true(bytes && !bytes[512]);
	free(bytes);
	h = qcow2("table-outside", 3, 1536, 3);
	put_be(h + 512, UINT64_C(0x00fffffffffffe00), 8);
	refused("table-outside", "InvalidImage", "at byte 512", "a table");
	clear_files(NULL);
	h = qcow2("clusters-twice", 3, 64 * 512, 3);
	for (int i = 0; i < 64; i++)
		put_be(h + 1024 + 8 * i, 1536, 8);
	refused("clusters-twice", "InvalidImage", "where another one is", NULL);
	h = qcow2("tables-twice", 3, 64 * 64 * 512, 0);
	memset(h + 1024, 0, 512);
	for (int i = 0; i < 64; i++)
		put_be(h + 512 + 8 * i, 1024, 8);
	refused("tables-twice", "InvalidImage", "again and again", NULL);
	h = qcow2("size-2^63", 3, UINT64_C(1) << 63, 1);
	refused("size-2^63", "InvalidImage", "at byte 24", "9223372036854775808");
	h = qcow2("L1-2^32", 3, UINT64_C(1) << 47, 1);
	put_be(h + 36, UINT32_MAX, 4);
	refused("L1-2^32", "InvalidImage", "4294967296 are needed", "at byte 36");
	h = qcow2("L1-outside", 3, UINT64_C(1) << 40, 1);
	put_be(h + 36, UINT32_MAX, 4);
	refused("L1-outside", "InvalidImage", "at byte 40", "2048 bytes");
	clear_files(NULL);
	h = qcow2("clusters-2^8", 3, 512, 1);
	put_be(h + 20, 8, 4);
	refused("clusters-2^8", "InvalidImage", "at byte 20", NULL);
	h = qcow2("clusters-2^63", 3, 512, 1);
	put_be(h + 20, 63, 4);
	refused("clusters-2^63", "InvalidImage", "at byte 20", NULL);
	h = qcow2("feature", 3, 512, 1);
	put_be(h + 72, 32, 8);
	refused("feature", "UnsupportedFormat", "0x20", NULL);
	h = qcow2("version-4", 4, 512, 1);
	refused("version-4", "UnsupportedFormat", "version 4", NULL);
	h = qcow2("zero-in-v2", 2, 512, 1);
	put_be(h + 1024, 1, 8);
	refused("zero-in-v2", "InvalidImage", "at byte 1024", "version 2");
	clear_files(NULL);
	/* Entries that no program writes are damage, and no zeros. */
	h = qcow2("L2-reserved", 3, 512, 1);
	put_be(h + 1024, UINT64_C(0x3000000000000601), 8);
	refused("L2-reserved", "InvalidImage", "at byte 1024", "0x3000000000000601");
	h = qcow2("L2-low", 3, 512, 1);
	put_be(h + 1024, 0x605, 8);
	refused("L2-low", "InvalidImage", "at byte 1024", "0x605");
	h = qcow2("L1-reserved", 3, 512, 1);
	put_be(h + 512, UINT64_C(0x0100000000000000), 8);
	refused("L1-reserved", "InvalidImage", "at byte 512", "of the L1 table");
	h = qcow2("zeros-nowhere", 3, 1024, 3); /* clusters of 1 KiB: L1 at 1024, L2 at 2048 */
	put_be(h + 20, 10, 4);
	put_be(h + 40, 1024, 8);
	memset(h + 1024, 0, 2048);
	put_be(h + 1024, 2048, 8);
	put_be(h + 2048, 0xa01, 8);
	refused("zeros-nowhere", "InvalidImage", "at byte 2048", "where no cluster begins");
	clear_files(NULL);
	h = qcow2("extension", 3, 512, 1);
	put_be(h + 8, 200, 8);
	put_be(h + 16, 4, 4);
	memcpy(h + 200, "base", 4);
	put_be(h + 104, 0x12345678, 4);
	put_be(h + 108, UINT32_MAX, 4);
	refused("extension", "InvalidImage", "at byte 104", "4294967295 bytes");
	h = qcow2("backing-name", 3, 512, 1);
	put_be(h + 8, 500, 8);
	put_be(h + 16, 100, 4);
	refused("backing-name", "InvalidImage", "at byte 8", "100 bytes");
	h = qcow2("backing-not-there", 3, 512, 1);
	put_be(h + 8, 200, 8);
	put_be(h + 16, 4, 4);
	memcpy(h + 200, "base", 4);
	refused("backing-not-there", "NoFile", "base", NULL);
}

static void test_qcow2_packed(void **state)
{
	struct libdeflate_compressor *deflate = libdeflate_alloc_compressor(1);
	static unsigned char plain[600];
	AUTO_ERROR struct error *err = NULL;
	unsigned char *h, *bytes;
	uint64_t size;

	(void)state;
	memset(plain, 5, sizeof plain);
	h = qcow2("x", 3, 512, 1);
	/* one sector is more than enough; where it begins need not be one's start */
	put_be(h + 1024, UINT64_C(1) << 62 | (1536 + 7), 8);
	assert_true(libdeflate_deflate_compress(deflate, plain, 512, h + 1536 + 7, 500));
	bytes = read_image("x", &size, &err);
	assert_non_null(bytes);
	assert_true(size == 512 && bytes[511] == 5);
	free(bytes);
	assert_true(libdeflate_deflate_compress(deflate, plain, 513, h + 1536 + 7, 500));
	refused("x", "CorruptGrain", "inflates to more", "at its byte 1543");
	assert_true(libdeflate_deflate_compress(deflate, plain, 511, h + 1536 + 7, 500));
	refused("x", "CorruptGrain", "inflates to less", NULL);
	memset(h + 1536, 0xff, 512);
	refused("x", "CorruptGrain", "is corrupt", NULL);
	put_be(h + 1024, UINT64_C(1) << 62 | 2048, 8);
	refused("x", "InvalidImage", "at byte 1024", "byte 2048");
	libdeflate_free_compressor(deflate);
}

static void put_zstd(unsigned char *h, const void *plain, size_t len, size_t in_front)
{
	memset(h + 1536, 0, 512);
	for (size_t i = 0; i < in_front; i += 8) /* skippable frames of nothing */
		put_le(h + 1536 + i, 0x184d2a50, 8);
	assert_false(ZSTD_isError(ZSTD_compress(h + 1536 + in_front, 512 - in_front, plain, len, 3)));
}

static void test_qcow2_zstd(void **state)
{
	static unsigned char plain[8 << 20];
	AUTO_ERROR struct error *err = NULL;
	unsigned char *h, *bytes;
	uint64_t size;

	(void)state;
	memset(plain, 5, sizeof plain);
	h = qcow2("x", 3, 512, 1);
	put_be(h + 72, 8, 8);
	put_be(h + 100, 112, 4);
	h[104] = 1;
	put_be(h + 1024, UINT64_C(1) << 62 | 1536, 8);
	for (size_t in_front = 0; in_front < 400; in_front += 96) {
		put_zstd(h, plain, 512, in_front);
		bytes = read_image("x", &size, &err);
		assert_non_null(bytes);
		assert_true(size == 512 && bytes[0] == 5 && bytes[511] == 5);
		free(bytes);
	}
	put_zstd(h, plain, 513, 0);
	refused("x", "CorruptGrain", "inflates to more", "at its byte 1536");
	put_zstd(h, plain, sizeof plain, 0);
	refused("x", "CorruptGrain", "inflates to more", NULL);
	put_zstd(h, plain, 511, 0);
	refused("x", "CorruptGrain", "is corrupt", NULL); /* what follows is no frame */
	for (size_t i = 0; i < 512; i += 8)               /* and nothing else */
		put_le(h + 1536 + i, 0x184d2a50, 8);
	refused("x", "CorruptGrain", "inflates to less", NULL);
	put_le(h + 1536, 0x184d2a50 | UINT64_C(0xffffffff) << 32, 8); /* a frame of 4 GiB to be skipped */
	refused("x", "CorruptGrain", "is corrupt", NULL);
	h[104] = 2;
	refused("x", "UnsupportedFormat", "compression method 2", NULL);
}

/* One compressed cluster for all of the disk. */
static void test_qcow2_packed_twice(void **state)
{
	unsigned char *h = qcow2("x", 3, 64 * 512, 4);

	(void)state;
	for (size_t i = 0; i < 64; i++)
		put_be(h + 1024 + 8 * i, UINT64_C(1) << 62 | UINT64_C(1) << 61 | 1536, 8);
	struct libdeflate_compressor *deflate = libdeflate_alloc_compressor(1);
	assert_true(libdeflate_deflate_compress(deflate, (unsigned char[512]){ 1 }, 512, h + 1536, 500));
	libdeflate_free_compressor(deflate);
	refused("x", "InvalidImage", "one is named twice", "at byte 1080");
}

/* --- qcow2 with subclusters: clusters of 16 KiB: header, L1, L2, two clusters --- */

#define CLUSTER 16384u

static unsigned char *extended(const char *name)
{
	unsigned char *h = qcow2(name, 3, 2 * CLUSTER, 0);

	free(h);
	h = files[file_count - 1].data = calloc(1, 5 * CLUSTER + 1);
	files[file_count - 1].size = 5 * CLUSTER;
	assert_non_null(h);
	memcpy(h, "QFI\xfb", 4);
	put_be(h + 4, 3, 4);
	put_be(h + 20, 14, 4);
	put_be(h + 24, 2 * CLUSTER, 8);
	put_be(h + 36, 1, 4);
	put_be(h + 40, CLUSTER, 8);
	put_be(h + 72, 16, 8);
	put_be(h + 100, 104, 4);
	put_be(h + CLUSTER, 2 * CLUSTER, 8);
	put_be(h + 2 * CLUSTER, 3 * CLUSTER, 8);
	put_be(h + 2 * CLUSTER + 8, UINT64_C(1) << 33 | 1, 8); /* its first part is data, its second one zero, the others none */
	put_be(h + 2 * CLUSTER + 16, 4 * CLUSTER, 8);
	put_be(h + 2 * CLUSTER + 24, 0x80000000, 8);
	memset(h + 3 * CLUSTER, 1, CLUSTER);
	memset(h + 4 * CLUSTER, 2, CLUSTER);
	return h;
}

static void test_qcow2_subclusters(void **state)
{
	AUTO_ERROR struct error *err = NULL;
	unsigned char *h = extended("x"), *bytes;
	uint64_t size;

	(void)state;
	bytes = read_image("x", &size, &err);
	assert_non_null(bytes);
	assert_int_equal(size, 2 * CLUSTER);
	assert_true(bytes[0] == 1 && bytes[511] == 1 && !bytes[512] && !bytes[CLUSTER] && !bytes[2 * CLUSTER - 513] &&
		    bytes[2 * CLUSTER - 512] == 2 && bytes[2 * CLUSTER - 1] == 2);
	free(bytes);
	put_be(h + 2 * CLUSTER + 8, UINT64_C(1) << 32 | 1, 8);
	refused("x", "InvalidImage", "both data and zero", "at byte 32776");
	put_be(h + 2 * CLUSTER + 8, 1, 8);
	put_be(h + 2 * CLUSTER, 5 * CLUSTER, 8);
	refused("x", "InvalidImage", "a cluster is to be at byte 81920, which needs bytes up to ", "it was cut, or this entry is damaged");
	put_be(h + 2 * CLUSTER, 3 * CLUSTER + 512, 8);
	refused("x", "InvalidImage", "where no cluster begins", "at byte 32768");
	put_be(h + 2 * CLUSTER, 0, 8);
	refused("x", "InvalidImage", "a cluster is to be at byte 0, where the header is", "at byte 32768");
	put_be(h + 20, 13, 4);
	refused("x", "InvalidImage", "cannot have subclusters", "at byte 20");
}

static void test_cut(void **state)
{
	unsigned char *h;

	(void)state;
	qcow2("x", 3, 64 * 512, 64);
	cut_everywhere("x", 64 * 512);
	extended("x");
	cut_everywhere("x", 2 * CLUSTER);
	h = qcow2("x", 3, 3 * 512, 0);
	free(h);
	files[0].data = h = calloc(1, 4096 + 1);
	files[0].size = 4096;
	memcpy(h, "QFI\xfb", 4);
	put_be(h + 4, 2, 4);
	put_be(h + 20, 9, 4);
	put_be(h + 24, 3 * 512, 8);
	put_be(h + 36, 1, 4);
	put_be(h + 40, 512, 8);
	put_be(h + 512, 1024, 8);
	struct libdeflate_compressor *deflate = libdeflate_alloc_compressor(1);
	for (size_t i = 0; i < 3; i++) {
		unsigned char plain[512];

		for (size_t k = 0; k < sizeof plain; k++)
			plain[k] = (unsigned char)(k * k >> (i + 1)); /* of which much is left */
		put_be(h + 1024 + 8 * i, UINT64_C(1) << 62 | UINT64_C(1) << 61 | (1536 + 700 * i), 8);
		assert_true(libdeflate_deflate_compress(deflate, plain, 512, h + 1536 + 700 * i, 700));
	}
	libdeflate_free_compressor(deflate);
	cut_everywhere("x", 3 * 512);
}

static void test_memory(void **state)
{
	AUTO_ERROR struct error *err = NULL;
	size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
	struct disk_image *image;
	unsigned char *h;

	(void)state;
	/* A table of 8 EiB in a file that is said to be that large: nothing of it is kept. */
	h = qcow2("x", 3, UINT64_C(1) << 42, 1);
	put_be(h + 36, UINT32_MAX, 4);
	files[0].size = UINT64_C(1) << 45;
	image = open_image("x", NULL, &err);
	assert_non_null(image);
	assert_int_equal(disk_image_info(image)->capacity, UINT64_C(1) << 42);
	assert_true(mallinfo2().uordblks + mallinfo2().hblkhd - before < 1 << 20);
	disk_image_close(image);
	files[0].size = 2048;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_qcow2_broken, clear_files),
		cmocka_unit_test_teardown(test_qcow2_packed, clear_files),
		cmocka_unit_test_teardown(test_qcow2_zstd, clear_files),
		cmocka_unit_test_teardown(test_qcow2_packed_twice, clear_files),
		cmocka_unit_test_teardown(test_qcow2_subclusters, clear_files),
		cmocka_unit_test_teardown(test_cut, clear_files),
		cmocka_unit_test_teardown(test_memory, clear_files),
	};

	return cmocka_run_group_tests(tests, disks_begin, disks_end);
}
