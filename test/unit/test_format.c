// links: disk base
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "disk/bytes.h"
#include "disk/format.h"

#define HEAD ((size_t)DISK_FORMAT_HEAD)

/* A member's header, as tar writes it. */
static void make_tar(char head[DISK_FORMAT_HEAD], const char *name, const char *magic, bool spaces)
{
	unsigned sum = 0;

	memset(head, 0, HEAD);
	memcpy(head, name, strlen(name));
	memcpy(head + 100, "0000644", 8);
	memcpy(head + 124, "00000001000", 12);
	head[156] = '0';
	memcpy(head + 257, magic, 8);
	memset(head + 148, ' ', 8);
	for (size_t i = 0; i < HEAD; i++)
		sum += (unsigned char)head[i];
	snprintf(head + 148, 8, spaces ? "%6o" : "%06o", sum);
}

static void test_tar(void **state)
{
	static const char gnu[] = "ustar  ", posix[] = "ustar\0"
						       "00";
	char head[DISK_FORMAT_HEAD], name[101];

	(void)state;
	make_tar(head, "disk.vmdk", posix, false);
	assert_int_equal(disk_format_of(head, HEAD), DISK_TAR);
	assert_int_equal(disk_format_of(head, HEAD - 1), DISK_RAW);
	make_tar(head, "r\xc3\xa9sum\xc3\xa9", gnu, false); /* bytes count without a sign */
	assert_int_equal(disk_format_of(head, HEAD), DISK_TAR);
	make_tar(head, "x", posix, true); /* as some pad it */
	assert_int_equal(disk_format_of(head, HEAD), DISK_TAR);
	make_tar(head, "machine.ovf", posix, false);
	assert_int_equal(disk_format_of(head, HEAD), DISK_OVA);
	make_tar(head, "MACHINE.OVF", gnu, false);
	assert_int_equal(disk_format_of(head, HEAD), DISK_OVA);
	make_tar(head, ".ovf", gnu, false);
	assert_int_equal(disk_format_of(head, HEAD), DISK_TAR);
	/* A name that fills its field has no end. */
	memset(name, 'n', 100);
	memcpy(name + 96, ".ovf", 5);
	make_tar(head, name, posix, false);
	assert_int_equal(disk_format_of(head, HEAD), DISK_OVA);
}

/* A boot sector that has the letters where tar has them, or a text. */
static void test_no_tar(void **state)
{
	char head[DISK_FORMAT_HEAD];

	(void)state;
	make_tar(head, "machine.ovf", "ustar  ", false);
	head[200] ^= 1;
	assert_int_equal(disk_format_of(head, HEAD), DISK_RAW);
	make_tar(head, "machine.ovf", "ustar  ", false);
	memset(head + 148, 0, 8);
	assert_int_equal(disk_format_of(head, HEAD), DISK_RAW);
	make_tar(head, "machine.ovf", "uster  ", false);
	assert_int_equal(disk_format_of(head, HEAD), DISK_RAW);
	memset(head, 0, HEAD);
	assert_int_equal(disk_format_of(head, HEAD), DISK_RAW);
	assert_int_equal(disk_format_of(head, 0), DISK_RAW);
}

static void test_what_is_said(void **state)
{
	static const struct {
		const char *begin, *name, *said;
		bool archive;
	} tries[] = {
		{ "PK\3\4", "zip", "x is a ZIP archive, which is not read here; unpack it first", true },
		{ "\x1f\x8b\x08", "gzip", "x is gzip, which is not read here; unpack it first", false },
		{ "LUKS\xba\xbe", "luks", "x is encrypted (LUKS), which is not read here; decrypt it first", false },
		{ "vhdxfile", "vhdx", "x is vhdx, which is not read here; convert it first", false },
		{ "<html", "HTML or XML", "x is HTML or XML, which is not read here; perhaps a server sent it", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
		AUTO_ERROR struct error *err = NULL;
		char head[DISK_FORMAT_HEAD] = "";

		memcpy(head, tries[i].begin, strlen(tries[i].begin));
		enum disk_format format = disk_format_of(head, HEAD);

		assert_string_equal(disk_format_name(format), tries[i].name);
		assert_int_equal(disk_format_is_archive(format), tries[i].archive);
		assert_int_equal(disk_format_refuse(format, "x", &err), -1);
		assert_string_equal(err->reason, "UnsupportedFormat");
		assert_int_equal(err->class, ERROR_PERMANENT);
		if (strncmp(err->message, tries[i].said, strlen(tries[i].said)))
			fail_msg("%s", err->message);
	}
	for (int i = 0; i < DISK_FORMATS; i++)
		assert_non_null(disk_format_name((enum disk_format)i));
	assert_false(disk_format_is_image(DISK_TAR) || disk_format_is_image(DISK_OVA) || disk_format_is_image(DISK_ZIP));
}

static void test_capacity_of_a_beginning(void **state)
{
	unsigned char head[DISK_FORMAT_HEAD] = "KDMV";

	(void)state;
	put_le64(head + 12, 12288);
	assert_true(disk_format_capacity(DISK_VMDK_STREAM, head, HEAD) == 6291456);
	assert_true(disk_format_capacity(DISK_VMDK_SPARSE, head, 20) == 6291456);
	assert_true(disk_format_capacity(DISK_VMDK_SPARSE, head, 19) == 0);
	assert_true(disk_format_capacity(DISK_VMDK_DESCRIPTOR, head, HEAD) == 0);
	put_le64(head + 12, UINT64_C(1) << 55); /* 2^64 bytes */
	assert_true(disk_format_capacity(DISK_VMDK_STREAM, head, HEAD) == 0);
	put_le64(head + 12, UINT64_C(1) << 54);
	assert_true(disk_format_capacity(DISK_VMDK_STREAM, head, HEAD) == 0);
	put_be64(head + 24, 1048576);
	assert_true(disk_format_capacity(DISK_QCOW2, head, 32) == 1048576);
	assert_true(disk_format_capacity(DISK_QCOW2, head, 31) == 0);
	put_be64(head + 24, UINT64_MAX);
	assert_true(disk_format_capacity(DISK_QCOW2, head, HEAD) == 0);
	assert_true(disk_format_capacity(DISK_RAW, head, HEAD) == 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tar),
		cmocka_unit_test(test_no_tar),
		cmocka_unit_test(test_what_is_said),
		cmocka_unit_test(test_capacity_of_a_beginning),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
