// links: source base
/* Every provider has what the contract asks for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "source/source.h"

static void test_providers_are_complete(void **state)
{
	static const char *const kinds[] = { "OvaSource", "VmwareSource" };

	(void)state;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		const struct source_ops *ops = source_ops_of(kinds[i]);

		assert_non_null(ops);
		assert_string_equal(ops->kind, kinds[i]);
		assert_true(ops->open && ops->close && ops->verify && ops->describe && ops->preflight);
		assert_true(ops->power_state && ops->shutdown_guest && ops->power_off && ops->power_on);
		assert_true(ops->export_begin && ops->export_stream && ops->export_progress && ops->export_end && ops->cleanup);
	}
	assert_ptr_equal(source_ops_of("vmwaresource"), source_ops_of("VmwareSource"));
	assert_null(source_ops_of("Pod"));
	assert_null(source_ops_of(""));
	assert_null(source_ops_of(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_providers_are_complete) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
