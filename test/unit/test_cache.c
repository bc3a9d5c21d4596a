// links: store api json base PkgConfig::jansson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/cache.h"
#include "json/codec.h"

/* As big as an import of two disks that is done. */
static json_t *object(int i)
{
	json_t *disks = json_array();

	for (int d = 0; d < 12; d++)
		json_array_append_new(disks, json_pack("{s:s, s:i, s:f, s:b, s:n, s:s}", "diskName", "disk.raw", "bytesTransferred", i * d,
						       "part", 0.1 * i, "done", d % 2, "nothing", "text",
						       "two\nlines, \"quotes\" and \xc3\xa4\xe2\x82\xac in it, and much more of the same"));
	return json_pack("{s:{s:s, s:i}, s:{s:o}}", "metadata", "name", "x", "generation", i, "status", "diskImportStatus", disks);
}

static char *key(int i)
{
	static char text[32];

	snprintf(text, sizeof text, "namespace/import-%d", i);
	return text;
}

static bool count_key(void *arg, const char *k)
{
	assert_memory_equal(k, "namespace/import-", 17);
	return ++*(int *)arg < 1000000;
}

static bool only_one(void *arg, const char *k)
{
	(void)k;
	++*(int *)arg;
	return false;
}

static void gives_back_what_was_put(void **state)
{
	enum { MANY = 3000 };
	struct cache *c = cache_new();
	int seen = 0, one = 0;
	size_t text = 0;

	(void)state;
	assert_int_equal(cache_count(c), 0);
	assert_null(cache_get(c, "namespace/none"));
	cache_remove(c, "namespace/none");
	for (int i = 0; i < MANY; i++) {
		AUTO_JSON json_t *o = object(i);
		AUTO_FREE char *dump = json_dumps(o, JSON_COMPACT);

		text += strlen(dump);
		assert_int_equal(cache_put(c, key(i), o), 0);
	}
	assert_int_equal(cache_count(c), MANY);
	/* Every third is replaced, every third is removed; some are replaced by what is small, or big. */
	for (int i = 0; i < MANY; i++) {
		AUTO_JSON json_t *o = i % 2 ? json_pack("{s:i}", "small", i) : object(7 * i);

		if (i % 3 == 0)
			assert_int_equal(cache_put(c, key(i), o), 0);
		else if (i % 3 == 1)
			cache_remove(c, key(i));
	}
	assert_int_equal(cache_count(c), MANY - MANY / 3);
	for (int i = 0; i < MANY; i++) {
		AUTO_JSON json_t *got = cache_get(c, key(i));
		AUTO_JSON json_t *o = i % 3 || i % 2 == 0 ? object(i % 3 ? i : 7 * i) : json_pack("{s:i}", "small", i);

		if (i % 3 == 1)
			assert_null(got);
		else
			assert_true(json_equal(got, o));
	}
	cache_each(c, count_key, &seen);
	assert_int_equal(seen, MANY - MANY / 3);
	cache_each(c, only_one, &one);
	assert_int_equal(one, 1);
	/* Packed: much smaller than the text, which is much smaller than the json_t. */
	assert_true(cache_bytes(c) < text / 3);
	cache_free(c);
	cache_free(NULL);
}

static void few_are_kept_as_they_are(void **state)
{
	struct cache *c = cache_new();

	(void)state;
	for (int i = 0; i < 10; i++) {
		AUTO_JSON json_t *o = object(i), *got = NULL;

		assert_int_equal(cache_put(c, key(i), o), 0);
		assert_int_equal(cache_put(c, key(i), o), 0);
		got = cache_get(c, key(i));
		assert_true(json_equal(o, got));
		assert_ptr_not_equal(o, got); /* the caller's own */
	}
	for (int i = 0; i < 10; i++)
		cache_remove(c, key(i));
	assert_int_equal(cache_count(c), 0);
	assert_true(cache_bytes(c) < 1000);
	cache_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(gives_back_what_was_put), cmocka_unit_test(few_are_kept_as_they_are) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
