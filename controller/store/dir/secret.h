/* Secrets as the API server takes them. Internal to store/dir. */
#pragma once

#include <jansson.h>

#include "base/error.h"

/* Folds stringData of a Secret into base64 data, where it wins; other objects stay as they are. The object is the caller's own; its data
 * is not changed in place. */
int secret_fold(json_t *object, struct error **err);
