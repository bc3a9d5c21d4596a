/* A byte buffer that grows up to a maximum it is born with. Always NUL-terminated once something was added. Not thread-safe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

struct buffer {
	char *data;
	size_t len, cap, max;
	bool failed; /* an add did not fit or memory ran out; all later adds fail too */
};

void buffer_init(struct buffer *b, size_t max);
/* Each returns 0, or -1 when it did not fit (then nothing was added and failed is set). */
int buffer_add(struct buffer *b, const void *data, size_t len);
int buffer_add_string(struct buffer *b, const char *s);
int buffer_addf(struct buffer *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buffer_clear(struct buffer *b);               /* empties it, keeps the memory */
void buffer_consume(struct buffer *b, size_t len); /* drops the first len bytes */
char *buffer_steal(struct buffer *b); /* the bytes as an owned string ("" when empty), NULL when failed; b is empty afterwards */
void buffer_free(struct buffer *b);   /* frees what it holds, not b itself; accepts a zeroed struct */

#define AUTO_BUFFER CLEANUP(buffer_free)
