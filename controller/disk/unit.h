/* A unit of work: what came of one aligned 1 MiB of a guest's disk, and what the workers make of it. Internal to disk/.
 *
 * A worker inflates the pieces into a block, finds zeros and hashes; a writer, which mostly waits for the storage, writes the block. The
 * stream's data is given back as soon as it is inflated, the block once it is written. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "disk/block_journal.h"
#include "disk/decoder.h"
#include "disk/digest_tree.h"
#include "disk/output.h"

#define UNIT_PIECES 256 /* the smallest grain is 4 KiB */
/* Bytes that a unit may hold: 1 MiB in grains that are a quarter and a sector larger than what they inflate to. What is not used costs no memory. */
#define UNIT_DATA (DISK_DIGEST_BLOCK + DISK_DIGEST_BLOCK / 4 + UNIT_PIECES * 512u)

struct piece {
	uint32_t at, len;           /* in the guest's block */
	uint32_t stored_at, stored; /* in data */
	uint64_t stream_offset;     /* where it came from, for errors */
	const char *file;           /* in this file; NULL: the stream */
	enum piece_codec codec;
};

/* The buffers of one pipeline; guarded by the workers' lock. */
struct workers_share {
	unsigned held; /* of data */
};

struct unit {
	uint64_t block;      /* index of the guest's MiB */
	uint32_t len;        /* bytes of the block: less than 1 MiB only at the end of the disk */
	unsigned char *data; /* UNIT_DATA bytes */
	size_t data_len;
	struct piece pieces[UNIT_PIECES]; /* ascending */
	size_t piece_count;
	uint32_t grain; /* bytes; 0: the format has none */
	bool again;     /* pieces of the block were written before: these must meet holes */
	bool no_node;   /* nobody wants the node */
	bool partial;   /* the stream ended wrongly in it: it may not be whole, and is not to be noted */

	struct disk_output *output;
	const char *path;              /* for errors */
	struct block_journal *journal; /* NULL: none */
	bool recorded;                 /* the journal has a record of this block or, with another number, of a later one */
	struct block_record record;
	bool known; /* outcome: the block is what the record says; it was not written */

	/* On the way. */
	unsigned char *block_buffer; /* 1 MiB */
	const unsigned char *bytes;  /* the content: block_buffer or data */
	struct digest_map map;

	/* The outcome. */
	struct error *error;
	unsigned char node[DIGEST_SIZE];
	uint64_t written; /* bytes that are data */

	void (*done)(struct unit *unit); /* called by a worker or writer at the end */
	void *owner;
	struct workers_share *share;
	bool finished;
	struct unit *next;  /* in a queue of the workers */
	struct unit *after; /* in the pipeline's order, or among its spare ones */
};

/* The error of a stream that brings a piece of the disk that came before. Returns -1. */
int unit_twice(const struct unit *u, const struct piece *p, struct error **err);

/* What a worker needs for its units. */
struct unit_tools;
struct unit_tools *unit_tools_new(struct error **err);
void unit_tools_free(struct unit_tools *t);
/* From pieces to bytes. The block is block_buffer, or data where that is the block as it is. */
int unit_decode(struct unit_tools *t, struct unit *u, struct error **err);
/* From bytes to map and node. *write: there is something to be written. */
int unit_examine(struct unit_tools *t, struct unit *u, bool *write, struct error **err);
int unit_write(struct unit *u, struct error **err);

#define DISK_WORKERS_MAX 16

/* The workers own all buffers, so that memory is bounded for all pipelines together: of data, two for each pipeline and one more for
 * whoever is faster; of blocks, six at most, of which four
 * are used when there are many pipelines. */
struct disk_workers;
void workers_enter(struct disk_workers *workers);         /* a pipeline begins */
void workers_leave(struct disk_workers *workers);         /* it has given back its buffers; without pipelines none is kept */
unsigned workers_pipelines(struct disk_workers *workers); /* that there are now */
/* UNIT_DATA bytes for a unit of a pipeline; waits until there are. NULL when memory is out. */
unsigned char *workers_take_data(struct disk_workers *workers, struct workers_share *share);
void workers_give_data(struct disk_workers *workers, struct workers_share *share, unsigned char *data);
void workers_submit(struct disk_workers *workers, struct unit *unit);
