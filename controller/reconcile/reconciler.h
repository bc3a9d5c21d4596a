/* The reconcilers: sources are verified, imports are walked from state to state. Same over any store and any target.
 *
 * A few worker threads take keys from the work queue. A step reads the world, does one small thing, and returns; the watch of the object
 * it changed brings the key again. Everything a step makes is found again, so a step may be cut off at any instruction and run anew. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/cancel.h"
#include "base/metrics.h"
#include "source/source.h"
#include "store/event.h"
#include "store/store.h"
#include "target/target.h"
#include "web/web.h"

struct reconciler;

struct reconciler_options {
	struct store *store; /* borrowed, as all of these */
	struct target *target;
	struct web *web; /* NULL: images are not served (standalone) */
	struct event_recorder *events;
	const char *scratch;  /* with keep_disks: the output directory */
	bool keep_disks;      /* standalone: disks go to <scratch>/<target name> and stay there */
	bool verify_disks;    /* each is read again once it is written */
	unsigned workers;     /* 0: 4 */
	unsigned max_streams; /* disks that stream at once; 0: 16 */
	unsigned max_host_streams,
		max_endpoint_streams; /* of these, from one host and from one service (transfer/transfer.h); 0: the default */
	unsigned progress_ms;         /* how often a running import's status is written; 0: 3,000 */
	struct source_options sources;
	/* Which imports and sources it sees to, by the plural of their kind; the others are left as they are. NULL: all. Called by any thread. */
	bool (*concerns)(void *arg, const char *plural, const char *ns, const char *name);
	void *concerns_arg;
	/* As in reconcile/secrets.h; NULL: every Secret that a source names may be watched. */
	bool (*may_watch_secret)(void *arg, const char *ns, const char *name);
	void *may_watch_secret_arg;
	struct metrics *metrics; /* NULL: none */
	unsigned reverify_s;     /* how often a ready source is verified again; 0: 300 */
};

struct reconciler *reconciler_start(const struct reconciler_options *options, struct error **err);
/* What it waits for before it can work, as words; NULL: nothing. Owned by the caller. */
char *reconciler_unready(const struct reconciler *r);
/* What has been going on for longer than anything should, as words; NULL: nothing. Owned by the caller. */
char *reconciler_stuck(const struct reconciler *r);
/* Breaks off what is being done, without waiting for its end: steps, and transfers, whose disks stay as far as they are. Nothing is begun
 * any more; reconciler_stop comes next. */
void reconciler_interrupt(struct reconciler *r);
/* Stops the workers, cancels transfers (leases are aborted), logs out of all sources. Accepts NULL. */
void reconciler_stop(struct reconciler *r);

/* In a status.message about what is left at the source, before the time of the next try. */
#define LEDGER_NEXT_TRY "; the next try is at "

/* states of status.importStatus */
#define STATE_VALID "virtualMachineImportValid"
#define STATE_INVALID "virtualMachineImportInvalid"
#define STATE_SOURCE_READY "sourceReady"
#define STATE_DISKS_EXPORTED "disksExported"
#define STATE_IMAGE_SUBMITTED "diskImageSubmitted"
#define STATE_IMAGE_FAILED "diskImageFailed"
#define STATE_IMAGES_READY "diskImagesReady"
#define STATE_VM_CREATED "virtualMachineCreated"
#define STATE_RUNNING "virtualMachineRunning"
#define STATE_FAILED "VMMigrationFailed"
