#include "cmd/request_metrics.h"

#include <stdio.h>
#include <string.h>

static void set_durations(struct metrics *m, const char *name, const char *help, const struct request_histogram *all, const char *host)
{
	struct metric *f = metrics_add_histogram(m, name, "verb,host", help, request_bucket_bounds, REQUEST_BUCKETS);

	for (size_t i = 0; i < REQUEST_METHODS; i++)
		if (all[i].count)
			series_set_histogram(metric_with(f, all[i].method, host, NULL), all[i].buckets, all[i].sum);
}

static void add_histograms(struct request_histogram *sum, const struct request_histogram *of)
{
	for (size_t i = 0; i < REQUEST_METHODS; i++) {
		sum[i].method = of[i].method;
		sum[i].count += of[i].count;
		sum[i].sum += of[i].sum;
		for (size_t k = 0; k <= REQUEST_BUCKETS; k++)
			sum[i].buckets[k] += of[i].buckets[k];
	}
}

void request_metrics_add(struct request_totals *sum, const struct store *store)
{
	struct request_totals t;

	kube_store_requests(store, &t);
	memcpy(sum->host, t.host, sizeof sum->host);
	for (size_t i = 0; i < t.count_len; i++) {
		size_t k = 0;

		while (k < sum->count_len && (sum->counts[k].code != t.counts[i].code || strcmp(sum->counts[k].method, t.counts[i].method)))
			k++;
		if (k == sum->count_len && k < REQUEST_COUNTS_MAX)
			sum->counts[sum->count_len++] = (struct request_count){ t.counts[i].method, t.counts[i].code, 0 };
		if (k < sum->count_len)
			sum->counts[k].count += t.counts[i].count;
	}
	add_histograms(sum->durations, t.durations);
	add_histograms(sum->waits, t.waits);
	sum->retries += t.retries;
}

void request_metrics_set(struct metrics *m, const struct request_totals *t)
{
	struct metric *total = metrics_add(m, METRIC_COUNTER, "rest_client_requests_total", "code,method,host",
					   "Requests to the API server by the status of the answer and the HTTP method");
	char code[16];

	for (size_t i = 0; i < t->count_len; i++) {
		snprintf(code, sizeof code, "%d", t->counts[i].code);
		series_set(metric_with(total, t->counts[i].code ? code : "<error>", t->counts[i].method, t->host, NULL),
			   (double)t->counts[i].count);
	}
	set_durations(m, "rest_client_request_duration_seconds", "How long requests to the API server took, but for watches", t->durations,
		      t->host);
	set_durations(m, "rest_client_rate_limiter_duration_seconds", "How long requests waited for this client's own limit", t->waits,
		      t->host);
	series_set(metric_with(metrics_add(m, METRIC_COUNTER, "rest_client_request_retries_total", "host", "Requests that were sent again"),
			       t->host, NULL),
		   (double)t->retries);
}
