// links: api json base PkgConfig::jansson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "api/conditions.h"
#include "base/clock.h"

static void free_list(struct api_condition *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(list[i].type);
		free(list[i].status);
		free(list[i].reason);
		free(list[i].message);
		free(list[i].last_update_time);
		free(list[i].last_transition_time);
	}
	free(list);
}

static void set_time(char **text)
{
	free(*text);
	*text = strdup("2020-01-01T00:00:00Z");
}

static void transitions_and_updates(void **state)
{
	struct api_condition *list = NULL;
	size_t count = 0;

	(void)state;
	assert_null(condition_find(list, count, "Ready"));
	assert_false(condition_is_true(list, count, "Ready"));
	assert_true(condition_set(&list, &count, "Ready", "False", "Waiting", "for the source", false));
	assert_true(condition_set(&list, &count, "VMExported", "True", "Exported", "all", true));
	assert_int_equal(count, 2);
	assert_null(list[0].last_update_time); /* kstatus has none */
	assert_non_null(list[1].last_update_time);
	assert_true(clock_parse_rfc3339(list[0].last_transition_time) > 0);
	/* The same again changes nothing. */
	set_time(&list[0].last_transition_time);
	set_time(&list[1].last_transition_time);
	set_time(&list[1].last_update_time);
	assert_false(condition_set(&list, &count, "Ready", "False", "Waiting", "for the source", false));
	/* Another message is an update, but no transition. */
	assert_true(condition_set(&list, &count, "Ready", "False", "Waiting", "for the image", false));
	assert_string_equal(list[0].last_transition_time, "2020-01-01T00:00:00Z");
	assert_true(condition_set(&list, &count, "VMExported", "True", "Exported", "all of them", true));
	assert_string_equal(list[1].last_transition_time, "2020-01-01T00:00:00Z");
	assert_string_not_equal(list[1].last_update_time, "2020-01-01T00:00:00Z");
	/* Another status is both. A message may be its own old one. */
	assert_true(condition_set(&list, &count, "Ready", "True", "Imported", list[0].message, false));
	assert_string_not_equal(list[0].last_transition_time, "2020-01-01T00:00:00Z");
	assert_string_equal(list[0].message, "for the image");
	assert_true(condition_is_true(list, count, "Ready"));
	assert_int_equal(count, 2);
	free_list(list, count);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(transitions_and_updates) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
