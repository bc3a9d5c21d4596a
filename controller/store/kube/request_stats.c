#include "store/kube/request_stats.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

const double request_bucket_bounds[REQUEST_BUCKETS] = { 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60 };

static const char *const methods[REQUEST_METHODS] = { "GET", "POST", "PATCH", "PUT", "DELETE" };

struct request_stats {
	pthread_mutex_t lock;
	struct request_totals totals;
};

struct request_stats *request_stats_new(const char *server_url)
{
	struct request_stats *s = calloc(1, sizeof *s);
	const char *host = strstr(server_url, "://");

	if (!s)
		return NULL;
	pthread_mutex_init(&s->lock, NULL);
	host = host ? host + 3 : server_url;
	snprintf(s->totals.host, sizeof s->totals.host, "%.*s", (int)strcspn(host, "/"), host);
	for (size_t i = 0; i < REQUEST_METHODS; i++)
		s->totals.durations[i].method = s->totals.waits[i].method = methods[i];
	return s;
}

void request_stats_free(struct request_stats *s)
{
	if (!s)
		return;
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static size_t index_of(const char *method)
{
	size_t i = 0;

	while (i < REQUEST_METHODS - 1 && strcmp(methods[i], method))
		i++;
	return i;
}

static void add(struct request_histogram *h, double seconds)
{
	size_t i = 0;

	while (i < REQUEST_BUCKETS && seconds > request_bucket_bounds[i])
		i++;
	h->buckets[i]++;
	h->count++;
	h->sum += seconds;
}

void request_stats_count(struct request_stats *s, const char *method, int status, double seconds)
{
	size_t m = index_of(method), i = 0;
	struct request_totals *t = &s->totals;

	LOCK_GUARD(&s->lock);
	while (i < t->count_len && (t->counts[i].code != status || t->counts[i].method != methods[m]))
		i++;
	if (i == t->count_len && i < REQUEST_COUNTS_MAX)
		t->counts[t->count_len++] = (struct request_count){ methods[m], status, 0 };
	if (i < t->count_len)
		t->counts[i].count++;
	if (seconds >= 0)
		add(&t->durations[m], seconds);
}

void request_stats_wait(struct request_stats *s, const char *method, double seconds)
{
	LOCK_GUARD(&s->lock);
	add(&s->totals.waits[index_of(method)], seconds);
}

void request_stats_retry(struct request_stats *s)
{
	LOCK_GUARD(&s->lock);
	s->totals.retries++;
}

void request_stats_read(struct request_stats *s, struct request_totals *out)
{
	LOCK_GUARD(&s->lock);
	*out = s->totals;
}
