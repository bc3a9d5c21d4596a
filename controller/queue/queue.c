#include "queue/queue.h"

#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "base/backoff.h"
#include "base/cleanup.h"
#include "base/clock.h"

/* Everything known of a key; it goes when nothing is. */
struct entry {
	struct entry *chain; /* of its hash bucket */
	struct entry *next;  /* in the line of ready keys */
	uint64_t due;        /* when a delayed add ripens, 0: none; an add at once does not take it away */
	struct backoff backoff;
	bool ready, working, again; /* again: added while a worker has it */
	char key[];
};

#define BUCKETS 4096         /* keys in the queue at a time are few; keys that wait for a far time may be thousands */
#define OUT_OF_MEMORY_MS 100 /* a worker tries again after so long */

struct queue {
	pthread_mutex_t lock;
	pthread_cond_t woken;
	struct entry *buckets[BUCKETS];
	struct entry *first, **last; /* ready keys, in the order they came */
	size_t ready;
	uint64_t next_due; /* the earliest due of all, UINT64_MAX: none; may be too early, never too late */
	unsigned base_ms, cap_ms;
	bool stopped;
};

struct queue *queue_new(unsigned backoff_base_ms, unsigned backoff_cap_ms)
{
	struct queue *q = calloc(1, sizeof *q);
	pthread_condattr_t attr;

	if (!q)
		return NULL;
	pthread_mutex_init(&q->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&q->woken, &attr);
	pthread_condattr_destroy(&attr);
	q->last = &q->first;
	q->next_due = UINT64_MAX;
	q->base_ms = backoff_base_ms;
	q->cap_ms = backoff_cap_ms;
	return q;
}

void queue_free(struct queue *q)
{
	if (!q)
		return;
	for (size_t i = 0; i < BUCKETS; i++) {
		while (q->buckets[i]) {
			struct entry *e = q->buckets[i];

			q->buckets[i] = e->chain;
			free(e);
		}
	}
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

static struct entry *find_or_make(struct queue *q, const char *key)
{
	struct entry *e = find(q, key), **bucket = &q->buckets[bucket_of(key)];

	if (e)
		return e;
	e = calloc(1, sizeof *e + strlen(key) + 1);
	if (!e)
		return NULL;
	strcpy(e->key, key);
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

static void make_ready(struct queue *q, struct entry *e)
{
	if (e->working) {
		e->again = true;
		return;
	}
	if (e->ready)
		return;
	e->ready = true;
	e->next = NULL;
	*q->last = e;
	q->last = &e->next;
	q->ready++;
	pthread_cond_signal(&q->woken);
}

void queue_add(struct queue *q, const char *key)
{
	LOCK_GUARD(&q->lock);
	struct entry *e = q->stopped ? NULL : find_or_make(q, key);

	if (e)
		make_ready(q, e);
}

static void add_after(struct queue *q, struct entry *e, unsigned ms)
{
	uint64_t due = clock_monotonic_ms() + ms;

	if (!ms) {
		make_ready(q, e);
		return;
	}
	if (e->due && e->due <= due)
		return;
	e->due = due;
	if (due < q->next_due) {
		q->next_due = due;
		pthread_cond_signal(&q->woken); /* a sleeper must sleep less */
	}
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

/* Moves what is due into the line and finds the next due. */
static void ripen(struct queue *q)
{
	uint64_t now = clock_monotonic_ms();

	if (now < q->next_due)
		return;
	q->next_due = UINT64_MAX;
	for (size_t i = 0; i < BUCKETS; i++) {
		for (struct entry *e = q->buckets[i]; e; e = e->chain) {
			if (e->due && e->due <= now) {
				e->due = 0;
				make_ready(q, e);
			} else if (e->due && e->due < q->next_due) {
				q->next_due = e->due;
			}
		}
	}
}

/* The caller holds the lock and there is a ready key. NULL when memory is out. */
static char *take(struct queue *q)
{
	struct entry *e = q->first;
	char *key = strdup(e->key);

	if (!key)
		return NULL;
	q->first = e->next;
	if (!q->first)
		q->last = &q->first;
	e->ready = false;
	e->working = true;
	q->ready--;
	/* This worker was the one who would have woken for what is due next: another sleeper takes that over. */
	if (q->first || q->next_due != UINT64_MAX)
		pthread_cond_signal(&q->woken);
	return key;
}

char *queue_get(struct queue *q)
{
	LOCK_GUARD(&q->lock);
	while (!q->stopped) {
		uint64_t until_ms;
		struct timespec until;
		char *key;

		ripen(q);
		key = q->first ? take(q) : NULL;
		if (key)
			return key;
		until_ms = q->first ? clock_monotonic_ms() + OUT_OF_MEMORY_MS : q->next_due;
		until = (struct timespec){ (time_t)(until_ms / 1000), (long)(until_ms % 1000) * 1000000 };
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

	if (!e)
		return;
	e->working = false;
	if (e->again) {
		e->again = false;
		make_ready(q, e);
	}
	drop_if_idle(q, e);
}

void queue_stop(struct queue *q)
{
	LOCK_GUARD(&q->lock);
	q->stopped = true;
	pthread_cond_broadcast(&q->woken);
}

size_t queue_length(struct queue *q)
{
	LOCK_GUARD(&q->lock);
	return q->ready;
}
