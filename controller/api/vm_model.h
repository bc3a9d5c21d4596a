/* What a virtual machine is, free of any vendor. Every source fills it; target/vmspec.c alone turns it into a KubeVirt object. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

enum vm_power { VM_POWER_UNKNOWN, VM_POWER_OFF, VM_POWER_ON, VM_POWER_SUSPENDED };

/* The controller a disk hangs on at the source. VM_BUS_UNKNOWN: the import's default bus. */
enum vm_bus { VM_BUS_UNKNOWN, VM_BUS_VIRTIO, VM_BUS_IDE, VM_BUS_SATA, VM_BUS_SCSI, VM_BUS_PVSCSI, VM_BUS_NVME, VM_BUS_USB };

struct vm_disk {
	char *id;           /* as the source names it (vSphere: device key) */
	char *label;        /* for people: "Hard disk 1" */
	uint64_t capacity;  /* bytes */
	uint64_t allocated; /* bytes the source says it holds; 0: not known */
	enum vm_bus bus;
	unsigned boot_order; /* 1..n, unique; disks are listed in this order */
};

struct vm_nic {
	char *network; /* as the source names it */
	char *mac;     /* "00:50:56:aa:00:01" */
	char *model;   /* vmxnet3, vmxnet2, e1000, e1000e, pcnet32, virtio, rtl8139, ne2k_pci; NULL: not known */
	char *label;
	bool connected;
};

struct vm_model {
	char *source_id;   /* stable id at the source (vSphere: "vm-123") */
	char *name, *path; /* path: inventory path, for messages */
	char *description;
	unsigned vcpus, cores_per_socket; /* both at least 1 */
	uint64_t memory;                  /* bytes */
	bool efi, secure_boot, tpm;
	char *guest_os; /* the source's id, e.g. debian12_64Guest */
	char *notes; /* for people, told when preflight passed: what was decided for them, or will not come along; NULL: nothing. Not kept. */
	char *host; /* where its disks come from as far as is known before an export (vSphere: "host-12"); NULL: not known. Not kept. */
	enum vm_power power;
	bool cpu_hot_add, memory_hot_add; /* were allowed while it ran */
	bool change_tracking;             /* the source knows which blocks were written since a snapshot */
	bool guest_tools;                 /* a guest shutdown can be asked for */
	struct vm_disk *disks;
	size_t disk_count;
	struct vm_nic *nics; /* in the source's order */
	size_t nic_count;
	char **networks; /* all networks of the source that the machine could be on, where they were asked for (source_ops.networks). Not kept. */
	size_t network_count;
};

/* Whether two names of a source's networks are the same: as they are, or as vCenter writes them, with %2f for a slash, %5c and %25. */
bool vm_same_network(const char *a, const char *b);
void vm_model_free(struct vm_model *model);
const char *vm_power_name(enum vm_power power); /* on, off, suspended, unknown */
const char *vm_bus_name(enum vm_bus bus);

DEFINE_CLEANUP(struct vm_model, vm_model_free_p, vm_model_free)
#define AUTO_VM_MODEL CLEANUP(vm_model_free_p)
