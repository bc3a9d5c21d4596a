// links: base
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/backoff.h"
#include "base/buffer.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/size.h"

static void test_error_carries_and_wraps(void **state)
{
	AUTO_ERROR struct error *err = NULL;

	(void)state;
	assert_int_equal(error_set_code(&err, ERROR_NOT_FOUND, "VmNotFound", 404, "no VM %s", "a"), -1);
	assert_int_equal(error_wrap(&err, "cannot describe %d", 7), -1);
	assert_string_equal(err->message, "cannot describe 7: no VM a");
	assert_string_equal(err->reason, "VmNotFound");
	assert_int_equal(err->code, 404);
	/* A second error replaces the first and leaks nothing (asan tells). */
	error_set_errno(&err, ENOSPC, "cannot write %s", "/x");
	assert_int_equal(err->class, ERROR_TRANSIENT);
	assert_string_equal(err->reason, "NoSpace");
	assert_non_null(strstr(err->message, "/x: No space left on device"));
	assert_int_equal(error_set(NULL, ERROR_PERMANENT, NULL, "nobody asks"), -1);
}

static void test_buffer_keeps_its_maximum(void **state)
{
	struct buffer b;

	(void)state;
	buffer_init(&b, 10);
	assert_int_equal(buffer_add(&b, "12345", 5), 0);
	assert_int_equal(buffer_add(&b, "678901", 6), -1);
	assert_true(b.failed);
	assert_int_equal(b.len, 5);
	assert_int_equal(buffer_add(&b, "6", 1), -1); /* failed stays failed */
	buffer_clear(&b);
	assert_int_equal(buffer_addf(&b, "%s-%d", "ab", 12), 0);
	assert_string_equal(b.data, "ab-12");
	buffer_consume(&b, 3);
	assert_string_equal(b.data, "12");
	assert_int_equal(buffer_add(&b, "x", SIZE_MAX), -1);
	buffer_free(&b);
	buffer_init(&b, 10);
	char *empty = buffer_steal(&b);
	assert_string_equal(empty, "");
	free(empty);
}

static void test_messages_are_utf8(void **state)
{
	static const struct {
		const char *quoted, *message;
	} cases[] = {
		{ "Müller 虚拟 \xf0\x9f\x96\xa5", "Müller 虚拟 \xf0\x9f\x96\xa5" },
		{ "cut \xe8\x99", "cut ??" },
		{ "latin \xfc", "latin ?" },
		{ "\xc0\xaf \xed\xa0\x80 \xf4\x90\x80\x80", "?? ??? ????" },
		{ "a\nb\tc\x7f\x1b[1m", "a b c  [1m" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		AUTO_ERROR struct error *err = NULL;

		error_set(&err, ERROR_PERMANENT, "Reason", "%s", cases[i].quoted);
		assert_string_equal(err->message, cases[i].message);
	}
}

static void test_rfc3339(void **state)
{
	char now[CLOCK_RFC3339_SIZE];

	(void)state;
	assert_int_equal(clock_parse_rfc3339("1970-01-01T00:00:00Z"), 0);
	assert_int_equal(clock_parse_rfc3339("2026-11-24T12:00:00Z"), 1795521600);
	assert_int_equal(clock_parse_rfc3339("2026-11-24T14:00:00.123456+02:00"), 1795521600);
	assert_int_equal(clock_parse_rfc3339("2026-11-24T12:00:00"), -1);
	assert_int_equal(clock_parse_rfc3339("2026-11-24T12:00:00.Z"), -1);
	assert_int_equal(clock_parse_rfc3339("yesterday"), -1);
	assert_int_equal(clock_parse_rfc3339(NULL), -1);
	clock_rfc3339_of(1795521600, now);
	assert_string_equal(now, "2026-11-24T12:00:00Z");
	clock_rfc3339_us(now);
	assert_int_equal(strlen(now), strlen("2026-11-24T12:00:00.123456Z"));
	assert_true(llabs(clock_parse_rfc3339(now) - clock_unix()) <= 1);
}

static void *request_later(void *cancel)
{
	cancel_wait(NULL, 30);
	cancel_request(cancel);
	return NULL;
}

static void test_cancel_wakes_and_reaches_children(void **state)
{
	struct cancel *parent = cancel_new(NULL), *child = cancel_new(parent), *gone = cancel_new(parent);
	AUTO_ERROR struct error *err = NULL;
	uint64_t begun = clock_monotonic_ms();
	pthread_t thread;

	(void)state;
	cancel_free(gone);
	assert_false(cancel_wait(child, 5));
	pthread_create(&thread, NULL, request_later, parent);
	assert_true(cancel_wait(child, 10000));
	assert_true(clock_monotonic_ms() - begun < 5000);
	pthread_join(thread, NULL);
	assert_int_equal(cancel_check(child, &err), -1);
	assert_int_equal(err->class, ERROR_CANCELLED);
	struct cancel *late = cancel_new(parent);
	assert_true(cancel_requested(late));
	cancel_free(late);
	cancel_free(child);
	cancel_free(parent);
	assert_false(cancel_requested(NULL));
}

static void test_backoff_grows_to_its_cap(void **state)
{
	struct backoff b = { .base_ms = 100, .cap_ms = 1000 };
	unsigned most = 0;

	(void)state;
	for (int i = 0; i < 200; i++) {
		unsigned ms = backoff_next(&b);

		assert_true(ms >= 50 && ms <= 1000);
		assert_true(i > 0 || ms <= 101);
		if (ms > most)
			most = ms;
	}
	assert_true(most > 500); /* 200 tries: the chance that none is in the upper half is nil */
	backoff_reset(&b);
	assert_true(backoff_next(&b) <= 101);
	assert_int_equal(backoff_random(0), 0);
}

static void test_sizes_in_words(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = { { 0, "0 bytes" },
		      { 1, "1 byte" },
		      { 1023, "1023 bytes" },
		      { 1024, "1.0 KiB" },
		      { 10188, "9.9 KiB" },
		      { 10189, "10 KiB" },
		      { 1024 * 1024 - 512, "1.0 MiB" }, /* not 1024 KiB */
		      { UINT64_C(536870912), "512 MiB" },
		      { UINT64_C(3) << 40, "3.0 TiB" },
		      { UINT64_MAX, "16 EiB" } };
	char text[SIZE_TEXT];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_string_equal(size_text(cases[i].bytes, text), cases[i].text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_error_carries_and_wraps),
		cmocka_unit_test(test_buffer_keeps_its_maximum),
		cmocka_unit_test(test_messages_are_utf8),
		cmocka_unit_test(test_rfc3339),
		cmocka_unit_test(test_cancel_wakes_and_reaches_children),
		cmocka_unit_test(test_backoff_grows_to_its_cap),
		cmocka_unit_test(test_sizes_in_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
