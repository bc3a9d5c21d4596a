/* The block storage quota of the project: what an export still may take of it, shared by the disks that are exported at the same time.
 * Thread-safe. Source: Block Storage API v3, GET /limits (absolute). */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "source/openstack/session.h"

struct quota_need {
	uint64_t volumes, snapshots, gigabytes;
};

/* What is left by an answer to GET /limits; UINT64_MAX: no limit. No I/O. */
struct quota_need quota_left(const json_t *answer);
/* Asks. A cloud that does not tell has no limits. */
int quota_ask(struct openstack_session *s, struct quota_need *left, struct cancel *cancel, struct error **err);
/* Whether it fits; else what lacks in *lacks, such as "1 volume and 20 GiB more". */
bool quota_fits(const struct quota_need *need, const struct quota_need *left, char lacks[160]);
/* By a snapshot and a volume from it, which both count; by a copy of the volume. */
struct quota_need quota_by_snapshot(uint64_t gib);
struct quota_need quota_by_copy(uint64_t gib);

struct quota;
struct quota *quota_new(const struct quota_need *left, struct error **err);
void quota_free(struct quota *q);
/* Takes a share, waiting for the others to give theirs back. What could not be had if all were given back: permanent QuotaExceeded; if all
 * but those that are stuck were: transient. */
int quota_take(struct quota *q, const struct quota_need *need, struct cancel *cancel, struct error **err);
void quota_give(struct quota *q, const struct quota_need *need);
/* Whether a share that was taken is stuck: what it is for cannot be removed now, and nobody is to wait for it. */
void quota_set_stuck(struct quota *q, const struct quota_need *share, bool stuck);
