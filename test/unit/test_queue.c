// links: queue base
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/cancel.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "queue/queue.h"

static void assert_next(struct queue *q, const char *expected)
{
	AUTO_FREE char *key = queue_get(q);

	assert_non_null(key);
	assert_string_equal(key, expected);
}

static void test_a_key_is_in_once_and_in_order(void **state)
{
	struct queue *q = queue_new(10, 100);

	(void)state;
	queue_add(q, "a");
	queue_add(q, "b");
	queue_add(q, "a");
	assert_int_equal(queue_length(q), 2);
	assert_next(q, "a");
	queue_add(q, "c");
	assert_next(q, "b");
	assert_next(q, "c");
	assert_int_equal(queue_length(q), 0);
	queue_free(q);
}

static void test_added_while_worked_on_comes_again_once(void **state)
{
	struct queue *q = queue_new(10, 100);

	(void)state;
	queue_add(q, "a");
	assert_next(q, "a");
	queue_add(q, "a");
	queue_add(q, "a");
	assert_int_equal(queue_length(q), 0); /* nobody else gets it meanwhile */
	queue_done(q, "a");
	assert_int_equal(queue_length(q), 1);
	assert_next(q, "a");
	queue_done(q, "a");
	assert_int_equal(queue_length(q), 0);
	queue_free(q);
}

static void test_the_earliest_delay_counts(void **state)
{
	struct queue *q = queue_new(10, 100);
	uint64_t start = clock_monotonic_ms();

	(void)state;
	queue_add_after(q, "a", 5000);
	queue_add_after(q, "a", 100);
	queue_add_after(q, "a", 9000);
	queue_add_after(q, "b", 50);
	assert_int_equal(queue_length(q), 0);
	assert_next(q, "b");
	assert_in_range(clock_monotonic_ms() - start, 50, 99);
	assert_next(q, "a");
	assert_in_range(clock_monotonic_ms() - start, 100, 2000);
	queue_free(q);
}

static void test_an_add_at_once_keeps_the_delay(void **state)
{
	struct queue *q = queue_new(10, 100);
	uint64_t start = clock_monotonic_ms();

	(void)state;
	queue_add_after(q, "a", 60);
	queue_add(q, "a");
	assert_next(q, "a");
	assert_in_range(clock_monotonic_ms() - start, 0, 50);
	queue_done(q, "a");
	assert_next(q, "a");
	assert_in_range(clock_monotonic_ms() - start, 60, 2000);
	/* A delay that ends while the key is worked on makes it come again. */
	queue_add_after(q, "a", 20);
	queue_add_after(q, "b", 40);
	assert_next(q, "b");
	assert_int_equal(queue_length(q), 0);
	queue_done(q, "a");
	assert_next(q, "a");
	queue_free(q);
}

static void test_back_off_grows_and_is_forgotten(void **state)
{
	struct queue *q = queue_new(100, 1000);
	unsigned longest = 0;

	(void)state;
	for (int i = 0; i < 20; i++) {
		unsigned ms = queue_add_limited(q, "a");

		assert_in_range(ms, 50, 1000);
		longest = ms > longest ? ms : longest;
	}
	assert_true(longest > 100); /* more than a first try can be */
	queue_forget(q, "a");
	assert_in_range(queue_add_limited(q, "a"), 50, 100);
	assert_in_range(queue_add_limited(q, "b"), 50, 100); /* each key its own */
	queue_forget(q, "unknown");
	queue_free(q);
}

static void *get_one(void *arg)
{
	return queue_get(arg);
}

static void test_stop_wakes_all(void **state)
{
	struct queue *q = queue_new(10, 100);
	pthread_t threads[4];

	(void)state;
	queue_add_after(q, "far", 60000); /* some sleepers wait with a limit, some without */
	for (size_t i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, get_one, q);
	cancel_wait(NULL, 30);
	queue_stop(q);
	for (size_t i = 0; i < 4; i++) {
		void *key = threads;

		pthread_join(threads[i], &key);
		assert_null(key);
	}
	queue_add(q, "late");
	assert_null(queue_get(q));
	queue_free(q);
}

/* Both workers sleep without a limit. A delayed add wakes one of them, which is then given another key to work on: the other one has to
 * take over the watch on the delay. */
static void test_a_delay_is_not_slept_through(void **state)
{
	struct queue *q = queue_new(10, 100);
	pthread_t threads[2];
	uint64_t start;
	void *a, *b;

	(void)state;
	for (int round = 0; round < 5; round++) {
		for (size_t i = 0; i < 2; i++)
			pthread_create(&threads[i], NULL, get_one, q);
		cancel_wait(NULL, 20);
		start = clock_monotonic_ms();
		queue_add_after(q, "delayed", 60);
		cancel_wait(NULL, 10);
		queue_add(q, "now");
		pthread_join(threads[0], &a);
		pthread_join(threads[1], &b);
		assert_in_range(clock_monotonic_ms() - start, 60, 2000);
		assert_string_not_equal(a, b);
		queue_done(q, a);
		queue_done(q, b);
		free(a);
		free(b);
	}
	queue_free(q);
}

#define KEYS 50
#define WORKERS 8
#define ADDS 20000

struct stress {
	struct queue *q;
	atomic_int holders[KEYS]; /* workers that have the key */
	atomic_uint wanted[KEYS]; /* counted before the key is added */
	atomic_uint seen[KEYS];   /* what wanted was when a worker began */
	atomic_bool broken;
};

static void *work(void *arg)
{
	struct stress *s = arg;
	char *key;

	while ((key = queue_get(s->q))) {
		int k = atoi(key);

		if (atomic_fetch_add(&s->holders[k], 1))
			s->broken = true;
		s->seen[k] = s->wanted[k];
		if (k % 7 == 0)
			queue_add_limited(s->q, key);
		else
			queue_forget(s->q, key);
		atomic_fetch_sub(&s->holders[k], 1);
		queue_done(s->q, key);
		free(key);
	}
	return NULL;
}

static void *add(void *arg)
{
	struct stress *s = arg;
	unsigned seed = (unsigned)(uintptr_t)&seed;
	char key[16];

	for (int i = 0; i < ADDS; i++) {
		int k = rand_r(&seed) % KEYS;

		snprintf(key, sizeof key, "%d", k);
		atomic_fetch_add(&s->wanted[k], 1);
		if (i % 3)
			queue_add(s->q, key);
		else
			queue_add_after(s->q, key, (unsigned)rand_r(&seed) % 20);
	}
	return NULL;
}

static bool caught_up(struct stress *s)
{
	for (int k = 0; k < KEYS; k++)
		if (s->seen[k] != s->wanted[k])
			return false;
	return true;
}

static void test_many_threads_lose_nothing(void **state)
{
	static struct stress s;
	pthread_t workers[WORKERS], adders[3];
	uint64_t start;

	(void)state;
	s.q = queue_new(1, 5);
	for (size_t i = 0; i < WORKERS; i++)
		pthread_create(&workers[i], NULL, work, &s);
	for (size_t i = 0; i < 3; i++)
		pthread_create(&adders[i], NULL, add, &s);
	for (size_t i = 0; i < 3; i++)
		pthread_join(adders[i], NULL);
	/* Every add is followed by a run that began after it, without another add to help. */
	for (start = clock_monotonic_ms(); !caught_up(&s) && clock_monotonic_ms() - start < 10000;)
		cancel_wait(NULL, 5);
	assert_true(caught_up(&s));
	assert_false(s.broken);
	queue_stop(s.q);
	for (size_t i = 0; i < WORKERS; i++)
		pthread_join(workers[i], NULL);
	queue_free(s.q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_key_is_in_once_and_in_order),   cmocka_unit_test(test_added_while_worked_on_comes_again_once),
		cmocka_unit_test(test_the_earliest_delay_counts),       cmocka_unit_test(test_an_add_at_once_keeps_the_delay),
		cmocka_unit_test(test_back_off_grows_and_is_forgotten), cmocka_unit_test(test_stop_wakes_all),
		cmocka_unit_test(test_a_delay_is_not_slept_through),    cmocka_unit_test(test_many_threads_lose_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
