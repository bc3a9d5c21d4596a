/* The digest of a disk's content: a binary tree of SHA-256 over blocks of 1 MiB, in which zeros cost nothing.
 *
 *   leaf(i)    = Z                              when block i holds only zero bytes, else SHA-256(0x00 || block i)
 *                (the last block is hashed at its true length, without padding)
 *   node(l, r) = Z                              when l = r = Z, else SHA-256(0x01 || l || r)
 *                (a level with an odd number of nodes is filled up with one Z; a tree of one leaf is that leaf, of none Z)
 *   digest     = SHA-256("vm-import-controller disk digest v1\n" || capacity in bytes as 8 bytes big-endian || root)
 *   Z          = 32 zero bytes
 *
 * Written as "vmid1:" and 64 lower-case hex digits. It depends on the content only, not on which parts are holes. */
#pragma once

#include <stdint.h>

#include "base/error.h"

#define DISK_DIGEST_BLOCK (1u << 20)
#define DISK_DIGEST_TEXT_SIZE 72

/* The digest of a raw file or block device, holes skipped by SEEK_DATA where the file system tells them. */
int disk_digest_file(const char *path, char out[DISK_DIGEST_TEXT_SIZE], struct error **err);
