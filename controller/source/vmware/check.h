/* What stands in the way of an export, told before anything is touched.
 *
 * Source: vSphere Web Services API reference, VirtualDevice.BackingInfo and its descendants, VirtualSCSISharing, VirtualMachineFileLayoutEx,
 * VirtualMachineFaultToleranceState; vSphere Security 8.0, "Virtual Machine Encryption Interoperability". */
#pragma once

#include "api/vm_model.h"
#include "source/vmware/session.h"

/* Appends a string for each problem, with the label that vSphere shows for the device. */
int vmware_check(struct vmware_session *s, const struct vm_model *model, json_t *problems, struct cancel *cancel, struct error **err);
/* The same of what was read already: <objects> of the machine, and the names of the datastores out of reach by their references. */
void vmware_check_of(const xmlNode *objects, const json_t *offline, const struct vm_model *model, json_t *problems);
/* The same of the answer to HasPrivilegeOnEntities. */
void vmware_check_privileges_of(const xmlNode *answer, const struct vm_model *model, json_t *problems);
