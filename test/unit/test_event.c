// links: store api json base PkgConfig::jansson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <string.h>

#include "api/resources.h"
#include "base/clock.h"
#include "store/event.h"
#include "json/codec.h"

/* A store that keeps what it is sent, or refuses. */
struct fake {
	struct store store;
	pthread_mutex_t lock;
	json_t *created, *patched;
	int refuse, delay_ms;
	const char *reason;
	unsigned asked;
};

static json_t *fake_create(struct store *store, const struct resource *res, const char *ns, const json_t *object, struct error **err)
{
	struct fake *f = (struct fake *)store;

	cancel_wait(NULL, (unsigned)f->delay_ms);
	LOCK_GUARD(&f->lock);
	f->asked++;
	assert_ptr_equal(res, &api_events);
	assert_string_equal(ns, json_path_string(object, "metadata.namespace"));
	if (f->refuse) {
		error_set_code(err, ERROR_PERMANENT, f->reason, f->refuse, "refused");
		return NULL;
	}
	json_array_append(f->created, (json_t *)object);
	return json_incref((json_t *)object);
}

static json_t *fake_patch(struct store *store, const struct resource *res, const char *ns, const char *name, const char *subresource,
			  const json_t *merge_patch, struct error **err)
{
	struct fake *f = (struct fake *)store;
	json_t *first;

	(void)res;
	(void)ns;
	(void)subresource;
	(void)err;
	LOCK_GUARD(&f->lock);
	first = json_array_get(f->created, 0);
	assert_string_equal(name, json_path_string(first, "metadata.name"));
	json_array_append(f->patched, (json_t *)merge_patch);
	return json_incref(first);
}

static const struct store_ops fake_ops = { .create = fake_create, .patch = fake_patch };

static void open_fake(struct fake *f)
{
	*f = (struct fake){ .store.ops = &fake_ops, .created = json_array(), .patched = json_array() };
	pthread_mutex_init(&f->lock, NULL);
}

static void close_fake(struct fake *f)
{
	json_decref(f->created);
	json_decref(f->patched);
	pthread_mutex_destroy(&f->lock);
}

static json_t *import(const char *name, const char *ns)
{
	return json_pack("{s:s, s:s, s:{s:s, s:s*, s:s, s:s}}", "apiVersion", API_GROUP_VERSION, "kind", "VirtualMachineImport", "metadata",
			 "name", name, "namespace", ns, "uid", "u-1", "resourceVersion", "7");
}

static void test_an_event_has_all_that_is_asked(void **state)
{
	struct fake f;
	struct event_recorder *r;
	AUTO_JSON json_t *object = import("web", "team"), *cluster = import("class", NULL);
	const json_t *e;

	(void)state;
	open_fake(&f);
	r = event_recorder_new(&f.store, "vm-import-controller", NULL);
	event_record(r, object, "Warning", "ExportFailed", "no such VM");
	event_record(r, cluster, "Normal", "Ready", "x");
	event_recorder_free(r);
	assert_int_equal(json_array_size(f.created), 2);
	e = json_array_get(f.created, 0);
	assert_int_equal(strncmp(json_path_string(e, "metadata.name"), "web.", 4), 0);
	assert_string_equal(json_path_string(e, "metadata.namespace"), "team");
	assert_string_equal(json_path_string(e, "reportingController"), "vm-import-controller");
	assert_true(*json_path_string(e, "reportingInstance"));
	assert_string_equal(json_path_string(e, "type"), "Warning");
	assert_string_equal(json_path_string(e, "reason"), "ExportFailed");
	assert_true(*json_path_string(e, "action"));
	assert_string_equal(json_path_string(e, "note"), "no such VM");
	assert_string_equal(json_path_string(e, "regarding.kind"), "VirtualMachineImport");
	assert_string_equal(json_path_string(e, "regarding.apiVersion"), API_GROUP_VERSION);
	assert_string_equal(json_path_string(e, "regarding.name"), "web");
	assert_string_equal(json_path_string(e, "regarding.namespace"), "team");
	assert_string_equal(json_path_string(e, "regarding.uid"), "u-1");
	assert_true(clock_parse_rfc3339(json_path_string(e, "eventTime")) > 0);
	assert_string_equal(json_path_string(json_array_get(f.created, 1), "metadata.namespace"), "default");
	close_fake(&f);
}

static void test_the_same_again_is_a_series(void **state)
{
	struct fake f;
	struct event_recorder *r;
	AUTO_JSON json_t *object = import("web", "team");

	(void)state;
	open_fake(&f);
	r = event_recorder_new(&f.store, "c", NULL);
	for (int i = 0; i < 3; i++)
		event_record(r, object, "Normal", "Waiting", "for the source");
	event_record(r, object, "Warning", "Waiting", "for the source"); /* another type is another event */
	event_record(r, object, "Normal", "Waiting", "for the image");
	event_recorder_free(r);
	assert_int_equal(json_array_size(f.created), 3);
	assert_int_equal(json_array_size(f.patched), 2);
	assert_int_equal(json_integer_value(json_path(json_array_get(f.patched, 0), "series.count")), 2);
	assert_int_equal(json_integer_value(json_path(json_array_get(f.patched, 1), "series.count")), 3);
	assert_true(clock_parse_rfc3339(json_path_string(json_array_get(f.patched, 1), "series.lastObservedTime")) > 0);
	close_fake(&f);
}

static void test_counts_are_not_sent_each_time(void **state)
{
	struct fake f;
	struct event_recorder *r;
	AUTO_JSON json_t *object = import("web", "team");

	(void)state;
	open_fake(&f);
	r = event_recorder_new(&f.store, "c", NULL);
	for (int i = 0; i < 500; i++)
		event_record(r, object, "Normal", "Waiting", "for the source");
	event_recorder_free(r);
	assert_int_equal(json_array_size(f.created), 1);
	assert_int_equal(json_array_size(f.patched), 2); /* the first time, and at the end */
	assert_int_equal(json_integer_value(json_path(json_array_get(f.patched, 1), "series.count")), 500);
	close_fake(&f);
}

static void test_one_object_does_not_flood(void **state)
{
	struct fake f;
	struct event_recorder *r;
	AUTO_JSON json_t *noisy = import("noisy", "team"), *quiet = import("quiet", "team");
	char note[16];
	size_t of_quiet = 0, i;
	const json_t *e;

	(void)state;
	open_fake(&f);
	r = event_recorder_new(&f.store, "c", NULL);
	for (int n = 0; n < 200; n++) {
		snprintf(note, sizeof note, "%d", n);
		event_record(r, noisy, "Normal", "A", note);
	}
	event_record(r, quiet, "Normal", "A", "x");
	event_record(r, noisy, "Normal", "A", "0"); /* one more of a series is none that counts */
	event_recorder_free(r);
	assert_int_equal(json_array_size(f.created), 26);
	json_array_foreach (f.created, i, e)
		of_quiet += !strcmp(json_path_string(e, "regarding.name"), "quiet");
	assert_int_equal(of_quiet, 1);
	close_fake(&f);
}

static void test_a_long_note_is_cut_between_characters(void **state)
{
	struct fake f;
	struct event_recorder *r;
	AUTO_JSON json_t *object = import("web", "team");
	char note[1100];

	(void)state;
	memset(note, 'x', sizeof note);
	memcpy(note + 1022, "\xe2\x82\xac", 3);
	note[sizeof note - 1] = 0;
	open_fake(&f);
	r = event_recorder_new(&f.store, "c", NULL);
	event_record(r, object, "Normal", "A", note);
	event_record(r, object, "Normal", "B", "caf\xe9 \xc3\xa9 \xed\xa0\x80 \xc0\xaf \xe2\x82");
	event_recorder_free(r);
	assert_int_equal(json_array_size(f.created), 2);
	assert_int_equal(strlen(json_path_string(json_array_get(f.created, 0), "note")), 1022);
	assert_string_equal(json_path_string(json_array_get(f.created, 1), "note"), "caf? \xc3\xa9 ??? ?? ??");
	close_fake(&f);
}

static void test_a_long_name_stays_a_name(void **state)
{
	struct fake f;
	struct event_recorder *r;
	char name[254];
	AUTO_JSON json_t *object = NULL;

	(void)state;
	memset(name, 'n', 253);
	name[253] = 0;
	name[198] = name[199] = '-';
	object = import(name, "team");
	open_fake(&f);
	r = event_recorder_new(&f.store, "c", NULL);
	event_record(r, object, "Normal", "A", "x");
	event_recorder_free(r);
	assert_int_equal(json_array_size(f.created), 1);
	assert_int_equal(strlen(json_path_string(json_array_get(f.created, 0), "metadata.name")), 198 + 1 + 16);
	close_fake(&f);
}

static unsigned asked_after(int refuse, const char *reason)
{
	struct fake f;
	struct event_recorder *r;
	AUTO_JSON json_t *object = import("web", "team");
	unsigned asked;

	open_fake(&f);
	f.refuse = refuse;
	f.reason = reason;
	r = event_recorder_new(&f.store, "c", NULL);
	for (int i = 0; i < 5; i++)
		event_record(r, object, "Normal", "A", "x");
	event_recorder_free(r);
	asked = f.asked;
	close_fake(&f);
	return asked;
}

static void test_without_permission_it_goes_quiet(void **state)
{
	(void)state;
	assert_int_equal(asked_after(403, "Forbidden"), 1);
	assert_int_equal(asked_after(405, "MethodNotAllowed"), 1);
	assert_int_equal(asked_after(403, "NamespaceTerminating"), 5);
	assert_int_equal(asked_after(500, "InternalError"), 5);
}

static void test_free_gives_up_after_two_seconds(void **state)
{
	struct fake f;
	struct event_recorder *r;
	AUTO_JSON json_t *object = import("web", "team");
	char note[16];
	uint64_t start;

	(void)state;
	open_fake(&f);
	f.delay_ms = 300;
	r = event_recorder_new(&f.store, "c", NULL);
	for (int i = 0; i < 2000; i++) { /* more than it keeps waiting */
		snprintf(note, sizeof note, "%d", i);
		event_record(r, object, "Normal", "A", note);
	}
	start = clock_monotonic_ms();
	event_recorder_free(r);
	assert_true(clock_monotonic_ms() - start >= 1900);
	assert_in_range(f.asked, 1, 20);
	close_fake(&f);
}

static void test_nothing_is_fine(void **state)
{
	(void)state;
	event_record(NULL, NULL, "Normal", "A", "x");
	event_recorder_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_event_has_all_that_is_asked),
		cmocka_unit_test(test_the_same_again_is_a_series),
		cmocka_unit_test(test_counts_are_not_sent_each_time),
		cmocka_unit_test(test_one_object_does_not_flood),
		cmocka_unit_test(test_a_long_note_is_cut_between_characters),
		cmocka_unit_test(test_a_long_name_stays_a_name),
		cmocka_unit_test(test_without_permission_it_goes_quiet),
		cmocka_unit_test(test_free_gives_up_after_two_seconds),
		cmocka_unit_test(test_nothing_is_fine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
