// links: reconcile json base PkgConfig::jansson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "reconcile/context.h"

static void free_names_p(struct names **names)
{
	names_free(*names);
}

static void test_a_name_is_the_first_ones(void **state)
{
	CLEANUP(free_names_p) struct names *names = names_new();
	AUTO_FREE char *holder = NULL, *second = NULL, *again = NULL, *other = NULL;

	(void)state;
	assert_non_null(names);
	assert_int_equal(names_take(names, "web", "default/a", &holder), 0);
	assert_null(holder);
	assert_int_equal(names_take(names, "web", "default/b", &second), 0);
	assert_string_equal(second, "default/a");
	assert_int_equal(names_take(names, "web", "default/a", &again), 0); /* checked once more */
	assert_null(again);
	assert_int_equal(names_take(names, "db", "default/b", &other), 0);
	assert_null(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_name_is_the_first_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
