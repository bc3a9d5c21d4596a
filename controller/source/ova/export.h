/* An export of a machine's disks from an OVF package; the callbacks of source_ops. Nothing is made at the source. */
#pragma once

#include "source/ova/remote.h"

struct source_export *ova_export_begin(const struct source_ops *ops, const struct remote *remote, const struct vm_model *model,
				       struct cancel *cancel, struct error **err);
int ova_export_stream(struct source_export *e, size_t i, source_sink sink, void *arg, struct cancel *cancel, struct error **err);
struct disk_input *ova_export_open(struct source_export *e, size_t i, const char *name, struct cancel *cancel, struct error **err);
void ova_export_progress(struct source_export *e, unsigned percent);
int ova_export_end(struct source_export *e, bool ok, struct error **err);
