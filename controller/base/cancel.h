/* A request to stop that every wait can be woken by. A child is requested with its parent (the daemon's stop -> an import's stop).
 *
 * Thread-safe. Lock order: the parent's lock before the child's. */
#pragma once

#include <stdbool.h>

#include "base/error.h"

struct cancel;

/* A new one, requested when parent (may be NULL, must outlive it) is. NULL when memory is out. */
struct cancel *cancel_new(struct cancel *parent);
void cancel_free(struct cancel *c);            /* accepts NULL; it must have no children any more */
void cancel_request(struct cancel *c);         /* sticky; not to be called from a signal handler */
bool cancel_requested(const struct cancel *c); /* false for NULL; cheap, for polling in loops */

/* Waits at most ms milliseconds; true when stop was requested. c may be NULL: then it only sleeps. */
bool cancel_wait(struct cancel *c, unsigned ms);

/* A descriptor that becomes readable once stop is requested (for poll); owned by c. -1 when there is none. */
int cancel_fd(const struct cancel *c);

/* Sets a cancelled error and returns -1 when stop was requested, else 0. */
int cancel_check(const struct cancel *c, struct error **err);
