// links: reconcile store/dir source target transfer queue store web api json base PkgConfig::jansson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "reconcile/context.h"
#include "scratch.h"
#include "store/dir/dir.h"
#include "json/yaml.h"

static void apply(struct store *store, const char *text)
{
	AUTO_JSON json_t *objects = yaml_load(text, strlen(text), "test", NULL);

	assert_non_null(objects);
	assert_int_equal(dir_store_apply(store, json_is_array(objects) ? json_array_get(objects, 0) : objects, NULL), 0);
}

static void nothing(void *arg, const char *key)
{
	(void)arg;
	(void)key;
}

/* What was made at the source stays the import's matter while it cannot be undone only because this process is about to end. */
static void test_a_deletion_that_is_broken_off_is_not_done(void **state)
{
	static const struct target_ops target_ops = { .release = NULL };
	struct target target = { .ops = &target_ops };
	struct transfer_options transfers = { .notify = nothing };
	struct source_options sources = { .allow_local_urls = true };
	struct vmimport import = { .spec.source_cluster = { .kind = (char *)"VmwareSource", .name = (char *)"vc" } };
	struct vmimport_status status = { .import_status = (char *)"sourceReady" };
	struct reconciler r = { .scratch = directory };
	struct step s = { .r = &r, .key = "k", .ns = "default", .name = "a", .uid = "u", .import = &import, .status = &status };
	AUTO_ERROR struct error *err = NULL;
	bool gone = false;

	(void)state;
	assert_int_equal(scratch_make(NULL), 0);
	r.options.store = dir_store_open(directory, NULL);
	assert_non_null(r.options.store);
	apply(r.options.store, "{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {username: dQ==, password: cA==}}");
	apply(r.options.store, "{apiVersion: migration.harvesterhci.io/v1beta1, kind: VmwareSource, metadata: {name: vc}, "
			       "spec: {endpoint: 'https://127.0.0.1:1/sdk', dc: DC0, credentials: {name: s, namespace: default}}}");
	r.options.target = &target;
	r.cancel = cancel_new(NULL);
	r.attempts = attempts_new();
	r.noted = noted_new();
	r.transfers = transfer_engine_new(&transfers, NULL);
	struct sessions_options sessions = { .store = r.options.store, .sources = &sources, .cancel = r.cancel, .workers = 1 };
	r.sessions = sessions_new(&sessions);
	ledger_add(&status, "ExportLease", "session[1]vm-1");
	cancel_request(r.cancel);
	assert_int_equal(step_deleted(&s, &gone, &err), -1);
	assert_int_equal(err->class, ERROR_CANCELLED);
	assert_false(gone);
	assert_int_equal(status.ledger_count, 1);
	ledger_drop(&status, "ExportLease");
	free(status.ledger);
	sessions_free(r.sessions);
	transfer_engine_free(r.transfers);
	attempts_free(r.attempts);
	noted_free(r.noted);
	cancel_free(r.cancel);
	store_close(r.options.store);
	assert_int_equal(scratch_remove(NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_a_deletion_that_is_broken_off_is_not_done) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
