/* An export of a virtual machine: the callbacks of source_ops. Its disks come by an export lease on the machine; where vSphere refuses that,
 * by one on a snapshot that holds the same; where no lease is to be had, or a disk's stream keeps failing, by the datastore browser. */
#pragma once

#include "source/source.h"
#include "source/vmware/session.h"

/* dc_path: inventory path of the machine's datacenter. */
struct source_export *vmware_export_begin(struct vmware_session *session, const struct source_ops *ops, const char *dc_path,
					  const struct vm_model *model, source_ledger ledger, void *ledger_arg, struct cancel *cancel,
					  struct error **err);
int vmware_export_stream(struct source_export *e, size_t i, source_sink sink, void *arg, struct cancel *cancel, struct error **err);
int vmware_export_resume(struct source_export *e, size_t i, uint64_t offset, source_sink sink, void *arg, struct cancel *cancel,
			 struct error **err);
struct disk_input *vmware_export_open(struct source_export *e, size_t i, const char *name, struct cancel *cancel, struct error **err);
char *vmware_export_note(struct source_export *e);
int vmware_export_nvram(struct source_export *e, unsigned char **data, size_t *len, struct cancel *cancel, struct error **err);
void vmware_export_progress(struct source_export *e, unsigned percent);
int vmware_export_end(struct source_export *e, bool ok, struct error **err);
