/* Looking at a state until it is as wanted: at first often, then with the pause of spec.uploadImageRetryDelay, and no longer than
 * spec.uploadImageRetryCount such pauses. Internal to source/openstack/. */
#pragma once

#include "source/openstack/session.h"

struct poll {
	uint64_t until; /* monotonic ms */
	uint64_t bound; /* ms in all, for the message */
	unsigned pause; /* the next one, ms */
	unsigned longest;
};

struct poll poll_start(const struct openstack_session *s);
/* The same within other bounds. */
struct poll poll_within(uint64_t ms, unsigned longest_pause_ms);
/* Pauses. -1: cancelled, or transient TimedOut. */
int poll_wait(struct poll *p, struct cancel *cancel, struct error **err);
