/* Exponential back-off with full jitter: attempt n waits a random time between base/2 and min(cap, base * 2^n) milliseconds. */
#pragma once

#include <stdint.h>

struct backoff {
	unsigned base_ms, cap_ms;
	unsigned attempt; /* failures in a row so far */
};

unsigned backoff_next(struct backoff *b); /* how long to wait now; counts the attempt; at least base_ms / 2 */
void backoff_reset(struct backoff *b);
uint32_t backoff_random(uint32_t below); /* uniform in [0, below); 0 when below is 0; from the kernel's generator */
