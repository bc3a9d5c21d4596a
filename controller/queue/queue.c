#include "queue/queue.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/backoff.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "queue/delays.h"
#include "queue/entry.h"

#define BUCKETS 4096         /* keys in the queue at a time are few; keys that wait for a far time may be thousands */
#define OUT_OF_MEMORY_MS 100 /* a worker tries again after so long */

/* Ready keys, in the order they came. */
struct line {
	struct entry *first, **last;
};

/* The keys of a class. */
struct key_class {
	const char *name;
	struct line line, low; /* low: comes when line is empty */
	size_t ready, working;
	struct series *depth, *adds, *retries, *waited, *worked, *unfinished, *longest;
};

struct queue {
	pthread_mutex_t lock;
	pthread_cond_t woken, settled; /* settled: no key is worked on */
	struct entry *buckets[BUCKETS];
	struct key_class classes[QUEUE_CLASSES_MAX];
	size_t class_count, turn; /* turn: the class that is asked first for the next key */
	size_t ready, working;
	struct delays delays;
	unsigned base_ms, cap_ms, workers;
	struct metrics *metrics;
	bool stopped;
};

static void add_metrics(struct key_class *c, struct metrics *m)
{
	c->depth = metric_with(metrics_add(m, METRIC_GAUGE, "workqueue_depth", "name", "Keys that wait for a worker"), c->name, NULL);
	c->adds = metric_with(metrics_add(m, METRIC_COUNTER, "workqueue_adds_total", "name", "Keys that were put in line"), c->name, NULL);
	c->waited = metric_with(
		metrics_add(m, METRIC_HISTOGRAM, "workqueue_queue_duration_seconds", "name", "How long keys waited for a worker"), c->name,
		NULL);
	c->worked =
		metric_with(metrics_add(m, METRIC_HISTOGRAM, "workqueue_work_duration_seconds", "name", "How long workers took for a key"),
			    c->name, NULL);
	c->retries = metric_with(metrics_add(m, METRIC_COUNTER, "workqueue_retries_total", "name", "Adds after a back-off"), c->name, NULL);
	c->unfinished = metric_with(metrics_add(m, METRIC_GAUGE, "workqueue_unfinished_work_seconds", "name",
						"Time spent so far on the keys that are worked on, in sum"),
				    c->name, NULL);
	c->longest = metric_with(metrics_add(m, METRIC_GAUGE, "workqueue_longest_running_processor_seconds", "name",
					     "Time spent so far on the key that has been worked on for the longest"),
				 c->name, NULL);
}

/* What can be told only when it is asked for. */
static void collect(void *arg)
{
	struct queue *q = arg;
	double sum[QUEUE_CLASSES_MAX] = { 0 }, longest[QUEUE_CLASSES_MAX] = { 0 };
	uint64_t now = clock_monotonic_us();

	LOCK_GUARD(&q->lock);
	for (size_t i = 0; i < BUCKETS; i++) {
		for (const struct entry *e = q->buckets[i]; e; e = e->chain) {
			double took = e->working ? (double)(now - e->since) / 1e6 : 0;

			sum[e->class] += took;
			longest[e->class] = took > longest[e->class] ? took : longest[e->class];
		}
	}
	for (size_t i = 0; i < q->class_count; i++) {
		series_set(q->classes[i].depth, (double)q->classes[i].ready);
		series_set(q->classes[i].unfinished, sum[i]);
		series_set(q->classes[i].longest, longest[i]);
	}
}

struct queue *queue_new(const struct queue_options *o)
{
	static const char *const only[] = { "keys", NULL };
	const char *const *names = o->classes ? o->classes : only;
	struct queue *q = calloc(1, sizeof *q);
	pthread_condattr_t attr;

	if (!q)
		return NULL;
	pthread_mutex_init(&q->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&q->woken, &attr);
	pthread_cond_init(&q->settled, &attr);
	pthread_condattr_destroy(&attr);
	for (; names[q->class_count] && q->class_count < QUEUE_CLASSES_MAX; q->class_count++) {
		struct key_class *c = &q->classes[q->class_count];

		c->name = names[q->class_count];
		c->line.last = &c->line.first;
		c->low.last = &c->low.first;
		add_metrics(c, o->metrics);
	}
	q->base_ms = o->backoff_base_ms;
	q->cap_ms = o->backoff_cap_ms;
	q->workers = o->workers;
	q->metrics = o->metrics;
	metrics_ask(q->metrics, collect, q);
	return q;
}

void queue_free(struct queue *q)
{
	if (!q)
		return;
	metrics_ignore(q->metrics, q);
	for (size_t i = 0; i < q->class_count; i++) { /* the registry lives on */
		series_set(q->classes[i].depth, 0);
		series_set(q->classes[i].unfinished, 0);
		series_set(q->classes[i].longest, 0);
	}
	for (size_t i = 0; i < BUCKETS; i++) {
		while (q->buckets[i]) {
			struct entry *e = q->buckets[i];

			q->buckets[i] = e->chain;
			free(e);
		}
	}
	delays_free(&q->delays);
	pthread_cond_destroy(&q->settled);
	pthread_cond_destroy(&q->woken);
	pthread_mutex_destroy(&q->lock);
	free(q);
}

/* FNV-1a, 64 bit. */
static size_t bucket_of(const char *key)
{
	uint64_t h = 14695981039346656037u;

	for (; *key; key++)
		h = (h ^ (unsigned char)*key) * 1099511628211u;
	return (size_t)(h % BUCKETS);
}

static struct entry *find(struct queue *q, const char *key)
{
	for (struct entry *e = q->buckets[bucket_of(key)]; e; e = e->chain)
		if (!strcmp(e->key, key))
			return e;
	return NULL;
}

static size_t class_of(const struct queue *q, const char *key)
{
	size_t len = strcspn(key, "/");

	for (size_t i = 0; i < q->class_count; i++)
		if (!strncmp(q->classes[i].name, key, len) && !q->classes[i].name[len])
			return i;
	return 0;
}

static struct entry *find_or_make(struct queue *q, const char *key)
{
	struct entry *e = find(q, key), **bucket = &q->buckets[bucket_of(key)];

	if (e)
		return e;
	e = calloc(1, sizeof *e + strlen(key) + 1);
	if (!e)
		return NULL;
	strcpy(e->key, key);
	e->class = class_of(q, key);
	e->backoff = (struct backoff){ .base_ms = q->base_ms, .cap_ms = q->cap_ms };
	e->chain = *bucket;
	*bucket = e;
	return e;
}

static void drop_if_idle(struct queue *q, struct entry *e)
{
	struct entry **p = &q->buckets[bucket_of(e->key)];

	if (e->ready || e->working || e->again || e->due || e->backoff.attempt)
		return;
	while (*p != e)
		p = &(*p)->chain;
	*p = e->chain;
	free(e);
}

static void put(struct line *line, struct entry *e)
{
	e->next = NULL;
	*line->last = e;
	line->last = &e->next;
}

static struct entry *pull(struct line *line)
{
	struct entry *e = line->first;

	line->first = e->next;
	if (!line->first)
		line->last = &line->first;
	return e;
}

/* Out of the middle: rare, so it may take a while. */
static void pull_this(struct line *line, const struct entry *e)
{
	struct entry **at = &line->first;

	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	if (!*at)
		line->last = at;
}

static void make_ready(struct queue *q, struct entry *e, bool low)
{
	struct key_class *c = &q->classes[e->class];

	if (e->working) {
		if (!e->again)
			series_add(c->adds, 1);
		e->again = true;
		return;
	}
	if (e->ready && e->low && !low) {
		pull_this(&c->low, e);
		put(&c->line, e);
		e->low = false;
	}
	if (e->ready)
		return;
	series_add(c->adds, e->again ? 0 : 1); /* counted when it was added */
	e->again = false;
	e->ready = true;
	e->low = low;
	e->since = clock_monotonic_us();
	put(low ? &c->low : &c->line, e);
	c->ready++;
	q->ready++;
	pthread_cond_signal(&q->woken);
}

static void add_now(struct queue *q, const char *key, bool low)
{
	LOCK_GUARD(&q->lock);
	struct entry *e = q->stopped ? NULL : find_or_make(q, key);

	if (e)
		make_ready(q, e, low);
}

void queue_add(struct queue *q, const char *key)
{
	add_now(q, key, false);
}

void queue_add_low(struct queue *q, const char *key)
{
	add_now(q, key, true);
}

static void add_after(struct queue *q, struct entry *e, unsigned ms)
{
	uint64_t due = clock_monotonic_ms() + ms;

	if (e->due && e->due <= due)
		return;
	if (!ms || delays_put(&q->delays, e, due) < 0) { /* without memory to wait: early is better than never */
		make_ready(q, e, false);
		return;
	}
	if (q->delays.heap[0] == e)
		pthread_cond_signal(&q->woken); /* a sleeper must sleep less */
}

void queue_add_after(struct queue *q, const char *key, unsigned ms)
{
	LOCK_GUARD(&q->lock);
	struct entry *e = q->stopped ? NULL : find_or_make(q, key);

	if (e)
		add_after(q, e, ms);
}

unsigned queue_add_limited(struct queue *q, const char *key)
{
	unsigned ms;

	LOCK_GUARD(&q->lock);
	struct entry *e = q->stopped ? NULL : find_or_make(q, key);
	if (!e)
		return 0;
	ms = backoff_next(&e->backoff);
	series_add(q->classes[e->class].retries, 1);
	add_after(q, e, ms);
	return ms;
}

void queue_forget(struct queue *q, const char *key)
{
	LOCK_GUARD(&q->lock);
	struct entry *e = find(q, key);

	if (!e)
		return;
	backoff_reset(&e->backoff);
	drop_if_idle(q, e);
}

/* Moves what is due into the line. */
static void ripen(struct queue *q)
{
	uint64_t now = clock_monotonic_ms();

	while (q->delays.count && q->delays.heap[0]->due <= now)
		make_ready(q, delays_take(&q->delays), false);
}

/* The class whose key is next for the worker that asks; -1: none may be taken. The caller holds the lock. */
static int next_class(const struct queue *q)
{
	bool last = q->workers > 1 && q->working - q->classes[0].working + 1 >= q->workers;

	for (size_t i = 0; i < q->class_count; i++) {
		size_t class = (q->turn + i) % q->class_count;

		if (q->classes[class].ready && (!class || !last))
			return (int)class;
	}
	return -1;
}

/* The caller holds the lock. NULL when memory is out. */
static char *take(struct queue *q, struct key_class *c)
{
	struct line *line = c->line.first ? &c->line : &c->low;
	uint64_t now = clock_monotonic_us();
	char *key = strdup(line->first->key);
	struct entry *e;

	if (!key)
		return NULL;
	e = pull(line);
	series_observe(c->waited, (double)(now - e->since) / 1e6);
	e->ready = e->low = false;
	e->working = true;
	e->since = now;
	c->ready--;
	c->working++;
	q->ready--;
	q->working++;
	q->turn = ((size_t)(c - q->classes) + 1) % q->class_count;
	/* This worker was the one who would have woken for what is due next: another sleeper takes that over. */
	if (q->ready || q->delays.count)
		pthread_cond_signal(&q->woken);
	return key;
}

static struct timespec at_ms(uint64_t ms)
{
	return (struct timespec){ (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };
}

char *queue_get(struct queue *q)
{
	LOCK_GUARD(&q->lock);
	while (!q->stopped) {
		uint64_t until_ms = UINT64_MAX;
		int class;
		char *key;

		ripen(q);
		class = next_class(q);
		key = class >= 0 ? take(q, &q->classes[class]) : NULL;
		if (key)
			return key;
		if (q->delays.count)
			until_ms = q->delays.heap[0]->due;
		if (class >= 0)
			until_ms = clock_monotonic_ms() + OUT_OF_MEMORY_MS;
		struct timespec until = at_ms(until_ms);
		if (until_ms == UINT64_MAX)
			pthread_cond_wait(&q->woken, &q->lock);
		else
			pthread_cond_timedwait(&q->woken, &q->lock, &until);
	}
	return NULL;
}

void queue_done(struct queue *q, const char *key)
{
	LOCK_GUARD(&q->lock);
	struct entry *e = find(q, key);

	if (!e || !e->working)
		return;
	series_observe(q->classes[e->class].worked, (double)(clock_monotonic_us() - e->since) / 1e6);
	e->working = false;
	q->classes[e->class].working--;
	q->working--;
	if (e->again)
		make_ready(q, e, false);
	drop_if_idle(q, e);
	if (q->ready)
		pthread_cond_signal(&q->woken); /* keys that were left for others wait no more */
	if (!q->working)
		pthread_cond_broadcast(&q->settled);
}

static void stop(struct queue *q)
{
	q->stopped = true;
	pthread_cond_broadcast(&q->woken);
}

void queue_stop(struct queue *q)
{
	LOCK_GUARD(&q->lock);
	stop(q);
}

bool queue_drain(struct queue *q, unsigned ms)
{
	struct timespec until = at_ms(clock_monotonic_ms() + ms);

	LOCK_GUARD(&q->lock);
	stop(q);
	while (q->working && pthread_cond_timedwait(&q->settled, &q->lock, &until) == 0)
		;
	return !q->working;
}

size_t queue_length(struct queue *q)
{
	LOCK_GUARD(&q->lock);
	return q->ready;
}

char *queue_longest(struct queue *q, uint64_t *ms)
{
	uint64_t now = clock_monotonic_us();
	const struct entry *oldest = NULL;

	LOCK_GUARD(&q->lock);
	if (!q->working)
		return NULL;
	for (size_t i = 0; i < BUCKETS; i++)
		for (const struct entry *e = q->buckets[i]; e; e = e->chain)
			if (e->working && (!oldest || e->since < oldest->since))
				oldest = e;
	*ms = oldest && now > oldest->since ? (now - oldest->since) / 1000 : 0;
	return oldest ? strdup(oldest->key) : NULL;
}
