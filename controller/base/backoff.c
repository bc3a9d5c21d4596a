#include "base/backoff.h"

#include <sys/random.h>

uint32_t backoff_random(uint32_t below)
{
	uint32_t r = 0;

	if (getrandom(&r, sizeof r, GRND_NONBLOCK) != sizeof r)
		r = 0;
	return (uint32_t)(((uint64_t)r * below) >> 32);
}

unsigned backoff_next(struct backoff *b)
{
	uint64_t limit = (uint64_t)b->base_ms << (b->attempt < 20 ? b->attempt : 20);
	uint32_t floor = b->base_ms / 2;

	if (limit > b->cap_ms)
		limit = b->cap_ms;
	b->attempt++;
	if (limit <= floor)
		return (unsigned)limit;
	return floor + backoff_random((uint32_t)limit - floor + 1);
}

void backoff_reset(struct backoff *b)
{
	b->attempt = 0;
}
