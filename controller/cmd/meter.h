/* The progress of one long job on a terminal: a bar, how far, how fast, how long still. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct meter {
	bool shown; /* standard error is a terminal and nobody asked for quiet */
	uint64_t started_ms, drawn_ms;
	bool drawn;
};

void meter_begin(struct meter *m, bool quiet);
/* Draws it, a few times a second at most. part of whole says how far (whole 0: not known); bytes are what was worked off. */
void meter_show(struct meter *m, uint64_t part, uint64_t whole, uint64_t bytes);
void meter_end(struct meter *m); /* takes it off the screen */

struct cancel;

/* A meter that a thread of its own shows, of what somebody else counts in position. Not to be moved while it runs. */
struct meter_watch {
	struct meter meter;
	_Atomic uint64_t position; /* bytes */
	uint64_t whole;            /* 0: not known */
	struct cancel *done;
	pthread_t thread;
	bool running;
};

/* Without a terminal, or when no thread can be had, nothing is shown. */
void meter_watch_begin(struct meter_watch *w, uint64_t whole, bool quiet);
void meter_watch_end(struct meter_watch *w); /* repeatable */
