#include "base/cancel.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <time.h>

struct cancel {
	pthread_mutex_t lock; /* guards children; taken before a child's */
	pthread_cond_t woken;
	atomic_bool requested;
	int fd;
	struct cancel *parent, *children, *next; /* next: sibling, guarded by the parent's lock */
};

struct cancel *cancel_new(struct cancel *parent)
{
	struct cancel *c = calloc(1, sizeof *c);
	pthread_condattr_t attr;

	if (!c)
		return NULL;
	c->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->fd < 0) {
		free(c);
		return NULL;
	}
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->woken, &attr);
	pthread_condattr_destroy(&attr);
	if (parent) {
		bool already;

		pthread_mutex_lock(&parent->lock);
		c->parent = parent;
		c->next = parent->children;
		parent->children = c;
		already = parent->requested;
		pthread_mutex_unlock(&parent->lock);
		if (already)
			cancel_request(c);
	}
	return c;
}

void cancel_free(struct cancel *c)
{
	if (!c)
		return;
	if (c->parent) {
		LOCK_GUARD(&c->parent->lock);
		struct cancel **p = &c->parent->children;

		while (*p != c)
			p = &(*p)->next;
		*p = c->next;
	}
	close(c->fd);
	pthread_cond_destroy(&c->woken);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void cancel_request(struct cancel *c)
{
	uint64_t one = 1;

	LOCK_GUARD(&c->lock);
	if (atomic_exchange(&c->requested, true))
		return;
	if (write(c->fd, &one, sizeof one) < 0) {
		/* cannot happen: the counter is at zero before the first request */
	}
	pthread_cond_broadcast(&c->woken);
	for (struct cancel *child = c->children; child; child = child->next)
		cancel_request(child);
}

bool cancel_requested(const struct cancel *c)
{
	return c && c->requested;
}

bool cancel_wait(struct cancel *c, unsigned ms)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	if (!c) {
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
			;
		return false;
	}
	LOCK_GUARD(&c->lock);
	while (!c->requested && pthread_cond_timedwait(&c->woken, &c->lock, &until) != ETIMEDOUT)
		;
	return c->requested;
}

int cancel_fd(const struct cancel *c)
{
	return c ? c->fd : -1;
}

int cancel_check(const struct cancel *c, struct error **err)
{
	if (!cancel_requested(c))
		return 0;
	return error_set(err, ERROR_CANCELLED, "Cancelled", "stopped on request");
}
