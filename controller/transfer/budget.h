/* How many streams go at once: to a host, to the service behind all hosts, and altogether; shared out between imports.
 *
 * Who waits longest goes first among those whose import has the fewest streams under way, so that one import of many disks does not hold
 * up the others. A host that answers with errors, slowly, or not at all is asked for less at once (half as many), and for one more again
 * after a while without complaints (additive increase, multiplicative decrease). Thread-safe. */
#pragma once

#include <stdint.h>

#include "base/cancel.h"
#include "base/error.h"

struct budgets;
struct budget_grant; /* the permission for one stream */

/* 0: no limit. */
struct budget_limits {
	unsigned per_host, per_endpoint, total;
	unsigned unnamed; /* instead of per_host, of streams that name no host */
	unsigned rise_ms; /* how long without complaints until a host is asked for one more; 0: 15,000 */
};

enum budget_event {
	BUDGET_SLOW,    /* nothing came for long */
	BUDGET_FAILED,  /* an error that may be the host's */
	BUDGET_REFUSED, /* it said that it has enough to do */
};

struct budgets *budgets_new(const struct budget_limits *limits);
void budgets_free(struct budgets *b); /* nothing is granted or waited for any more; accepts NULL */

/* Waits until a stream may go. host and endpoint may be NULL or "": then only the other limits count. owner tells imports apart.
 * -1 (cancelled) when cancel was requested first. */
int budgets_take(struct budgets *b, const char *endpoint, const char *host, const void *owner, struct cancel *cancel,
		 struct budget_grant **out, struct error **err);
/* Tells what the host did; once for a stream that ended badly, or while it runs. Several at once count once. */
void budgets_note(struct budget_grant *grant, enum budget_event event);
void budgets_give(struct budget_grant *grant); /* accepts NULL */

/* Calls each for every host that is known; it must not call back. */
void budgets_each(struct budgets *b, void (*each)(void *arg, const char *host, unsigned running, unsigned waiting, unsigned allowed),
		  void *arg);
