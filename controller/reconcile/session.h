/* One session with each source, shared by all who need it; it ends some seconds after its last user. Thread-safe. */
#pragma once

#include <jansson.h>

#include "reconcile/secrets.h"
#include "source/source.h"
#include "store/store.h"

#define SESSION_BUSY "SourceBusy"

struct sessions;
struct session;

struct sessions_options {
	struct store *store;
	const struct source_options *sources; /* copied */
	struct cancel *cancel;
	struct secrets *secrets; /* told what was read; NULL: nobody */
	unsigned workers;        /* that may wait for sources; 0: not known */
};

struct sessions *sessions_new(const struct sessions_options *options);
/* Logs out everywhere. No session may be in use. Accepts NULL. */
void sessions_free(struct sessions *sessions);
/* The session of a source object, opened when there is none or its spec or Secret changed. Give back with session_put. What was refused
 * for good (a wrong password) is not tried again for five minutes, unless spec or Secret change; what failed otherwise not for some seconds.
 *
 * One source must not hold up the work for others: while somebody logs in to it, or all workers but one have been waiting for it for a
 * while, this is a conflict, reason SourceBusy: to be tried again in a moment. */
int session_get(struct sessions *sessions, const json_t *source_object, struct session **out, struct error **err);
struct source *session_source(const struct session *session);
/* What is odd about the Secret that it was opened with, as a key that means nothing: "the Secret default/x has ...". NULL: nothing. */
const char *session_secret_note(const struct session *session);
/* Adds such a note, which may be NULL, to an error that will not pass by itself. */
void session_add_note(struct error *error, const char *note);
void session_put(struct session *session);
/* One more user, for long: it holds up no worker. Given back with session_release. */
struct session *session_ref(struct session *session);
void session_release(struct session *session);
static inline void session_put_p(struct session **s)
{
	if (*s)
		session_put(*s);
}
#define AUTO_SESSION CLEANUP(session_put_p)
/* Ends what nobody has used for idle_ms; returns how many sessions stay open. */
size_t sessions_reap(struct sessions *sessions, unsigned idle_ms);
size_t sessions_count(struct sessions *sessions);
