/* A job of the transfer engine: the disks of one virtual machine. Internal to transfer/. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "transfer/budget.h"
#include "transfer/transfer.h"

/* One disk of a job. counter and done are written by the disk's thread and read by others; result once done is set. */
struct job_disk {
	_Atomic uint64_t transferred; /* guest bytes passed */
	_Atomic uint64_t shown;       /* the same, when the job was last told of */
	_Atomic bool done;
	bool found; /* done from the beginning: no part of need */
	uint64_t capacity;
	struct disk_result result;
};

struct job {
	char *key, *directory;
	struct source *source;
	void (*release)(void *arg);
	void *release_arg;
	const struct vm_model *model;
	source_ledger ledger;
	void *ledger_arg;

	struct cancel *cancel;
	struct job_disk *disks;
	size_t disk_count;
	uint64_t need; /* bytes reserved on the file system */
	uint64_t kept; /* of these, what an earlier try left there */
	atomic_bool ended;
	struct error *error;  /* why it failed; read once ended is set */
	pthread_mutex_t lock; /* guards what follows to note */
	char *again;          /* which disk is fetched again, and why; NULL: none */
	size_t again_disk;    /* which */
	char *note;           /* how the disks come, when that is worth a word */
	pthread_t thread;
	struct job *next; /* guarded by the engine's lock */

	/* What the engine shares with its jobs. */
	struct budgets *streams, *exports;
	struct disk_workers *workers;
	bool verify;
	unsigned notify_ms, slow_ms;
	void (*notify)(void *arg, const char *key);
	void *notify_arg;
	struct series *received, *written; /* bytes: of the source's streams; of disks that are done */
};

/* A job for the options, disks that the journal records marked as done. NULL when memory is out (release is not called). */
struct job *job_new(const struct transfer_job_options *options, struct cancel *parent, struct error **err);
/* The job's thread. */
void *job_run(void *job);
void job_free(struct job *job);                    /* the thread has ended or never ran */
char *job_note(struct job *job);                   /* owned by the caller; NULL: none */
char *job_again(struct job *job);                  /* the same */
uint64_t job_missing_bytes(const struct job *job); /* of need, what is not yet written */
