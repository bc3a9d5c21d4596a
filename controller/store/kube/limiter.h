/* The client's own rate limit: a token bucket. Who waits longest goes first, of the most urgent that wait; after LIMITER_AGING_MS everybody is
 * urgent, so nobody starves. Thread-safe. Internal to store/kube. */
#pragma once

#include <stdint.h>

#include "base/cancel.h"
#include "base/error.h"

#define LIMITER_AGING_MS 5000

enum limiter_class { LIMITER_URGENT, LIMITER_NORMAL, LIMITER_LATER };

struct limiter;

/* per_second requests in the long run, burst at once. NULL when memory is out. */
struct limiter *limiter_new(double per_second, unsigned burst);
void limiter_free(struct limiter *l); /* when nobody waits; accepts NULL */
/* Waits for a turn until the deadline (monotonic milliseconds). Fails (transient, RateLimited) when the turn does not come by then, and when
 * cancelled. */
int limiter_wait(struct limiter *l, enum limiter_class class, uint64_t deadline, struct cancel *cancel, struct error **err);
