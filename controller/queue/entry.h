/* A key of the queue. Internal to queue/. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/backoff.h"

/* Everything known of a key; it goes when nothing is. */
struct entry {
	struct entry *chain; /* of its hash bucket */
	struct entry *next;  /* in the line of ready keys */
	uint64_t due;        /* when a delayed add ripens, 0: none; an add at once does not take it away */
	size_t place;        /* in the heap of delays, while due is set */
	uint64_t since;      /* microseconds: when it got ready, or when a worker took it */
	size_t class;
	struct backoff backoff;
	bool ready, working, again; /* again: added while a worker has it */
	bool low;                   /* ready, in the line of those that can wait */
	char key[];
};
