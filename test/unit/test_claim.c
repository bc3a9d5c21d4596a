// links: transfer disk source api json base PkgConfig::jansson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "scratch.h"
#include "transfer/claim.h"
#include "transfer/journal.h"
#include "json/codec.h"

static char target[96], claim[128];

static int setup(void **state)
{
	if (scratch_make(state) < 0)
		return -1;
	snprintf(target, sizeof target, "%s/vm", directory);
	snprintf(claim, sizeof claim, "%s/.import.json", target);
	return 0;
}

static int take(const char *import, const char *machine, struct error **err)
{
	AUTO_JSON json_t *of = json_pack("{s:s}", "machine", machine);

	return claim_take(target, import, of, err);
}

static void assert_holder(const char *import)
{
	AUTO_FREE char *holder = claim_holder(target);

	if (!import)
		assert_null(holder);
	else
		assert_string_equal(holder, import);
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

/* A disk that is recorded as finished, as far as journal_doubt looks. */
static void make_disk(char path[160])
{
	snprintf(path, 160, "%s/disk-0.raw", target);
	write_file(path, "x");
	snprintf(path, 160, "%s/.disk-0.raw.journal", target);
	write_file(path, "{}");
}

static void test_a_directory_is_one_imports(void **state)
{
	AUTO_ERROR struct error *err = NULL;
	char recorded[160];

	(void)state;
	assert_holder(NULL);
	assert_int_equal(take("default/a", "vm-1", NULL), 0);
	assert_holder("default/a");
	make_disk(recorded);
	assert_int_equal(take("default/a", "vm-1", NULL), 0);
	assert_int_equal(access(recorded, F_OK), 0); /* its disks are believed */
	assert_int_equal(take("default/b", "vm-1", &err), -1);
	assert_string_equal(err->reason, "DirectoryTaken");
	assert_int_equal(err->class, ERROR_PERMANENT);
	assert_non_null(strstr(err->message, "default/a"));
	assert_non_null(strstr(err->message, target));
	assert_holder("default/a");
	assert_int_equal(access(recorded, F_OK), 0);
}

/* The import names another machine now: what is there of the first one is not this one's. */
static void test_another_machines_disks_are_doubted(void **state)
{
	char recorded[160];

	(void)state;
	assert_int_equal(take("default/a", "vm-1", NULL), 0);
	make_disk(recorded);
	assert_int_equal(take("default/a", "vm-2", NULL), 0);
	assert_int_equal(access(recorded, F_OK), -1);
	make_disk(recorded);
	assert_int_equal(take("default/a", "vm-2", NULL), 0); /* and that is remembered */
	assert_int_equal(access(recorded, F_OK), 0);
}

/* Disks without a claim, and with one that says nothing, are of nobody knows what. */
static void test_disks_of_nobody_are_doubted(void **state)
{
	static const char *const texts[] = { NULL, "", "{", "[]", "{\"import\": 1}", "{\"of\": {\"machine\": \"vm-1\"}}" };

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		char recorded[160];

		assert_int_equal(mkdir(target, 0700), 0);
		if (texts[i])
			write_file(claim, texts[i]);
		make_disk(recorded);
		assert_holder(NULL);
		assert_int_equal(take("default/a", "vm-1", NULL), 0);
		assert_int_equal(access(recorded, F_OK), -1);
		assert_holder("default/a");
		assert_int_equal(journal_remove(target, NULL), 0);
	}
}

static void test_what_cannot_be_written_is_told(void **state)
{
	AUTO_ERROR struct error *err = NULL;
	struct stat st;

	(void)state;
	write_file(target, "a file");
	assert_int_equal(take("default/a", "vm-1", &err), -1);
	assert_non_null(strstr(err->message, target));
	assert_holder(NULL);
	assert_int_equal(stat(target, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(unlink(target), 0);
}

static void *claim_it(void *arg)
{
	return (void *)(intptr_t)take(arg, "vm-1", NULL);
}

/* Of many that claim a directory at once, one gets it. */
static void test_one_of_many_gets_it(void **state)
{
	static const char *const imports[] = { "default/a", "default/b", "default/c", "default/d" };

	(void)state;
	for (int round = 0; round < 50; round++) {
		AUTO_FREE char *holder = NULL;
		pthread_t threads[4];
		unsigned got = 0;

		for (size_t i = 0; i < 4; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, claim_it, (void *)imports[i]), 0);
		for (size_t i = 0; i < 4; i++) {
			void *result;

			pthread_join(threads[i], &result);
			if (result)
				continue;
			got++;
			assert_holder(imports[i]);
		}
		assert_int_equal(got, 1);
		assert_int_equal(journal_remove(target, NULL), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_directory_is_one_imports, setup, scratch_remove),
		cmocka_unit_test_setup_teardown(test_another_machines_disks_are_doubted, setup, scratch_remove),
		cmocka_unit_test_setup_teardown(test_disks_of_nobody_are_doubted, setup, scratch_remove),
		cmocka_unit_test_setup_teardown(test_what_cannot_be_written_is_told, setup, scratch_remove),
		cmocka_unit_test_setup_teardown(test_one_of_many_gets_it, setup, scratch_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
