/* A unit of work: what came of one aligned 1 MiB of a guest's disk, and what a worker makes of it. Internal to disk/. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "disk/digest_tree.h"

#define UNIT_PIECES 256 /* the smallest grain is 4 KiB */

struct piece {
	uint32_t at, len;       /* in the guest's block */
	uint32_t stored_at, stored; /* in data */
	uint64_t stream_offset; /* where it came from, for errors */
	bool compressed;
};

struct unit {
	uint64_t block;         /* index of the guest's MiB */
	uint32_t len;           /* bytes of the block: less than 1 MiB only at the end of the disk */
	unsigned char *data;
	size_t data_len, data_cap;
	struct piece pieces[UNIT_PIECES]; /* ascending */
	size_t piece_count;
	uint32_t grain;         /* bytes; 0: the format has none */
	bool again;             /* pieces of the block were written before: these must meet holes */
	bool no_leaf;           /* nobody wants the leaf */

	int fd;                 /* the raw file, and its name for errors */
	const char *path;

	/* The outcome. */
	struct error *error;
	unsigned char leaf[DIGEST_SIZE];
	uint64_t written;       /* bytes */

	void (*done)(struct unit *unit); /* called by the worker at the end */
	void *owner;
	bool finished;
	struct unit *next;      /* in the workers' queue */
	struct unit *after;     /* in the pipeline's order */
};

/* The error of a stream that brings a piece of the disk that came before. Returns -1. */
int unit_twice(const struct unit *u, const struct piece *p, struct error **err);

#define DISK_WORKERS_MAX 16
struct disk_workers;
void workers_submit(struct disk_workers *workers, struct unit *unit);
unsigned workers_count(const struct disk_workers *workers);
