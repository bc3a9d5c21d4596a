/* What is known of all imports without a look at each: how many are in each state, and which wait for a source. Fed from the watch of the
 * imports. Thread-safe. */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "store/store.h"

struct tally;

/* The states of status.importStatus, "" first; ended by NULL. */
extern const char *const tally_states[];

struct tally *tally_new(void); /* NULL when memory is out */
void tally_free(struct tally *t);
void tally_event(struct tally *t, enum store_event event, const json_t *old, const json_t *import);
size_t tally_count(struct tally *t, size_t state); /* index in tally_states */
/* Calls each with namespace and name of every import that has not begun and names this source. each must not call the tally. */
void tally_waiting(struct tally *t, const char *kind, const char *ns, const char *name,
		   void (*each)(void *arg, const char *ns, const char *name), void *arg);
