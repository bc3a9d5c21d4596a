/* What the daemon does in the cluster before it serves: brings the definitions up to date and finds out what it may do. */
#pragma once

#include "store/store.h"

struct setup;

/* Begins on a thread of its own, so that a cluster that does not answer holds up neither the probes nor the stop. What fails and may pass
 * is tried again until it is done or cancel is requested. ns: where leases are. store and cancel must outlive it. */
struct setup *setup_start(struct store *store, const char *ns, struct cancel *cancel, struct error **err);
/* Whether the first try is over. */
bool setup_tried(const struct setup *setup);
/* cancel must be requested before, or it waits for the end of the tries. Accepts NULL. */
void setup_free(struct setup *setup);
