/* Where the clusters of a qcow2 image lie that is being written: what output.h asks when a disk becomes one. Internal to disk/.
 *
 * Clusters of 64 KiB are handed out in the order in which blocks come, so that the file grows and holds only what is data. L2 tables
 * are written as they come about, 16 entries (a MiB of the disk) at a time; the L1 table, the only thing that is kept in memory (8 bytes
 * for 512 MiB), the refcounts, of which each is one, and the header follow at the end. The header comes last, after all else was synced:
 * what was cut before is no qcow2 image at all.
 *
 * Format: QEMU's docs/interop/qcow2.txt, version 3 without features: no compression, no backing file, no snapshots. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "disk/digest.h"

#define QCOW2_CLUSTER (64u << 10)
#define QCOW2_CLUSTERS (DISK_DIGEST_BLOCK / QCOW2_CLUSTER) /* of a block */

struct qcow2_writer;

/* Of an open, empty file, which the error messages call path; both are borrowed. */
struct qcow2_writer *qcow2_writer_new(int fd, const char *path, struct error **err);
void qcow2_writer_free(struct qcow2_writer *w); /* accepts NULL */
/* Whether a disk of this size can be a qcow2 image that QEMU takes (L1 table of at most 32 MiB). */
int qcow2_writer_check(uint64_t capacity, struct error **err);
/* Where the clusters of a block of 1 MiB are in the file: bytes, 0 for what is not there. Thread-safe for distinct blocks. */
int qcow2_writer_find(struct qcow2_writer *w, uint64_t block, uint64_t host[QCOW2_CLUSTERS], struct error **err);
/* The same, and gives a place to those that wanted has a bit for: new ones, which lie side by side and are all zero. */
int qcow2_writer_place(struct qcow2_writer *w, uint64_t block, uint16_t wanted, uint64_t host[QCOW2_CLUSTERS], struct error **err);
uint64_t qcow2_writer_end(struct qcow2_writer *w); /* up to where the file was given away, in bytes */
/* All clusters were written: makes the file an image of this capacity. sync: and waits until the storage has it. */
int qcow2_writer_finish(struct qcow2_writer *w, uint64_t capacity, bool sync, struct error **err);
