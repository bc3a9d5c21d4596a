/* A vSphere virtual machine as a vm_model.
 *
 * Source: vSphere Web Services API reference, VirtualMachineConfigInfo, VirtualDevice and its descendants, VirtualMachineFileLayoutEx. */
#pragma once

#include "api/vm_model.h"
#include "source/vmware/session.h"

/* Reads the machine. A disk's id is "KEY CONTROLLERBUS:UNIT", as in "2000 ParaVirtualSCSIController0:0"; its second word is how an
 * export lease names the disk. */
struct vm_model *vmware_describe(struct vmware_session *s, const char *ref, const char *path, struct cancel *cancel, struct error **err);

/* The same of what was read already: <objects> of the machine, and the names of networks by their ids. */
struct vm_model *vmware_model_of(const xmlNode *objects, const json_t *networks, const char *ref, const char *path, struct error **err);

enum vm_power vmware_power_of(const char *state); /* of runtime.powerState */
