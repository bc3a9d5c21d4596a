// links: store json base PkgConfig::jansson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "store/informer.h"
#include "store/selector.h"
#include "json/codec.h"

static const struct resource things = { "", "v1", "Thing", "things", true, false };

/* What the handler was told, one after the other: "A ns/name@version", "M ns/name@old>new", "D ns/name@version". */
struct record {
	struct informer *informer;
	char text[1024];
	bool cache_was_ahead; /* the cache had each change before it was told */
};

static const char *version(const json_t *object)
{
	const char *v = json_path_string(object, "metadata.resourceVersion");

	return v ? v : "none";
}

static void on_change(void *arg, enum store_event event, const json_t *old, const json_t *object)
{
	struct record *r = arg;
	const char *ns = json_path_string(object, "metadata.namespace"), *name = json_path_string(object, "metadata.name");
	AUTO_JSON json_t *cached = informer_get(r->informer, ns, name); /* no lock is held: this does not hang */
	size_t n = strlen(r->text);

	if (event != STORE_DELETED && !json_equal(cached, object))
		r->cache_was_ahead = false;
	assert_null(json_path(object, "metadata.managedFields"));
	snprintf(r->text + n, sizeof r->text - n, "%c %s/%s@%s%s%s;", "AMD"[event], ns ? ns : "", name,
		 event == STORE_MODIFIED ? version(old) : "", event == STORE_MODIFIED ? ">" : "", version(object));
}

static struct informer *start(struct record *r)
{
	*r = (struct record){ .cache_was_ahead = true };
	r->informer = informer_new(&things, on_change, r, NULL, NULL);
	assert_non_null(r->informer);
	return r->informer;
}

static json_t *thing(const char *ns, const char *name, const char *resource_version, const char *uid)
{
	return json_pack("{s:s, s:{s:s, s:s, s:s, s:s*, s:[s]}}", "kind", "Thing", "metadata", "namespace", ns, "name", name,
			 "resourceVersion", resource_version, "uid", uid, "managedFields", "long");
}

static void put(struct informer *i, const char *ns, const char *name, const char *resource_version, const char *uid)
{
	AUTO_JSON json_t *object = thing(ns, name, resource_version, uid);

	informer_put(i, object);
	assert_non_null(json_path(object, "metadata.managedFields")); /* the caller's object stays as it was */
}

static void test_put_and_remove(void **state)
{
	struct record r;
	struct informer *i = start(&r);
	AUTO_JSON json_t *object = thing("a", "x", "3", "u1"), *cached = NULL, *list = NULL;

	(void)state;
	put(i, "a", "x", "1", "u1");
	put(i, "a", "x", "1", "u1"); /* seen already */
	put(i, "a", "x", "2", "u1");
	put(i, "b", "x", "9", "u2");
	cached = informer_get(i, "a", "x");
	assert_string_equal(version(cached), "2");
	assert_null(json_path(cached, "metadata.managedFields"));
	assert_int_equal(informer_count(i), 2);
	list = informer_list(i, "a");
	assert_int_equal(json_array_size(list), 1);
	informer_remove(i, object);
	informer_remove(i, object); /* gone already */
	assert_string_equal(r.text, "A a/x@1;M a/x@1>2;A b/x@9;D a/x@3;");
	assert_true(r.cache_was_ahead);
	assert_null(informer_get(i, "a", "x"));
	assert_string_equal(version(cached), "2"); /* our reference outlives it */
	informer_free(i);
}

static void test_replace_finds_what_was_missed(void **state)
{
	struct record r;
	struct informer *i = start(&r);
	AUTO_JSON json_t *first =
		json_pack("[o, o, o]", thing("a", "stays", "1", "s"), thing("a", "goes", "2", "g"), thing("a", "changes", "3", "c"));
	AUTO_JSON json_t *second =
		json_pack("[o, o, o]", thing("a", "comes", "7", "n"), thing("a", "changes", "6", "c"), thing("a", "stays", "1", "s"));

	(void)state;
	assert_false(informer_synced(i));
	informer_replace(i, first);
	assert_true(informer_synced(i));
	r.text[0] = 0;
	informer_replace(i, second);
	assert_string_equal(r.text, "A a/comes@7;M a/changes@3>6;D a/goes@2;");
	assert_int_equal(informer_count(i), 3);
	informer_free(i);
}

static void test_an_empty_list_is_a_sync_too(void **state)
{
	struct record r;
	struct informer *i = start(&r);
	AUTO_JSON json_t *none = json_array();

	(void)state;
	informer_replace(i, none);
	assert_true(informer_wait(i, NULL));
	assert_string_equal(r.text, "");
	informer_free(i);
}

static void test_another_object_of_the_same_name(void **state)
{
	struct record r;
	struct informer *i = start(&r);
	AUTO_JSON json_t *list = json_pack("[o]", thing("a", "x", "5", "second"));

	(void)state;
	put(i, "a", "x", "1", "first");
	informer_replace(i, list);
	assert_string_equal(r.text, "A a/x@1;D a/x@1;A a/x@5;");
	informer_free(i);
}

static void on_stop(void *arg)
{
	atomic_fetch_add((atomic_int *)arg, 1);
}

static void test_stop_is_called_once(void **state)
{
	atomic_int stopped = 0;
	struct informer *i = informer_new(&things, NULL, NULL, on_stop, &stopped);

	(void)state;
	put(i, "a", "x", "1", NULL); /* no handler is fine */
	informer_free(i);
	assert_int_equal(stopped, 1);
	informer_free(NULL);
}

static void test_wait_is_cancelled(void **state)
{
	struct record r;
	struct informer *i = start(&r);
	struct cancel *cancel = cancel_new(NULL);

	(void)state;
	cancel_request(cancel);
	assert_false(informer_wait(i, cancel));
	cancel_free(cancel);
	informer_free(i);
}

struct readers {
	struct informer *informer;
	atomic_bool stop;
};

static void *read_all(void *arg)
{
	struct readers *r = arg;

	while (!r->stop) {
		AUTO_JSON json_t *one = informer_get(r->informer, "a", "x"), *all = informer_list(r->informer, NULL);
		AUTO_FREE char *text = json_dumps(all, JSON_COMPACT);

		if (one)
			version(one);
	}
	return NULL;
}

/* For the thread sanitizer: readers use objects while the writer replaces and drops them. */
static void test_readers_beside_the_writer(void **state)
{
	struct readers r = { .informer = informer_new(&things, NULL, NULL, NULL, NULL) };
	pthread_t threads[3];
	char text[16];

	(void)state;
	for (size_t i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, read_all, &r);
	for (int i = 0; i < 3000; i++) {
		AUTO_JSON json_t *object = NULL;

		snprintf(text, sizeof text, "%d", i);
		object = thing("a", i % 2 ? "x" : "y", text, "u");
		if (i % 5)
			informer_put(r.informer, object);
		else
			informer_remove(r.informer, object);
	}
	r.stop = true;
	for (size_t i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	informer_free(r.informer);
}

static void test_selectors(void **state)
{
	AUTO_JSON json_t *object = json_pack("{s:{s:{s:s, s:s}}}", "metadata", "labels", "a", "1", "example.com/b", "");
	AUTO_JSON json_t *bare = json_pack("{s:{}}", "metadata");
	static const char *const matching[] = { "", "a", "a=1", "a==1", "a=1,example.com/b", "a!=2", "c!=1", "!c", "example.com/b=", ",a" };
	static const char *const other[] = { "a=2", "a==", "c", "a=1,c", "a!=1", "!a", "c=1", "a=1,example.com/b=x" };

	(void)state;
	for (size_t i = 0; i < sizeof matching / sizeof *matching; i++)
		assert_true(selector_matches(matching[i], object));
	for (size_t i = 0; i < sizeof other / sizeof *other; i++)
		assert_false(selector_matches(other[i], object));
	assert_true(selector_matches(NULL, bare));
	assert_true(selector_matches("!a,b!=1", bare));
	assert_false(selector_matches("a", bare));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put_and_remove),
		cmocka_unit_test(test_replace_finds_what_was_missed),
		cmocka_unit_test(test_an_empty_list_is_a_sync_too),
		cmocka_unit_test(test_another_object_of_the_same_name),
		cmocka_unit_test(test_stop_is_called_once),
		cmocka_unit_test(test_wait_is_cancelled),
		cmocka_unit_test(test_readers_beside_the_writer),
		cmocka_unit_test(test_selectors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
