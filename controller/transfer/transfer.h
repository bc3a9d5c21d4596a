/* The transfer engine: brings the disks of an import to the scratch directory, several imports at once, and never stops for control.
 *
 * A job is found by its key (the import's uid). Its disks stream in parallel, at most max_streams at once over all jobs. A finished
 * disk is recorded in a journal beside it (transfer/journal.h) and never fetched again. Thread-safe. */
#pragma once

#include "base/cancel.h"
#include "disk/pipeline.h"
#include "source/source.h"

struct transfer_engine;

enum transfer_state { TRANSFER_NONE, TRANSFER_RUNNING, TRANSFER_DONE, TRANSFER_FAILED };

struct transfer_disk_status {
	uint64_t transferred, total; /* bytes of the guest's disk passed so far, and its capacity */
	bool done;
	char digest[DISK_DIGEST_TEXT_SIZE];
	uint64_t stream_bytes;       /* bytes read from the source */
};

struct transfer_status {
	enum transfer_state state;
	struct transfer_disk_status *disks; /* owned by the caller */
	size_t disk_count;
	struct error *error;                /* when failed; owned by the caller */
};

struct transfer_options {
	const char *scratch;      /* directory; created */
	unsigned max_streams;     /* 0: 16 */
	unsigned max_imports;     /* jobs at once; 0: 8 */
	/* Called when a job's state changed and every few seconds while it runs; must not block. key as given to transfer_start. */
	void (*notify)(void *arg, const char *key);
	void *arg;
};

struct transfer_engine *transfer_engine_new(const struct transfer_options *options, struct error **err);
void transfer_engine_free(struct transfer_engine *engine); /* cancels all jobs, waits for them; leases are aborted */

struct transfer_job_options {
	const char *key;          /* names the job to notify (queue key) */
	const char *uid;          /* names its directory on the scratch volume */
	const char *directory;    /* NULL: <scratch>/<uid> */
	struct source *source;    /* borrowed until release is called */
	void (*release)(void *arg); /* called once the job needs the source no more; may be NULL */
	void *release_arg;
	const struct vm_model *model; /* copied where needed */
	source_ledger ledger;
	void *ledger_arg;
};

/* Starts a job unless one of this key exists. Fails (transient, NoSpace) when the scratch volume cannot hold the disks. */
int transfer_start(struct transfer_engine *engine, const struct transfer_job_options *options, struct error **err);
/* TRANSFER_NONE when no job of this key is known. */
void transfer_status(struct transfer_engine *engine, const char *key, struct transfer_status *out);
void transfer_status_clear(struct transfer_status *status);
/* Cancels the job and waits until it has let go of its source and files (bounded: about 5 s); forgets it. */
void transfer_cancel(struct transfer_engine *engine, const char *key);
void transfer_forget(struct transfer_engine *engine, const char *key); /* of a job that has ended */
/* Removes the disks and journal of an import. */
int transfer_remove_files(struct transfer_engine *engine, const char *uid, struct error **err);
/* The directory of an import's disks; owned by the caller. */
char *transfer_directory(struct transfer_engine *engine, const char *uid);
