/* A snapshot that can stand for the machine itself: its disks hold what the machine's disks hold now.
 *
 * Source: vSphere Web Services API reference, VirtualMachine.QueryChangedDiskAreas, VirtualDiskFlatVer2BackingInfo.changeId. */
#pragma once

#include "api/vm_model.h"
#include "source/vmware/session.h"

/* The current snapshot of a machine that is off, when changed block tracking proves that nothing was written to any of its disks since:
 * its reference, owned; *name is what the user calls it, owned. NULL without an error: there is none, or it cannot be proved. */
char *snapshot_of_now(struct vmware_session *session, const struct vm_model *model, char **name, struct cancel *cancel, struct error **err);
