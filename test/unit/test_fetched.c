// links: disk base
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "disk/image.h"
#include "disk/pipeline.h"

#define KIB ((uint64_t)1024)
#define MIB (1024 * KIB)

/* A file from afar: qcow2 images of 4 MiB without compression when their name is not "bytes", whose content is by their place. */
struct afar {
	uint64_t size;
	bool image;
	const char *below; /* the name of the image that it lies upon */
	unsigned requests, failures;
	size_t longest, last;
	bool closed;
};

static void put_be(unsigned char *p, uint64_t v, int bytes)
{
	for (int i = 0; i < bytes; i++)
		p[i] = (unsigned char)(v >> 8 * (bytes - 1 - i));
}

/* Clusters of 64 KiB: the header, one L1 and one L2 table, then every other one of the disk's. */
static void make_image(const struct afar *a, unsigned char head[3 * 65536])
{
	memset(head, 0, 3 * 65536);
	memcpy(head, "QFI\xfb", 4);
	put_be(head + 4, 2, 4);
	put_be(head + 20, 16, 4);
	put_be(head + 24, 4 * MIB, 8);
	put_be(head + 36, 1, 4);
	put_be(head + 40, 65536, 8);
	put_be(head + 65536, 131072, 8);
	for (unsigned i = !a->below; i < 64; i += 2)
		put_be(head + 131072 + 8 * (size_t)i, 3 * 65536 + i / 2 * 65536, 8);
	if (a->below) {
		put_be(head + 8, 512, 8);
		put_be(head + 16, strlen(a->below), 4);
		memcpy(head + 512, a->below, strlen(a->below));
	}
}

static int fetch(void *arg, uint64_t offset, void *data, size_t len, struct error **err)
{
	static unsigned char head[3 * 65536];
	struct afar *a = arg;
	unsigned char *to = data;

	assert_true(len && offset <= a->size && len <= a->size - offset);
	if (a->failures) {
		a->failures--;
		return error_set(err, ERROR_TRANSIENT, "ConnectionLost", "it is far");
	}
	a->requests++;
	a->last = len;
	a->longest = len > a->longest ? len : a->longest;
	if (a->image)
		make_image(a, head);
	for (size_t i = 0; i < len; i++)
		to[i] = (unsigned char)(a->image && offset + i < sizeof head ? head[offset + i] : (offset + i) / 509 + 1);
	return 0;
}

static int finish(void *arg, struct error **err)
{
	(void)arg;
	return error_set(err, ERROR_TRANSIENT, "ChecksumMismatch", "it was another one");
}

static void close_afar(void *arg)
{
	((struct afar *)arg)->closed = true;
}

static struct disk_input *open_afar(struct afar *a)
{
	static const struct disk_fetch_ops ops = { .fetch = fetch, .finish = finish, .close = close_afar };
	struct disk_input *in = disk_input_fetched("afar", a->size, &ops, a, NULL);

	assert_non_null(in);
	return in;
}

/* Reads, and checks what comes. */
static void check_read(struct disk_input *in, uint64_t offset, size_t len)
{
	unsigned char *data = malloc(len + 1);

	data[len] = 0x5a;
	assert_int_equal(disk_input_read(in, offset, data, len, NULL), 0);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(data[i], (unsigned char)((offset + i) / 509 + 1));
	assert_int_equal(data[len], 0x5a);
	free(data);
}

static void test_what_is_read_in_order_costs_few_requests(void **state)
{
	struct afar a = { .size = 10 * MIB + 512 };
	struct disk_input *in = open_afar(&a);

	(void)state;
	for (uint64_t at = 0; at < 10 * MIB; at += 128 * KIB) {
		check_read(in, at, 128 * KIB);
		check_read(in, 9 * MIB + at / 1024, 512); /* a table */
	}
	check_read(in, 10 * MIB, 512);
	assert_in_range(a.requests, 5, 8);
	assert_int_equal(a.longest, DISK_INPUT_AHEAD);
	/* What is there is not fetched again, nor does reading nothing fetch. */
	a.requests = 0;
	check_read(in, 10 * MIB, 512);
	check_read(in, 8 * MIB + 5, 7000);
	check_read(in, 3, 0);
	assert_int_equal(a.requests, 0);
	/* Tables do not push data out. */
	check_read(in, 0, 16 * KIB);
	assert_int_equal(a.last, 64 * KIB);
	check_read(in, 9 * MIB, MIB);
	assert_int_equal(a.requests, 1);
	disk_input_close(in);
	assert_true(a.closed);
}

static void test_less_is_read_ahead_when_told(void **state)
{
	struct afar a = { .size = 10 * MIB };
	struct disk_input *in = open_afar(&a);
	_Atomic size_t most = 256 * KIB;

	(void)state;
	disk_input_share_ahead(in, &most);
	check_read(in, MIB, 20 * KIB);
	assert_int_equal(a.last, 256 * KIB);
	check_read(in, MIB + 20 * KIB, 236 * KIB);
	assert_int_equal(a.requests, 1);
	check_read(in, 0, MIB); /* more than a window: as it is asked for */
	assert_int_equal(a.last, MIB);
	most = 0; /* a grain or two are always worth it */
	check_read(in, 3 * MIB, 20 * KIB);
	assert_int_equal(a.last, 64 * KIB);
	most = SIZE_MAX;
	check_read(in, 5 * MIB, 20 * KIB);
	assert_int_equal(a.last, DISK_INPUT_AHEAD);
	check_read(in, 5 * MIB, 20 * KIB);
	assert_int_equal(a.requests, 4);
	disk_input_close(in);
}

/* A window whose fetch failed holds nothing. */
static void test_a_failure_is_told_and_forgotten(void **state)
{
	struct afar a = { .size = MIB };
	struct disk_input *in = open_afar(&a);
	AUTO_ERROR struct error *err = NULL, *beyond = NULL, *end = NULL;
	unsigned char data[512];

	(void)state;
	check_read(in, 0, 512);
	for (size_t len = 512; len <= 32 * KIB; len *= 64) {
		AUTO_ERROR struct error *why = NULL;
		unsigned char *room = malloc(len);

		a.failures = 1;
		assert_int_equal(disk_input_read(in, 500 * KIB, room, len, &why), -1);
		assert_string_equal(why->reason, "ConnectionLost");
		free(room);
		check_read(in, 500 * KIB, len);
		check_read(in, 0, 512);
	}
	assert_int_equal(disk_input_read(in, MIB - 511, data, 512, &beyond), -1);
	assert_string_equal(beyond->reason, "FileTruncated");
	assert_int_equal(disk_input_finish(in, &end), -1);
	assert_string_equal(end->reason, "ChecksumMismatch");
	disk_input_close(in);
}

static struct afar chain[16];

static struct disk_input *open_named(void *arg, const char *name, struct error **err)
{
	(void)arg;
	(void)err;
	return open_afar(&chain[strtoul(name, NULL, 10)]);
}

/* The layers of a disk share what is read ahead, so that many of them need no more memory than one. */
static void test_layers_share_what_is_read_ahead(void **state)
{
	static const char *const names[] = { "0", "1", "2", "3", "4", "5", "6", "7" };
	struct disk_set set = { .open = open_named };
	struct disk_workers *workers = disk_workers_new(2, NULL);

	(void)state;
	for (unsigned layers = 1; layers <= 8; layers *= 8) {
		struct disk_pipeline_options options = { .workers = workers };
		struct disk_pipeline *p = disk_pipeline_new(&options, NULL);
		AUTO_ERROR struct error *err = NULL;
		struct disk_result result;
		struct disk_image *image;
		size_t all = 0;

		for (unsigned i = 0; i < layers; i++)
			chain[i] = (struct afar){ .size = 3 * 65536 + 2 * MIB, .image = true, .below = i ? names[i - 1] : NULL };
		image = disk_image_open(open_named(NULL, names[layers - 1], NULL), &set, NULL, &err);
		assert_non_null(image);
		assert_int_equal(disk_image_info(image)->layers, layers);
		assert_int_equal(disk_pipeline_pull(p, image, 0, &err), 0);
		assert_int_equal(disk_pipeline_finish(p, &result, &err), 0);
		assert_int_equal(result.data_bytes, layers > 1 ? 4 * MIB : 2 * MIB);
		for (unsigned i = 0; i < layers; i++)
			all += chain[i].longest;
		assert_in_range(all, layers * 64 * KIB, DISK_INPUT_AHEAD + layers * 64 * KIB);
		disk_pipeline_free(p);
		disk_image_close(image);
		for (unsigned i = 0; i < layers; i++)
			assert_true(chain[i].closed);
	}
	disk_workers_free(workers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_read_in_order_costs_few_requests),
		cmocka_unit_test(test_less_is_read_ahead_when_told),
		cmocka_unit_test(test_a_failure_is_told_and_forgotten),
		cmocka_unit_test(test_layers_share_what_is_read_ahead),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
