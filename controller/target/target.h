/* Where the machine goes: Harvester (target/harvester.c) or a directory on this machine (target/local.c).
 *
 * All functions are idempotent: what was created is found again by label and owner, never created twice. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "api/types.h"
#include "api/vm_model.h"
#include "base/error.h"
#include "store/store.h"

/* One disk of an import, as the target needs it. */
struct target_disk {
	const char *name;  /* status.diskImportStatus[].diskName, e.g. disk-0.raw */
	const char *path;  /* the raw file */
	const char *url;   /* where the image server offers it */
	uint64_t capacity; /* bytes */
	const char *image; /* status.diskImportStatus[].VirtualMachineImage, "" before it is submitted */
	const char *bus;   /* KubeVirt bus: virtio, sata, scsi, usb */
};

/* The import a call is for. */
struct target_import {
	const json_t *object;          /* the VirtualMachineImport */
	const struct vmimport *import; /* the same, decoded */
	const char *vm_name;           /* the target name (DNS-1123) */
};

enum target_state { TARGET_PENDING, TARGET_READY, TARGET_FAILED };

struct target_progress {
	enum target_state state;
	unsigned percent;
	char *message; /* why it failed or what it waits for; owned by the caller, may be NULL */
};

struct target;
struct target_ops {
	/* Appends a string for each problem: storage class, networks, a name held by somebody else's machine. model may be NULL (not known yet). */
	int (*preflight)(struct target *, const struct target_import *, const struct vm_model *, json_t *problems, struct error **);
	/* Creates or finds the image of a disk; its name goes to image (owned by the caller). */
	int (*submit_disk)(struct target *, const struct target_import *, const struct target_disk *, char **image, struct error **);
	int (*disk_state)(struct target *, const struct target_import *, const struct target_disk *, struct target_progress *,
			  struct error **);
	int (*delete_disk)(struct target *, const struct target_import *, const struct target_disk *, struct error **);
	/* Creates or finds the claims and the machine. */
	int (*create_vm)(struct target *, const struct target_import *, const struct vm_model *, const struct target_disk *disks,
			 size_t count, struct error **);
	/* READY: running, or stopped where spec.targetPowerState says so. */
	int (*vm_state)(struct target *, const struct target_import *, struct target_progress *, struct error **);
	/* After success: drops our owner references from the images. */
	int (*release)(struct target *, const struct target_import *, struct error **);
	void (*free)(struct target *);
};
struct target {
	const struct target_ops *ops;
};

/* Harvester or any cluster with its image API. Borrows the store. */
struct target *target_harvester_new(struct store *store, struct error **err);
/* A directory: disks stay where they are, <directory>/<vm>/virtualmachine.yaml is written. Copies the path. */
struct target *target_local_new(const char *directory, struct error **err);
void target_free(struct target *target);
