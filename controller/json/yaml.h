/* YAML (libyaml) <-> JSON. Plain scalars are read as kubectl reads them: the core schema and the booleans of YAML 1.1
 * (yes, no, on, off). Anchors, aliases and merge keys are known; what they expand to is bounded. A key that is there twice is an error. */
#pragma once

#include <jansson.h>

#include "base/error.h"

/* All documents of a text as a JSON array; empty documents are left out. Errors name file, line and column. */
json_t *yaml_load(const char *text, size_t len, const char *file_name, struct error **err);
json_t *yaml_load_file(const char *path, struct error **err); /* at most 16 MiB */
/* Where the value at a path ("users[1].user.token") of the first document begins, from 1; of what is absent, where the last value on the way
 * to it begins. */
void yaml_locate(const char *text, size_t len, const char *path, size_t *line, size_t *column);
/* One document, block style, keys in their order; strings that would read as something else are quoted. Owned by the caller. */
char *yaml_dump(const json_t *json, struct error **err);
