/* An earlier run's status over manifests and a directory that may have changed since. */
#pragma once

#include "base/error.h"
#include "cmd/manifests.h"
#include "store/store.h"

/* An import whose spec is not the one that its status is of, and one that is done but whose files are not all there in their length,
 * begin anew: the status goes, what must be undone at the source stays. Says so on standard error. Before the reconcilers start. */
int anew_begin(struct store *store, const struct manifests *manifests, const char *directory, struct error **err);
