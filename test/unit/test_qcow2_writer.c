// links: disk base PkgConfig::deflate
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk/qcow2_writer.h"
#include "disk_fixture.h"
#include "vmdk_writer.h"

#define MIB (UINT64_C(1) << 20)

/* An image for QEMU without an error, as large as its content allows, and the same disk as the raw file. */
static void check(const char *what, const char *raw, const char *qcow2, const struct disk_result *result)
{
	char expected[DISK_DIGEST_TEXT_SIZE];

	if (status_of("qemu-img check -q -f qcow2 %s && qemu-img compare -q -f raw -F qcow2 %s %s", qcow2, raw, qcow2))
		fail_msg("%s: QEMU does not take it, or reads another disk", what);
	assert_int_equal(disk_digest_file(raw, NULL, expected, NULL), 0);
	assert_string_equal(result->digest, expected);
}

static int convert(const unsigned char *data, size_t len, const char *path, struct disk_result *result, struct error **err)
{
	struct disk_pipeline_options options = { .path = path, .qcow2 = true, .workers = workers, .no_sync = true };
	struct disk_pipeline *p = disk_pipeline_new(&options, err);
	int failed = p ? 0 : -1;

	for (size_t at = 0; !failed && at < len; at += 100000)
		failed = disk_pipeline_push(p, data + at, len - at < 100000 ? len - at : 100000, err);
	if (!failed)
		failed = disk_pipeline_finish(p, result, err);
	disk_pipeline_free(p);
	return failed;
}

static void test_raw_streams_become_images(void **state)
{
	static const size_t sectors[] = { 1, 8, 127, 128, 129, 2047, 2048, 2049, 10001, 40000 };
	AUTO_FREE char *raw = file("in.raw"), *out = file("out.qcow2");

	(void)state;
	for (size_t i = 0; i < sizeof sectors / sizeof *sectors; i++) {
		size_t len = sectors[i] * 512;
		AUTO_FREE unsigned char *disk = make_disk(raw, len, (unsigned)i);
		AUTO_ERROR struct error *err = NULL;
		struct disk_result result;

		if (convert(disk, len, out, &result, &err) < 0)
			fail_msg("%zu sectors: %s", sectors[i], error_message(err));
		assert_int_equal(result.capacity, len);
		check("a raw stream", raw, out, &result);
	}
}

/* Grains that come in any order: blocks are met again, and their clusters are where they were. */
static void test_grains_in_any_order(void **state)
{
	AUTO_FREE char *raw = file("in.raw"), *out = file("out.qcow2");
	const unsigned grains = 200, grain = 32768;
	AUTO_FREE unsigned char *disk = make_disk(raw, grains * (size_t)grain, 5);

	(void)state;
	for (unsigned seed = 0; seed < 10; seed++) {
		unsigned order[200], random = seed;
		AUTO_ERROR struct error *err = NULL;
		struct disk_result result;
		struct vmdk_writer w;

		for (unsigned i = 0; i < grains; i++)
			order[i] = i;
		for (unsigned i = grains - 1; seed && i; i--) {
			unsigned k = (unsigned)rand_r(&random) % (i + 1), old = order[i];

			order[i] = order[k];
			order[k] = old;
		}
		vmdk_begin(&w, grains * (grain / 512), grain / 512, 512);
		for (unsigned i = 0; i < grains; i++)
			vmdk_grain(&w, (uint64_t)order[i] * (grain / 512), disk + order[i] * (size_t)grain, grain);
		vmdk_end(&w);
		if (convert(w.data, w.len, out, &result, &err) < 0)
			fail_msg("order %u: %s", seed, error_message(err));
		vmdk_free(&w);
		check("grains in another order", raw, out, &result);
	}
}

static void test_empty_and_huge_disks(void **state)
{
	static const uint64_t capacities[] = { 0, 1, 1024, 1025, 1048576, UINT64_C(4) << 30, (UINT64_C(1) << 31) + 1, UINT64_C(1) << 32 };
	AUTO_FREE char *out = file("out.qcow2"), *raw = file("in.raw");
	unsigned char grain[65536];

	(void)state;
	memset(grain, 'x', sizeof grain);
	for (size_t i = 0; i < sizeof capacities / sizeof *capacities; i++) {
		uint64_t last = capacities[i] / 128 * 128;
		AUTO_ERROR struct error *err = NULL;
		struct disk_result result;
		struct vmdk_writer w;

		/* Two grains and nothing between, so far as the disk goes. */
		vmdk_begin(&w, capacities[i], 128, 65536);
		if (capacities[i] >= 128)
			vmdk_grain(&w, 0, grain, sizeof grain);
		if (capacities[i] > last)
			vmdk_grain(&w, last, grain, (size_t)(capacities[i] - last) * 512);
		vmdk_end(&w);
		if (convert(w.data, w.len, out, &result, &err) < 0)
			fail_msg("%llu sectors: %s", (unsigned long long)capacities[i], error_message(err));
		vmdk_free(&w);
		assert_int_equal(result.capacity, capacities[i] * 512);
		/* No file system has a raw file for the largest. */
		assert_int_equal(status_of("qemu-img check -q -f qcow2 %s && [ $(qemu-img info --output=json -f qcow2 %s | "
					   "sed -n 's/.*\"virtual-size\": \\([0-9]*\\).*/\\1/p' | tail -n 1) = %llu ]",
					   out, out, (unsigned long long)capacities[i] * 512),
				 0);
		if (capacities[i] > UINT64_C(8) << 30)
			continue;
		assert_int_equal(status_of("qemu-img convert -f qcow2 -O raw %s %s", out, raw), 0);
		check("a sparse disk", raw, out, &result);
	}
}

/* More clusters than one block of refcounts counts, without the data: their places alone. */
static void test_many_refcounts(void **state)
{
	AUTO_FREE char *out = file("out.qcow2");
	AUTO_FD int fd = open(out, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct qcow2_writer *w = qcow2_writer_new(fd, out, NULL);
	uint64_t host[QCOW2_CLUSTERS], again[QCOW2_CLUSTERS];

	(void)state;
	for (uint64_t block = 0; block < 9000; block++)
		assert_int_equal(qcow2_writer_place(w, block, 0xffff, host, NULL), 0);
	assert_int_equal(qcow2_writer_find(w, 8999, again, NULL), 0);
	assert_memory_equal(host, again, sizeof host);
	assert_int_equal(qcow2_writer_place(w, 8999, 0x8001, again, NULL), 0);
	assert_memory_equal(host, again, sizeof host);
	assert_int_equal(qcow2_writer_find(w, 9000, again, NULL), 0);
	assert_int_equal(again[0] | again[15], 0);
	assert_int_equal(qcow2_writer_finish(w, 9000 * MIB, false, NULL), 0);
	qcow2_writer_free(w);
	assert_int_equal(status_of("qemu-img check -q -f qcow2 %s", out), 0);
	assert_int_equal(unlink(out), 0);
}

static void test_what_is_refused(void **state)
{
	AUTO_FREE char *out = file("out.qcow2"), *journal = file("journal");
	struct disk_pipeline_options options = { .path = out, .qcow2 = true, .workers = workers, .journal = journal };
	AUTO_ERROR struct error *no_journal = NULL, *too_large = NULL, *no_file = NULL;
	struct disk_result result;
	struct vmdk_writer w;

	(void)state;
	assert_null(disk_pipeline_new(&options, &no_journal));
	assert_string_equal(no_journal->reason, "NoResume");
	options = (struct disk_pipeline_options){ .path = "/dev/null", .qcow2 = true, .workers = workers };
	assert_null(disk_pipeline_new(&options, &no_file));
	assert_string_equal(no_file->reason, "NotAFile");
	vmdk_begin(&w, 1, 2048, 65536);
	vmdk_put(w.data + 12, UINT64_C(1) << 53, 8);
	assert_int_equal(convert(w.data, w.len, out, &result, &too_large), -1);
	assert_string_equal(too_large->reason, "DiskTooLarge");
	vmdk_free(&w);
}

/* Wherever it ends: no image, and an error that names the file and the bytes. */
static void test_a_full_disk(void **state)
{
	AUTO_FREE char *raw = file("in.raw"), *out = file("out.qcow2");
	AUTO_FREE unsigned char *disk = make_disk(raw, 12 * MIB, 11);
	struct rlimit old, small;
	struct disk_result result;

	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	for (rlim_t limit = 0;; limit += 300000) {
		AUTO_ERROR struct error *err = NULL;

		small = (struct rlimit){ limit, old.rlim_max };
		setrlimit(RLIMIT_FSIZE, &small);
		int failed = convert(disk, 12 * MIB, out, &result, &err);
		setrlimit(RLIMIT_FSIZE, &old);
		if (!failed)
			break;
		assert_true(limit < 13 * MIB);
		assert_non_null(strstr(err->message, out));
		assert_non_null(strstr(err->message, "bytes"));
		assert_int_not_equal(status_of("head -c 4 %s | grep -q QFI", out), 0);
	}
	check("with room", raw, out, &result);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_raw_streams_become_images), cmocka_unit_test(test_grains_in_any_order),
		cmocka_unit_test(test_empty_and_huge_disks),      cmocka_unit_test(test_many_refcounts),
		cmocka_unit_test(test_what_is_refused),           cmocka_unit_test(test_a_full_disk),
	};

	return cmocka_run_group_tests(tests, disks_begin, disks_end);
}
