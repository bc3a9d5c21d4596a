#include "store/kube/limiter.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define STEP_MS 50 /* how soon a cancelled waiter finds out */

struct waiter {
	enum limiter_class class;
	uint64_t since;
	struct waiter *next; /* in the order of arrival */
};

struct limiter {
	double rate, burst;   /* tokens a millisecond; at most so many */
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t turn;
	double tokens;
	uint64_t filled; /* when tokens was last brought up to date */
	struct waiter *waiters, **last;
};

struct limiter *limiter_new(double per_second, unsigned burst)
{
	struct limiter *l = calloc(1, sizeof *l);
	pthread_condattr_t attr;

	if (!l)
		return NULL;
	l->rate = per_second / 1000;
	l->burst = l->tokens = burst;
	l->filled = clock_monotonic_ms();
	l->last = &l->waiters;
	pthread_mutex_init(&l->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&l->turn, &attr);
	pthread_condattr_destroy(&attr);
	return l;
}

void limiter_free(struct limiter *l)
{
	if (!l)
		return;
	pthread_cond_destroy(&l->turn);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static void fill(struct limiter *l, uint64_t now)
{
	l->tokens += (double)(now - l->filled) * l->rate;
	if (l->tokens > l->burst)
		l->tokens = l->burst;
	l->filled = now;
}

/* Whose turn it is. */
static const struct waiter *first(const struct limiter *l, uint64_t now)
{
	const struct waiter *best = NULL;
	unsigned best_class = 0;

	for (const struct waiter *w = l->waiters; w; w = w->next) {
		unsigned class = now - w->since >= LIMITER_AGING_MS ? LIMITER_URGENT : w->class;

		if (!best || class < best_class) {
			best = w;
			best_class = class;
		}
	}
	return best;
}

static void leave(struct limiter *l, struct waiter *w)
{
	struct waiter **p = &l->waiters;

	while (*p && *p != w)
		p = &(*p)->next;
	if (*p)
		*p = w->next;
	if (!w->next)
		l->last = p;
	pthread_cond_broadcast(&l->turn);
}

static void pause_until_turn(struct limiter *l, double missing)
{
	double ms = missing > 0 ? missing / l->rate + 1 : STEP_MS;
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long)(ms < STEP_MS ? ms : STEP_MS) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_cond_timedwait(&l->turn, &l->lock, &until);
}

int limiter_wait(struct limiter *l, enum limiter_class class, uint64_t deadline, struct cancel *cancel, struct error **err)
{
	struct waiter self = { .class = class, .since = clock_monotonic_ms() };
	int result = 0;

	LOCK_GUARD(&l->lock);
	*l->last = &self;
	l->last = &self.next;
	for (;;) {
		uint64_t now = clock_monotonic_ms();

		fill(l, now);
		if (l->tokens >= 1 && first(l, now) == &self) {
			l->tokens--;
			break;
		}
		if (now >= deadline)
			result = error_set(err, ERROR_TRANSIENT, "RateLimited", "too many requests wait for the client's own rate limit");
		else
			result = cancel_check(cancel, err);
		if (result < 0)
			break;
		pause_until_turn(l, 1 - l->tokens);
	}
	leave(l, &self);
	return result;
}
