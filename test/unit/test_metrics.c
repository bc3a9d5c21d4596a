// links: base
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/metrics.h"
#include "base/process.h"

static void assert_text(struct metrics *m, const char *expected)
{
	AUTO_FREE char *text = metrics_text(m);

	assert_non_null(text);
	assert_string_equal(text, expected);
}

static void counters_and_gauges(void **state)
{
	struct metrics *m = metrics_new();
	struct metric *requests = metrics_add(m, METRIC_COUNTER, "requests_total", "code,method", "Requests");
	struct metric *depth = metrics_add(m, METRIC_GAUGE, "depth", NULL, "Waits \\ here\nnow");

	(void)state;
	assert_text(m, ""); /* nothing of what has no series */
	series_add(metric_with(requests, "200", "GET", NULL), 1);
	series_add(metric_with(requests, "200", "GET", NULL), 2);
	series_add(metric_with(requests, "404", "a\"b\\c\nd", NULL), 9007199254740000.0);
	series_set(metric_with(depth, NULL), 0.125);
	assert_ptr_equal(metrics_add(m, METRIC_COUNTER, "requests_total", "code,method", "Requests"), requests);
	assert_text(m, "# HELP requests_total Requests\n# TYPE requests_total counter\n"
		       "requests_total{code=\"200\",method=\"GET\"} 3\n"
		       "requests_total{code=\"404\",method=\"a\\\"b\\\\c\\nd\"} 9007199254740000\n"
		       "# HELP depth Waits \\\\ here\\nnow\n# TYPE depth gauge\n"
		       "depth 0.125\n");
	assert_true(series_get(metric_with(requests, "200", "GET", NULL)) == 3);
	metrics_free(m);
}

static void histograms(void **state)
{
	struct metrics *m = metrics_new();
	struct metric *f = metrics_add(m, METRIC_HISTOGRAM, "took_seconds", "name", "How long");
	struct series *s = metric_with(f, "x", NULL);
	static const double values[] = { 0, 0.001, 0.0011, 2, 300, 301, 1e9 };

	(void)state;
	for (size_t i = 0; i < sizeof values / sizeof *values; i++)
		series_observe(s, values[i]);
	assert_true(series_get(s) == 7);
	AUTO_FREE char *text = metrics_text(m);
	static const char *const lines[] = {
		"# TYPE took_seconds histogram\ntook_seconds_bucket{name=\"x\",le=\"0.001\"} 2\n",
		"took_seconds_bucket{name=\"x\",le=\"0.0025\"} 3\n",
		"took_seconds_bucket{name=\"x\",le=\"1\"} 3\n",
		"took_seconds_bucket{name=\"x\",le=\"2.5\"} 4\n",
		"took_seconds_bucket{name=\"x\",le=\"120\"} 4\n",
		"took_seconds_bucket{name=\"x\",le=\"300\"} 5\n",
		"took_seconds_bucket{name=\"x\",le=\"+Inf\"} 7\ntook_seconds_sum{name=\"x\"} 1000000603",
		"\ntook_seconds_count{name=\"x\"} 7\n",
	};
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
		assert_non_null(strstr(text, lines[i]));
	metrics_free(m);
}

static void a_histogram_that_others_keep(void **state)
{
	static const double bounds[] = { 0.5, 4 };
	static const uint64_t counts[] = { 2, 0, 3 };
	struct metrics *m = metrics_new();
	struct series *s = metric_with(metrics_add_histogram(m, "h", NULL, "H", bounds, 2), NULL);

	(void)state;
	series_set_histogram(s, counts, 12.5);
	assert_true(series_get(s) == 5);
	assert_text(m, "# HELP h H\n# TYPE h histogram\nh_bucket{le=\"0.5\"} 2\nh_bucket{le=\"4\"} 2\nh_bucket{le=\"+Inf\"} 5\n"
		       "h_sum 12.5\nh_count 5\n");
	metrics_free(m);
}

static void many_values_share_one_series(void **state)
{
	struct metrics *m = metrics_new();
	struct metric *f = metrics_add(m, METRIC_COUNTER, "failures_total", "reason", "Failures");

	(void)state;
	for (int i = 0; i < 1000; i++) {
		char reason[16];

		snprintf(reason, sizeof reason, "R%d", i);
		series_add(metric_with(f, reason, NULL), 1);
	}
	series_add(metric_with(f, "R7", NULL), 1);
	assert_true(series_get(metric_with(f, "R7", NULL)) == 2);
	assert_true(series_get(metric_with(f, "Other", NULL)) == 800);
	metrics_free(m);
}

struct asked {
	struct metrics *m;
	int times;
};

static void collect(void *arg)
{
	struct asked *a = arg;

	series_set(metric_with(metrics_add(a->m, METRIC_GAUGE, "asked", NULL, "Times"), NULL), ++a->times);
}

static void collectors(void **state)
{
	struct asked a = { .m = metrics_new() };

	(void)state;
	metrics_ask(a.m, collect, &a);
	assert_text(a.m, "# HELP asked Times\n# TYPE asked gauge\nasked 1\n");
	assert_text(a.m, "# HELP asked Times\n# TYPE asked gauge\nasked 2\n");
	metrics_ignore(a.m, &a);
	assert_text(a.m, "# HELP asked Times\n# TYPE asked gauge\nasked 2\n");
	assert_int_equal(a.times, 2);
	metrics_free(a.m);
}

static void *count(void *arg)
{
	for (int i = 0; i < 10000; i++) {
		series_add(metric_with(arg, i % 2 ? "odd" : "even", NULL), 0.5);
		series_observe(metric_with(arg, "odd", NULL), 1);
	}
	return NULL;
}

static void threads_lose_nothing(void **state)
{
	struct metrics *m = metrics_new();
	struct metric *f = metrics_add(m, METRIC_COUNTER, "n_total", "kind", "Numbers");
	pthread_t threads[4];

	(void)state;
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count, f), 0);
	for (int i = 0; i < 100; i++)
		free(metrics_text(m));
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_true(series_get(metric_with(f, "odd", NULL)) == 10000);
	assert_true(series_get(metric_with(f, "even", NULL)) == 10000);
	metrics_free(m);
}

static void without_a_registry(void **state)
{
	struct metric *f = metrics_add(NULL, METRIC_HISTOGRAM, "x", "y", "z");

	(void)state;
	assert_null(f);
	series_add(metric_with(f, "a", NULL), 1);
	series_observe(metric_with(f, "a", NULL), 1);
	metrics_ask(NULL, collect, NULL);
	metrics_ignore(NULL, NULL);
	process_metrics(NULL);
	assert_text(NULL, "");
	metrics_free(NULL);
}

static double value_of(const char *text, const char *name)
{
	AUTO_FREE char *start = NULL;
	const char *at;

	assert_true(asprintf(&start, "\n%s ", name) > 0);
	at = strstr(text, start);
	assert_non_null(at);
	return strtod(at + strlen(start), NULL);
}

static void the_process(void **state)
{
	struct metrics *m = metrics_new();

	(void)state;
	process_metrics(m);
	AUTO_FREE char *text = metrics_text(m);
	assert_true(value_of(text, "process_resident_memory_bytes") > 100000);
	assert_true(value_of(text, "process_virtual_memory_bytes") > value_of(text, "process_resident_memory_bytes"));
	assert_true(value_of(text, "process_open_fds") >= 3);
	assert_true(value_of(text, "process_max_fds") >= value_of(text, "process_open_fds"));
	assert_true(value_of(text, "process_threads") >= 1);
	assert_true(value_of(text, "process_start_time_seconds") > 1.6e9);
	assert_true(value_of(text, "process_cpu_seconds_total") >= 0);
	metrics_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counters_and_gauges),
		cmocka_unit_test(histograms),
		cmocka_unit_test(a_histogram_that_others_keep),
		cmocka_unit_test(many_values_share_one_series),
		cmocka_unit_test(collectors),
		cmocka_unit_test(threads_lose_nothing),
		cmocka_unit_test(without_a_registry),
		cmocka_unit_test(the_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
