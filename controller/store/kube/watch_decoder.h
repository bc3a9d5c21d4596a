/* The body of a watch: JSON documents {"type": ..., "object": {...}}, one a line (Kubernetes API concepts, "Efficient detection of
 * changes"), given in pieces of any size. Not thread-safe. */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "base/error.h"

#define WATCH_LINE_MAX (4u << 20) /* etcd keeps objects of at most 1.5 MiB by default */

enum watch_type { WATCH_ADDED, WATCH_MODIFIED, WATCH_DELETED, WATCH_BOOKMARK };

/* Takes an event; the object is borrowed and has metadata with a resourceVersion, and a name but for bookmarks. */
typedef void (*watch_event)(void *arg, enum watch_type type, json_t *object);

struct watch_decoder;

struct watch_decoder *watch_decoder_new(watch_event event, void *arg); /* NULL when memory is out */
void watch_decoder_free(struct watch_decoder *d);                      /* accepts NULL */
/* Fails with what an ERROR event says (gone: list again), or with reason InvalidEvent when a line is no event. Then it is of no more use. */
int watch_decoder_feed(struct watch_decoder *d, const void *data, size_t len, struct error **err);
