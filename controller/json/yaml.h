/* YAML (libyaml) <-> JSON. YAML 1.2's core schema for plain scalars as Kubernetes reads them; anchors and aliases are bounded. */
#pragma once

#include <jansson.h>

#include "base/error.h"

/* All documents of a text as a JSON array; empty documents are left out. Errors name file, line and column. */
json_t *yaml_load(const char *text, size_t len, const char *file_name, struct error **err);
json_t *yaml_load_file(const char *path, struct error **err); /* at most 16 MiB */
/* One document, block style, keys in their order; strings that would read as something else are quoted. Owned by the caller. */
char *yaml_dump(const json_t *json, struct error **err);
