/* An export lease: vSphere's permission to read a machine's disks over HTTP as streamOptimized VMDKs.
 *
 * It dies with its session, and leaseTimeout seconds after the last HttpNfcLeaseProgress; while it lives the machine can neither be
 * started nor exported by another. Source: vSphere Web Services API reference, VirtualMachine.ExportVm, HttpNfcLease. */
#pragma once

#include "source/source.h"
#include "source/vmware/session.h"

/* The callbacks of source_ops. A machine that another lease or task holds is transient ExportBusy. */
struct source_export *lease_begin(struct vmware_session *session, const struct source_ops *ops, const struct vm_model *model,
				  source_ledger ledger, void *ledger_arg, struct cancel *cancel, struct error **err);
int lease_stream(struct source_export *e, size_t i, source_sink sink, void *arg, struct cancel *cancel, struct error **err);
void lease_progress(struct source_export *e, unsigned percent);
int lease_end(struct source_export *e, bool ok, struct error **err);

#define LEASE_LEDGER_KIND "ExportLease"
/* Ends the lease that a process which is no more left behind, by ending its session; id as it was told to the ledger:
 * "session[KEY]vm-12". Where the user lacks that privilege: transient as long as the machine is seen to be held. */
int lease_cleanup(struct vmware_session *session, const char *id, struct cancel *cancel, struct error **err);
