// links: queue base
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cancel.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "queue/delays.h"
#include "queue/queue.h"

static struct queue *open_queue(unsigned base_ms, unsigned cap_ms)
{
	return queue_new(&(struct queue_options){ .backoff_base_ms = base_ms, .backoff_cap_ms = cap_ms });
}

static void assert_next(struct queue *q, const char *expected)
{
	AUTO_FREE char *key = queue_get(q);

	assert_non_null(key);
	assert_string_equal(key, expected);
}

static void test_a_key_is_in_once_and_in_order(void **state)
{
	struct queue *q = open_queue(10, 100);

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
	struct queue *q = open_queue(10, 100);

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
	struct queue *q = open_queue(10, 100);
	uint64_t start = clock_monotonic_ms();

	(void)state;
	queue_add_after(q, "a", 5000);
	queue_add_after(q, "a", 100);
	queue_add_after(q, "a", 9000);
	queue_add_after(q, "b", 50);
	assert_int_equal(queue_length(q), 0);
	assert_next(q, "b");
	assert_true(clock_monotonic_ms() - start >= 50);
	assert_next(q, "a");
	assert_true(clock_monotonic_ms() - start >= 100);
	queue_free(q);
}

static void test_an_add_at_once_keeps_the_delay(void **state)
{
	struct queue *q = open_queue(10, 100);
	uint64_t start = clock_monotonic_ms();

	(void)state;
	queue_add_after(q, "a", 60);
	queue_add(q, "a");
	assert_next(q, "a");
	queue_done(q, "a");
	assert_next(q, "a");
	assert_true(clock_monotonic_ms() - start >= 60);
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
	struct queue *q = open_queue(100, 1000);
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
	struct queue *q = open_queue(10, 100);
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
	struct queue *q = open_queue(10, 100);
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
		assert_true(clock_monotonic_ms() - start >= 60);
		assert_string_not_equal(a, b);
		queue_done(q, a);
		queue_done(q, b);
		free(a);
		free(b);
	}
	queue_free(q);
}

static void test_the_heap_of_delays(void **state)
{
	enum { MANY = 500 };
	struct delays d = { 0 };
	static struct entry entries[MANY];
	unsigned seed = 7;
	uint64_t last = 0;

	(void)state;
	for (size_t round = 0; round < 20; round++) {
		for (size_t i = 0; i < MANY; i++)
			assert_int_equal(delays_put(&d, &entries[i], 1 + (uint64_t)rand_r(&seed) % 300), 0);
		for (size_t i = 0; i < MANY; i += 3) /* earlier or later than it was */
			assert_int_equal(delays_put(&d, &entries[i], 1 + (uint64_t)rand_r(&seed) % 300), 0);
		assert_int_equal(d.count, MANY);
		last = 0;
		for (size_t i = 0; i < MANY; i++) {
			uint64_t due = d.heap[0]->due;

			assert_true(due >= last);
			last = due;
			assert_int_equal(delays_take(&d)->due, 0);
		}
		assert_int_equal(d.count, 0);
	}
	delays_free(&d);
}

static const char *const classes[] = { "imports", "sources", "others", NULL };

static void test_a_hot_key_goes_behind_the_others(void **state)
{
	struct queue *q = open_queue(10, 100);

	(void)state;
	queue_add(q, "hot");
	for (int i = 0; i < 3; i++) {
		char other[8];

		snprintf(other, sizeof other, "o%d", i);
		assert_next(q, "hot");
		queue_add(q, "hot"); /* while it is worked on */
		queue_add(q, other);
		queue_done(q, "hot");
		queue_add(q, "hot");
		assert_next(q, other);
	}
	queue_free(q);
}

static void test_what_can_wait_comes_behind(void **state)
{
	struct queue *q = open_queue(10, 100);

	(void)state;
	queue_add_low(q, "old-1");
	queue_add_low(q, "old-2");
	queue_add_low(q, "old-3");
	queue_add(q, "new-1");
	assert_int_equal(queue_length(q), 4);
	assert_next(q, "new-1");
	queue_add(q, "old-3"); /* it has changed */
	queue_add_low(q, "old-3");
	queue_add(q, "new-2");
	assert_next(q, "old-3");
	assert_next(q, "new-2");
	queue_add_low(q, "old-4"); /* at the end, which has moved */
	assert_next(q, "old-1");
	queue_add(q, "old-2");
	assert_next(q, "old-2");
	queue_add(q, "old-4"); /* the only one of its line */
	queue_add_low(q, "old-5");
	assert_next(q, "old-4");
	assert_next(q, "old-5");
	assert_int_equal(queue_length(q), 0);
	queue_free(q);
}

static void test_classes_take_turns(void **state)
{
	struct queue *q = queue_new(&(struct queue_options){ .backoff_base_ms = 10, .backoff_cap_ms = 100, .classes = classes });
	char key[32];

	(void)state;
	for (int i = 0; i < 100; i++) {
		snprintf(key, sizeof key, "sources/ns/%d", i);
		queue_add(q, key);
	}
	queue_add(q, "imports/ns/a");
	queue_add(q, "imports/ns/b");
	queue_add(q, "others/ns/x");
	queue_add(q, "sourcesnot"); /* of no class: of the first */
	assert_next(q, "imports/ns/a");
	assert_next(q, "sources/ns/0");
	assert_next(q, "others/ns/x");
	assert_next(q, "imports/ns/b");
	assert_next(q, "sources/ns/1");
	assert_next(q, "sourcesnot");
	assert_next(q, "sources/ns/2");
	assert_next(q, "sources/ns/3");
	queue_free(q);
}

static void test_the_last_worker_is_for_the_first_class(void **state)
{
	struct queue *q =
		queue_new(&(struct queue_options){ .backoff_base_ms = 10, .backoff_cap_ms = 100, .classes = classes, .workers = 3 });
	pthread_t waiting;
	void *got;

	(void)state;
	queue_add(q, "sources/1");
	queue_add(q, "others/1");
	queue_add(q, "sources/2");
	assert_next(q, "sources/1");
	assert_next(q, "others/1");
	/* Two of three are held up: the third waits for an import, though a source is ready. */
	pthread_create(&waiting, NULL, get_one, q);
	cancel_wait(NULL, 30);
	assert_int_equal(queue_length(q), 1);
	queue_add(q, "imports/1");
	pthread_join(waiting, &got);
	assert_string_equal(got, "imports/1");
	queue_done(q, got);
	free(got);
	/* A source that is done lets the next one in, which a waiting worker takes. */
	pthread_create(&waiting, NULL, get_one, q);
	cancel_wait(NULL, 30);
	queue_done(q, "sources/1");
	pthread_join(waiting, &got);
	assert_string_equal(got, "sources/2");
	free(got);
	queue_free(q);
	/* A single worker takes all. */
	q = queue_new(&(struct queue_options){ .backoff_base_ms = 10, .backoff_cap_ms = 100, .classes = classes, .workers = 1 });
	queue_add(q, "sources/1");
	assert_next(q, "sources/1");
	queue_free(q);
}

static void *finish_later(void *arg)
{
	cancel_wait(NULL, 50);
	queue_done(arg, "a");
	return NULL;
}

static void test_drain_waits_for_what_is_worked_on(void **state)
{
	struct queue *q = open_queue(10, 100);
	pthread_t thread;

	(void)state;
	queue_add(q, "a");
	queue_add(q, "b");
	assert_next(q, "a");
	assert_false(queue_drain(q, 20));
	queue_add(q, "c");
	assert_null(queue_get(q)); /* neither b nor c */
	pthread_create(&thread, NULL, finish_later, q);
	assert_true(queue_drain(q, 60000));
	pthread_join(thread, NULL);
	assert_true(queue_drain(q, 0));
	queue_free(q);
}

static void test_the_longest_work_is_known(void **state)
{
	struct queue *q = open_queue(10, 100);
	uint64_t ms = 7;

	(void)state;
	assert_null(queue_longest(q, &ms));
	queue_add(q, "a");
	queue_add(q, "b");
	assert_next(q, "a");
	cancel_wait(NULL, 20);
	assert_next(q, "b");
	AUTO_FREE char *first = queue_longest(q, &ms);
	assert_string_equal(first, "a");
	assert_true(ms >= 20);
	queue_done(q, "a");
	AUTO_FREE char *second = queue_longest(q, &ms);
	assert_string_equal(second, "b");
	queue_free(q);
}

static double value(struct metrics *m, enum metric_type type, const char *name, const char *class)
{
	return series_get(metric_with(metrics_add(m, type, name, "name", ""), class, NULL));
}

static void test_it_is_measured(void **state)
{
	struct metrics *m = metrics_new();
	struct queue *q = queue_new(
		&(struct queue_options){ .backoff_base_ms = 1, .backoff_cap_ms = 1, .classes = classes, .workers = 3, .metrics = m });

	(void)state;
	queue_add(q, "imports/a");
	queue_add(q, "imports/a");
	queue_add(q, "imports/b");
	queue_add(q, "sources/a");
	assert_next(q, "imports/a");
	queue_add(q, "imports/a");
	queue_add(q, "imports/a");
	cancel_wait(NULL, 5);
	free(metrics_text(m));
	assert_true(value(m, METRIC_GAUGE, "workqueue_depth", "imports") == 1);
	assert_true(value(m, METRIC_GAUGE, "workqueue_depth", "sources") == 1);
	assert_true(value(m, METRIC_GAUGE, "workqueue_unfinished_work_seconds", "imports") >= 0.005);
	assert_true(value(m, METRIC_GAUGE, "workqueue_longest_running_processor_seconds", "imports") >= 0.005);
	assert_true(value(m, METRIC_GAUGE, "workqueue_longest_running_processor_seconds", "sources") == 0);
	queue_done(q, "imports/a");
	assert_true(value(m, METRIC_COUNTER, "workqueue_adds_total", "imports") == 3); /* a, b, a again */
	assert_true(value(m, METRIC_COUNTER, "workqueue_adds_total", "sources") == 1);
	assert_true(value(m, METRIC_HISTOGRAM, "workqueue_queue_duration_seconds", "imports") == 1);
	assert_true(value(m, METRIC_HISTOGRAM, "workqueue_work_duration_seconds", "imports") == 1);
	queue_add_limited(q, "sources/b");
	assert_true(value(m, METRIC_COUNTER, "workqueue_retries_total", "sources") == 1);
	queue_free(q);
	free(metrics_text(m)); /* does not ask the queue that is gone */
	assert_true(value(m, METRIC_GAUGE, "workqueue_depth", "imports") == 0);
	assert_true(value(m, METRIC_GAUGE, "workqueue_depth", "sources") == 0);
	assert_true(value(m, METRIC_GAUGE, "workqueue_longest_running_processor_seconds", "imports") == 0);
	metrics_free(m);
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
	s.q = open_queue(1, 5);
	for (size_t i = 0; i < WORKERS; i++)
		pthread_create(&workers[i], NULL, work, &s);
	for (size_t i = 0; i < 3; i++)
		pthread_create(&adders[i], NULL, add, &s);
	for (size_t i = 0; i < 3; i++)
		pthread_join(adders[i], NULL);
	/* Every add is followed by a run that began after it, without another add to help. */
	for (start = clock_monotonic_ms(); !caught_up(&s) && clock_monotonic_ms() - start < 60000;)
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
		cmocka_unit_test(test_a_key_is_in_once_and_in_order),
		cmocka_unit_test(test_added_while_worked_on_comes_again_once),
		cmocka_unit_test(test_the_earliest_delay_counts),
		cmocka_unit_test(test_an_add_at_once_keeps_the_delay),
		cmocka_unit_test(test_back_off_grows_and_is_forgotten),
		cmocka_unit_test(test_stop_wakes_all),
		cmocka_unit_test(test_a_delay_is_not_slept_through),
		cmocka_unit_test(test_the_heap_of_delays),
		cmocka_unit_test(test_a_hot_key_goes_behind_the_others),
		cmocka_unit_test(test_what_can_wait_comes_behind),
		cmocka_unit_test(test_classes_take_turns),
		cmocka_unit_test(test_the_last_worker_is_for_the_first_class),
		cmocka_unit_test(test_drain_waits_for_what_is_worked_on),
		cmocka_unit_test(test_the_longest_work_is_known),
		cmocka_unit_test(test_it_is_measured),
		cmocka_unit_test(test_many_threads_lose_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
