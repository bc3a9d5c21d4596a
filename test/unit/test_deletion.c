// links: reconcile store/dir source target transfer queue store web api json base PkgConfig::jansson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/conditions.h"
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

static int release(struct target *target, const struct target_import *import, struct error **err)
{
	(void)target;
	(void)import;
	(void)err;
	return 0;
}

/* A step of an import whose source, a vCenter, is not there. */
struct bench {
	struct target_ops target_ops;
	struct target target;
	struct transfer_options transfers;
	struct source_options sources;
	struct vmimport import;
	struct vmimport_status status;
	struct reconciler r;
	struct step s;
};

static void setup(struct bench *b)
{
	*b = (struct bench){ .target_ops = { .release = release },
			     .transfers = { .notify = nothing },
			     .sources = { .allow_local_urls = true },
			     .import = { .spec.source_cluster = { .kind = (char *)"VmwareSource", .name = (char *)"vc" } },
			     .r = { .scratch = directory } };
	b->target.ops = &b->target_ops;
	b->s = (struct step){
		.r = &b->r, .key = "k", .ns = "default", .name = "a", .uid = "u", .import = &b->import, .status = &b->status
	};
	assert_int_equal(scratch_make(NULL), 0);
	b->r.options.store = dir_store_open(directory, NULL);
	assert_non_null(b->r.options.store);
	apply(b->r.options.store, "{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {username: dQ==, password: cA==}}");
	apply(b->r.options.store, "{apiVersion: migration.harvesterhci.io/v1beta1, kind: VmwareSource, metadata: {name: vc}, "
				  "spec: {endpoint: 'https://127.0.0.1:1/sdk', dc: DC0, credentials: {name: s, namespace: default}}}");
	b->r.options.target = &b->target;
	b->r.cancel = cancel_new(NULL);
	b->r.attempts = attempts_new();
	b->r.noted = noted_new();
	b->r.transfers = transfer_engine_new(&b->transfers, NULL);
	struct sessions_options sessions = { .store = b->r.options.store, .sources = &b->sources, .cancel = b->r.cancel, .workers = 1 };
	b->r.sessions = sessions_new(&sessions);
}

static void teardown(struct bench *b)
{
	json_type_free(&api_vmimport_status_type, &b->status);
	sessions_free(b->r.sessions);
	transfer_engine_free(b->r.transfers);
	attempts_free(b->r.attempts);
	noted_free(b->r.noted);
	cancel_free(b->r.cancel);
	store_close(b->r.options.store);
	assert_int_equal(scratch_remove(NULL), 0);
}

/* What was made at the source stays the import's matter while it cannot be undone only because this process is about to end. */
static void test_a_deletion_that_is_broken_off_is_not_done(void **state)
{
	AUTO_ERROR struct error *err = NULL;
	bool gone = false;
	struct bench b;

	(void)state;
	setup(&b);
	b.status.import_status = strdup(STATE_SOURCE_READY);
	ledger_add(&b.status, "ExportLease", "session[1]vm-1");
	cancel_request(b.r.cancel);
	assert_int_equal(step_deleted(&b.s, &gone, &err), -1);
	assert_int_equal(err->class, ERROR_CANCELLED);
	assert_false(gone);
	assert_int_equal(b.status.ledger_count, 1);
	teardown(&b);
}

/* As the next run has it: what this one wrote was patched. */
static void next_run(struct bench *b)
{
	free(b->import.status.message);
	b->import.status.message = strdup(b->status.message);
	b->s.again_ms = 0;
}

/* The message names what is left at the source as long as it is, before the reason; then it is the usual one again. */
static void test_what_is_left_is_told(void **state)
{
	static const char wanted[] =
		"The virtual machine web is imported, but 2 things are left at the source: ExportLease session[1]vm-1, "
		"Snapshot snapshot-2; cannot undo Snapshot snapshot-2 at the source: ";
	AUTO_ERROR struct error *err = NULL;
	AUTO_FREE char *message = NULL;
	struct bench b;

	(void)state;
	setup(&b);
	b.status.import_status = strdup(STATE_RUNNING);
	b.status.imported_virtual_machine_name = strdup("web");
	b.status.message = strdup("The virtual machine web is imported");
	ledger_add(&b.status, "PowerState", "on");
	ledger_add(&b.status, "ExportLease", "session[1]vm-1");
	ledger_add(&b.status, "Snapshot", "snapshot-2");
	assert_int_equal(step_running(&b.s, &err), 0);
	if (strncmp(b.status.message, wanted, strlen(wanted)))
		fail_msg("%s", b.status.message);
	assert_non_null(strstr(b.status.message, LEDGER_NEXT_TRY "20"));
	assert_true(b.s.again_ms > 0);
	assert_false(condition_is_true(b.status.conditions, b.status.condition_count, "Ready"));
	/* The patch of this wakes the import, which is no reason to ask the source again. */
	message = strdup(b.status.message);
	next_run(&b);
	assert_int_equal(step_running(&b.s, &err), 0);
	assert_string_equal(b.status.message, message);
	assert_true(b.s.again_ms > 0);
	attempts_reset(b.r.attempts, "k left");
	ledger_drop(&b.status, "ExportLease");
	next_run(&b);
	assert_int_equal(step_running(&b.s, &err), 0);
	assert_non_null(strstr(b.status.message, "imported, but 1 thing is left at the source: Snapshot snapshot-2; "));
	attempts_reset(b.r.attempts, "k left");
	ledger_drop(&b.status, "Snapshot");
	next_run(&b);
	assert_int_equal(step_running(&b.s, &err), 0);
	assert_string_equal(b.status.message, "The virtual machine web is imported");
	assert_true(condition_is_true(b.status.conditions, b.status.condition_count, "Ready"));
	free(b.import.status.message);
	teardown(&b);
}

/* Of an import that failed, why it did comes first. */
static void test_what_a_failure_left_is_told(void **state)
{
	AUTO_ERROR struct error *err = NULL;
	struct bench b;

	(void)state;
	setup(&b);
	b.status.import_status = strdup(STATE_FAILED);
	b.status.message = strdup("The export failed: broken");
	b.import.status.message = strdup(b.status.message);
	ledger_add(&b.status, "Image", "i");
	assert_int_equal(step_failed(&b.s, &err), 0);
	assert_non_null(strstr(b.status.message, "The export failed: broken; besides, 1 thing is left at the source: Image i; "));
	attempts_reset(b.r.attempts, "k left");
	ledger_drop(&b.status, "Image");
	next_run(&b);
	assert_int_equal(step_failed(&b.s, &err), 0);
	assert_string_equal(b.status.message, "The export failed: broken");
	assert_true(condition_is_true(b.status.conditions, b.status.condition_count, "Stalled"));
	free(b.import.status.message);
	teardown(&b);
}

static struct source_export *damaged(struct source *source, const struct vm_model *m, source_ledger ledger, void *arg,
				     struct cancel *cancel, struct error **err)
{
	(void)source;
	(void)m;
	(void)ledger;
	(void)arg;
	(void)cancel;
	error_set(err, ERROR_TRANSIENT, "CorruptGrain", "grain 1 is corrupt");
	return NULL;
}

/* The disks' content is wrong, which a third export would not change. */
static void test_damage_is_not_exported_for_ever(void **state)
{
	static const struct source_ops ops = { .kind = "VmwareSource", .export_begin = damaged };
	struct vm_disk disk = { .id = (char *)"1", .capacity = 65536 };
	struct vm_model model = { .name = (char *)"web", .disks = &disk, .disk_count = 1 };
	struct source source = { .ops = &ops };
	struct transfer_status transfer;
	AUTO_ERROR struct error *err = NULL;
	AUTO_FREE char *below = NULL;
	bool running;
	struct bench b;

	(void)state;
	setup(&b);
	b.status.import_status = strdup(STATE_SOURCE_READY);
	assert_true(asprintf(&below, "%s/disks", directory) > 0);
	for (unsigned i = 0; i < 2; i++) {
		struct transfer_job_options job = { .key = "k", .directory = below, .source = &source, .model = &model };

		assert_string_equal(b.status.import_status, STATE_SOURCE_READY);
		assert_int_equal(transfer_start(b.r.transfers, &job, &err), 0);
		do {
			usleep(1000);
			transfer_status(b.r.transfers, "k", &transfer);
			running = transfer.state == TRANSFER_RUNNING;
			transfer_status_clear(&transfer);
		} while (running);
		error_free(move_ptr(err));
		assert_int_equal(step_source_ready(&b.s, &err), i ? 0 : -1);
	}
	assert_string_equal(b.status.import_status, STATE_FAILED);
	assert_non_null(strstr(b.status.message, "The export failed: grain 1 is corrupt"));
	teardown(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_deletion_that_is_broken_off_is_not_done),
		cmocka_unit_test(test_what_is_left_is_told),
		cmocka_unit_test(test_what_a_failure_left_is_told),
		cmocka_unit_test(test_damage_is_not_exported_for_ever),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
