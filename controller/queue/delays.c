#include "queue/delays.h"

#include <stdlib.h>

static void place(struct delays *d, size_t at, struct entry *e)
{
	d->heap[at] = e;
	e->place = at;
}

static void up(struct delays *d, size_t at)
{
	struct entry *e = d->heap[at];

	for (; at && d->heap[(at - 1) / 2]->due > e->due; at = (at - 1) / 2)
		place(d, at, d->heap[(at - 1) / 2]);
	place(d, at, e);
}

static void down(struct delays *d, size_t at)
{
	struct entry *e = d->heap[at];

	for (;;) {
		size_t child = 2 * at + 1;

		if (child + 1 < d->count && d->heap[child + 1]->due < d->heap[child]->due)
			child++;
		if (child >= d->count || d->heap[child]->due >= e->due)
			break;
		place(d, at, d->heap[child]);
		at = child;
	}
	place(d, at, e);
}

int delays_put(struct delays *d, struct entry *e, uint64_t due)
{
	if (e->due) {
		e->due = due;
		up(d, e->place);
		down(d, e->place);
		return 0;
	}
	if (d->count == d->size) {
		size_t size = d->size ? 2 * d->size : 64;
		struct entry **heap = realloc(d->heap, size * sizeof(struct entry *));

		if (!heap)
			return -1;
		d->heap = heap;
		d->size = size;
	}
	e->due = due;
	place(d, d->count++, e);
	up(d, e->place);
	return 0;
}

struct entry *delays_take(struct delays *d)
{
	struct entry *first = d->heap[0], *last = d->heap[--d->count];

	first->due = 0;
	if (d->count) {
		place(d, 0, last);
		down(d, 0);
	}
	return first;
}

void delays_free(struct delays *d)
{
	free(d->heap);
	*d = (struct delays){ 0 };
}
