/* Disks of an OVA on a server that sends no parts of files: one pass over the archive feeds all disks that wait, each in the order its member
 * comes. A disk that is asked for after its member went by takes part in the next pass. Thread-safe. */
#pragma once

#include "source/ova/package.h"

struct pass;

/* disks: what export_stream counts. Package and disks are borrowed. */
struct pass *pass_new(const struct package *package, const struct ovf_disk *const *disks, size_t count, struct cancel *cancel,
		      struct error **err);
/* Streams a disk; as source_ops.export_stream. The sink is called on a thread of the pass. */
int pass_stream(struct pass *pass, size_t i, source_sink sink, void *sink_arg, struct error **err);
/* No disk may be waiting. Accepts NULL. */
void pass_free(struct pass *pass);
