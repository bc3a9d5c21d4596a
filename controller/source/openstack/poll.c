#include "source/openstack/poll.h"

#include "base/clock.h"

#define FIRST_PAUSE_MS 150

struct poll poll_within(uint64_t ms, unsigned longest_pause_ms)
{
	return (struct poll){ .until = clock_monotonic_ms() + ms, .bound = ms, .pause = FIRST_PAUSE_MS, .longest = longest_pause_ms };
}

struct poll poll_start(const struct openstack_session *s)
{
	return poll_within(openstack_patience_ms(s), openstack_pause_ms(s));
}

int poll_wait(struct poll *p, struct cancel *cancel, struct error **err)
{
	uint64_t now = clock_monotonic_ms();
	uint64_t pause = p->pause < p->longest ? p->pause : p->longest;

	if (now >= p->until)
		return error_set(
			err, ERROR_TRANSIENT, "TimedOut",
			"it did not change within %llu s; raise spec.uploadImageRetryCount or spec.uploadImageRetryDelay of the source",
			(unsigned long long)p->bound / 1000);
	if (pause > p->until - now)
		pause = p->until - now;
	if (cancel_wait(cancel, (unsigned)pause))
		return cancel_check(cancel, err);
	p->pause += p->pause / 2;
	return 0;
}
