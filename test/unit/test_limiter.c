// links: store/kube base
/* The client's own rate limit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "store/kube/limiter.h"

static uint64_t soon(void)
{
	return clock_monotonic_ms() + 60000;
}

static void test_a_burst_then_the_rate(void **state)
{
	struct limiter *l = limiter_new(100, 5);
	uint64_t start = clock_monotonic_ms();

	(void)state;
	for (int i = 0; i < 25; i++)
		assert_int_equal(limiter_wait(l, LIMITER_NORMAL, soon(), NULL, NULL), 0);
	/* 5 at once, 20 at 10 ms each. */
	assert_in_range(clock_monotonic_ms() - start, 190, 5000);
	limiter_free(l);
}

struct order {
	struct limiter *l;
	atomic_uint next;
};

struct turn {
	struct order *order;
	enum limiter_class class;
	unsigned number;
};

static void *take_turn(void *arg)
{
	struct turn *t = arg;

	assert_int_equal(limiter_wait(t->order->l, t->class, soon(), NULL, NULL), 0);
	t->number = ++t->order->next;
	return NULL;
}

/* Lists that came first wait for a status that comes last. */
static void test_urgent_goes_first(void **state)
{
	static const enum limiter_class classes[] = { LIMITER_LATER,  LIMITER_LATER,  LIMITER_NORMAL,
						      LIMITER_NORMAL, LIMITER_URGENT, LIMITER_URGENT };
	static const unsigned last[] = { 6, 6, 4, 4, 2, 2 };
	struct order o = { .l = limiter_new(1.5, 1) };
	struct turn turns[6];
	pthread_t threads[6];

	(void)state;
	limiter_wait(o.l, LIMITER_NORMAL, soon(), NULL, NULL); /* the next token comes in two thirds of a second */
	for (size_t i = 0; i < 6; i++) {
		turns[i] = (struct turn){ &o, classes[i], 0 };
		pthread_create(&threads[i], NULL, take_turn, &turns[i]);
		cancel_wait(NULL, 30);
	}
	for (size_t i = 0; i < 6; i++)
		pthread_join(threads[i], NULL);
	for (size_t i = 0; i < 6; i++)
		assert_in_range(turns[i].number, last[i] - 1, last[i]);
	limiter_free(o.l);
}

static void test_waiting_ends(void **state)
{
	struct limiter *l = limiter_new(0.001, 1);
	struct cancel *cancel = cancel_new(NULL);
	AUTO_ERROR struct error *err = NULL, *cancelled = NULL;

	(void)state;
	assert_int_equal(limiter_wait(l, LIMITER_LATER, soon(), NULL, NULL), 0);
	assert_int_equal(limiter_wait(l, LIMITER_URGENT, clock_monotonic_ms() + 20, NULL, &err), -1);
	assert_string_equal(err->reason, "RateLimited");
	assert_int_equal(err->class, ERROR_TRANSIENT);
	cancel_request(cancel);
	assert_int_equal(limiter_wait(l, LIMITER_URGENT, soon(), cancel, &cancelled), -1);
	assert_int_equal(cancelled->class, ERROR_CANCELLED);
	cancel_free(cancel);
	limiter_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_burst_then_the_rate),
		cmocka_unit_test(test_urgent_goes_first),
		cmocka_unit_test(test_waiting_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
