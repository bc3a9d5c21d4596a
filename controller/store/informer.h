/* A cache of the objects of one resource, kept up to date by a store. Reads take no request, but make the object anew from what is kept
 * of it (store/cache.h): some ten microseconds each. Thread-safe. */
#pragma once

#include <stdint.h>

#include "store/store.h"

struct informer;

/* For readers. */
bool informer_synced(const struct informer *informer); /* the first list is in */
/* Waits until it is synced; false when cancel was requested first. */
bool informer_wait(struct informer *informer, struct cancel *cancel);
json_t *informer_get(struct informer *informer, const char *ns, const char *name); /* a new object, or NULL */
json_t *informer_list(struct informer *informer, const char *ns);                  /* a new array; ns NULL: all */
uint64_t informer_silent_ms(const struct informer *informer);                      /* since the last beat; 0: the store gives none */
size_t informer_count(struct informer *informer);
void informer_free(struct informer *informer); /* stops its watch; waits for its thread; accepts NULL */

/* For stores. stop, when not NULL, is called by informer_free before the cache goes and must end all calls into it. */
struct informer *informer_new(const struct resource *res, store_handler handler, void *arg, void (*stop)(void *stop_arg), void *stop_arg);
/* Puts an object in: ADDED or MODIFIED, or nothing when its resourceVersion is the one already there. */
void informer_put(struct informer *informer, json_t *object);
void informer_remove(struct informer *informer, const json_t *object);
/* The outcome of a list: what is missing in it was deleted meanwhile and is told as DELETED. Marks the cache as synced. */
void informer_replace(struct informer *informer, const json_t *objects);
/* The same in pieces, for a list that comes as a stream: what is not put between begin and end was deleted meanwhile. begin again starts
 * over. One thread at a time. */
void informer_begin(struct informer *informer);
void informer_end(struct informer *informer);
/* The thread that keeps it up to date is at work. A store that calls this does so every few minutes at least, whatever the server does. */
void informer_beat(struct informer *informer);
const struct resource *informer_resource(const struct informer *informer);
