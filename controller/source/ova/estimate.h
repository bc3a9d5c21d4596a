/* What there is to fetch of a package, how fast it comes, and whether its disks are as large as the descriptor says: found out from little of
 * it, before anything is fetched. */
#pragma once

#include "source/ova/package.h"
#include "source/source.h"

/* The bytes of the files that the model's disks are in, as the package holds them: source_ops.load. */
int ova_load(const struct package *package, const struct vm_model *model, struct source_load *out, struct cancel *cancel,
	     struct error **err);
/* Reads a little of the first disk's file: source_ops.sample. */
int ova_sample(const struct package *package, const struct vm_model *model, uint64_t *bytes_per_second, struct cancel *cancel,
	       struct error **err);
/* Compares the capacity that the descriptor gives a disk with what its file's beginning says, where that says it and can be had by itself.
 * Permanent WrongCapacity, and whatever keeps the file from being read. */
int ova_check_capacity(const struct package *package, const struct ovf_disk *disk, struct cancel *cancel, struct error **err);
