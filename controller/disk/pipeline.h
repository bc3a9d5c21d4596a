/* The fast path of a disk: bytes of a stream in, a sparse raw file, a block device or a qcow2 image out.
 *
 *   push() -> decoder -> units of 1 MiB of guest disk, in order -> workers (inflate, find zeros, write, digest)
 *
 * The input is never seeked and never stored; holes stay holes; the content's digest (disk/digest.h) is made on the way.
 * On a block device what is to be zero is made so.
 * push blocks while the workers or the disk are behind (back-pressure), so memory is bounded for any disk size. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/error.h"
#include "disk/digest.h"

/* Worker threads that pipelines share; one pool a process. */
struct disk_workers;
struct disk_workers *disk_workers_new(
	unsigned threads,
	struct error **err); /* at most 16; 0: as many as the process may use processors (affinity and cgroup cpu.max), at most 8 */
void disk_workers_free(struct disk_workers *workers);

struct disk_pipeline_options {
	const char *format; /* "vmdk-stream", "raw", or NULL: by content */
	const char *
		path; /* file to write (created, or reused and truncated), or block device; NULL: nothing is written, and only the digest made */
	bool qcow2;        /* writes a qcow2 image, to a file, instead of a raw one; there is no journal then */
	uint64_t capacity; /* bytes the disk must have; 0: as the stream says. A stream that says otherwise is an error. */
	struct disk_workers *workers;
	struct cancel *cancel;         /* may be NULL */
	_Atomic uint64_t *guest_bytes; /* the position in the guest's disk, for progress; may be NULL */
	bool verify;                   /* finish reads the disk from the storage again, and fails (VerifyFailed) when it is another one */
	bool no_sync;                  /* finish does not wait for the storage: a power cut may lose the file */
	/* A file that says which blocks are there already (disk/block_journal.h), so that a later try does not write them again; NULL: none.
	 * The caller removes it when the disk is finished. identity names the disk; what the journal of another one says is not believed. */
	const char *journal, *identity;
	uint64_t checkpoint; /* bytes written between two syncs of a disk with a journal; 0: 256 MiB */
};

struct disk_result {
	uint64_t capacity;     /* bytes */
	uint64_t data_bytes;   /* bytes that are not in holes (written) */
	uint64_t stream_bytes; /* bytes that were pushed */
	char digest[DISK_DIGEST_TEXT_SIZE];
};

struct disk_pipeline;
struct disk_image;

/* Before a disk is written without a journal where an earlier try may have left one at this path, which would be believed later: removes it.
 * A file that is no journal stays. */
int disk_pipeline_discard_journal(const char *path, struct error **err);
/* Whether a file at the journal's path is surely none of ours; disk_pipeline_new would write over it. */
bool disk_pipeline_foreign_journal(const char *path);
struct disk_pipeline *disk_pipeline_new(const struct disk_pipeline_options *options, struct error **err);

enum disk_journal_use {
	DISK_JOURNAL_FRESH,     /* there was none */
	DISK_JOURNAL_GOES_ON,   /* what it says is believed */
	DISK_JOURNAL_OF_OTHER,  /* it was another disk's, by its identity */
	DISK_JOURNAL_BROKEN,    /* it was no journal */
	DISK_JOURNAL_DISK_GONE, /* the file that it speaks of is gone, or was cut */
};
/* What became of the journal that was there; in the last three cases all is written anew. */
enum disk_journal_use disk_pipeline_journal_use(const struct disk_pipeline *p);
/* Before the first push: takes from the journal what an earlier try wrote, and returns the offset from which on the raw stream is to be
 * pushed, 0 where there is nothing to go by. The source must be unchanged since: what cannot be sure of that pushes from the start, and
 * spares itself the writing only. */
uint64_t disk_pipeline_resume(struct disk_pipeline *p);
/* Not thread-safe for one pipeline. The data is copied where it must outlive the call. */
int disk_pipeline_push(struct disk_pipeline *p, const void *data, size_t len, struct error **err);
/* Instead of any push: reads the image from byte `from` of the disk on (what disk_pipeline_resume returned, or 0). Only before finish. */
int disk_pipeline_pull(struct disk_pipeline *p, struct disk_image *image, uint64_t from, struct error **err);
/* The input has ended: checks that it is complete, waits for the workers, syncs the file (fdatasync). */
int disk_pipeline_finish(struct disk_pipeline *p, struct disk_result *result, struct error **err);
/* Ends it in any state; an unfinished file stays for the caller to remove. Accepts NULL. */
void disk_pipeline_free(struct disk_pipeline *p);
