/* What `kubectl apply -f` would do, for a directory store. */
#include <string.h>

#include "api/resources.h"
#include "store/dir/dir.h"
#include "store/dir/manifest.h"
#include "store/dir/secret.h"
#include "json/codec.h"

/* The kinds we know, by name. */
static const struct resource *known(const char *kind)
{
	static const struct resource *const all[] = { &api_vmimports,   &api_vmware_sources, &api_openstack_sources,
						      &api_ova_sources, &api_kvm_sources,    &api_vmimages,
						      &api_vms,         &api_pvcs,           &api_storage_classes,
						      &api_nads,        &api_secrets,        &api_crds };

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (!strcmp(all[i]->kind, kind))
			return all[i];
	return NULL;
}

static int check_api_version(const struct resource *res, const char *api_version, struct error **err)
{
	size_t len = strlen(res->group);

	if (!len && !strcmp(api_version, res->version))
		return 0;
	if (len && !strncmp(api_version, res->group, len) && api_version[len] == '/' && !strcmp(api_version + len + 1, res->version))
		return 0;
	return error_set(err, ERROR_PERMANENT, "InvalidObject", "apiVersion %s: a %s is known as %s%s%s", api_version, res->kind,
			 res->group, len ? "/" : "", res->version);
}

/* All but what the store and its clients look after. */
static json_t *contents(const json_t *object)
{
	json_t *copy = json_copy((json_t *)object);

	json_object_del(copy, "metadata");
	json_object_del(copy, "status");
	return copy;
}

/* Members that the manifest does not name any more go; labels and annotations that others set stay. */
static json_t *difference(const json_t *old, const json_t *wanted)
{
	AUTO_JSON json_t *from = contents(old), *to = contents(wanted), *patch = json_merge_diff(from, to);
	json_t *metadata = json_object();

	if (json_path(wanted, "metadata.labels"))
		json_object_set(metadata, "labels", json_path(wanted, "metadata.labels"));
	if (json_path(wanted, "metadata.annotations"))
		json_object_set(metadata, "annotations", json_path(wanted, "metadata.annotations"));
	json_object_set_new(patch, "metadata", metadata);
	return move_ptr(patch);
}

int dir_store_apply(struct store *store, const json_t *object, struct error **err)
{
	const char *api_version = json_path_string(object, "apiVersion"), *kind = json_path_string(object, "kind");
	const char *name = json_path_string(object, "metadata.name"), *ns = json_path_string(object, "metadata.namespace");
	AUTO_JSON json_t *wanted = json_copy((json_t *)object), *old = NULL, *patch = NULL, *done = NULL;
	AUTO_ERROR struct error *failed = NULL;
	const struct resource *res;
	struct resource unknown = { "", NULL, kind, kind, true, true };

	if (!api_version || !kind)
		return error_set(err, ERROR_PERMANENT, "InvalidObject",
				 "the document is no Kubernetes object: apiVersion or kind is missing");
	res = known(kind);
	if (res && check_api_version(res, api_version, err) < 0)
		return -1;
	res = res ? res : &unknown;
	ns = !res->namespaced ? NULL : ns && *ns ? ns : "default";
	if (!manifest_check(kind, ns, name, err) || secret_fold(wanted, err) < 0)
		return -1;
	old = store_get(store, res, ns, name, &failed);
	if (!old) {
		json_object_del(wanted, "status");
		done = store_create(store, res, ns, wanted, err);
	} else {
		patch = difference(old, wanted);
		done = store_patch(store, res, ns, name, NULL, patch, err);
	}
	return done ? 0 : -1;
}
