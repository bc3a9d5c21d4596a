/* What a command over manifests has to tell besides how its imports go: on standard error, and not by the stored objects, which may be what
 * cannot be written. Not thread-safe. */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "cmd/progress.h"
#include "store/store.h"

struct notes;

/* Borrows both; progress may be NULL. */
struct notes *notes_new(struct store *store, struct progress *progress, bool quiet);
void notes_free(struct notes *notes);
/* Certificates that were accepted because they were the first ones seen, once each; that the directory store cannot write, at once and
 * every minute. */
void notes_look(struct notes *notes);
/* Why an import waits, once each. */
void notes_waiting(struct notes *notes, const json_t *import, const char *why, uint64_t left_ms);
/* That a disk of an import is fetched again, and why, once each try. */
void notes_again(struct notes *notes, const json_t *import);
/* What an import that has ended could not undo at its source; nothing when there is nothing. Also when quiet. */
void notes_left(struct notes *notes, const json_t *import);
