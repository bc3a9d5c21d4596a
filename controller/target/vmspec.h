/* The KubeVirt VirtualMachine (kubevirt.io/v1) that a vm_model becomes: the only place that knows both. */
#pragma once

#include <jansson.h>

#include "target/target.h"

/* The bus of a disk on the target: pvscsi and IDE and SATA -> sata, other SCSI -> scsi, NVMe -> virtio, USB -> usb, unknown -> fallback. */
const char *vmspec_disk_bus(enum vm_bus bus, const char *fallback);
/* The KubeVirt model of a NIC: vmxnet2/3 -> virtio, e1000, e1000e, pcnet32 -> pcnet, ...; fallback when unknown or NULL. */
const char *vmspec_nic_model(const char *model, const char *fallback);

/* The whole manifest. A disk's volume is the claim named by its image (target_disk.image), or for local=true by its file name. New reference. */
json_t *vmspec_build(const struct target_import *import, const struct vm_model *model, const struct target_disk *disks, size_t count,
		     bool local, struct error **err);
