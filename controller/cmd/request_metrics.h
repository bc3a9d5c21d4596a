/* The requests to the API server, as metrics: rest_client_*. */
#pragma once

#include "base/metrics.h"
#include "store/store.h"

/* Reads them into the registry. */
void request_metrics_collect(struct metrics *metrics, const struct store *kube_store);
