// links: reconcile store/dir source target transfer queue store web api json base PkgConfig::jansson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "reconcile/context.h"

static void nothing(void *arg, const char *key)
{
	(void)arg;
	(void)key;
}

/* The process may live on as one of several that do not lead: what it had to tell as the leader is not true any more. */
static void test_gauges_end_with_what_they_tell_of(void **state)
{
	static const char *const classes[] = { "virtualmachineimports", NULL };
	struct reconciler r = { .scratch = (char *)"/" };
	struct transfer_options transfers = { .notify = nothing };
	struct source_options sources = { 0 };
	struct sessions_options sessions = { .sources = &sources, .workers = 1 };
	AUTO_JSON json_t *failed =
		json_pack("{s:{s:s, s:s}, s:{s:s}}", "metadata", "namespace", "a", "name", "b", "status", "importStatus", STATE_FAILED);
	AUTO_FREE char *before = NULL, *after = NULL;

	(void)state;
	r.options.metrics = metrics_new();
	r.tally = tally_new();
	r.sessions = sessions_new(&sessions);
	r.transfers = transfer_engine_new(&transfers, NULL);
	tally_event(r.tally, STORE_ADDED, NULL, failed);
	assert_int_equal(reconcile_metrics_begin(&r, classes, 1), 0);
	before = metrics_text(r.options.metrics);
	assert_non_null(strstr(before, "vm_import_imports{state=\"VMMigrationFailed\"} 1\n"));
	assert_null(strstr(before, "vm_import_scratch_bytes_used 0\n"));
	reconcile_metrics_end(&r);
	after = metrics_text(r.options.metrics);
	assert_non_null(strstr(after, "vm_import_imports{state=\"VMMigrationFailed\"} 0\n"));
	assert_non_null(strstr(after, "vm_import_scratch_bytes_used 0\n"));
	transfer_engine_free(r.transfers);
	sessions_free(r.sessions);
	tally_free(r.tally);
	metrics_free(r.options.metrics);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_gauges_end_with_what_they_tell_of) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
