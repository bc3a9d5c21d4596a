/* What the requests to an API server came to, for /metrics under the names that client-go gives them:
 *
 *   rest_client_requests_total{code,method,host}                 counts
 *   rest_client_request_duration_seconds{verb,host}              durations: from the first byte sent to the last one read, streams left out
 *   rest_client_rate_limiter_duration_seconds{verb,host}         waits: for the client's own rate limit
 *   rest_client_request_retries_total{host}                      retries
 *
 * (k8s.io/client-go/tools/metrics and k8s.io/component-base/metrics/prometheus/restclient: names, labels and bounds.) Here method and verb
 * are both the HTTP method. Thread-safe. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define REQUEST_BUCKETS 12
#define REQUEST_METHODS 5
#define REQUEST_COUNTS_MAX 64

extern const double request_bucket_bounds[REQUEST_BUCKETS]; /* seconds, upper bounds, ascending; +Inf is not among them */

struct request_count {
	const char *method;
	int code; /* HTTP status; 0: there was no answer, which client-go calls "<error>" */
	uint64_t count;
};

struct request_histogram {
	const char *method;
	uint64_t buckets[REQUEST_BUCKETS + 1]; /* not cumulative; the last one is what exceeds all bounds */
	uint64_t count;
	double sum; /* seconds */
};

/* A copy of the counters at one time. */
struct request_totals {
	char host[280]; /* "host:port" of the API server */
	struct request_count counts[REQUEST_COUNTS_MAX];
	size_t count_len;
	struct request_histogram durations[REQUEST_METHODS], waits[REQUEST_METHODS]; /* those with count 0 are to be left out */
	uint64_t retries;
};

struct request_stats;

struct request_stats *request_stats_new(const char *server_url); /* NULL when memory is out */
void request_stats_free(struct request_stats *stats);            /* accepts NULL */
/* status 0: no answer. seconds < 0: a stream, whose duration says nothing. */
void request_stats_count(struct request_stats *stats, const char *method, int status, double seconds);
void request_stats_wait(struct request_stats *stats, const char *method, double seconds);
void request_stats_retry(struct request_stats *stats);
void request_stats_read(struct request_stats *stats, struct request_totals *out);
