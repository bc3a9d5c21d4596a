/* An export lease: vSphere's permission to read a machine's disks over HTTP as streamOptimized VMDKs.
 *
 * Source: vSphere Web Services API reference, VirtualMachine.ExportVm, HttpNfcLease, HttpNfcLeaseInfo, HttpNfcLeaseDeviceUrl. */
#pragma once

#include "source/source.h"
#include "source/vmware/session.h"

/* The callbacks of source_ops. */
struct source_export *lease_begin(struct vmware_session *session, const struct source_ops *ops, const struct vm_model *model, source_ledger ledger,
				  void *ledger_arg, struct cancel *cancel, struct error **err);
int lease_stream(struct source_export *e, size_t i, source_sink sink, void *arg, struct cancel *cancel, struct error **err);
void lease_progress(struct source_export *e, unsigned percent);
int lease_end(struct source_export *e, bool ok, struct error **err);

#define LEASE_LEDGER_KIND "ExportLease"
/* Ends the lease that a process which is no more left behind, by ending its session; id as it was told to the ledger. */
int lease_cleanup(struct vmware_session *session, const char *id, struct cancel *cancel, struct error **err);
