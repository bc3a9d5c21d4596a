/* Our CustomResourceDefinitions, built into the program, and their way into the cluster. */
#pragma once

#include "store/store.h"

/* In each definition: a number that grows with its changes. One that the cluster has with a greater number is left alone. */
#define CRDS_ANNOTATION_REVISION "migration.harvesterhci.io/revision"

/* The definitions as an array of objects; NULL with an error when memory is out. */
json_t *crds_load(struct error **err);
/* The revision of a definition; 0 when it has none, as Harvester's have not. */
long crds_revision(const json_t *crd);
/* Brings the cluster's definitions up to date by server-side apply and waits, for some seconds, until they are served. Repeatable.
 * Logs what it did; an error names the first definition that is neither there nor can be made. */
int crds_apply(struct store *store, struct cancel *cancel, struct error **err);
