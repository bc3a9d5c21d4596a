/* Manifest files, as kubectl takes them, for the commands that work without a cluster. */
#pragma once

#include <jansson.h>

#include "store/store.h"

#define MANIFESTS_MAX 64

struct manifests {
	const char *files[MANIFESTS_MAX]; /* "-" is standard input */
	size_t count;
	const char *only; /* of the VirtualMachineImports only the one of this name, NAMESPACE/NAME or NAME; NULL: all */
};

/* False when it has no room for one more. */
bool manifests_add(struct manifests *m, const char *file);
/* False for a VirtualMachineImport that is not the one meant. */
bool manifests_want(const struct manifests *m, const json_t *object);
/* Puts all documents into a directory store (store/dir). Fails when there is no import among them. */
int manifests_apply(const struct manifests *m, struct store *store, struct error **err);
