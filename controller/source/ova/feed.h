/* What a disk's bytes pass on their way from the package to the decoder: digests of its parts, unpacking (gzip), and a look at what it is. One
 * thread at a time. */
#pragma once

#include "source/ova/package.h"

struct feed;

/* For a disk's file; the sink gets what the decoder is to have. Both are borrowed. */
struct feed *feed_new(const struct package *package, const struct ovf_disk *disk, source_sink sink, void *sink_arg, struct error **err);
void feed_free(struct feed *feed); /* accepts NULL */

/* The parts in order, each begun, given and ended; size is the bytes it must have (0: as many as come). With a manifest, the end fails when
 * the part is not what it says; where the manifest is still to come, feed_verify does. */
int feed_begin(struct feed *feed, const char *name, uint64_t size, struct error **err);
int feed_push(struct feed *feed, const void *data, size_t len, struct error **err);
int feed_end(struct feed *feed, struct error **err);
/* All parts have come: is it whole? */
int feed_finish(struct feed *feed, struct error **err);
/* Compares all parts with a manifest that came after them. */
int feed_verify(const struct feed *feed, const struct manifest *manifest, struct error **err);

/* An empty disk: a streamOptimized VMDK without a grain. capacity is a multiple of 512. */
int feed_empty(uint64_t capacity, source_sink sink, void *sink_arg, struct error **err);
