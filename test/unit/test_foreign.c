// links: disk base
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "disk/image.h"
#include "disk/sandbox.h"
#include "disk_fixture.h"

#define MIB ((size_t)1 << 20)

static char *real_path;

static int setup(void **state)
{
	real_path = strdup(getenv("PATH"));
	return real_path ? disks_begin(state) : -1;
}

static int teardown(void **state)
{
	free(real_path);
	return disks_end(state);
}

/* The same, as a file only. */
static void make_raw(const char *path, size_t len, unsigned seed)
{
	free(make_disk(path, len, seed));
}

/* The image into out.raw. */
static int convert(const char *path, const char *format, struct cancel *cancel, struct disk_result *result, struct error **err)
{
	AUTO_FREE char *out = file("out.raw");
	struct disk_pipeline_options options = { .path = out, .workers = workers, .no_sync = true, .cancel = cancel };
	struct disk_input *in = disk_input_open(path, err);
	struct disk_image *image = in ? disk_image_open(in, NULL, format, err) : NULL;
	struct disk_pipeline *p = image ? disk_pipeline_new(&options, err) : NULL;
	int failed = !p || disk_pipeline_pull(p, image, 0, err) < 0 || disk_pipeline_finish(p, result, err) < 0 ? -1 : 0;

	disk_pipeline_free(p);
	disk_image_close(image);
	return failed;
}

static const struct {
	const char *format, *how, *name;
} kinds[] = {
	{ "vpc", "-o subformat=dynamic,force_size=on", "vhd" },
	{ "vpc", "-o subformat=fixed,force_size=on", "vhd" },
	{ "vhdx", "-o subformat=dynamic", "vhdx" },
	{ "vhdx", "-o subformat=fixed", "vhdx" },
	{ "vdi", "", "vdi" },
	{ "vdi", "-o static=on", "vdi" },
	{ "qcow", "", "qcow" },
	{ "qed", "", "qed" },
	{ "parallels", "", "parallels" },
};

static void test_all_formats(void **state)
{
	static const size_t sizes[] = { 7 * MIB, 5 * MIB + 512 * 3, 512 * 9 };
	AUTO_FREE char *raw = file("in.raw"), *image = file("image"), *out = file("out.raw");

	(void)state;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
			AUTO_ERROR struct error *err = NULL;
			char expected[DISK_DIGEST_TEXT_SIZE];
			struct disk_result result;

			make_raw(raw, sizes[k], (unsigned)(3 * i + k));
			run("rm -f %s; qemu-img convert -f raw -O %s %s %s %s", image, kinds[i].format, kinds[i].how, raw, image);
			/* Some formats round the size up. */
			run("qemu-img convert -f %s -O raw %s %s", kinds[i].format, image, raw);
			if (convert(image, k ? kinds[i].name : NULL, NULL, &result, &err) < 0)
				fail_msg("%s %s: %s", kinds[i].format, kinds[i].how, error_message(err));
			run("cmp -s %s %s", raw, out);
			assert_int_equal(disk_digest_file(raw, NULL, expected, NULL), 0);
			assert_string_equal(result.digest, expected);
		}
	}
}

/* From a block on: what lies before it is not asked for. */
static void test_goes_on_in_the_middle(void **state)
{
	AUTO_FREE char *raw = file("in.raw"), *path = file("image"), *out = file("out.raw"), *journal = file("journal");
	struct disk_pipeline_options options = {
		.path = out, .workers = workers, .journal = journal, .identity = "disk", .checkpoint = MIB
	};
	char expected[DISK_DIGEST_TEXT_SIZE];
	struct disk_result result;
	unsigned char *start = malloc(9 * MIB);

	(void)state;
	make_raw(raw, 12 * MIB + 512, 99);
	run("rm -f %s; qemu-img convert -f raw -O vhdx %s %s", path, raw, path);
	/* An earlier try that came so far. */
	AUTO_FILE FILE *f = fopen(raw, "re");
	assert_int_equal(fread(start, 9 * MIB, 1, f), 1);
	options.format = "raw";
	options.capacity = 12 * MIB + 512;
	struct disk_pipeline *p = disk_pipeline_new(&options, NULL);
	assert_int_equal(disk_pipeline_push(p, start, 9 * MIB, NULL), 0);
	disk_pipeline_free(p);
	free(start);

	struct disk_image *image = disk_image_open(disk_input_open(path, NULL), NULL, NULL, NULL);
	p = disk_pipeline_new(&options, NULL);
	uint64_t from = disk_pipeline_resume(p);
	assert_in_range(from, 8 * MIB, 9 * MIB);
	assert_int_equal(disk_pipeline_pull(p, image, from, NULL), 0);
	assert_int_equal(disk_pipeline_finish(p, &result, NULL), 0);
	disk_pipeline_free(p);
	disk_image_close(image);
	assert_int_equal(disk_digest_file(raw, NULL, expected, NULL), 0);
	assert_string_equal(result.digest, expected);
	run("cmp -s %s %s && rm -f %s", raw, out, journal);
}

static void expect_error(const char *path, const char *reason, const char *part)
{
	AUTO_ERROR struct error *err = NULL;
	struct disk_result result;

	if (convert(path, NULL, NULL, &result, &err) == 0)
		fail_msg("%s is taken, not refused with %s: %s", path, reason, part);
	if (strcmp(err->reason, reason) || !strstr(err->message, part) || !strstr(err->message, path))
		fail_msg("%s, wanted %s with \"%s\": %s", err->reason, reason, part, err->message);
}

/* Changes the footer of a VHD, and its copy in front: who wrote it, its type and cylinders; 0: none of these. */
static void change_vhd(const char *path, const char *creator, unsigned type, unsigned cylinders)
{
	unsigned char footer[512];
	AUTO_FILE FILE *f = fopen(path, "r+e");

	assert_non_null(f);
	for (int end = 0; end < 2; end++) {
		uint32_t sum = 0;
		long at;

		assert_int_equal(fseek(f, end ? -512 : 0, end ? SEEK_END : SEEK_SET), 0);
		at = ftell(f);
		assert_int_equal(fread(footer, sizeof footer, 1, f), 1);
		if (memcmp(footer, "conectix", 8))
			continue;
		memcpy(footer + 28, creator, 4);
		footer[63] = type ? (unsigned char)type : footer[63];
		footer[56] = (unsigned char)(cylinders >> 8);
		footer[57] = (unsigned char)cylinders;
		memset(footer + 64, 0, 4);
		for (size_t i = 0; i < sizeof footer; i++)
			sum += footer[i];
		for (int i = 0; i < 4; i++)
			footer[64 + i] = (unsigned char)(~sum >> (24 - 8 * i));
		assert_int_equal(fseek(f, at, SEEK_SET), 0);
		assert_int_equal(fwrite(footer, sizeof footer, 1, f), 1);
	}
}

/* Whoever wrote a VHD, its disk is as large as it says, not as its geometry makes it. */
static void test_the_last_cylinder(void **state)
{
	static const char *const creators[] = { "vbox", "vpc ", "win ", "qem2", "new " };
	AUTO_FREE char *raw = file("in.raw"), *image = file("image"), *out = file("out.raw");

	(void)state;
	for (size_t i = 0; i < 2 * sizeof creators / sizeof *creators; i++) {
		AUTO_ERROR struct error *err = NULL;
		struct disk_result result;

		make_raw(raw, 5 * MIB + 512 * 3, 7);
		run("rm -f %s; qemu-img convert -f raw -O vpc -o subformat=%s,force_size=on %s %s", image, i % 2 ? "fixed" : "dynamic", raw,
		    image);
		change_vhd(image, creators[i / 2], 0, 3);
		if (convert(image, NULL, NULL, &result, &err) < 0)
			fail_msg("%s: %s", creators[i / 2], error_message(err));
		assert_int_equal(result.capacity, 5 * MIB + 512 * 3);
		run("cmp -s %s %s", raw, out);
	}
}

static void test_what_is_refused(void **state)
{
	AUTO_FREE char *raw = file("in.raw"), *image = file("image"), *other = file("secret.raw");

	(void)state;
	make_raw(raw, 2 * MIB, 1);
	make_raw(other, 2 * MIB, 2);
	run("qemu-img create -q -f qcow -b %s -F raw %s", other, image);
	expect_error(image, "BackingFile", "secret.raw");
	run("qemu-img create -q -f qed -b %s -F raw %s", other, image);
	expect_error(image, "BackingFile", "secret.raw");
	run("qemu-img create -q -f qcow --object secret,id=s,data=x -o encrypt.format=aes,encrypt.key-secret=s %s 1M", image);
	expect_error(image, "Encrypted", "encrypted");
	run("rm -f %s; qemu-img convert -f raw -O vhdx %s %s; truncate -s 3M %s", image, raw, image, image);
	expect_error(image, "FileTruncated", "has 3145728 bytes, but");
	run("printf 'vhdxfile' >%s; head -c 1000000 /dev/zero >>%s", image, image);
	expect_error(image, "ProgramFailed", "qemu-img: Could not open the image: ");
	/* The changes to another disk, which are none by themselves. */
	run("rm -f %s; qemu-img convert -f raw -O vpc -o subformat=dynamic %s %s", image, raw, image);
	change_vhd(image, "win ", 4, 0);
	expect_error(image, "BackingFile", "holds only changes to another VHD");
	change_vhd(image, "win ", 5, 0);
	expect_error(image, "UnsupportedFormat", "unknown type 5");
	/* A disk of 2^62 bytes, or nearly. */
	run("rm -f %s; qemu-img convert -f raw -O qcow %s %s; printf '\\100' | dd of=%s bs=1 seek=24 conv=notrunc status=none", image, raw,
	    image, image);
	expect_error(image, "ProgramFailed", "qemu-img");
	/* Another program there is none. */
	run("rm -f %s; qemu-img convert -f raw -O vdi %s %s", image, raw, image);
	setenv("PATH", "/nowhere", 1);
	expect_error(image, "ProgramMissing", "vdi image, which qemu-img would read, but that is not installed");
	setenv("PATH", real_path, 1);
}

/* Cut at a sector's end or within one, in the tables or in the data: an error that tells it, at once, and never zeros for what is missing.
 * A VHD of fixed size is none any more without its end. */
static void test_cut_images(void **state)
{
	AUTO_FREE char *raw = file("in.raw"), *image = file("image"), *cut = file("cut");

	(void)state;
	make_raw(raw, 8 * MIB, 8); /* a multiple of all blocks, so that none has an end that is not read */
	run("dd if=/dev/urandom of=%s bs=64k count=1 seek=127 conv=notrunc status=none", raw);
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		struct stat st;

		if (strstr(kinds[i].how, "subformat=fixed,force_size"))
			continue;
		run("rm -f %s; qemu-img convert -f raw -O %s %s %s %s", image, kinds[i].format, kinds[i].how, raw, image);
		assert_int_equal(stat(image, &st), 0);
		const long sizes[] = { 600, st.st_size / 4 / 512 * 512, st.st_size / 2 + 7, st.st_size - 1000,
				       st.st_size / 512 * 512 - 1024 };

		for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
			AUTO_FREE char *part = NULL;

			run("head -c %ld %s >%s", sizes[k], image, cut);
			assert_true(asprintf(&part, "has %ld bytes, but ", sizes[k]) > 0);
			expect_error(cut, "FileTruncated", part);
		}
	}
}

/* Bytes changed at random where the tables are: an error or some disk, and never more than that. */
static void test_broken_images(void **state)
{
	AUTO_FREE char *raw = file("in.raw"), *image = file("image");
	unsigned seed = 5, taken = 0, refused = 0;

	(void)state;
	make_raw(raw, 3 * MIB, 4);
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		struct stat st;

		run("rm -f %s; qemu-img convert -f raw -O %s %s %s %s", image, kinds[i].format, kinds[i].how, raw, image);
		assert_int_equal(stat(image, &st), 0);
		for (int change = 0; change < 6; change++) {
			AUTO_ERROR struct error *err = NULL;
			AUTO_FD int fd = open(image, O_WRONLY | O_CLOEXEC);
			unsigned char byte = (unsigned char)rand_r(&seed);
			struct disk_result result;

			assert_int_equal(pwrite(fd, &byte, 1, 8 + rand_r(&seed) % (change < 3 ? 120 : 70000)), 1);
			if (convert(image, kinds[i].name, NULL, &result, &err) == 0)
				taken++;
			else if (err && *err->message)
				refused++;
		}
	}
	assert_int_equal(taken + refused, 6 * sizeof kinds / sizeof *kinds);
	assert_true(refused > 5);
}

static void test_a_full_output(void **state)
{
	AUTO_FREE char *raw = file("in.raw"), *image = file("image"), *out = file("out.raw");
	struct rlimit old, small = { 1 << 20, 1 << 20 };
	AUTO_ERROR struct error *err = NULL;
	struct disk_result result;

	(void)state;
	make_raw(raw, 8 * MIB, 6);
	run("rm -f %s; qemu-img convert -f raw -O vdi %s %s", image, raw, image);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	small.rlim_max = old.rlim_max;
	setrlimit(RLIMIT_FSIZE, &small);
	int failed = convert(image, NULL, NULL, &result, &err);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(failed, -1);
	assert_non_null(strstr(err->message, out));
	assert_non_null(strstr(err->message, "bytes"));
}

/* A program that stands in for qemu-img, to see what it can do. It has no process of its own, and no file that it could write to: what it
 * says on standard error comes back in the error. */
static void stand_in(const char *body)
{
	AUTO_FREE char *bin = file("bin"), *program = file("bin/qemu-img"), *path = NULL;
	FILE *f;

	run("mkdir -p %s", bin);
	f = fopen(program, "we");
	assert_true(f && fprintf(f, "#!/usr/bin/python3 -ISB\nimport sys, os, socket, time\n%s", body) > 0);
	fclose(f);
	assert_int_equal(chmod(program, 0755), 0);
	assert_true(asprintf(&path, "%s:%s", bin, real_path) > 0);
	setenv("PATH", path, 1);
}

static void test_what_the_program_may_do(void **state)
{
	static const struct {
		const char *body, *reason, *part;
	} tries[] = {
		{ "sys.exit('said so')\n", "ProgramFailed", "failed: said so" },
		{ "socket.socket(socket.AF_INET, socket.SOCK_STREAM)\n", "ProgramFailed", "Operation not permitted" },
		{ "socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)\n", "ProgramFailed", "Operation not permitted" },
		{ "open('/tmp/test_foreign.file', 'w')\n", "ProgramFailed", "Permission denied" },
		{ "os.open('/dev/null', os.O_RDWR)\n", "ProgramFailed", "Permission denied" },
		{ "os.fork()\n", "ProgramFailed", "Operation not permitted" },
		{ "os.kill(os.getppid(), 0)\n", "ProgramFailed", "Operation not permitted" },
		{ "os.unlink('/tmp/test_foreign.file')\n", "ProgramFailed", "Operation not permitted" },
		{ "bytearray(1 << 30)\n", "ProgramFailed", "MemoryError" },
		{ "import fcntl\ndef there(i):\n try: return fcntl.fcntl(i, fcntl.F_GETFD) >= 0\n except OSError: return False\n"
		  "sys.exit(str([i for i in range(64) if there(i)]))\n",
		  "ProgramFailed", "[0, 1, 2, 3]" },
		{ "sys.exit(str(sorted(os.environ)))\n", "ProgramFailed", "['LC_ALL', 'MALLOC_ARENA_MAX']" },
		{ "os.abort()\n", "ProgramFailed", "crashed (signal 6)" },
		{ "print('{}')\n", "InvalidImage", "does not tell the disk's size" },
		{ "print('[' * 100000)\n", "InvalidImage", "does not tell the disk's size" },
		{ "print('{\"virtual-size\": -1}')\n", "InvalidImage", "does not tell the disk's size" },
		{ "print('{\"virtual-size\": 1048576, \"backing-filename\": \"/etc/passwd\"}')\n", "BackingFile", "/etc/passwd" },
		{ "print('{\"virtual-size\": 512, \"format-specific\": {\"data\": {\"data-file\": \"x\"}}}')\n", "BackingFile", "data" },
		{ "print('{\"virtual-size\": 512, \"encrypted\": true}')\n", "Encrypted", "encrypted" },
		{ "print('{\"virtual-size\": 1048576}')\nsys.exit(0)\n", "HungUp", "it ended in the middle" },
		{ "if sys.argv[1] == 'info': print('{\"virtual-size\": 1048576}')\nelse: socket.socket(fileno=4).send(b'x' * 1000)\n",
		  "ProtocolError", "it does not speak NBD" },
	};
	AUTO_FREE char *raw = file("in.raw"), *image = file("image");

	(void)state;
	if (access("/usr/bin/python3", X_OK))
		skip();
	make_raw(raw, MIB, 6);
	run("rm -f %s; qemu-img convert -f raw -O vdi %s %s", image, raw, image);
	for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
		stand_in(tries[i].body);
		expect_error(image, tries[i].reason, tries[i].part);
	}
	/* Landlock, where the kernel has it. */
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0) {
		stand_in("open('/etc/passwd').read()\n");
		expect_error(image, "ProgramFailed", "Permission denied: '/etc/passwd'");
	}
	setenv("PATH", real_path, 1);
	assert_int_not_equal(access("/tmp/test_foreign.file", F_OK), 0);
}

static void test_time_is_limited(void **state)
{
	char *arguments[] = { (char *)"qemu-img", NULL };
	AUTO_ERROR struct error *err = NULL;
	struct sandbox *s;

	(void)state;
	if (access("/usr/bin/python3", X_OK))
		skip();
	stand_in("while True: pass\n");
	s = sandbox_start(
		&(struct sandbox_options){ .program = "qemu-img", .arguments = arguments, .memory = 512 * MIB, .seconds = 1, .output = -1 },
		NULL);
	setenv("PATH", real_path, 1);
	assert_non_null(s);
	assert_int_equal(sandbox_end(s, NULL, &err), -1);
	assert_string_equal(err->reason, "ProgramKilled");
	assert_non_null(strstr(err->message, "1 seconds of processor time"));
}

struct later {
	struct cancel *cancel;
	unsigned ms;
};

static void *cancel_later(void *arg)
{
	struct later *l = arg;

	usleep(l->ms * 1000);
	cancel_request(l->cancel);
	return NULL;
}

/* A program that hangs goes when the transfer is cancelled. */
static void test_cancel_kills_it(void **state)
{
	AUTO_FREE char *raw = file("in.raw"), *image = file("image");
	struct later later = { .cancel = cancel_new(NULL), .ms = 300 };
	AUTO_ERROR struct error *err = NULL;
	struct disk_result result;
	pthread_t thread;

	(void)state;
	if (access("/usr/bin/python3", X_OK))
		skip();
	make_raw(raw, MIB, 6);
	run("rm -f %s; qemu-img convert -f raw -O vdi %s %s", image, raw, image);
	stand_in("if sys.argv[1] == 'info': print('{\"virtual-size\": 1048576}')\nelse: time.sleep(1000)\n");
	assert_int_equal(pthread_create(&thread, NULL, cancel_later, &later), 0);
	assert_int_equal(convert(image, NULL, later.cancel, &result, &err), -1);
	assert_int_equal(err->class, ERROR_CANCELLED);
	pthread_join(thread, NULL);
	cancel_free(later.cancel);
	setenv("PATH", real_path, 1);
}

/* One that waits for nothing but a connection that never says more is not waited for once the input has failed. */
static void test_a_failed_input_ends_it(void **state)
{
	AUTO_FREE char *raw = file("in.raw"), *image = file("image");

	(void)state;
	if (access("/usr/bin/python3", X_OK))
		skip();
	make_raw(raw, MIB, 6);
	run("rm -f %s; qemu-img convert -f raw -O vdi %s %s; truncate -s 700 %s", image, raw, image, image);
	stand_in("import struct\n"
		 "if sys.argv[1] == 'info': print('{\"virtual-size\": 1048576}'); sys.exit(0)\n"
		 "s = socket.socket(fileno=3)\n"
		 "s.recv(18, socket.MSG_WAITALL)\n"
		 "s.send(struct.pack('>I8sIIIH', 3, b'IHAVEOPT', 7, 6, 0, 0))\n"
		 "time.sleep(0.2)\n"
		 "s.send(struct.pack('>IHHQQI', 0x25609513, 0, 0, 1, 512, 4096))\n"
		 "time.sleep(1000)\n");
	expect_error(image, "FileTruncated", "has 700 bytes, but 4096 bytes at byte 512 are needed");
	setenv("PATH", real_path, 1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_formats),
		cmocka_unit_test(test_the_last_cylinder),
		cmocka_unit_test(test_goes_on_in_the_middle),
		cmocka_unit_test(test_what_is_refused),
		cmocka_unit_test(test_cut_images),
		cmocka_unit_test(test_broken_images),
		cmocka_unit_test(test_a_full_output),
		cmocka_unit_test(test_what_the_program_may_do),
		cmocka_unit_test(test_time_is_limited),
		cmocka_unit_test(test_cancel_kills_it),
		cmocka_unit_test(test_a_failed_input_ends_it),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
