// links: store/kube json base PkgConfig::jansson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "store/kube/watch_decoder.h"
#include "json/codec.h"

#define OBJECT(name, version) "\"object\":{\"metadata\":{\"name\":\"" name "\",\"resourceVersion\":\"" version "\"}}"
#define EVENT(type, name, version) "{\"type\":\"" type "\"," OBJECT(name, version) "}\n"

static void on_event(void *arg, enum watch_type type, json_t *object)
{
	char *text = arg;
	const char *name = json_path_string(object, "metadata.name");

	sprintf(text + strlen(text), "%c%s@%s;", "AMDB"[type], name ? name : "", json_path_string(object, "metadata.resourceVersion"));
}

/* Feeds the text in pieces of size step, then checks what came of it. */
static void check(const char *text, size_t len, size_t step, const char *events, const char *error)
{
	char told[4096] = "";
	struct watch_decoder *d = watch_decoder_new(on_event, told);
	AUTO_ERROR struct error *err = NULL;

	for (size_t at = 0; at < len && !err; at += step)
		watch_decoder_feed(d, text + at, len - at < step ? len - at : step, &err);
	assert_string_equal(told, events);
	if (!error)
		assert_string_equal(error_message(err), "");
	else if (!strstr(error_message(err), error))
		fail_msg("\"%s\" does not say \"%s\"", error_message(err), error);
	watch_decoder_free(d);
}

static void check_splits(const char *text, const char *events, const char *error)
{
	size_t len = strlen(text);

	for (size_t step = 1; step <= len; step++)
		check(text, len, step, events, error);
	/* One cut at each place. */
	for (size_t cut = 0; cut <= len; cut++) {
		char told[4096] = "";
		struct watch_decoder *d = watch_decoder_new(on_event, told);
		AUTO_ERROR struct error *err = NULL;

		if (watch_decoder_feed(d, text, cut, &err) == 0)
			watch_decoder_feed(d, text + cut, len - cut, &err);
		assert_string_equal(told, events);
		assert_int_equal(err != NULL, error != NULL);
		watch_decoder_free(d);
	}
}

static void test_every_split(void **state)
{
	(void)state;
	check_splits(
		EVENT("ADDED", "a", "1") EVENT("MODIFIED", "a", "2") "\n\r\n" EVENT(
			"DELETED", "b\\u00e9",
			"3") "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"4\"}}}\r\n" EVENT("LATER", "z", "5")
			EVENT("ADDED", "c", "6"),
		"Aa@1;Ma@2;Db\u00e9@3;B@4;Ac@6;", NULL);
}

static void test_a_line_that_did_not_end_is_no_event(void **state)
{
	static const char text[] = EVENT("ADDED", "a", "1") EVENT("ADDED", "b", "2");

	(void)state;
	check(text, strlen(text) - 1, 7, "Aa@1;", NULL);
}

static void test_what_is_no_event(void **state)
{
	static const char *const bad[] = {
		"nonsense\n",
		"[]\n",
		"{}\n",
		"{\"type\":\"ADDED\"}\n",
		"{\"type\":1," OBJECT("a", "1") "}\n",
		"{\"type\":\"ADDED\",\"object\":[]}\n",
		"{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"a\"}}}\n",
		"{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"resourceVersion\":\"1\"}}}\n",
		"{\"type\":\"BOOKMARK\",\"object\":{}}\n",
		"{\"type\":\"ADDED\"," OBJECT("a", "1") "} x\n",
		"\xff\xfe\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char text[512];

		snprintf(text, sizeof text, "%s%s%s", EVENT("ADDED", "first", "1"), bad[i], EVENT("ADDED", "last", "2"));
		check_splits(text, "Afirst@1;", "no event");
	}
}

static void test_an_error_event_is_an_error(void **state)
{
	struct {
		const char *text;
		enum error_class class;
		const char *reason, *message;
		int code;
	} events[] = {
		{ "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,\"reason\":\"Expired\",\"message\":\"too old resource version\"}}\n",
		  ERROR_GONE, "Expired", "too old resource version", 410 },
		{ "{\"type\":\"ERROR\",\"object\":{\"code\":410}}\n", ERROR_GONE, "Gone", "410", 410 },
		{ "{\"type\":\"ERROR\",\"object\":{\"code\":500,\"reason\":\"Expired\"}}\n", ERROR_GONE, "Expired", "500", 500 },
		{ "{\"type\":\"ERROR\",\"object\":{\"code\":500,\"message\":\"etcd\"}}\n", ERROR_TRANSIENT, "InternalError", "etcd", 500 },
		{ "{\"type\":\"ERROR\",\"object\":{}}\n", ERROR_TRANSIENT, "InternalError", "500", 500 },
		{ "{\"type\":\"ERROR\",\"object\":{\"code\":403,\"reason\":\"Forbidden\",\"message\":\"no\"}}\n", ERROR_PERMANENT,
		  "Forbidden", "no", 403 },
		{ "{\"type\":\"ERROR\",\"object\":{\"code\":99999999999}}\n", ERROR_TRANSIENT, "InternalError", "500", 500 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
		char told[64] = "";
		struct watch_decoder *d = watch_decoder_new(on_event, told);
		AUTO_ERROR struct error *err = NULL;

		assert_int_equal(watch_decoder_feed(d, events[i].text, strlen(events[i].text), &err), -1);
		assert_int_equal(err->class, events[i].class);
		assert_string_equal(err->reason, events[i].reason);
		assert_non_null(strstr(err->message, events[i].message));
		assert_int_equal(err->code, events[i].code);
		assert_string_equal(told, "");
		watch_decoder_free(d);
	}
}

/* A line of the largest size is an event, one byte more is an error, in whatever pieces and without an end in sight. */
static void test_the_line_has_a_bound(void **state)
{
	static const char head[] = "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"1\"},\"x\":\"",
			  tail[] = "\"}}\n";
	size_t size = WATCH_LINE_MAX + 1; /* with its end */
	char *text = malloc(size + 1);

	(void)state;
	memset(text, 'x', size + 1);
	memcpy(text, head, strlen(head));
	memcpy(text + size - strlen(tail), tail, strlen(tail));
	check(text, size, size, "Aa@1;", NULL);
	check(text, size, 16384, "Aa@1;", NULL);
	memset(text + size - strlen(tail), 'x', strlen(tail));
	memcpy(text + size + 1 - strlen(tail), tail, strlen(tail));
	check(text, size + 1, size + 1, "", "more than 4 MiB");
	check(text, size + 1, 16384, "", "more than 4 MiB");
	check(text, size, 100000, "", "more than 4 MiB");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_split),          cmocka_unit_test(test_a_line_that_did_not_end_is_no_event),
		cmocka_unit_test(test_what_is_no_event),     cmocka_unit_test(test_an_error_event_is_an_error),
		cmocka_unit_test(test_the_line_has_a_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
