/* Which blocks of a disk that is under way are already on the storage: a file of records, so that after kill -9 or a power cut what is
 * right is not written (and from a source with ranges not fetched) again. Internal to disk/.
 *
 * A record names a block of 1 MiB, the node of its content (disk/digest_tree.h) and how much of it is data; records ascend, and what lies
 * between two of them is zero. The file begins with what disk it is of. All integers are little-endian.
 *
 *   header   "vicblks1", 24 zero bytes, SHA-256 of the disk's identity                                          64 bytes
 *   record   block (8), data bytes (8), node (32), the first 8 bytes of SHA-256(identity's SHA-256 || the 48 before)   56 bytes
 *
 * Write order, which makes each record true whenever the process or the machine stops:
 *  1. Blocks are written; the disk is synced (fdatasync waits for everything that completed before it, and for the file's extents);
 *     only then the records of these blocks are appended, and the journal is synced. So a record that can be read speaks of a block that
 *     is on the storage. A record torn by a power cut fails its checksum, and ends the journal.
 *  2. Before a block that has a record is written with other content, the journal is cut before that record and synced.
 *     After a sync that failed nothing is recorded any more, whatever later syncs say: the kernel tells of a failure once, and has what
 *     it could not write for written from then on.
 *  3. A resumed disk is first cut after its last recorded block: what was written behind it and has no record is gone, all there is hole.
 *  4. The finished disk is recorded elsewhere (transfer/journal.h), after it was synced; only then this file is removed. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "disk/digest_tree.h"

struct block_record {
	uint64_t block, data_bytes;
	unsigned char node[DIGEST_SIZE];
	uint64_t place; /* in the journal, from 0 */
};

struct block_journal;

enum block_journal_origin {
	BLOCK_JOURNAL_NEW,    /* there was none, or an empty file */
	BLOCK_JOURNAL_OWN,    /* of this identity */
	BLOCK_JOURNAL_OTHER,  /* of another one */
	BLOCK_JOURNAL_BROKEN, /* something else */
};

/* Opens or creates the journal. One that is broken, or of another identity, begins anew. */
struct block_journal *block_journal_open(const char *path, const char *identity, struct error **err);
/* What was found when it was opened. */
enum block_journal_origin block_journal_origin(const struct block_journal *j);
/* Whether the file is there and surely no journal: not even one that a crash or a power cut left empty, cut short or all zeros. */
bool block_journal_is_foreign(const char *path);
/* Removes the file when it is a journal, durably: its disk is to be written without it. */
int block_journal_discard(const char *path, struct error **err);
void block_journal_close(struct block_journal *j); /* accepts NULL; what was not committed is lost */
/* After the last recorded block, in bytes of the disk; 0 when there are none. *data: how much of that block is data. */
uint64_t block_journal_end(struct block_journal *j, uint64_t *data);
/* The next record of an earlier run that is not before the block, without taking it; false when there is none. One thread only. */
bool block_journal_peek(struct block_journal *j, uint64_t block, struct block_record *record);
/* Cuts the records from this place on, durably. Thread-safe. */
int block_journal_forget(struct block_journal *j, uint64_t place, struct error **err);
/* Notes a block that was written; known: it was in the journal at record->place when this run began, which may not be so any more. One
 * thread only, blocks ascending. */
int block_journal_note(struct block_journal *j, const struct block_record *record, bool known, struct error **err);
/* Makes what was noted durable. The disk was synced since. */
int block_journal_commit(struct block_journal *j, struct error **err);
