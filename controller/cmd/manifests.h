/* Manifest files, as kubectl takes them, for the commands that work without a cluster. */
#pragma once

#include <jansson.h>

#include "store/store.h"

#define MANIFESTS_MAX 64

struct manifests {
	const char *files[MANIFESTS_MAX]; /* "-" is standard input */
	size_t count;
	const char *only; /* of the VirtualMachineImports only the one of this name, NAMESPACE/NAME or NAME; NULL: all */
	/* Made by manifests_apply, not changed afterwards. */
	json_t *objects;   /* "APIVERSION KIND/NAMESPACE/NAME" -> the object of a file, and the place where it stands */
	json_t *concerned; /* a set of "PLURAL/NAMESPACE/NAME": the imports that are meant, and their sources */
};

/* False when it has no room for one more. */
bool manifests_add(struct manifests *m, const char *file);
/* Puts all documents into a directory store (store/dir). Fails when there is no import among them, and when two documents are of one name
 * and differ. Once only. */
int manifests_apply(struct manifests *m, struct store *store, struct error **err);
/* Whether an object is a VirtualMachineImport that is meant, or the source of one: what else a directory holds is another run's. After
 * manifests_apply; thread-safe. */
bool manifests_concern(const struct manifests *m, const char *plural, const char *ns, const char *name);
/* The same of a VirtualMachineImport of the store. */
bool manifests_want(const struct manifests *m, const json_t *import);
void manifests_free(struct manifests *m); /* what manifests_apply made */
