/* Lists in pages (Kubernetes API concepts, "Retrieving large results sets in chunks"). Internal to store/kube. */
#pragma once

#include "store/kube/client.h"

/* The part of a query that selects one object by its name, or objects by their labels: "&fieldSelector=...&labelSelector=...", or "". Either
 * may be NULL. Owned; NULL when memory is out. */
char *kube_selection(const char *name, const char *label_selector);
/* A new array of all objects of a selection (NULL: all), each with apiVersion and kind; *version (may be NULL), owned, is where a watch goes on. A list whose
 * continuation expires starts over. */
json_t *kube_list(struct kube_client *client, const struct resource *res, const char *ns, const char *selection, struct cancel *cancel,
		  char **version, struct error **err);
/* "group/version" of a resource, or "version"; owned. */
char *kube_api_version(const struct resource *res);
