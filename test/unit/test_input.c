// links: disk base
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "disk/digest_tree.h"
#include "disk/image.h"
#include "disk/input.h"
#include "scratch.h"

#define MIB ((uint64_t)1 << 20)

/* A file of so many bytes, of which only the first are data. */
static void make(const char *path, uint64_t size)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_true(fputs("data", f) >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(truncate(path, (off_t)size), 0);
}

/* As by a program that wrote to it. */
static void touch(const char *path)
{
	const struct timespec times[] = { { 0, UTIME_OMIT }, { 1000000000, 0 } };

	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void test_what_is_cut_off_meanwhile_is_no_hole(void **state)
{
	AUTO_FREE char *path = file("cut.raw");
	AUTO_ERROR struct error *err = NULL, *changed = NULL;
	struct disk_input *in;
	uint64_t from, to;
	char byte;

	(void)state;
	make(path, 3 * MIB);
	in = disk_input_open(path, NULL);
	assert_non_null(in);
	disk_input_next_data(in, MIB, &from, &to);
	assert_int_equal(from, 3 * MIB);
	assert_int_equal(truncate(path, 2 * MIB), 0);
	for (uint64_t at = MIB; at < 3 * MIB; at += MIB) {
		disk_input_next_data(in, at, &from, &to);
		assert_int_equal(from, at);
		assert_int_equal(to, 3 * MIB);
	}
	assert_int_equal(disk_input_read(in, 2 * MIB, &byte, 1, &err), -1);
	assert_string_equal(err->reason, "ShortRead");
	assert_int_equal(disk_input_finish(in, &changed), -1);
	assert_string_equal(changed->reason, "InputChanged");
	disk_input_close(in);
}

static void test_a_digest_of_what_is_cut_off(void **state)
{
	AUTO_FREE char *path = file("digest.raw");
	AUTO_ERROR struct error *err = NULL;
	char digest[DISK_DIGEST_TEXT_SIZE];

	(void)state;
	make(path, 2 * MIB);
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(digest_descriptor(fd, path, 2 * MIB, NULL, 0, NULL, digest, &err), 0);
	/* It had 4 MiB when that was asked. */
	assert_int_equal(digest_descriptor(fd, path, 4 * MIB, NULL, 0, NULL, digest, &err), -1);
	assert_string_equal(err->reason, "ShortRead");
}

static void test_a_digest_of_a_pipe(void **state)
{
	AUTO_FREE char *path = file("pipe");
	AUTO_ERROR struct error *err = NULL;
	char digest[DISK_DIGEST_TEXT_SIZE];

	(void)state;
	assert_int_equal(mkfifo(path, 0600), 0);
	alarm(60);
	assert_int_equal(disk_digest_file(path, NULL, digest, &err), -1);
	alarm(0);
	assert_string_equal(err->reason, "NotADisk");
}

/* Of an image each file counts, also that of the extent that is open. */
static void test_files_that_are_changed_while_they_are_read(void **state)
{
	static const char *const names[] = { "disk.vmdk", "last.raw" };

	(void)state;
	for (size_t i = 0; i <= sizeof names / sizeof *names; i++) {
		AUTO_FREE char *descriptor = file("disk.vmdk"), *first = file("first.raw"), *last = file("last.raw");
		AUTO_FREE char *path = i ? file(names[i - 1]) : NULL;
		AUTO_ERROR struct error *err = NULL;
		struct disk_directory *d = disk_directory_open(directory, NULL);
		struct disk_set set = disk_directory_set(d);
		struct disk_image *image;
		FILE *f = fopen(descriptor, "we");
		uint64_t bytes;

		make(first, MIB);
		make(last, MIB);
		assert_non_null(f);
		assert_true(
			fputs("# Disk DescriptorFile\nCID=1\nparentCID=ffffffff\nRW 2048 FLAT \"first.raw\" 0\nRW 2048 FLAT \"last.raw\" 0\n",
			      f) >= 0);
		assert_int_equal(fclose(f), 0);
		image = disk_image_open(disk_input_open(descriptor, NULL), &set, NULL, NULL);
		assert_non_null(image);
		assert_int_equal(disk_image_allocated(image, &bytes, NULL, NULL), 0);
		assert_int_equal(bytes, 2 * 4096);
		assert_int_equal(disk_image_finish(image, NULL), 0);
		if (path) {
			touch(path);
			assert_int_equal(disk_image_finish(image, &err), -1);
			assert_string_equal(err->reason, "InputChanged");
			assert_non_null(strstr(err->message, names[i - 1]));
		}
		disk_image_close(image);
		disk_directory_close(d);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_cut_off_meanwhile_is_no_hole),
		cmocka_unit_test(test_a_digest_of_what_is_cut_off),
		cmocka_unit_test(test_a_digest_of_a_pipe),
		cmocka_unit_test(test_files_that_are_changed_while_they_are_read),
	};

	return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
