/* What `kubectl apply -f` would do, for a directory store. */
#include <string.h>

#include "api/near.h"
#include "api/resources.h"
#include "store/dir/dir.h"
#include "store/dir/manifest.h"
#include "store/dir/secret.h"
#include "json/codec.h"

/* The kinds we know; those of our group first. */
static const struct resource *const all[] = { &api_vmimports,   &api_vmware_sources, &api_openstack_sources,
					      &api_ova_sources, &api_kvm_sources,    &api_vmimages,
					      &api_vms,         &api_pvcs,           &api_storage_classes,
					      &api_nads,        &api_secrets,        &api_crds };
#define KINDS (sizeof all / sizeof *all)

static const struct resource *known(const char *kind)
{
	for (size_t i = 0; i < KINDS; i++)
		if (!strcmp(all[i]->kind, kind))
			return all[i];
	return NULL;
}

static bool is_version_of(const struct resource *res, const char *api_version)
{
	size_t len = strlen(res->group);

	if (!len)
		return !strcmp(api_version, res->version);
	return !strncmp(api_version, res->group, len) && api_version[len] == '/' && !strcmp(api_version + len + 1, res->version);
}

/* Whether the group is ours, or would be but for a letter or two. */
static bool is_our_group(const char *api_version)
{
	AUTO_FREE char *group = strndup(api_version, strcspn(api_version, "/"));

	return group && near_distance(group, api_vmimports.group) <= 2;
}

/* A kind that we do not know is another program's business, unless it is one of ours that is misspelt: nobody would ever look at that. */
static int check_kind(const char *kind, const char *api_version, struct error **err)
{
	const char *kinds[KINDS + 1] = { NULL }, *near;
	const struct resource *meant;

	for (size_t i = 0; i < KINDS; i++)
		kinds[i] = all[i]->kind;
	near = near_word(kind, kinds);
	meant = near ? known(near) : NULL;
	if (meant && (!strcmp(meant->group, api_vmimports.group) || is_version_of(meant, api_version)))
		return error_set(err, ERROR_PERMANENT, "InvalidObject", "kind %s is not known (is it %s, of apiVersion %s%s%s?)", kind,
				 meant->kind, meant->group, *meant->group ? "/" : "", meant->version);
	if (is_our_group(api_version))
		return error_set(err, ERROR_PERMANENT, "InvalidObject",
				 "%s has no kind %s; it has VirtualMachineImport, VmwareSource, OpenstackSource, OvaSource and KVMSource",
				 api_version, kind);
	return 0;
}

static int check_api_version(const struct resource *res, const char *api_version, struct error **err)
{
	if (is_version_of(res, api_version))
		return 0;
	return error_set(err, ERROR_PERMANENT, "InvalidObject", "apiVersion %s is not that of the kind %s; write apiVersion: %s%s%s",
			 api_version, res->kind, res->group, *res->group ? "/" : "", res->version);
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
	if (res ? check_api_version(res, api_version, err) < 0 : check_kind(kind, api_version, err) < 0)
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
