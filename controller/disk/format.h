/* Which format an image is of, by its content. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum disk_format {
	DISK_RAW,             /* anything else */
	DISK_VMDK_SPARSE,     /* hosted sparse: monolithicSparse, an extent of twoGbMaxExtentSparse */
	DISK_VMDK_STREAM,     /* streamOptimized: the same, written to be read from its start to its end */
	DISK_VMDK_DESCRIPTOR, /* the text that names extents */
	DISK_VMDK_COWD,       /* ESXi vmfsSparse */
	DISK_VMDK_SESPARSE,
	DISK_QCOW2, /* versions 2 and 3 */
	/* Those that are only recognised here. */
	DISK_QCOW1,
	DISK_VHD, /* with a copy of its footer in front: dynamic and differencing; a fixed one is told by its end only */
	DISK_VHDX,
	DISK_VDI,
	DISK_QED,
	DISK_PARALLELS,
	DISK_LUKS,
	DISK_MARKUP, /* HTML or XML, which a server sent instead */
	DISK_GZIP,
	DISK_XZ,
	DISK_BZIP2,
	DISK_ZSTD,
	/* Archives, in which a disk may lie. A disk may also hold one in place of a file system, as a tape does. */
	DISK_TAR, /* POSIX or GNU, by a header whose checksum is right */
	DISK_OVA, /* the same, whose first member is an OVF descriptor */
	DISK_ZIP,
	DISK_FORMATS
};

#define DISK_FORMAT_HEAD 512 /* bytes of the beginning that tell it */

/* head: the first len bytes; fewer than DISK_FORMAT_HEAD only when there are no more. */
enum disk_format disk_format_of(const void *head, size_t len);
/* Whether it is one that holds a disk, which is read by its tables: neither raw, nor encrypted, nor packed. */
bool disk_format_is_image(enum disk_format format);
bool disk_format_is_archive(enum disk_format format);
/* How large the disk in an image is in bytes, where the image's beginning says so: VMDK that is sparse (not a descriptor) and qcow2; else, and
 * when what it says is impossible, 0. */
uint64_t disk_format_capacity(enum disk_format format, const void *head, size_t len);
/* Sets the error (permanent, UnsupportedFormat) that `name` is of a format that is not read, and says what to do with it. Returns -1. */
int disk_format_refuse(enum disk_format format, const char *name, struct error **err);
const char *disk_format_name(enum disk_format format); /* for people and JSON: "raw", "vmdk", "qcow2", "vhdx" ... */
