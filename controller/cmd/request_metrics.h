/* The requests to the API server, as metrics: rest_client_*. */
#pragma once

#include "base/metrics.h"
#include "store/kube/kube.h"

/* Adds what a store's requests came to; all of one server. */
void request_metrics_add(struct request_totals *sum, const struct store *kube_store);
/* Puts the sum into the registry. */
void request_metrics_set(struct metrics *metrics, const struct request_totals *sum);
