/* Keeps an informer up to date from an API server: a list, then a watch from where the list was, for ever (Kubernetes API concepts,
 * "Efficient detection of changes"). The list comes as the beginning of the watch where the server has "Streaming lists", else in
 * pages. Internal to store/kube. */
#pragma once

#include "store/informer.h"
#include "store/kube/client.h"

/* Starts a thread; it ends within 200 ms of informer_free. name NULL: all objects. parent, which may be NULL, stops it too. */
struct informer *kube_watch_start(struct kube_client *client, const struct resource *res, const char *ns, const char *name,
				  const char *label_selector, struct cancel *parent, store_handler handler, void *arg, struct error **err);
