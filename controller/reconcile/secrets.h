/* The Secrets that sources name are watched, each by its own name, for as long as a source names it: whoever changes a password or creates
 * what was missing need not wait. No other Secret is asked for. Thread-safe. */
#pragma once

#include "store/store.h"

struct secrets;

struct secrets_options {
	struct store *store;
	/* Whether this Secret may be listed and watched; NULL: any may. Asked when a Secret that is not watched comes up, by one
	 * thread at a time; may block. */
	bool (*may_watch)(void *arg, const char *ns, const char *name);
	void *may_watch_arg;
	/* A Secret that this user names has changed, or is there, or gone. On a thread of the store; must not block. */
	void (*changed)(void *arg, const char *user);
	void *changed_arg;
};

struct secrets *secrets_new(const struct secrets_options *options); /* NULL when memory is out */
/* user names this Secret from now on, and no other; name NULL: none. Where it may not be watched nothing happens: the user looks at it now
 * and then. */
void secrets_use(struct secrets *secrets, const char *user, const char *ns, const char *name);
/* This version of a Secret was read: news of it are no news. */
void secrets_seen(struct secrets *secrets, const char *ns, const char *name, const json_t *secret);
size_t secrets_count(struct secrets *secrets); /* that are watched */
void secrets_free(struct secrets *secrets);    /* accepts NULL */
