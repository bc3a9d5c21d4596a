/* What turns compressed pieces back. Internal to disk/. */
#pragma once

#include <stddef.h>

#include "disk/decoder.h"

/* For one thread at a time. */
struct codec;
struct codec *codec_new(void);    /* NULL when memory is out */
void codec_free(struct codec *c); /* accepts NULL */
/* Turns `stored` bytes back into `least` bytes at least and `most` at most. NULL when that went well, else what is wrong, as the end of a
 * sentence about the grain or cluster. What was written to out before a failure is of no meaning. */
const char *codec_inflate(struct codec *c, enum piece_codec codec, const void *data, size_t stored, void *out, size_t least, size_t most);
