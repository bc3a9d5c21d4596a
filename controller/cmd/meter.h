/* The progress of one long job on a terminal: a bar, how far, how fast, how long still. */
#pragma once

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
