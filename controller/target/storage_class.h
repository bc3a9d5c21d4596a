/* The storage class an import goes to. Internal to target/. */
#pragma once

#include <stdbool.h>

#include "target/target.h"

/* The one that the import names, else the cluster's default. A new reference; NULL without an error: there is none. */
json_t *storage_class_get(struct store *store, const struct target_import *import, struct error **err);
/* Whether Harvester makes its images Longhorn's backing images, which only Longhorn's first engine has; all else goes through CDI. */
bool storage_class_has_backing_images(const json_t *class);
