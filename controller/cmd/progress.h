/* What a person sees of imports that run: a bar for each on a terminal, a line a change of state elsewhere. On stderr. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

struct progress;

struct progress *progress_new(bool quiet); /* NULL when memory is out; all functions accept NULL */
void progress_show(struct progress *p, const json_t *import);
/* Tells once why an import failed, as one sentence; also when quiet. */
void progress_failed(struct progress *p, const json_t *import, const char *why);
/* A line of its own, also when quiet. */
void progress_note(struct progress *p, const char *text);
void progress_end(struct progress *p);
