/* Whether an object is what its CustomResourceDefinition allows, for manifests that no API server sees: as strict as kubectl, which refuses
 * fields that are not known.
 *
 * Of structural schemas (Kubernetes, "Extend the Kubernetes API with CustomResourceDefinitions", "Specifying a structural schema") it reads
 * type, properties, items, enum, minimum and maximum, which are all that ours use; a unit test sees to that. */
#pragma once

#include <jansson.h>

/* Appends to problems, an array of strings, a sentence for each thing that is wrong: "spec.warm is "yes", not true or false". */
void schema_check(const json_t *schema, const json_t *object, json_t *problems);
/* The schema of a kind in an API version ("migration.harvesterhci.io/v1beta1") among definitions; borrowed, NULL when there is none. */
const json_t *schema_find(const json_t *crds, const char *api_version, const char *kind);
