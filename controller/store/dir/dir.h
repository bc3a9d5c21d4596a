/* A store over manifests: the objects of some YAML files, kept in memory and written as YAML below a directory when they change. Secrets are
 * kept in memory only; events are refused (405). Versions, generations, finalizers and the status subresource are as with an API server. */
#pragma once

#include "store/store.h"

/* directory: where objects are kept between runs, <kind>-<namespace>-<name>.yaml ("_" before the name when the namespace holds a "-");
 * created. */
struct store *dir_store_open(const char *directory, struct error **err);
/* Puts the objects of a manifest in, as kubectl apply would: spec and metadata from the manifest, status kept from an earlier run. Without a
 * namespace it goes to "default". */
int dir_store_apply(struct store *store, const json_t *object, struct error **err);
/* What the store's directory cannot take at present, as when its file system is full; owned, NULL: the last write succeeded. */
char *dir_store_trouble(struct store *store);
