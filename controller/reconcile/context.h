/* What the reconcilers share. Internal to reconcile/. */
#pragma once

#include <jansson.h>
#include <pthread.h>

#include "api/types.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "queue/queue.h"
#include "reconcile/metrics.h"
#include "reconcile/outdated.h"
#include "reconcile/reconciler.h"
#include "reconcile/session.h"
#include "reconcile/tally.h"
#include "store/informer.h"
#include "transfer/transfer.h"

#define SOURCE_KINDS 4

struct reconciler {
	struct reconciler_options options;
	struct cancel *cancel;
	struct queue *queue;
	struct secrets *secrets;
	struct sessions *sessions;
	struct transfer_engine *transfers;
	struct informer *imports, *images, *machines;
	struct informer *sources[SOURCE_KINDS];
	pthread_t *threads;
	size_t thread_count;
	struct attempts *attempts;
	struct tally *tally;
	struct outdated *outdated;
	struct noted *noted;
	struct names *names;
	char *scratch;
	struct reconcile_metrics numbers;
};

/* One run of the reconciler over one import. */
struct step {
	struct reconciler *r;
	const char *key, *ns, *name, *uid;
	int64_t generation;
	const json_t *object;           /* as the cache has it */
	const struct vmimport *import;  /* decoded; its status as it was */
	struct vmimport_status *status; /* what it is to become */
	unsigned again_ms;              /* run again after so long; 0: only when something happens */
	bool failed;                    /* a Warning event tells status->message */
	char reason[64];                /* for the event and the conditions of this step */
};

/* vmimport.c */
int reconcile_vmimport(struct reconciler *r, const char *key, const char *ns, const char *name, struct error **err);
/* source_object.c */
int reconcile_source(struct reconciler *r, const char *key, const char *plural, const char *ns, const char *name, struct error **err);

/* The steps: each belongs to the state it is named by. An error that is transient is retried with back-off and shown in message. */
int step_new(struct step *s, struct error **err); /* preflight.c */
int step_valid(struct step *s, struct error **err);
int step_source_ready(struct step *s, struct error **err);   /* export.c */
int step_disks_exported(struct step *s, struct error **err); /* image.c */
int step_image_submitted(struct step *s, struct error **err);
int step_image_failed(struct step *s, struct error **err);
int step_images_ready(struct step *s, struct error **err); /* machine.c */
int step_vm_created(struct step *s, struct error **err);
int step_running(struct step *s, struct error **err); /* finish.c */
int step_failed(struct step *s, struct error **err);
int step_invalid(struct step *s, struct error **err);
/* Whether what is left at the source was asked for, will be again, and holds up no new attempt. */
bool step_left_stands_aside(struct step *s);
int step_deleted(struct step *s, bool *gone, struct error **err); /* *gone: the finalizer may go */

/* preflight.c: the checks of an import, each appending what it finds to problems. A -1 is about the check, not the import. */
bool preflight_spec(const struct step *s, json_t *problems);                                         /* whether the source can be asked */
int preflight_source(struct step *s, json_t *problems, struct vm_model **model, struct error **err); /* NULL: none that is meant */
/* model may be NULL. *target: the name of the new machine, owned by the caller. */
int preflight_target(struct step *s, json_t *problems, const struct vm_model *model, char **target, struct error **err);

/* What a person should know about the machine though all is well; owned, "" when there is nothing. */
char *preflight_notes(const struct step *s, const struct vm_model *model);

/* estimate.c */
struct estimate {
	uint64_t bytes;         /* to be fetched */
	uint64_t rate, seconds; /* of a stream in bytes a second, and what follows for all; 0: not known */
	char *no_sample;        /* why not, owned; NULL: there is a rate, or the source cannot be sampled */
};
void preflight_estimate(struct source *source, const struct vm_model *model, struct estimate *out, struct cancel *cancel);

/* step.c: what the steps share */
void step_go(struct step *s, const char *state, const char *reason, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void step_say(struct step *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void step_fail(struct step *s, const char *state, const char *reason, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void step_progress(struct step *s, int64_t percent); /* never goes back */
/* Where the import's disks are; owned by the caller. */
char *step_directory(const struct step *s);
/* The machine as it was described before its export: from the scratch space, else from the source. Its power is what it was before we
 * stopped it. */
struct vm_model *step_model(struct step *s, struct error **err);
/* The session with the import's source. */
int step_session(struct step *s, struct session **session, struct error **err);
struct target_import step_target_import(const struct step *s);
/* The import's disks as the target needs them: an owned array, freed with step_disks_free. */
struct target_disk *step_disks(struct step *s, struct error **err);
void step_disks_free(struct target_disk *disks, size_t count);

/* attempts.c: how often something of a key failed in a row; forgotten with the process. */
struct attempts *attempts_new(void);
void attempts_free(struct attempts *a);
unsigned attempts_add(struct attempts *a, const char *key); /* counts one more, returns the count */
void attempts_reset(struct attempts *a, const char *key);
/* Whatever happens, nothing is to be tried with the key for so many milliseconds, longer each time; and how long still (0: it may be). */
unsigned attempts_hold(struct attempts *a, const char *key);
unsigned attempts_held(struct attempts *a, const char *key);

/* ledger.c: status.sourceLedger */
bool ledger_has(const struct vmimport_status *status, const char *kind);
/* The callback of source_ops.export_begin; arg is a struct ledger_writer. */
struct ledger_writer {
	struct store *store;
	char *ns, *name, *uid;
};
int ledger_write(void *arg, bool made, const char *kind, const char *id, struct error **err);
/* Undoes at the source what is in the ledger and takes it out of s->status. Entries of kind PowerState stay, and sessions of this process.
 * What the source does not let go of yet stays, too, and is named by an error of which ledger_is_busy is true. */
int ledger_clean(struct step *s, struct error **err);
bool ledger_is_busy(const struct error *failed);
/* What is still at the source, as "Image X, Snapshot Y": owned; NULL: nothing. */
char *ledger_left(const struct vmimport_status *status);
/* The same for people: how many, which, why not, and when that is tried again (again_ms from now; 0: not said). Owned; NULL when memory is out. */
char *ledger_tell(const struct vmimport_status *status, const struct error *why, unsigned again_ms);
/* The ids of sessions that this process opened: it ends them itself, whatever a ledger says. */
struct noted *noted_new(void);
void noted_free(struct noted *n);
/* Puts the session into the ledger; false: it is there. It ends with its last user, or, when this process is no more, by the next. */
bool ledger_note_session(struct step *s, const struct session *session);
void ledger_add(struct vmimport_status *status, const char *kind, const char *id);
void ledger_drop(struct vmimport_status *status, const char *kind);

/* names.c: who makes the machine of a name, of this run. Thread-safe. */
struct names *names_new(void);
void names_free(struct names *n);
/* Takes the name for an import, NAMESPACE/NAME, until the run ends. *holder: the other import that has it (owned), NULL when there is none.
 * -1: memory is out. */
int names_take(struct names *n, const char *name, const char *import, char **holder);

#define LEDGER_POWER "PowerState"
#define LEDGER_LEASE "ExportLease"
#define LEDGER_SESSION "Session"
