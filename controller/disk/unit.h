/* A unit of work: what came of one aligned 1 MiB of a guest's disk, and what a worker makes of it. Internal to disk/. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "disk/digest_tree.h"

#define UNIT_PIECES 256 /* the smallest grain is 4 KiB */
/* Bytes that a unit may hold: 1 MiB in grains that are a quarter and a sector larger than what they inflate to. What is not used costs no memory. */
#define UNIT_DATA (DISK_DIGEST_BLOCK + DISK_DIGEST_BLOCK / 4 + UNIT_PIECES * 512u)

struct piece {
	uint32_t at, len;           /* in the guest's block */
	uint32_t stored_at, stored; /* in data */
	uint64_t stream_offset;     /* where it came from, for errors */
	bool compressed;
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
	bool no_leaf;   /* nobody wants the leaf */

	int fd; /* the raw file, and its name for errors */
	const char *path;

	/* The outcome. */
	struct error *error;
	unsigned char leaf[DIGEST_SIZE];
	uint64_t written; /* bytes */

	void (*done)(struct unit *unit); /* called by the worker at the end */
	void *owner;
	bool finished;
	struct unit *next;  /* in the workers' queue, or among their spare units */
	struct unit *after; /* in the pipeline's order */
};

/* The error of a stream that brings a piece of the disk that came before. Returns -1. */
int unit_twice(const struct unit *u, const struct piece *p, struct error **err);

#define DISK_WORKERS_MAX 16
#define DISK_WORKERS_DEFAULT_MAX 8

/* The workers own all units, so that memory is bounded for all pipelines together: two for each pipeline, one to fill and one in work, and
 * as many as there are threads for whoever is faster. */
struct disk_workers;
void workers_enter(struct disk_workers *workers); /* a pipeline begins */
void workers_leave(struct disk_workers *workers); /* it has given back its units; without pipelines no unit is kept */
/* A unit for a pipeline that holds so many already; NULL when it must give back one first, or memory is out. What it holds is undefined. */
struct unit *workers_take_unit(struct disk_workers *workers, unsigned held);
void workers_give_unit(struct disk_workers *workers, struct unit *unit, unsigned held); /* held: with this one */
void workers_submit(struct disk_workers *workers, struct unit *unit);
