/* What imports would meet, found out without touching anything: the preflight checks of the daemon, and an estimate. For the plan command. */
#pragma once

#include <jansson.h>

#include "source/source.h"
#include "store/store.h"
#include "target/target.h"

struct plan;

struct plan_options {
	struct store *store;   /* has the imports, their sources and Secrets; borrowed, as all of these */
	struct target *target; /* only asked */
	const char *scratch;   /* where disks would be kept; NULL: the room for them is not checked */
	struct source_options sources;
	struct cancel *cancel;
};

struct plan *plan_new(const struct plan_options *options, struct error **err);
void plan_free(struct plan *plan); /* logs out of all sources; accepts NULL */

/* One import, an object as the store has it. Returns what there is to say of it, owned by the caller:
 *
 *   {"namespace", "name", "virtualMachineName", "target": its name, "machine": inventory path, "power", "host",
 *    "disks": [{"label", "capacity", "allocated", "bus"}], "networks": [{"label", "network", "mac", "model"}],
 *    "capacity", "bytes": to be fetched, "bytesPerSecond", "seconds", "notes",
 *    "firstSeenCertificate": the SHA-256 of one that nothing verified, "problems": [texts]}
 *
 * What is not known is absent: machine and what follows it when the source could not be asked; bytesPerSecond and seconds when no sample
 * could be taken, and then "noSample" says why. NULL when memory is out. */
json_t *plan_import(struct plan *plan, const json_t *import, struct error **err);
