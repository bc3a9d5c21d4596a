// links: disk base
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "disk/digest.h"

/* The construction of digest.h again, in ten lines of another language. */
static const char python[] = "import hashlib, sys\n"
			     "B, Z, h = 1 << 20, bytes(32), lambda b: hashlib.sha256(b).digest()\n"
			     "d = open(sys.argv[1], 'rb').read()\n"
			     "n = [h(b'\\0' + b) if any(b) else Z for b in (d[i:i + B] for i in range(0, len(d), B))]\n"
			     "while len(n) > 1:\n"
			     "    n += [Z] * (len(n) % 2)\n"
			     "    n = [h(b'\\1' + l + r) if (l, r) != (Z, Z) else Z for l, r in zip(n[::2], n[1::2])]\n"
			     "root = n[0] if n else Z\n"
			     "print('vmid1:' + h(b'vm-import-controller disk digest v1\\n' + len(d).to_bytes(8, 'big') + root).hex())\n";

static void check(const char *path)
{
	char ours[DISK_DIGEST_TEXT_SIZE], theirs[DISK_DIGEST_TEXT_SIZE + 2] = "", command[2048], script[] = "/tmp/test_digest.py.XXXXXX";
	int fd = mkstemp(script);
	FILE *pipe;

	assert_int_equal(write(fd, python, sizeof python - 1), sizeof python - 1);
	close(fd);
	snprintf(command, sizeof command, "python3 %s %s", script, path);
	pipe = popen(command, "re");
	assert_non_null(pipe);
	assert_non_null(fgets(theirs, sizeof theirs, pipe));
	pclose(pipe);
	unlink(script);
	theirs[strcspn(theirs, "\n")] = 0;
	assert_int_equal(disk_digest_file(path, ours, NULL), 0);
	assert_string_equal(ours, theirs);
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
	assert_int_equal(disk_digest_file(path, a, NULL), 0);
	assert_int_equal(ftruncate(fd, 2 << 20), 0);
	assert_int_equal(disk_digest_file(path, b, NULL), 0);
	assert_int_equal(pwrite(fd, "x", 1, 1 << 20), 1);
	assert_int_equal(disk_digest_file(path, c, NULL), 0);
	assert_string_not_equal(a, b);
	assert_string_not_equal(b, c);
	close(fd);
	unlink(path);
	assert_int_equal(disk_digest_file(path, a, &err), -1);
	assert_int_equal(err->class, ERROR_NOT_FOUND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equals_the_python_construction),
		cmocka_unit_test(test_depends_on_length_and_content),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
