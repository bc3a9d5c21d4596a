/* Versions of objects that are known to be of the past although the cache still has them: the answer to a write, or a conflict, told so.
 * Who would work on one reads the object itself instead. Thread-safe. */
#pragma once

#include <stdbool.h>

struct outdated;

struct outdated *outdated_new(void); /* NULL when memory is out */
void outdated_free(struct outdated *o);
void outdated_note(struct outdated *o, const char *key, const char *version);
/* Whether this version of the key's object is such a one. Another one is newer, and ends it. */
bool outdated_is(struct outdated *o, const char *key, const char *version);
