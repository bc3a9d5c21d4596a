// links: disk base PkgConfig::deflate
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "disk/image.h"
#include "disk_fixture.h"
#include "vmdk_writer.h"

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
		assert_int_equal(disk_digest_file(raw, NULL, expected, NULL), 0);
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
		assert_int_equal(disk_digest_file(raw, NULL, expected, NULL), 0);
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

/* Grains of 64 KiB in the order that is given, behind each other; the disk is 4 MiB and 32 KiB, so its last grain is short. */
#define GRAIN 65536u
#define GRAINS 65u

static unsigned char *grains_image(void)
{
	unsigned char *image = malloc(GRAINS * GRAIN);

	for (size_t i = 0; i < GRAINS * GRAIN; i++)
		image[i] = (unsigned char)(i / GRAIN + i % 251);
	memset(image + 20 * GRAIN, 0, GRAIN / 2);
	return image;
}

static void grains_stream(struct vmdk_writer *w, const unsigned char *image, const unsigned *order, size_t count)
{
	vmdk_begin(w, (GRAINS * GRAIN - GRAIN / 2) / 512, GRAIN / 512, 512);
	for (size_t i = 0; i < count; i++)
		vmdk_grain(w, (uint64_t)order[i] * (GRAIN / 512), image + order[i] * GRAIN, order[i] == GRAINS - 1 ? GRAIN / 2 : GRAIN);
	vmdk_end(w);
}

static void test_grains_in_any_order(void **state)
{
	AUTO_FREE unsigned char *image = grains_image();
	AUTO_FREE char *out = file("out.raw"), *raw = file("in.raw");
	char expected[DISK_DIGEST_TEXT_SIZE];
	FILE *f = fopen(raw, "we");

	(void)state;
	assert_int_equal(fwrite(image, GRAINS * GRAIN - GRAIN / 2, 1, f), 1);
	fclose(f);
	assert_int_equal(disk_digest_file(raw, NULL, expected, NULL), 0);
	for (int kind = 0; kind < 20; kind++) {
		unsigned order[GRAINS], seed = (unsigned)kind;
		AUTO_ERROR struct error *err = NULL;
		struct disk_result result;
		struct vmdk_writer w;

		for (unsigned i = 0; i < GRAINS; i++)
			order[i] = kind == 0 ? GRAINS - 1 - i : kind == 1 ? i ^ (i < 64) : kind == 2 ? (i + 40) % GRAINS : i;
		for (unsigned i = GRAINS - 1; kind > 2 && i; i--) {
			unsigned k = (unsigned)rand_r(&seed) % (i + 1), old = order[i];

			order[i] = order[k];
			order[k] = old;
		}
		grains_stream(&w, image, order, GRAINS);
		if (decode(w.data, w.len, 100000, NULL, 0, &result, &err) < 0)
			fail_msg("order %d: %s", kind, error_message(err));
		run("cmp -s %s %s", raw, out);
		assert_string_equal(result.digest, expected);
		assert_int_equal(result.data_bytes, GRAINS * GRAIN - GRAIN);
		vmdk_free(&w);
	}
}

static void test_a_grain_twice_is_refused(void **state)
{
	static const struct {
		unsigned order[8];
		size_t count;
	} streams[] = {
		{ { 1, 1 }, 2 },       { { 1, 2, 3, 1 }, 4 },           { { 3, 2, 3 }, 3 }, /* in one MiB */
		{ { 1, 16, 1 }, 3 },   { { 1, 16, 32, 48, 64, 1 }, 6 }, { { 64, 1, 64 }, 3 }, { { 48, 1, 2, 16, 2, 1 }, 6 },
		{ { 20, 40, 20 }, 3 },
	};
	AUTO_FREE unsigned char *image = grains_image();

	(void)state;
	for (size_t i = 0; i < sizeof streams / sizeof *streams; i++) {
		AUTO_ERROR struct error *err = NULL;
		struct disk_result result;
		struct vmdk_writer w;

		grains_stream(&w, image, streams[i].order, streams[i].count);
		assert_int_equal(decode(w.data, w.len, 1 << 20, NULL, 0, &result, &err), -1);
		assert_int_equal(err->class, ERROR_PERMANENT);
		assert_string_equal(err->reason, "InvalidStream");
		assert_non_null(strstr(err->message, "comes twice"));
		vmdk_free(&w);
	}
}

static void test_an_error_stays(void **state)
{
	AUTO_FREE unsigned char *image = grains_image();
	AUTO_FREE char *out = file("out.raw");
	struct disk_pipeline_options options = { .path = out, .workers = workers };
	struct disk_pipeline *p = disk_pipeline_new(&options, NULL);
	struct disk_result result;
	struct vmdk_writer w;

	(void)state;
	grains_stream(&w, image, (unsigned[]){ 1 }, 1);
	vmdk_put(w.data + 1024, 2, 8); /* a grain where none begins */
	for (int i = 0; i < 3; i++) {
		AUTO_ERROR struct error *err = NULL;

		assert_int_equal(i < 2 ? disk_pipeline_push(p, w.data, w.len, &err) : disk_pipeline_finish(p, &result, &err), -1);
		assert_non_null(strstr(err->message, "not where a grain begins"));
	}
	disk_pipeline_free(p);
	vmdk_free(&w);
}

static void test_cancel_ends_it(void **state)
{
	AUTO_FREE char *out = file("out.raw");
	struct cancel *cancel = cancel_new(NULL);
	struct disk_pipeline_options options = { .format = "raw", .path = out, .workers = workers, .cancel = cancel };
	struct disk_pipeline *p = disk_pipeline_new(&options, NULL);
	AUTO_ERROR struct error *pushed = NULL, *finished = NULL;
	struct disk_result result;

	(void)state;
	assert_int_equal(disk_pipeline_push(p, out, 8, NULL), 0);
	cancel_request(cancel);
	assert_int_equal(disk_pipeline_push(p, out, 8, &pushed), -1);
	assert_int_equal(pushed->class, ERROR_CANCELLED);
	assert_int_equal(disk_pipeline_finish(p, &result, &finished), -1);
	assert_int_equal(finished->class, ERROR_CANCELLED);
	disk_pipeline_free(p);
	cancel_free(cancel);
}

static void test_text_instead_of_a_disk(void **state)
{
	static const char text[] = "<!DOCTYPE html><title>Log in</title>";
	AUTO_ERROR struct error *err = NULL, *empty = NULL, *tiny = NULL;
	struct disk_result result;

	(void)state;
	assert_int_equal(decode((const unsigned char *)text, sizeof text - 1, 5, NULL, 0, &result, &err), -1);
	assert_string_equal(err->reason, "NotAVMDK");
	assert_non_null(strstr(err->message, "Log in"));
	assert_int_equal(decode((const unsigned char *)text, 0, 5, NULL, 0, &result, &empty), -1);
	assert_string_equal(empty->reason, "StreamTruncated");
	assert_int_equal(decode((const unsigned char *)text, 3, 5, NULL, 0, &result, &tiny), -1);
	assert_string_equal(tiny->reason, "StreamTruncated");
}

struct many {
	pthread_t thread;
	const struct vmdk_writer *stream;
	char *out;
	struct disk_result result;
	int failed;
};

static void *convert_one(void *arg)
{
	struct many *m = arg;
	struct disk_pipeline_options options = { .path = m->out, .workers = workers, .no_sync = true, .verify = true };
	struct disk_pipeline *p = disk_pipeline_new(&options, NULL);

	for (size_t at = 0; !m->failed && at < m->stream->len; at += 65536)
		m->failed = disk_pipeline_push(p, m->stream->data + at, m->stream->len - at < 65536 ? m->stream->len - at : 65536, NULL);
	m->failed = m->failed || disk_pipeline_finish(p, &m->result, NULL);
	disk_pipeline_free(p);
	return NULL;
}

static void test_pipelines_share_the_workers(void **state)
{
	AUTO_FREE unsigned char *image = grains_image();
	struct many many[8] = { 0 };
	unsigned order[GRAINS];
	struct vmdk_writer w;

	(void)state;
	for (unsigned i = 0; i < GRAINS; i++)
		order[i] = i;
	grains_stream(&w, image, order, GRAINS);
	for (int i = 0; i < 8; i++) {
		many[i].stream = &w;
		assert_true(asprintf(&many[i].out, "%s/many%d.raw", directory, i) > 0);
		assert_int_equal(pthread_create(&many[i].thread, NULL, convert_one, &many[i]), 0);
	}
	for (int i = 0; i < 8; i++) {
		char digest[DISK_DIGEST_TEXT_SIZE];

		pthread_join(many[i].thread, NULL);
		assert_int_equal(many[i].failed, 0);
		assert_int_equal(disk_digest_file(many[i].out, NULL, digest, NULL), 0);
		assert_string_equal(many[i].result.digest, many[0].result.digest);
		assert_string_equal(digest, many[0].result.digest);
		unlink(many[i].out);
		free(many[i].out);
	}
	vmdk_free(&w);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED 0
#endif

static long kib_of(const char *field)
{
	AUTO_FILE FILE *f = fopen("/proc/self/status", "re");
	char line[128], name[32];
	long kib;

	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "%31[A-Za-z]: %ld", name, &kib) == 2 && !strcmp(name, field))
			return kib;
	return -1;
}

/* The most memory in KiB that so many disks need at once, beside what the process has anyhow, when nothing in them can be compressed. */
static long peak_of(unsigned threads, int disks, void *(*of_one)(void *arg))
{
	long kib = 0;
	int ends[2];
	pid_t child;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	child = fork();
	if (!child) {
		struct many many[8] = { 0 };
		struct vmdk_writer w;
		unsigned char *data = malloc(GRAIN);

		vmdk_begin(&w, 160 * (GRAIN / 512), GRAIN / 512, 512);
		for (unsigned i = 0, seed = 1; i < 160; i++) {
			for (size_t k = 0; k < GRAIN; k++)
				data[k] = (unsigned char)(rand_r(&seed) >> 7);
			vmdk_grain(&w, i * (GRAIN / 512), data, GRAIN);
		}
		vmdk_end(&w);
		free(data);
		malloc_trim(0);
		FILE *peak = fopen("/proc/self/clear_refs", "we"); /* from here on */
		if (!peak || fputs("5", peak) < 0 || fclose(peak))
			_exit(1);
		long before = kib_of("VmRSS");
		workers = disk_workers_new(threads, NULL);
		for (int i = 0; i < disks; i++) {
			many[i].stream = &w;
			if (asprintf(&many[i].out, "%s/peak%d.raw", directory, i) < 0 ||
			    pthread_create(&many[i].thread, NULL, of_one, &many[i]))
				_exit(1);
		}
		for (int i = 0; i < disks; i++) {
			pthread_join(many[i].thread, NULL);
			if (many[i].failed)
				_exit(1);
		}
		kib = kib_of("VmHWM") - before;
		_exit(write(ends[1], &kib, sizeof kib) != sizeof kib);
	}
	close(ends[1]);
	assert_int_equal(read(ends[0], &kib, sizeof kib), sizeof kib);
	close(ends[0]);
	assert_int_equal(waitpid(child, NULL, 0), child);
	return kib;
}

/* The program has 11 MiB for its libraries; 24 MiB are allowed with one disk, 48 MiB with eight, however many processors there are. */
static void test_memory_is_bounded(void **state)
{
	(void)state;
	if (SANITIZED)
		skip();
	for (unsigned threads = 1; threads <= 16; threads *= 4) {
		long one = peak_of(threads, 1, convert_one), eight = peak_of(threads, 8, convert_one);

		print_message("%u threads: one disk %ld KiB, eight %ld KiB\n", threads, one, eight);
		assert_in_range(one, 1024, 12 * 1024);
		assert_in_range(eight, 1024, 34 * 1024);
	}
}

/* Files that are served from afar, their content made as it is asked for: hosted sparse extents of 10 MiB whose grains cannot be compressed. */
#define SERVED_GRAINS 160u
#define SERVED_AT 1048576u /* the first grain, in bytes */

static int serve(void *arg, uint64_t offset, void *data, size_t len, struct error **err)
{
	unsigned char head[SERVED_GRAINS * 4 + 2048] = { 0 }, *to = data;
	unsigned seed = (unsigned)(offset >> 9) + 1;

	(void)arg;
	(void)err;
	memcpy(head, "KDMV", 4);
	vmdk_put(head + 4, 1, 4);
	vmdk_put(head + 8, 1, 4);
	vmdk_put(head + 12, SERVED_GRAINS * (GRAIN / 512), 8);
	vmdk_put(head + 20, GRAIN / 512, 8);
	vmdk_put(head + 44, 512, 4);
	vmdk_put(head + 56, 1, 8);
	vmdk_put(head + 512, 4, 4);
	memcpy(head + 73, "\n \r\n", 4);
	for (unsigned i = 0; i < SERVED_GRAINS; i++)
		vmdk_put(head + 2048 + 4 * (size_t)i, (SERVED_AT + i * GRAIN) / 512, 4);
	for (size_t i = 0; i < len; i++)
		to[i] = (unsigned char)(offset + i < sizeof head ? head[offset + i] : (unsigned)rand_r(&seed) >> 7);
	return 0;
}

static void *read_served(void *arg)
{
	static const struct disk_fetch_ops ops = { .fetch = serve };
	struct many *m = arg;
	struct disk_pipeline_options options = { .path = m->out, .workers = workers, .no_sync = true };
	struct disk_input *in = disk_input_fetched("served", SERVED_AT + SERVED_GRAINS * GRAIN, &ops, NULL, NULL);
	struct disk_image *image = in ? disk_image_open(in, NULL, "vmdk", NULL) : NULL;
	struct disk_pipeline *p = disk_pipeline_new(&options, NULL);

	m->failed = !image || !p || disk_pipeline_pull(p, image, 0, NULL) < 0 || disk_pipeline_finish(p, &m->result, NULL) < 0;
	disk_pipeline_free(p);
	disk_image_close(image);
	return NULL;
}

static void test_memory_of_what_is_read_by_place(void **state)
{
	(void)state;
	if (SANITIZED)
		skip();
	for (unsigned threads = 1; threads <= 16; threads *= 4) {
		long one = peak_of(threads, 1, read_served), eight = peak_of(threads, 8, read_served);

		print_message("%u threads: one disk %ld KiB, eight %ld KiB\n", threads, one, eight);
		assert_in_range(one, 1024, 12 * 1024);
		assert_in_range(eight, 1024, 34 * 1024);
	}
}

static void test_abandoned_halfway(void **state)
{
	AUTO_FREE unsigned char *image = grains_image();
	AUTO_FREE char *out = file("out.raw");
	unsigned order[GRAINS];
	struct vmdk_writer w;

	(void)state;
	for (unsigned i = 0; i < GRAINS; i++)
		order[i] = i;
	grains_stream(&w, image, order, GRAINS);
	for (size_t len = 0; len < w.len; len += w.len / 9) {
		struct disk_pipeline_options options = { .path = out, .workers = workers };
		struct disk_pipeline *p = disk_pipeline_new(&options, NULL);

		assert_int_equal(disk_pipeline_push(p, w.data, len, NULL), 0);
		disk_pipeline_free(p);
	}
	disk_pipeline_free(NULL);
	vmdk_free(&w);
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
	assert_non_null(strstr(err->message, "grain "));
	assert_non_null(strstr(err->message, "of the stream"));
}

/* A grain that inflates to more or less than it must, a bomb; the last one may be of a whole grain, not more. */
static void test_grains_of_another_length(void **state)
{
	static const struct {
		unsigned grain;
		size_t len;
		const char *part;
	} grains[] = {
		{ 0, GRAIN + 1, "inflates to more" },
		{ 15, GRAIN + 1, "inflates to more" }, /* at the end of its MiB */
		{ 3, 16 << 20, "inflates to more" },
		{ 3, GRAIN - 1, "inflates to less" },
		{ GRAINS - 1, GRAIN + 1, "inflates to more" },
		{ GRAINS - 1, 16 << 20, "inflates to more" },
		{ GRAINS - 1, GRAIN / 2 - 1, "inflates to less" },
		{ GRAINS - 1, GRAIN / 2, NULL },
		{ GRAINS - 1, GRAIN, NULL },
	};
	AUTO_FREE unsigned char *bytes = calloc(1, GRAIN + (16 << 20));
	AUTO_FREE char *out = file("out.raw");

	(void)state;
	memset(bytes, 'a', GRAIN + 1);
	for (size_t i = 0; i < sizeof grains / sizeof *grains; i++) {
		AUTO_ERROR struct error *err = NULL;
		struct disk_result result;
		struct vmdk_writer w;
		struct stat st;
		int failed;

		vmdk_begin(&w, (GRAINS * GRAIN - GRAIN / 2) / 512, GRAIN / 512, 512);
		if (grains[i].len > GRAIN + 1) { /* its size is no reason to refuse it */
			struct libdeflate_compressor *deflate = libdeflate_alloc_compressor(12);
			AUTO_FREE unsigned char *packed = malloc(1 << 20);
			size_t n = libdeflate_zlib_compress(deflate, bytes, GRAIN + (16 << 20), packed, 1 << 20);

			assert_in_range(n, 1, GRAIN);
			vmdk_grain_packed(&w, (uint64_t)grains[i].grain * (GRAIN / 512), packed, n);
			libdeflate_free_compressor(deflate);
		} else {
			vmdk_grain(&w, (uint64_t)grains[i].grain * (GRAIN / 512), bytes, grains[i].len);
		}
		vmdk_end(&w);
		failed = decode(w.data, w.len, 1 << 20, NULL, 0, &result, &err);
		if (grains[i].part) {
			assert_int_equal(failed, -1);
			assert_string_equal(err->reason, "CorruptGrain");
			if (!strstr(err->message, grains[i].part) || !strstr(err->message, "at byte 1024 of the stream"))
				fail_msg("%zu: %s", i, err->message);
		} else if (failed) {
			fail_msg("%zu: %s", i, error_message(err));
		}
		assert_int_equal(stat(out, &st), 0);
		assert_int_equal(st.st_size, GRAINS * GRAIN - GRAIN / 2);
		vmdk_free(&w);
	}
}

static void test_capacity_must_be_as_expected(void **state)
{
	unsigned char d[1024] = { 0 };
	struct disk_result result;
	AUTO_ERROR struct error *err = NULL, *longer = NULL, *shorter = NULL;
	struct vmdk_writer w;

	(void)state;
	vmdk_begin(&w, 2048, 128, 512);
	vmdk_end(&w);
	assert_int_equal(decode(w.data, w.len, 1 << 20, "vmdk-stream", 512, &result, &err), -1);
	assert_string_equal(err->reason, "CapacityMismatch");
	vmdk_free(&w);
	vmdk_begin(&w, 0, 128, 512); /* an empty disk is one */
	vmdk_end(&w);
	assert_int_equal(decode(w.data, w.len, 1 << 20, NULL, 0, &result, NULL), 0);
	assert_int_equal(result.capacity, 0);
	vmdk_free(&w);
	assert_int_equal(decode(d, 1024, 1 << 20, "raw", 512, &result, &longer), -1);
	assert_string_equal(longer->reason, "StreamTooLong");
	assert_int_equal(decode(d, 512, 1 << 20, "raw", 1024, &result, &shorter), -1);
	assert_string_equal(shorter->reason, "StreamTruncated");
}

static void test_a_raw_disk_goes_on(void **state)
{
	AUTO_FREE char *raw = file("in.raw"), *out = file("out.raw"), *journal = file("out.journal");
	char expected[DISK_DIGEST_TEXT_SIZE];
	AUTO_FREE unsigned char *data = NULL;
	struct disk_result result;
	size_t len;

	(void)state;
	make_raw(raw, 20 * 2048 + 7, 3);
	data = load(raw, &len);
	assert_int_equal(disk_digest_file(raw, NULL, expected, NULL), 0);
	/* Cut where a block ends, in the middle of one, in the last; with a decoder that is told of the end, and one that is not. */
	for (int i = 0; i < 6; i++) {
		const size_t cuts[] = { 7 << 20, (7 << 20) + 512 * 3, len - 512 };
		size_t cut = cuts[i % 3], at;
		struct disk_pipeline_options options = { .format = "raw",
							 .path = out,
							 .capacity = len,
							 .workers = workers,
							 .journal = journal,
							 .identity = "disk",
							 .checkpoint = 1 << 20 };
		struct disk_pipeline *p = disk_pipeline_new(&options, NULL);

		assert_int_equal(disk_pipeline_resume(p), 0);
		assert_int_equal(disk_pipeline_push(p, data, cut, NULL), 0);
		if (i >= 3)
			assert_int_equal(disk_pipeline_finish(p, &result, NULL), -1);
		disk_pipeline_free(p);

		p = disk_pipeline_new(&options, NULL);
		at = disk_pipeline_resume(p);
		assert_in_range(at, cut - (2 << 20), cut);
		assert_int_equal(at % (1 << 20), 0);
		assert_int_equal(disk_pipeline_push(p, data + at, len - at, NULL), 0);
		assert_int_equal(disk_pipeline_finish(p, &result, NULL), 0);
		disk_pipeline_free(p);
		assert_string_equal(result.digest, expected);
		assert_int_equal(disk_digest_file(out, NULL, result.digest, NULL), 0);
		assert_string_equal(result.digest, expected);
		assert_int_equal(unlink(journal), 0);
		/* The journal of another disk says nothing. */
		p = disk_pipeline_new(&options, NULL);
		assert_int_equal(disk_pipeline_push(p, data, cut, NULL), 0);
		disk_pipeline_free(p);
		options.identity = "another disk";
		p = disk_pipeline_new(&options, NULL);
		assert_int_equal(disk_pipeline_resume(p), 0);
		disk_pipeline_free(p);
		unlink(journal);
	}
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
	assert_non_null(strstr(err->message, "bytes at 1"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_streams_of_qemu_decode_at_any_split),
		cmocka_unit_test(test_raw_streams),
		cmocka_unit_test(test_holes_stay_holes),
		cmocka_unit_test(test_grains_in_any_order),
		cmocka_unit_test(test_a_grain_twice_is_refused),
		cmocka_unit_test(test_an_error_stays),
		cmocka_unit_test(test_cancel_ends_it),
		cmocka_unit_test(test_text_instead_of_a_disk),
		cmocka_unit_test(test_pipelines_share_the_workers),
		cmocka_unit_test(test_abandoned_halfway),
		cmocka_unit_test(test_memory_is_bounded),
		cmocka_unit_test(test_memory_of_what_is_read_by_place),
		cmocka_unit_test(test_corrupt_grain_names_its_place),
		cmocka_unit_test(test_grains_of_another_length),
		cmocka_unit_test(test_capacity_must_be_as_expected),
		cmocka_unit_test(test_a_raw_disk_goes_on),
		cmocka_unit_test(test_full_disk_names_the_file),
	};

	return cmocka_run_group_tests(tests, disks_begin, disks_end);
}
