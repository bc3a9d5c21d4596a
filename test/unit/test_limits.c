// links: base
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"

static char root[] = "/tmp/test_limits.XXXXXX";

static void put(const char *path, const char *text)
{
	char full[256];
	FILE *f;

	snprintf(full, sizeof full, "%s/%s", root, path);
	if (!text) {
		unlink(full);
		return;
	}
	f = fopen(full, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void test_none(void **state)
{
	struct limits machine = limits_read("/nonexistent");

	(void)state;
	assert_true(machine.cpus >= 1);
	assert_true(machine.memory > 1 << 20);
	assert_true(limits_read(NULL).cpus > 0);
}

static void test_version_2(void **state)
{
	(void)state;
	put("cpu.max", "50000 100000\n");
	put("memory.max", "4294967\n");
	assert_true(limits_read(root).cpus == 0.5);
	assert_int_equal(limits_read(root).memory, 4294967);

	/* No limit, and what is none. */
	struct limits machine = limits_read("/nonexistent");

	put("cpu.max", "max 100000\n");
	put("memory.max", "max\n");
	assert_true(limits_read(root).cpus == machine.cpus);
	assert_int_equal(limits_read(root).memory, machine.memory);
	put("cpu.max", "-5 0\n");
	put("memory.max", "0\n");
	assert_true(limits_read(root).cpus == machine.cpus);
	assert_int_equal(limits_read(root).memory, machine.memory);
	put("cpu.max", NULL);
	put("memory.max", NULL);
}

static void test_version_1(void **state)
{
	char dir[256];

	(void)state;
	snprintf(dir, sizeof dir, "%s/cpu", root);
	assert_int_equal(mkdir(dir, 0700), 0);
	snprintf(dir, sizeof dir, "%s/memory", root);
	assert_int_equal(mkdir(dir, 0700), 0);
	put("cpu/cpu.cfs_quota_us", "25000\n");
	put("cpu/cpu.cfs_period_us", "100000\n");
	put("memory/memory.limit_in_bytes", "1048576\n");
	assert_true(limits_read(root).cpus == 0.25);
	assert_int_equal(limits_read(root).memory, 1048576);

	put("cpu/cpu.cfs_quota_us", "-1\n");
	put("memory/memory.limit_in_bytes", "9223372036854771712\n");
	assert_true(limits_read(root).cpus >= 1);
	assert_int_equal(limits_read(root).memory, limits_read("/nonexistent").memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_none), cmocka_unit_test(test_version_2),
					    cmocka_unit_test(test_version_1) };
	char command[300];
	int failed;

	if (!mkdtemp(root))
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	snprintf(command, sizeof command, "rm -rf '%s'", root);
	return system(command) || failed;
}
