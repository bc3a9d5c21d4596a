#include "cmd/request_metrics.h"

#include <stdio.h>

#include "store/kube/kube.h"

static void set_durations(struct metrics *m, const char *name, const char *help, const struct request_histogram *all, const char *host)
{
	struct metric *f = metrics_add_histogram(m, name, "verb,host", help, request_bucket_bounds, REQUEST_BUCKETS);

	for (size_t i = 0; i < REQUEST_METHODS; i++)
		if (all[i].count)
			series_set_histogram(metric_with(f, all[i].method, host, NULL), all[i].buckets, all[i].sum);
}

void request_metrics_collect(struct metrics *m, const struct store *store)
{
	struct metric *total = metrics_add(m, METRIC_COUNTER, "rest_client_requests_total", "code,method,host",
					   "Requests to the API server by the status of the answer and the HTTP method");
	struct request_totals t;
	char code[16];

	kube_store_requests(store, &t);
	for (size_t i = 0; i < t.count_len; i++) {
		snprintf(code, sizeof code, "%d", t.counts[i].code);
		series_set(metric_with(total, t.counts[i].code ? code : "<error>", t.counts[i].method, t.host, NULL),
			   (double)t.counts[i].count);
	}
	set_durations(m, "rest_client_request_duration_seconds", "How long requests to the API server took, but for watches", t.durations,
		      t.host);
	set_durations(m, "rest_client_rate_limiter_duration_seconds", "How long requests waited for this client's own limit", t.waits,
		      t.host);
	series_set(metric_with(metrics_add(m, METRIC_COUNTER, "rest_client_request_retries_total", "host", "Requests that were sent again"),
			       t.host, NULL),
		   (double)t.retries);
}
