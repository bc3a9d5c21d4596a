// links: disk base
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "disk_fixture.h"

/* Whatever is in its place, with and without a journal: an error that names it. */
static void test_what_cannot_be_opened(void **state)
{
	AUTO_FREE char *journal = file("journal"), *link = file("link"), *pipe = file("pipe"), *absent = file("absent/disk");
	const char *const places[] = { directory, link, pipe, absent, "/dev/null" };

	(void)state;
	assert_int_equal(symlink("/dev/null", link), 0);
	assert_int_equal(mkfifo(pipe, 0600), 0);
	for (size_t i = 0; i < 3 * sizeof places / sizeof *places; i++) {
		const char *path = places[i / 3];
		AUTO_ERROR struct error *err = NULL;
		struct disk_pipeline_options options = {
			.path = path, .workers = workers, .qcow2 = i % 3 == 1, .journal = i % 3 == 2 ? journal : NULL
		};

		assert_null(disk_pipeline_new(&options, &err));
		assert_non_null(strstr(err->message, path));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_cannot_be_opened),
	};

	return cmocka_run_group_tests(tests, disks_begin, disks_end);
}
