// links: disk base
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

#include "disk/pipeline.h"

static char directory[64];
static struct disk_workers *workers;

static char *file(const char *name)
{
	char *path = NULL;

	assert_true(asprintf(&path, "%s/%s", directory, name) > 0);
	return path;
}

static void run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void run(const char *fmt, ...)
{
	AUTO_FREE char *command = NULL;
	va_list ap;

	va_start(ap, fmt);
	assert_true(vasprintf(&command, fmt, ap) > 0);
	va_end(ap);
	if (system(command))
		fail_msg("failed: %s", command);
}

static unsigned char *load(const char *path, size_t *len)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	unsigned char *data;
	struct stat st;

	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	*len = (size_t)st.st_size;
	data = malloc(*len + 1);
	assert_int_equal(read(fd, data, *len), *len);
	return data;
}

static int setup(void **state)
{
	(void)state;
	strcpy(directory, "/tmp/test_pipeline.XXXXXX");
	if (!mkdtemp(directory))
		return -1;
	workers = disk_workers_new(2, NULL);
	return workers ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	disk_workers_free(workers);
	run("rm -r %s", directory);
	return 0;
}

/* Decodes the bytes in pieces of at most `most` into out.raw. */
static int decode(const unsigned char *data, size_t len, size_t most, const char *format, uint64_t capacity, struct disk_result *result,
		  struct error **err)
{
	AUTO_FREE char *out = file("out.raw");
	struct disk_pipeline_options options = { .format = format, .path = out, .capacity = capacity, .workers = workers };
	struct disk_pipeline *p = disk_pipeline_new(&options, err);
	unsigned seed = (unsigned)len;
	int failed = p ? 0 : -1;

	for (size_t at = 0; !failed && at < len;) {
		size_t n = most > 1 ? (size_t)rand_r(&seed) % most + 1 : 1;

		if (n > len - at)
			n = len - at;
		failed = disk_pipeline_push(p, data + at, n, err);
		at += n;
	}
	if (!failed)
		failed = disk_pipeline_finish(p, result, err);
	disk_pipeline_free(p);
	return failed;
}

/* A raw image of `sectors` with data here and there, made the same each time. */
static void make_raw(const char *path, size_t sectors, unsigned seed)
{
	AUTO_FD int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	unsigned char block[4096];

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)sectors * 512), 0);
	for (size_t at = 0; at < sectors * 512; at += sizeof block) {
		size_t n = sectors * 512 - at < sizeof block ? sectors * 512 - at : sizeof block;
		int kind = rand_r(&seed) % 4;

		if (kind == 0)
			continue;
		for (size_t i = 0; i < n; i++)
			block[i] = kind == 1 ? (unsigned char)rand_r(&seed) : kind == 2 ? (unsigned char)(i / 100) : 0;
		assert_int_equal(pwrite(fd, block, n, (off_t)at), n);
	}
}

static void test_streams_of_qemu_decode_at_any_split(void **state)
{
	static const size_t sectors[] = { 1, 8, 127, 128, 129, 2047, 2048, 2049, 8192, 5000 };
	static const size_t splits[] = { 1, 7, 513, 65536, 1000000 };
	AUTO_FREE char *raw = file("in.raw"), *vmdk = file("in.vmdk"), *out = file("out.raw");

	(void)state;
	for (size_t i = 0; i < sizeof sectors / sizeof *sectors; i++) {
		char expected[DISK_DIGEST_TEXT_SIZE];
		struct disk_result result;
		AUTO_FREE unsigned char *data = NULL;
		size_t len, split = splits[i % 5];
		AUTO_ERROR struct error *err = NULL;

		make_raw(raw, sectors[i], (unsigned)i + 1);
		run("rm -f %s; qemu-img convert -f raw -O vmdk -o subformat=streamOptimized %s %s", vmdk, raw, vmdk);
		data = load(vmdk, &len);
		if (decode(data, len, split, i % 2 ? NULL : "vmdk-stream", sectors[i] * 512, &result, &err) < 0)
			fail_msg("%zu sectors: %s", sectors[i], error_message(err));
		assert_int_equal(result.capacity, sectors[i] * 512);
		assert_int_equal(result.stream_bytes, len);
		run("cmp -s %s %s", raw, out);
		assert_int_equal(disk_digest_file(raw, expected, NULL), 0);
		assert_string_equal(result.digest, expected);
	}
}

static void test_raw_streams(void **state)
{
	static const size_t sectors[] = { 1, 2048, 2049, 10000 };
	AUTO_FREE char *raw = file("in.raw"), *out = file("out.raw");

	(void)state;
	for (size_t i = 0; i < sizeof sectors / sizeof *sectors; i++) {
		char expected[DISK_DIGEST_TEXT_SIZE];
		struct disk_result result;
		AUTO_FREE unsigned char *data = NULL;
		size_t len;

		make_raw(raw, sectors[i], 77 + (unsigned)i);
		data = load(raw, &len);
		assert_int_equal(decode(data, len, 3000, i % 2 ? "raw" : NULL, i < 2 ? len : 0, &result, NULL), 0);
		run("cmp -s %s %s", raw, out);
		assert_int_equal(disk_digest_file(raw, expected, NULL), 0);
		assert_string_equal(result.digest, expected);
	}
}

static void test_holes_stay_holes(void **state)
{
	AUTO_FREE char *raw = file("big.raw"), *vmdk = file("big.vmdk"), *out = file("out.raw");
	AUTO_FREE unsigned char *data = NULL;
	struct disk_result result;
	struct stat st;
	size_t len;

	(void)state;
	run("truncate -s 2T %s && printf x | dd of=%s bs=1 seek=1099511627776 conv=notrunc status=none", raw, raw);
	run("rm -f %s; qemu-img convert -f raw -O vmdk -o subformat=streamOptimized %s %s", vmdk, raw, vmdk);
	data = load(vmdk, &len);
	assert_int_equal(decode(data, len, 1 << 20, NULL, 0, &result, NULL), 0);
	assert_int_equal(result.capacity, UINT64_C(2) << 40);
	assert_int_equal(result.data_bytes, 4096);
	assert_int_equal(stat(out, &st), 0);
	assert_true(st.st_blocks * 512 <= 1 << 20);
	run("rm %s %s %s", raw, vmdk, out);
}

static void test_truncation_is_seen_at_every_sector(void **state)
{
	AUTO_FREE char *raw = file("in.raw"), *vmdk = file("in.vmdk");
	AUTO_FREE unsigned char *data = NULL;
	char expected[DISK_DIGEST_TEXT_SIZE];
	size_t len, refused = 0;

	(void)state;
	make_raw(raw, 1024, 5);
	assert_int_equal(disk_digest_file(raw, expected, NULL), 0);
	run("rm -f %s; qemu-img convert -f raw -O vmdk -o subformat=streamOptimized %s %s", vmdk, raw, vmdk);
	data = load(vmdk, &len);
	for (size_t cut = 0; cut < len; cut += 512) {
		AUTO_ERROR struct error *err = NULL;
		struct disk_result result;

		if (decode(data, cut, 1 << 20, "vmdk-stream", 0, &result, &err) == 0) {
			/* qemu-img leaves room behind the last grain: without it the disk is whole */
			assert_string_equal(result.digest, expected);
			continue;
		}
		assert_int_equal(err->class, ERROR_TRANSIENT);
		assert_string_equal(err->reason, "StreamTruncated");
		refused++;
	}
	assert_true(refused > 100);
}

static void put32(unsigned char *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (unsigned char)(v >> 8 * i);
}

static void put64(unsigned char *p, uint64_t v)
{
	put32(p, (uint32_t)v);
	put32(p + 4, (uint32_t)(v >> 32));
}

/* A stream of the form that ESXi writes: header, padding to 128 sectors, then what the test puts. */
static size_t esxi_header(unsigned char *data, uint64_t capacity)
{
	memset(data, 0, 65536);
	memcpy(data, "KDMV", 4);
	put32(data + 4, 3);
	put32(data + 8, 0x30001);
	put64(data + 12, capacity);
	put64(data + 20, 128);
	put64(data + 28, 1);
	put64(data + 36, 1);
	put32(data + 44, 512);
	put64(data + 56, UINT64_MAX);
	put64(data + 64, 128);
	memcpy(data + 73, "\n \r\n", 4);
	data[77] = 1;
	return 65536;
}

static size_t grain(unsigned char *data, size_t at, uint64_t sector, uint32_t size)
{
	memset(data + at, 0, 1024);
	put64(data + at, sector);
	put32(data + at + 8, size);
	/* a zlib stream of nothing */
	memcpy(data + at + 12, "\x78\x9c\x03\x00\x00\x00\x00\x01", 8);
	return at + 512;
}

static void expect(const unsigned char *data, size_t len, const char *reason, const char *part)
{
	AUTO_ERROR struct error *err = NULL;
	struct disk_result result;

	assert_int_equal(decode(data, len, 1 << 20, "vmdk-stream", 0, &result, &err), -1);
	if (strcmp(err->reason, reason) || !strstr(err->message, part))
		fail_msg("expected %s with \"%s\", got %s: %s", reason, part, err->reason, err->message);
}

static void test_hostile_streams_are_refused(void **state)
{
	AUTO_FREE unsigned char *d = malloc(1 << 20);
	size_t n;

	(void)state;
	n = esxi_header(d, 1 << 20);
	n = grain(d, n, 1 << 20, 8);
	expect(d, n, "InvalidVMDK", "beyond the disk's");
	n = grain(d, esxi_header(d, 1 << 20), 5, 8);
	expect(d, n, "InvalidVMDK", "not where a grain begins");
	n = grain(d, esxi_header(d, 1 << 20), 128, 8);
	n = grain(d, n, 128, 8);
	expect(d, n, "InvalidVMDK", "ascending order");
	n = grain(d, esxi_header(d, 1 << 20), 0, 0x7fffffff);
	expect(d, n, "InvalidVMDK", "compressed bytes");
	n = grain(d, esxi_header(d, 1 << 20), UINT64_MAX - 127, 8);
	expect(d, n, "InvalidVMDK", "beyond the disk's");
	n = esxi_header(d, UINT64_C(1) << 60);
	expect(d, n, "InvalidVMDK", "capacity");
	n = esxi_header(d, 2048);
	put64(d + 20, 96);
	expect(d, n, "InvalidVMDK", "grain of 96 sectors");
	n = esxi_header(d, 2048);
	put32(d + 44, 0);
	expect(d, n, "InvalidVMDK", "grain table");
	n = esxi_header(d, 2048);
	put64(d + 28, 127);
	put64(d + 36, 2);
	expect(d, n, "InvalidVMDK", "descriptor");
	n = esxi_header(d, UINT64_C(1) << 50);
	put64(d + 56, 20);
	expect(d, n, "InvalidVMDK", "grain directory");
	n = esxi_header(d, 2048);
	d[75] = '\n';
	expect(d, n, "InvalidVMDK", "text mode");
	n = esxi_header(d, 2048);
	put32(d + 4, 4);
	expect(d, n, "InvalidVMDK", "version 4");
	n = esxi_header(d, 2048);
	put32(d + 8, 1);
	expect(d, n, "NotAStream", "not streamOptimized");
	memset(d, 0, 1024);
	strcpy((char *)d, "<html><body>Service unavailable</body></html>");
	expect(d, 1024, "NotAVMDK", "Service unavailable");
	n = esxi_header(d, 2048);
	memset(d + n, 0, 512);
	put64(d + n, 1);
	put32(d + n + 12, 9);
	expect(d, n + 512, "InvalidVMDK", "unknown kind 9");
	expect(d, 100, "StreamTruncated", "before its end");
}

static void test_corrupt_grain_names_its_place(void **state)
{
	AUTO_FREE char *raw = file("in.raw"), *vmdk = file("in.vmdk");
	AUTO_FREE unsigned char *data = NULL;
	struct disk_result result;
	AUTO_ERROR struct error *err = NULL;
	size_t len;

	(void)state;
	make_raw(raw, 8192, 9);
	run("rm -f %s; qemu-img convert -f raw -O vmdk -o subformat=streamOptimized %s %s", vmdk, raw, vmdk);
	data = load(vmdk, &len);
	data[len / 2] ^= 0x55;
	assert_int_equal(decode(data, len, 1 << 16, "vmdk-stream", 0, &result, &err), -1);
	assert_int_equal(err->class, ERROR_TRANSIENT);
	assert_string_equal(err->reason, "CorruptGrain");
	assert_non_null(strstr(err->message, "byte "));
}

static void test_capacity_must_be_as_expected(void **state)
{
	AUTO_FREE unsigned char *d = malloc(1 << 20);
	struct disk_result result;
	AUTO_ERROR struct error *err = NULL, *longer = NULL, *shorter = NULL;
	size_t n = esxi_header(d, 2048);

	(void)state;
	assert_int_equal(decode(d, n, 1 << 20, "vmdk-stream", 512, &result, &err), -1);
	assert_string_equal(err->reason, "CapacityMismatch");
	assert_int_equal(decode(d, 1024, 1 << 20, "raw", 512, &result, &longer), -1);
	assert_string_equal(longer->reason, "StreamTooLong");
	assert_int_equal(decode(d, 512, 1 << 20, "raw", 1024, &result, &shorter), -1);
	assert_string_equal(shorter->reason, "StreamTruncated");
}

static void test_full_disk_names_the_file(void **state)
{
	struct rlimit old, small = { 1 << 20, 1 << 20 };
	AUTO_FREE char *raw = file("in.raw");
	AUTO_FREE unsigned char *data = NULL;
	struct disk_result result;
	AUTO_ERROR struct error *err = NULL;
	size_t len;

	(void)state;
	make_raw(raw, 8192, 3);
	data = load(raw, &len);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	small.rlim_max = old.rlim_max;
	setrlimit(RLIMIT_FSIZE, &small);
	int failed = decode(data, len, 1 << 16, "raw", 0, &result, &err);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(failed, -1);
	assert_non_null(strstr(err->message, "out.raw"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_streams_of_qemu_decode_at_any_split),
		cmocka_unit_test(test_raw_streams),
		cmocka_unit_test(test_holes_stay_holes),
		cmocka_unit_test(test_truncation_is_seen_at_every_sector),
		cmocka_unit_test(test_hostile_streams_are_refused),
		cmocka_unit_test(test_corrupt_grain_names_its_place),
		cmocka_unit_test(test_capacity_must_be_as_expected),
		cmocka_unit_test(test_full_disk_names_the_file),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
