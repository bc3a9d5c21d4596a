/* Keys by the time they are due: a binary heap, the earliest first. Not thread-safe. Internal to queue/. */
#pragma once

#include "queue/entry.h"

struct delays {
	struct entry **heap;
	size_t count, size;
};

/* Puts the entry in, or, when it is there, moves it; sets its due. -1 when memory is out: then nothing has changed. */
int delays_put(struct delays *d, struct entry *e, uint64_t due);
struct entry *delays_take(struct delays *d); /* the earliest, whose due is 0 afterwards; there must be one */
void delays_free(struct delays *d);          /* not the entries */
