/* One session with each source, shared by all who need it; it ends some seconds after its last user. Thread-safe. */
#pragma once

#include <jansson.h>

#include "source/source.h"
#include "store/store.h"

struct sessions;
struct session;

struct sessions *sessions_new(struct store *store, const struct source_options *options, struct cancel *cancel);
/* Logs out everywhere. No session may be in use. Accepts NULL. */
void sessions_free(struct sessions *sessions);
/* The session of a source object, opened when there is none or its spec or Secret changed. Give back with session_put. What was refused
 * for good (a wrong password) is not tried again for five minutes, unless spec or Secret change. */
int session_get(struct sessions *sessions, const json_t *source_object, struct session **out, struct error **err);
struct source *session_source(const struct session *session);
struct session *session_ref(struct session *session); /* one more user */
void session_put(struct session *session);
static inline void session_put_p(struct session **s)
{
	if (*s)
		session_put(*s);
}
#define AUTO_SESSION CLEANUP(session_put_p)
/* Ends what nobody has used for idle_ms; returns how many sessions stay open. */
size_t sessions_reap(struct sessions *sessions, unsigned idle_ms);
size_t sessions_count(struct sessions *sessions);
