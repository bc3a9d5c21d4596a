/* Tells the informers of a directory store of changes, on a thread of its own, in the order they were made. Thread-safe.
 * Internal to store/dir. */
#pragma once

#include "store/informer.h"

struct notifier;

struct notifier *notifier_start(struct error **err);
void notifier_stop(struct notifier *n); /* when no informer is left; accepts NULL */
/* A change that was made. Never blocks for long: the store calls it under its lock, so that the order is right. */
void notifier_tell(struct notifier *n, const json_t *object, bool deleted);
/* An informer that begins with the objects present, an array, and is told of what is told from now on. name NULL: of all. */
struct informer *notifier_watch(struct notifier *n, const struct resource *res, const char *ns, const char *name,
				const char *label_selector, const json_t *present, store_handler handler, void *arg, struct error **err);
