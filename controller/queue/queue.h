/* A work queue of string keys: a key is in it once however often it is added, is never handed to two workers at a time, and comes
 * again after it is done when it was added meanwhile. Adds can be delayed or rate-limited (exponential with jitter). Thread-safe.
 *
 * Keys have classes, told by what stands before their first "/". Within a class a key that is added goes behind those that wait, so a key
 * that comes again and again holds up none. Among the classes with waiting keys the turn goes round, so many keys of one hold up none of
 * another. And however slow the keys of other classes are, the last worker that is free takes only keys of the first. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/metrics.h"

struct queue;

#define QUEUE_CLASSES_MAX 8

struct queue_options {
	unsigned backoff_base_ms, backoff_cap_ms;
	const char *const
		*classes; /* ended by NULL, QUEUE_CLASSES_MAX at most; constants. A key of none of them is of the first. NULL: one class */
	unsigned workers; /* how many take keys; 0: not known, and none is kept for the first class */
	struct metrics *metrics; /* NULL: none. workqueue_* with the class as label "name" */
};

struct queue *queue_new(const struct queue_options *options);
void queue_free(struct queue *q); /* after the workers have ended; accepts NULL */
void queue_add(struct queue *q, const char *key);
/* The same behind all of its class that was added otherwise, unless it is in line already; another add moves it forward. */
void queue_add_low(struct queue *q, const char *key);
/* Adds the key after the delay; of several delays of a key the earliest counts. An add at once meanwhile does not take it away. */
void queue_add_after(struct queue *q, const char *key, unsigned ms);
/* Adds the key after its next back-off; returns the delay in milliseconds. */
unsigned queue_add_limited(struct queue *q, const char *key);
void queue_forget(struct queue *q, const char *key); /* the key's back-off starts anew */
/* Waits for a key (owned by the caller; end with queue_done). NULL once the queue is stopped. */
char *queue_get(struct queue *q);
void queue_done(struct queue *q, const char *key);
void queue_stop(struct queue *q); /* wakes all; nothing more is added or handed out */
/* Stops it and waits at most ms until no key is worked on; whether that is so. */
bool queue_drain(struct queue *q, unsigned ms);
size_t queue_length(struct queue *q); /* keys that are ready and wait for a worker */
/* The key that has been worked on for the longest time, owned by the caller, and for how long; NULL: none is. */
char *queue_longest(struct queue *q, uint64_t *ms);
