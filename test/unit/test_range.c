// links: web base
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "web/range.h"

static void range_header(void **state)
{
	static const struct {
		const char *text;
		enum range_kind kind;
		uint64_t first, last;
	} cases[] = {
		{ "bytes=1-2", RANGE_PART, 1, 2 },
		{ "BYTES=1-2", RANGE_PART, 1, 2 },
		{ "bytes=9-9", RANGE_PART, 9, 9 },
		{ "bytes=9-10", RANGE_PART, 9, 9 },
		{ "bytes=-3", RANGE_PART, 7, 9 },
		{ "bytes=-10", RANGE_PART, 0, 9 },
		{ "bytes=-18446744073709551616", RANGE_PART, 0, 9 },
		{ "bytes=0-18446744073709551615", RANGE_PART, 0, 9 },
		{ "bytes=10-", RANGE_UNSATISFIABLE, 0, 0 },
		{ "bytes=10-11", RANGE_UNSATISFIABLE, 0, 0 },
		{ "bytes=18446744073709551616-", RANGE_UNSATISFIABLE, 0, 0 },
		{ "", RANGE_WHOLE, 0, 0 },
		{ "bytes", RANGE_WHOLE, 0, 0 },
		{ "bytes=", RANGE_WHOLE, 0, 0 },
		{ "bytes=-", RANGE_WHOLE, 0, 0 },
		{ "bytes=1", RANGE_WHOLE, 0, 0 },
		{ "bytes=a-b", RANGE_WHOLE, 0, 0 },
		{ "bytes=1-2x", RANGE_WHOLE, 0, 0 },
		{ "bytes=1--2", RANGE_WHOLE, 0, 0 },
		{ "bytes=+1-2", RANGE_WHOLE, 0, 0 },
		{ "bytes=3-2", RANGE_WHOLE, 0, 0 },
		{ "bytes=1-2,", RANGE_WHOLE, 0, 0 },
		{ "bytes 1-2", RANGE_WHOLE, 0, 0 },
	};
	uint64_t first, last;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		first = last = 0;
		assert_int_equal(range_parse(cases[i].text, 10, &first, &last), cases[i].kind);
		assert_int_equal(first, cases[i].first);
		assert_int_equal(last, cases[i].last);
	}
	assert_int_equal(range_parse(NULL, 10, &first, &last), RANGE_WHOLE);
	assert_int_equal(range_parse("bytes=-1", 0, &first, &last), RANGE_UNSATISFIABLE);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(range_header) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
