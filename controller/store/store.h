/* Where the objects live: a Kubernetes API server (store/kube) or a directory of manifests (store/dir). Same reconcilers over both.
 *
 * Objects are json_t, immutable once handed out: never change one that came from a store. resourceVersion is opaque. Thread-safe.
 * Every function blocks at most for the store's call deadline. Errors carry the class (conflict, not-found, gone, ...). */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "api/resource.h"
#include "base/cancel.h"
#include "base/error.h"

enum store_event { STORE_ADDED, STORE_MODIFIED, STORE_DELETED };

/* Told of each change after the cache has it. old is NULL for ADDED; object is the last known state for DELETED. Called on the
 * informer's thread; must not block. */
typedef void (*store_handler)(void *arg, enum store_event event, const json_t *old, const json_t *object);

struct store;
struct informer;

struct store_ops {
	json_t *(*get)(struct store *, const struct resource *, const char *ns, const char *name, struct error **);
	json_t *(*list)(struct store *, const struct resource *, const char *ns, const char *label_selector, struct error **);
	json_t *(*create)(struct store *, const struct resource *, const char *ns, const json_t *object, struct error **);
	json_t *(*patch)(struct store *, const struct resource *, const char *ns, const char *name, const char *subresource,
			 const json_t *merge_patch, struct error **);
	int (*delete_object)(struct store *, const struct resource *, const char *ns, const char *name, const char *uid, struct error **);
	struct informer *(*watch)(struct store *, const struct resource *, const char *ns, const char *label_selector,
				  store_handler handler, void *arg, struct error **);
	struct informer *(*watch_object)(struct store *, const struct resource *, const char *ns, const char *name, store_handler handler,
					 void *arg, struct error **);
	void (*close)(struct store *);
};

/* A store embeds this first. */
struct store {
	const struct store_ops *ops;
};

/* New references; free with json_decref. */
json_t *store_get(struct store *store, const struct resource *res, const char *ns, const char *name, struct error **err);
/* A JSON array of objects. ns NULL: all namespaces; label_selector NULL: all ("key=value,key2"). */
json_t *store_list(struct store *store, const struct resource *res, const char *ns, const char *label_selector, struct error **err);
/* Creates; returns the object as the store has it (name, uid set). An object of that name is a conflict, reason AlreadyExists. */
json_t *store_create(struct store *store, const struct resource *res, const char *ns, const json_t *object, struct error **err);
/* JSON merge patch (RFC 7386) of the object, or of a subresource ("status"). With metadata.resourceVersion in the patch it is a
 * precondition: another version is a conflict. Returns the new object. */
json_t *store_patch(struct store *store, const struct resource *res, const char *ns, const char *name, const char *subresource,
		    const json_t *merge_patch, struct error **err);
/* Deletes in the background; uid, when not NULL, is a precondition. An absent object is success. */
int store_delete(struct store *store, const struct resource *res, const char *ns, const char *name, const char *uid, struct error **err);
/* Starts a cache of the matching objects that is kept up to date until informer_free. Must be freed before the store. */
struct informer *store_watch(struct store *store, const struct resource *res, const char *ns, const char *label_selector,
			     store_handler handler, void *arg, struct error **err);
/* The same of the one object of that name, which need not exist: its cache holds one object or none. It takes no more than the permission
 * to list and watch that name. */
struct informer *store_watch_object(struct store *store, const struct resource *res, const char *ns, const char *name,
				    store_handler handler, void *arg, struct error **err);
void store_close(struct store *store); /* accepts NULL */
