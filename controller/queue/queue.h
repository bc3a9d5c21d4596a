/* A work queue of string keys: a key is in it once however often it is added, is never handed to two workers at a time, and comes
 * again after it is done when it was added meanwhile. Adds can be delayed or rate-limited (exponential with jitter). Thread-safe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct queue;

struct queue *queue_new(unsigned backoff_base_ms, unsigned backoff_cap_ms);
void queue_free(struct queue *q); /* after the workers have ended; accepts NULL */
void queue_add(struct queue *q, const char *key);
/* Adds the key after the delay; of several delays of a key the earliest counts. An add at once meanwhile does not take it away. */
void queue_add_after(struct queue *q, const char *key, unsigned ms);
/* Adds the key after its next back-off; returns the delay in milliseconds. */
unsigned queue_add_limited(struct queue *q, const char *key);
void queue_forget(struct queue *q, const char *key); /* the key's back-off starts anew */
/* Waits for a key (owned by the caller; end with queue_done). NULL once the queue is stopped. */
char *queue_get(struct queue *q);
void queue_done(struct queue *q, const char *key);
void queue_stop(struct queue *q);     /* wakes all; nothing more is handed out */
size_t queue_length(struct queue *q); /* keys that are ready and wait for a worker */
