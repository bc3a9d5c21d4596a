/* The reconcilers' numbers. Internal to reconcile/. */
#pragma once

#include "base/error.h"
#include "base/metrics.h"

struct reconciler;

/* One for each class of keys, in the queue's order. */
struct controller_metrics {
	struct series *success, *error, *again, *errors, *seconds, *active;
};

struct reconcile_metrics {
	struct controller_metrics *controllers;
	struct metric *imports, *failures, *hosts;
	struct series *sessions, *transfers, *used, *reserved, *available;
};

/* classes is ended by NULL; workers is told as max_concurrent_reconciles. -1 when memory is out. */
int reconcile_metrics_begin(struct reconciler *r, const char *const *classes, unsigned workers);
void reconcile_metrics_end(struct reconciler *r);
/* An import has failed, or is invalid. What is no plain word is counted as "Other". */
void reconcile_metrics_failure(struct reconciler *r, const char *reason);
