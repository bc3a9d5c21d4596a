/* The digest of a disk's content: a binary tree of SHA-256 over pieces of 64 KiB, in which zeros cost nothing.
 *
 *   leaf(i)    = Z                              when piece i holds only zero bytes, else SHA-256(piece i || 0x00)
 *                (the last piece is hashed at its true length; then leaves of Z up to a power of two, 16 at least)
 *   node(l, r) = Z                              when l = r = Z, else SHA-256(l || r || 0x01)
 *   digest     = SHA-256("vm-import-controller disk digest v2\n" || capacity in bytes as 8 bytes big-endian || root)
 *   Z          = 32 zero bytes
 *
 * Written as "vmid2:" and 64 lower-case hex digits. It depends on the content only, not on which parts are holes. The pieces are small
 * so that several of a MiB are hashed side by side (disk/sha256_lanes.h). README.md has it as ten lines of Python, which the test runs. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/error.h"

#define DISK_DIGEST_BLOCK (1u << 20) /* what is worked on at a time: a subtree of 16 leaves */
#define DISK_DIGEST_TEXT_SIZE 72

/* How a file is read for its digest. */
struct disk_digest_options {
	uint64_t size;                 /* only so many bytes from the start (a device may be larger than the disk on it); 0: all */
	unsigned threads;              /* 0: as many as the process may use processors, at most 8 */
	struct cancel *cancel;         /* may be NULL */
	_Atomic uint64_t *guest_bytes; /* up to where it was read, for progress; may be NULL */
};

/* The digest of a raw file or block device, holes skipped by SEEK_DATA where the file system tells them. options may be NULL. */
int disk_digest_file(const char *path, const struct disk_digest_options *options, char out[DISK_DIGEST_TEXT_SIZE], struct error **err);
