/* The files of a directory store: one YAML document an object, <kind>-<namespace>-<name>.yaml. Internal to store/dir. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

/* Whether kind, namespace and name are what Kubernetes allows, and so are safe in a file's name. ns may be NULL. */
bool manifest_check(const char *kind, const char *ns, const char *name, struct error **err);
/* Writes the object whole or not at all. Secrets are never written. */
int manifest_write(const char *directory, const json_t *object, struct error **err);
void manifest_remove(const char *directory, const json_t *object);
/* The objects that an earlier run left, as a new array. */
json_t *manifest_load(const char *directory, struct error **err);
