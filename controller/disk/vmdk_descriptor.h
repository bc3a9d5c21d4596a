/* The descriptor of a VMDK: lines of text that say what the disk is made of.
 *
 * Source: VMware, "Virtual Disk Format 5.0" (2011), "The Descriptor File". */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define VMDK_DESCRIPTOR_MAX (1u << 20) /* bytes; a disk of 62 TiB in extents of 2 GB has two MiB of lines, which nobody makes */
#define VMDK_EXTENTS_MAX 8192          /* twice what the largest disk of 8 TB in parts of 2 GB has */
#define VMDK_NO_PARENT UINT32_MAX

enum vmdk_extent_type { VMDK_FLAT, VMDK_VMFS, VMDK_SPARSE, VMDK_VMFSSPARSE, VMDK_SESPARSE, VMDK_ZERO };

struct vmdk_extent {
	enum vmdk_extent_type type;
	uint64_t sectors;
	uint64_t offset; /* sectors, of a flat one */
	char *file;      /* as it stands there; NULL: ZERO */
};

struct vmdk_descriptor {
	char create_type[32]; /* "" when it is not said */
	bool has_cid;
	bool has_ddb;             /* the disk's database, which comes last, is there */
	uint32_t cid, parent_cid; /* VMDK_NO_PARENT: it has none */
	char *parent;             /* parentFileNameHint; NULL */
	struct vmdk_extent *extents;
	size_t extent_count;
	uint64_t sectors; /* of all extents; at most INT64_MAX bytes */
};

/* What the text says; what it does not need to be read is ignored. name is for errors. The outcome is the caller's, to be cleared. */
int vmdk_descriptor_parse(const char *text, size_t len, const char *name, struct vmdk_descriptor *out, struct error **err);
void vmdk_descriptor_clear(struct vmdk_descriptor *d); /* accepts a zeroed one */
const char *vmdk_extent_type_name(enum vmdk_extent_type type);
