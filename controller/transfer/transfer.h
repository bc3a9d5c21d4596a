/* The transfer engine: brings the disks of an import to a directory, several imports at once, and never stops for control.
 *
 * A job is found by its key. Its disks stream in parallel, within the limits of the host that sends them, of the service behind it, and
 * of this engine (transfer/budget.h). A finished disk is recorded in a journal beside it (transfer/journal.h) and never fetched again. A
 * disk whose stream fails for a passing reason is fetched again while the export lives: from where it was, where the source can do that. One
 * whose content is wrong is fetched once more; where the source sends a file as it is stored and the same is found again, that is permanent.
 * Thread-safe. */
#pragma once

#include "api/vm_model.h"
#include "base/cancel.h"
#include "base/metrics.h"
#include "disk/pipeline.h"
#include "source/source.h"

struct transfer_engine;

enum transfer_state { TRANSFER_NONE, TRANSFER_RUNNING, TRANSFER_DONE, TRANSFER_FAILED };

struct transfer_disk_status {
	uint64_t transferred, total; /* bytes of the guest's disk passed (while it runs: when last notified of), and its capacity */
	bool done;
	uint64_t data_bytes;                /* once done: bytes that are not holes */
	char digest[DISK_DIGEST_TEXT_SIZE]; /* once done */
};

struct transfer_status {
	enum transfer_state state;
	struct transfer_disk_status *disks; /* owned by the caller, in the model's order */
	size_t disk_count;
	char *again; /* which disk is fetched again after a failure, and why, a part of a sentence; NULL: none; owned by the caller */
	char *note;  /* how the disks come, a part of a sentence; NULL: nothing to tell; owned by the caller */
	struct error *error; /* when failed; owned by the caller */
};

/* What the directory is to its user: what to do about one that is full depends on it. */
enum transfer_place {
	TRANSFER_SCRATCH,   /* the daemon's own volume, where disks are until the cluster has them */
	TRANSFER_DIRECTORY, /* one that a person named, where they stay */
};

#define TRANSFER_AGAIN " is fetched again" /* in transfer_status.again, after the disk */

struct transfer_options {
	enum transfer_place place;
	unsigned max_streams;          /* 0: 16 */
	unsigned max_host_streams;     /* of one host; 0: TRANSFER_HOST_STREAMS */
	bool verify;                   /* a disk is read again once it is written: the directory is where it stays */
	unsigned max_endpoint_streams; /* of one service, as a vCenter, over all its hosts; 0: TRANSFER_ENDPOINT_STREAMS */
	unsigned max_jobs;             /* jobs that export at once from sources that tell no host in advance; 0: 8 */
	unsigned notify_ms;            /* how often a running job is told of; 0: 3,000 */
	unsigned slow_ms; /* a host that sends nothing for so long, while its bytes are awaited, is asked for less at once; 0: 15,000 */
	/* Called when a job has ended and every notify_ms while it runs, on a thread of the engine; must not call into the engine. */
	void (*notify)(void *arg, const char *key);
	void *arg;
	struct metrics *metrics; /* vm_import_source_bytes_total, vm_import_disk_bytes_written_total; NULL: none */
};

/* An ESXi host has 48 MB for the buffers of all NFC connections, and a stream takes up to 10 MB of them (VDDK programming guide, "NFC
 * Session Limits"; nfcsvc's maxMemory and maxStreamMemory in hostd's configuration): four leave some for others. vCenter has 52
 * connections for all. */
#define TRANSFER_HOST_STREAMS 4
#define TRANSFER_ENDPOINT_STREAMS 32

struct transfer_engine *transfer_engine_new(const struct transfer_options *options, struct error **err);
/* Cancels all jobs, now and to come, without waiting for their ends. */
void transfer_engine_interrupt(struct transfer_engine *engine);
/* Cancels all jobs and waits until their exports are aborted. Accepts NULL. */
void transfer_engine_free(struct transfer_engine *engine);

struct transfer_job_options {
	const char *key;            /* names the job, here and for notify */
	const char *directory;      /* where disk-0.raw ... go; created */
	struct source *source;      /* borrowed until release is called */
	void (*release)(void *arg); /* called once the job needs neither source nor ledger any more; also when transfer_start fails */
	void *release_arg;
	const struct vm_model *model; /* borrowed until release is called */
	source_ledger ledger;         /* called on the job's thread */
	void *ledger_arg;
	const char *again; /* why all disks are fetched again, as in transfer_status; NULL: they are not */
};

/* Starts a job unless one of this key exists. Fails (transient, reason NoSpace) when the file system cannot hold the disks beside what
 * running jobs still need. */
int transfer_start(struct transfer_engine *engine, const struct transfer_job_options *options, struct error **err);
/* state TRANSFER_NONE when no job of this key is known. */
void transfer_status(struct transfer_engine *engine, const char *key, struct transfer_status *out);
void transfer_status_clear(struct transfer_status *status);
/* Cancels the job if it runs, waits until it has let go of its source and files, and forgets it. */
void transfer_end(struct transfer_engine *engine, const char *key);
/* The hosts that disks came from, as budgets_each. */
void transfer_hosts(struct transfer_engine *engine,
		    void (*each)(void *arg, const char *host, unsigned running, unsigned waiting, unsigned allowed), void *arg);

struct transfer_totals {
	unsigned active;   /* jobs that have not ended */
	uint64_t reserved; /* bytes that they will still write */
};
void transfer_totals(struct transfer_engine *engine, struct transfer_totals *out);

/* The bytes that the model's disks need on a file system: what the source says they hold, their capacity where it does not. */
uint64_t transfer_space_needed(const struct vm_model *model);
/* Whether the directory (or the nearest one above it that exists) has room for it, besides what an earlier try left in `kept` (may be
 * NULL) and what running jobs were promised (engine NULL: there are none); a NoSpace error names what is missing. */
int transfer_check_space(struct transfer_engine *engine, enum transfer_place place, const char *directory, const char *kept,
			 const struct vm_model *model, struct error **err);
