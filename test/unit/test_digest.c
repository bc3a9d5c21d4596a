// links: disk base PkgConfig::crypto
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "disk/digest.h"
#include "disk/sha256_lanes.h"

/* The construction in other words: the Python of README.md, as it stands there. */
static void make_script(char *script)
{
	FILE *readme = fopen(SOURCE_DIR "/README.md", "re"), *out = fdopen(mkstemp(script), "w");
	char line[256];
	int lines = 0;

	assert_non_null(readme);
	assert_non_null(out);
	while (fgets(line, sizeof line, readme) && strcmp(line, "```python\n"))
		;
	while (fgets(line, sizeof line, readme) && strcmp(line, "```\n")) {
		assert_true(fputs(line, out) >= 0);
		lines++;
	}
	fclose(readme);
	assert_int_equal(fclose(out), 0);
	assert_in_range(lines, 5, 10);
}

static void check(const char *path)
{
	char ours[DISK_DIGEST_TEXT_SIZE], theirs[DISK_DIGEST_TEXT_SIZE + 2] = "", command[2048], script[] = "/tmp/test_digest.py.XXXXXX";
	FILE *pipe;

	make_script(script);
	snprintf(command, sizeof command, "python3 %s %s", script, path);
	pipe = popen(command, "re");
	assert_non_null(pipe);
	assert_non_null(fgets(theirs, sizeof theirs, pipe));
	pclose(pipe);
	unlink(script);
	theirs[strcspn(theirs, "\n")] = 0;
	for (unsigned threads = 0; threads < 4; threads++) {
		assert_int_equal(disk_digest_file(path, &(struct disk_digest_options){ .threads = threads }, ours, NULL), 0);
		assert_string_equal(ours, theirs);
	}
}

static void test_equals_the_python_construction(void **state)
{
	static const char *const layouts[] = {
		"truncate -s 0 %s",
		"truncate -s 1 %s",
		"truncate -s 3M %s",
		"head -c 1048576 /dev/urandom >%s",
		"head -c 1048577 /dev/urandom >%s",
		"head -c 5000000 /dev/urandom >%s",
		"truncate -s 17M %s; head -c 100 /dev/urandom | dd of=%s bs=1M seek=9 conv=notrunc status=none",
		"truncate -s 13M %s; head -c 100 /dev/urandom | dd of=%s bs=1M seek=12 conv=notrunc status=none",
		"truncate -s 33M %s; head -c 3000000 /dev/urandom | dd of=%s bs=1M seek=16 conv=notrunc status=none",
		"head -c 7000000 /dev/urandom >%s; truncate -s 11000512 %s",
		"head -c 65536 /dev/urandom >%s",
		"head -c 65537 /dev/urandom >%s",
		"head -c 700 /dev/urandom >%s; truncate -s 70000 %s",
		"truncate -s 6M %s; for i in 1 5 6 7 20 21 22 23 24 95; do head -c 65536 /dev/urandom | dd of=%s bs=64k seek=$i conv=notrunc status=none; done",
	};
	char path[] = "/tmp/test_digest.XXXXXX", command[512];
	int fd = mkstemp(path);

	(void)state;
	close(fd);
	for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
		const char *at = layouts[i];
		size_t n = 0;

		n = (size_t)snprintf(command, sizeof command, "rm -f %s; ", path);
		for (; *at; at++) {
			if (at[0] == '%' && at[1] == 's') {
				n += (size_t)snprintf(command + n, sizeof command - n, "%s", path);
				at++;
			} else {
				command[n++] = *at;
				command[n] = 0;
			}
		}
		assert_int_equal(system(command), 0);
		check(path);
	}
	unlink(path);
}

static void test_depends_on_length_and_content(void **state)
{
	char path[] = "/tmp/test_digest.XXXXXX", a[DISK_DIGEST_TEXT_SIZE], b[DISK_DIGEST_TEXT_SIZE], c[DISK_DIGEST_TEXT_SIZE];
	AUTO_ERROR struct error *err = NULL;
	int fd = mkstemp(path);

	(void)state;
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	assert_int_equal(disk_digest_file(path, NULL, a, NULL), 0);
	assert_int_equal(ftruncate(fd, 2 << 20), 0);
	assert_int_equal(disk_digest_file(path, NULL, b, NULL), 0);
	assert_int_equal(pwrite(fd, "x", 1, 1 << 20), 1);
	assert_int_equal(disk_digest_file(path, NULL, c, NULL), 0);
	assert_string_not_equal(a, b);
	assert_string_not_equal(b, c);
	close(fd);
	unlink(path);
	assert_int_equal(disk_digest_file(path, NULL, a, &err), -1);
	assert_int_equal(err->class, ERROR_NOT_FOUND);
}

/* Each message is another one, as is what OpenSSL says of each. */
static void check_lanes(size_t lanes, void (*run)(const unsigned char *const *, size_t, unsigned char, unsigned char (*)[SHA256_SIZE]))
{
	static const size_t lengths[] = { 64, 128, 4096, 65536 };
	unsigned char *text = malloc(SHA256_WIDE * 65537), sums[SHA256_WIDE][SHA256_SIZE], expected[SHA256_SIZE];
	const unsigned char *data[SHA256_WIDE];
	unsigned seed = 1;

	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		size_t len = lengths[i];

		for (size_t at = 0; at < SHA256_WIDE * 65537; at++)
			text[at] = (unsigned char)(rand_r(&seed) >> 8);
		for (size_t l = 0; l < lanes; l++)
			data[l] = text + l * (len + 1);
		run(data, len, (unsigned char)i, sums);
		for (size_t l = 0; l < lanes; l++) {
			text[l * (len + 1) + len] = (unsigned char)i;
			assert_int_equal(EVP_Digest(data[l], len + 1, expected, NULL, EVP_sha256(), NULL), 1);
			assert_memory_equal(sums[l], expected, SHA256_SIZE);
		}
	}
	free(text);
}

static void test_lanes_are_sha256(void **state)
{
	(void)state;
	if (sha256_lanes_usable())
		check_lanes(SHA256_LANES, sha256_lanes);
	if (sha256_wide_usable())
		check_lanes(SHA256_WIDE, sha256_wide);
	if (!sha256_lanes_usable() && !sha256_wide_usable())
		skip();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lanes_are_sha256),
		cmocka_unit_test(test_equals_the_python_construction),
		cmocka_unit_test(test_depends_on_length_and_content),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
