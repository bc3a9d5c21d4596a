/* An export lease: vSphere's permission to read a machine's disks over HTTP as streamOptimized VMDKs.
 *
 * It dies with its session, and leaseTimeout seconds after the last HttpNfcLeaseProgress, which a thread of its own sends; while it lives
 * the machine can neither be started nor exported by another. Thread-safe but for lease_close and lease_free.
 * Source: vSphere Web Services API reference, VirtualMachine.ExportVm, VirtualMachineSnapshot.ExportSnapshot, HttpNfcLease. */
#pragma once

#include "source/source.h"
#include "source/vmware/session.h"

struct lease;

/* Takes a lease on the machine, or on its snapshot (a reference) where one is named, and waits until it is ready. A machine that another
 * lease or task holds is transient ExportBusy; one that is on, transient NotPoweredOff. */
struct lease *lease_open(struct vmware_session *session, const struct vm_model *model, const char *snapshot, struct cancel *cancel,
			 struct error **err);
/* Ends it at the source: completed when ok, else aborted. Not cancellable, but bounded in time. Once. */
int lease_close(struct lease *l, bool ok, struct error **err);
void lease_free(struct lease *l); /* accepts NULL */

/* What it offers of disk i. */
const char *lease_host(const struct lease *l, size_t i); /* "name:port" of the URL */
int lease_stream(struct lease *l, size_t i, source_sink sink, void *arg, struct cancel *cancel, struct error **err);
/* The machine's NVRAM, where it is offered: *data is an owned buffer, NULL when it is not. */
int lease_nvram(struct lease *l, unsigned char **data, size_t *len, struct cancel *cancel, struct error **err);
void lease_progress(struct lease *l, unsigned percent); /* is told with the next sign of life */
/* False when the source says that it has ended. */
bool lease_is_alive(struct lease *l, struct cancel *cancel);

#define LEASE_LEDGER_KIND "ExportLease"
/* Ends the lease that a process which is no more left behind, by ending its session; id as it was told to the ledger:
 * "session[KEY]vm-12". Where the user lacks that privilege: transient as long as the machine is seen to be held. */
int lease_cleanup(struct vmware_session *session, const char *id, struct cancel *cancel, struct error **err);
/* Ends the session of this key, which a process that is no more left. 1: it has ended; 0: the user lacks that privilege. */
int lease_end_session(struct vmware_session *session, const char *key, struct cancel *cancel, struct error **err);
