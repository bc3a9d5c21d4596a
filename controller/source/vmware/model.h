/* A vSphere virtual machine as a vm_model.
 *
 * Source: vSphere Web Services API reference, VirtualMachineConfigInfo, VirtualDevice and its descendants. */
#pragma once

#include "source/vmware/session.h"

/* Reads the machine. A disk's id is "KEY CONTROLLERBUS:UNIT", as in "2000 ParaVirtualSCSIController0:0"; its second word is how an
 * export lease names the disk. */
struct vm_model *vmware_describe(struct vmware_session *s, const char *ref, const char *path, struct cancel *cancel, struct error **err);
enum vm_power vmware_power_of(const char *state);
/* Appends what stands in the way of an export, from the devices: shared disks and so on. */
int vmware_check_devices(struct vmware_session *s, const char *ref, json_t *problems, struct cancel *cancel, struct error **err);
