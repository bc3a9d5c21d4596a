/* What the cluster lets this process do (SelfSubjectAccessReview, authorization.k8s.io/v1). */
#pragma once

#include "store/store.h"

/* 1: allowed; 0: not; -1 with an error: the server does not say. ns NULL: in all namespaces; name, subresource NULL: any, none. */
int kube_store_allows(struct store *store, const char *verb, const struct resource *res, const char *ns, const char *name,
		      const char *subresource, struct error **err);
