#include "source/openstack/quota.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "source/openstack/answer.h"
#include "json/codec.h"

#define LOOK_MS 200

static uint64_t left_of(const json_t *limits, const char *max_key, const char *used_key)
{
	uint64_t max = 0, used = 0;

	/* -1, or not there: no limit. */
	if (!answer_number(limits, max_key, &max))
		return UINT64_MAX;
	answer_number(limits, used_key, &used);
	return used < max ? max - used : 0;
}

struct quota_need quota_left(const json_t *answer)
{
	const json_t *limits = json_path(answer, "limits.absolute");

	return (struct quota_need){ .volumes = left_of(limits, "maxTotalVolumes", "totalVolumesUsed"),
				    .snapshots = left_of(limits, "maxTotalSnapshots", "totalSnapshotsUsed"),
				    .gigabytes = left_of(limits, "maxTotalVolumeGigabytes", "totalGigabytesUsed") };
}

int quota_ask(struct openstack_session *s, struct quota_need *left, struct cancel *cancel, struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;
	AUTO_JSON json_t *answer = openstack_get(s, OPENSTACK_VOLUME, cancel, &failed, "/limits");

	if (failed && (failed->class == ERROR_TRANSIENT || failed->class == ERROR_CANCELLED))
		return error_move(err, move_ptr(failed));
	*left = quota_left(answer);
	return 0;
}

struct quota_need quota_by_snapshot(uint64_t gib)
{
	return (struct quota_need){ .volumes = 1, .snapshots = 1, .gigabytes = 2 * gib };
}

struct quota_need quota_by_copy(uint64_t gib)
{
	return (struct quota_need){ .volumes = 1, .gigabytes = gib };
}

bool quota_fits(const struct quota_need *need, const struct quota_need *left, char lacks[160])
{
	const struct {
		uint64_t need, left;
		const char *one, *many;
	} all[] = { { need->volumes, left->volumes, "volume", "volumes" },
		    { need->snapshots, left->snapshots, "snapshot", "snapshots" },
		    { need->gigabytes, left->gigabytes, "GiB", "GiB" } };
	size_t len = 0;

	*lacks = 0;
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		uint64_t n = all[i].need > all[i].left ? all[i].need - all[i].left : 0;

		if (n)
			len += (size_t)snprintf(lacks + len, 160 - len, "%s%llu %s", len ? ", " : "", (unsigned long long)n,
						n == 1 ? all[i].one : all[i].many);
	}
	return !len;
}

struct quota {
	pthread_mutex_t lock; /* guards left and loose */
	struct quota_need left;
	struct quota_need loose; /* left of it when all shares are given back that are not stuck */
	struct quota_need all;   /* left of it when nobody has a share */
};

struct quota *quota_new(const struct quota_need *left, struct error **err)
{
	struct quota *q = calloc(1, sizeof *q);

	if (!q) {
		error_set_errno(err, ENOMEM, "cannot begin the export");
		return NULL;
	}
	pthread_mutex_init(&q->lock, NULL);
	q->left = q->loose = q->all = *left;
	return q;
}

void quota_free(struct quota *q)
{
	if (!q)
		return;
	pthread_mutex_destroy(&q->lock);
	free(q);
}

static void add(struct quota_need *to, const struct quota_need *share)
{
	to->volumes += share->volumes;
	to->snapshots += share->snapshots;
	to->gigabytes += share->gigabytes;
}

static void subtract(struct quota_need *from, const struct quota_need *share)
{
	from->volumes -= share->volumes;
	from->snapshots -= share->snapshots;
	from->gigabytes -= share->gigabytes;
}

/* 1: taken; 0: not yet; -1: there is nothing to wait for. */
static int try_take(struct quota *q, const struct quota_need *need, char lacks[160])
{
	LOCK_GUARD(&q->lock);
	if (quota_fits(need, &q->left, lacks)) {
		subtract(&q->left, need);
		return 1;
	}
	return quota_fits(need, &q->loose, lacks) ? 0 : -1;
}

int quota_take(struct quota *q, const struct quota_need *need, struct cancel *cancel, struct error **err)
{
	char lacks[160];
	int taken;

	if (!quota_fits(need, &q->all, lacks))
		return error_set(err, ERROR_PERMANENT, "QuotaExceeded", "the project's block storage quota lacks %s for the copy of a disk",
				 lacks);
	while (!(taken = try_take(q, need, lacks)))
		if (cancel_wait(cancel, LOOK_MS))
			return cancel_check(cancel, err);
	if (taken > 0)
		return 0;
	return error_set(
		err, ERROR_TRANSIENT, "SourceBusy",
		"the project's block storage quota lacks %s for the copy of a disk until the cloud has removed what was made for another",
		lacks);
}

void quota_give(struct quota *q, const struct quota_need *need)
{
	LOCK_GUARD(&q->lock);
	add(&q->left, need);
}

void quota_set_stuck(struct quota *q, const struct quota_need *share, bool stuck)
{
	LOCK_GUARD(&q->lock);
	(stuck ? subtract : add)(&q->loose, share);
}
