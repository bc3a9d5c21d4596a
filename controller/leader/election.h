/* Leader election among replicas on a Lease (coordination.k8s.io/v1), with the rules of client-go's leaderelection package, so that it can
 * be mixed with programs that use that:
 *
 *   who holds the Lease renews it every retry_ms. Who could not for deadline_ms leads no more.
 *   who does not hold it looks every retry_ms (and up to 1.2 times as long again, by chance), and takes it once it has not seen it change
 *   for as long as the Lease says: measured on its own clock from when it saw the last change, so that no two clocks need agree.
 *   who ends gives the Lease back, by leaving no holder in it.
 *
 * More strictly than there, a leader that sees another one in the Lease is none from then on, without waiting for its deadline, and the
 * deadline counts from when the last successful renewal was begun. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "store/store.h"

#define ELECTION_DURATION_S 15
#define ELECTION_DEADLINE_S 10
#define ELECTION_RETRY_S 2

struct election;

struct election_options {
	struct store *store;   /* borrowed; its calls should end within half of deadline_ms */
	const char *ns, *name; /* of the Lease; copied */
	const char *identity;  /* told in the Lease; NULL: the host's name and something random */
	unsigned duration_s;   /* 0: 15; how long others wait for a leader that is silent */
	unsigned deadline_s;   /* 0: 10; less than duration_s */
	unsigned retry_s;      /* 0: 2; 1.2 times as much is less than deadline_s */
	const char *note;      /* annotation API_ANNOTATION_SCRATCH of the Lease while it is ours; NULL: none; copied */
	uint64_t (*now)(
		void *arg); /* milliseconds on a clock that does not stop or go back; NULL: CLOCK_BOOTTIME, which goes on in suspend */
	void *now_arg;
};

/* Makes no request. Wrong times are permanent errors that say which. */
struct election *election_new(const struct election_options *options, struct error **err);
/* Takes part from now on, on a thread of its own. */
int election_start(struct election *e, struct error **err);
/* Whether this process leads now. Once it was true and is false, it stays false until election_rejoin: in between the caller stops what
 * it does as the leader. Thread-safe, makes no request; right to the millisecond, even if a request about the Lease hangs. */
bool election_leads(struct election *e);
void election_rejoin(struct election *e);
const char *election_identity(const struct election *e);
/* Who leads, as far as is known: the identity and the note; either may be NULL. Owned by the caller. Thread-safe. */
void election_leader(struct election *e, char **identity, char **note);
/* Ends the thread and, if it leads, gives the Lease back. Nothing may be done as the leader any more. */
void election_stop(struct election *e);
void election_free(struct election *e); /* after election_stop, when it was started; accepts NULL */

/* One look at the Lease with what follows from it; returns the milliseconds until the next. For the thread, and for tests. */
unsigned election_run_once(struct election *e);
