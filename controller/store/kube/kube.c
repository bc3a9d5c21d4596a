#include "store/kube/kube.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/informer.h"
#include "store/kube/client.h"
#include "store/kube/list.h"
#include "store/kube/watch.h"
#include "json/codec.h"

#define SERVICE_ACCOUNT "/var/run/secrets/kubernetes.io/serviceaccount"
/* Strict: an unknown field is an error instead of being dropped ("Field validation", Kubernetes API concepts). */
#define WRITE_QUERY "fieldManager=vm-import-controller&fieldValidation=Strict"

#define READ_MS 120000

struct kube_store {
	struct store store;
	struct kube_client *client;
	struct cancel *cancel; /* the caller's */
	char *namespace_;
};

static struct kube_store *self(const struct store *store)
{
	return (struct kube_store *)store;
}

/* The namespace that a request names: none for what is in no namespace. */
static const char *namespace_of(const struct resource *res, const char *ns)
{
	return res->namespaced && ns && *ns ? ns : NULL;
}

/* A request about one object needs its name, and its namespace: without them it would be one about all objects. */
static int check_name(const struct resource *res, const char *ns, const char *name, struct error **err)
{
	if (!name || !*name)
		return error_set(err, ERROR_PERMANENT, "InvalidName", "the name of a %s is missing", res->kind);
	if (res->namespaced && (!ns || !*ns))
		return error_set(err, ERROR_PERMANENT, "InvalidName", "the namespace of the %s %s is missing", res->kind, name);
	return 0;
}

static json_t *kube_get(struct store *store, const struct resource *res, const char *ns, const char *name, struct error **err)
{
	struct kube_call call = { .verb = "get", .method = "GET", .res = res, .ns = namespace_of(res, ns), .name = name };

	return check_name(res, ns, name, err) < 0 ? NULL : kube_client_call(self(store)->client, &call, err);
}

static json_t *kube_list_objects(struct store *store, const struct resource *res, const char *ns, const char *label_selector,
				 struct error **err)
{
	AUTO_FREE char *selection = kube_selection(NULL, label_selector);

	if (selection)
		return kube_list(self(store)->client, res, namespace_of(res, ns), selection, NULL, NULL, err);
	error_set_errno(err, ENOMEM, "cannot list %s", res->plural);
	return NULL;
}

static json_t *kube_create(struct store *store, const struct resource *res, const char *ns, const json_t *object, struct error **err)
{
	AUTO_FREE char *api_version = kube_api_version(res);
	AUTO_JSON json_t *whole = json_copy((json_t *)object);
	struct kube_call call = {
		.verb = "create",
		.method = "POST",
		.res = res,
		.ns = namespace_of(res, ns),
		.query = WRITE_QUERY,
		.content_type = "application/json",
		.body = whole,
	};

	if (res->namespaced && !call.ns) {
		error_set(err, ERROR_PERMANENT, "InvalidName", "the namespace of a new %s is missing", res->kind);
		return NULL;
	}
	if (!whole || !api_version || json_object_set_new(whole, "apiVersion", json_string(api_version)) < 0 ||
	    json_object_set_new(whole, "kind", json_string(res->kind)) < 0) {
		error_set(err, ERROR_PERMANENT, "InvalidObject", "the %s to create is no object", res->kind);
		return NULL;
	}
	return kube_client_call(self(store)->client, &call, err);
}

static json_t *kube_patch(struct store *store, const struct resource *res, const char *ns, const char *name, const char *subresource,
			  const json_t *merge_patch, struct error **err)
{
	struct kube_call call = {
		.verb = "patch",
		.method = "PATCH",
		.res = res,
		.ns = namespace_of(res, ns),
		.name = name,
		.subresource = subresource,
		.query = WRITE_QUERY,
		.content_type = "application/merge-patch+json",
		.body = merge_patch,
	};

	return check_name(res, ns, name, err) < 0 ? NULL : kube_client_call(self(store)->client, &call, err);
}

static int kube_delete(struct store *store, const struct resource *res, const char *ns, const char *name, const char *uid,
		       struct error **err)
{
	AUTO_JSON json_t *options =
		json_pack("{s:s, s:s, s:s}", "apiVersion", "v1", "kind", "DeleteOptions", "propagationPolicy", "Background");
	AUTO_ERROR struct error *failed = NULL;
	AUTO_JSON json_t *answer = NULL;
	struct kube_call call = {
		.verb = "delete",
		.method = "DELETE",
		.res = res,
		.ns = namespace_of(res, ns),
		.name = name,
		.content_type = "application/json",
		.body = options,
	};

	if (check_name(res, ns, name, err) < 0)
		return -1;
	if (!options || (uid && json_object_set_new(options, "preconditions", json_pack("{s:s}", "uid", uid)) < 0))
		return error_set_errno(err, ENOMEM, "cannot delete the %s %s", res->kind, name);
	answer = kube_client_call(self(store)->client, &call, &failed);
	if (answer || failed->class == ERROR_NOT_FOUND)
		return 0;
	return error_move(err, move_ptr(failed));
}

static struct informer *kube_watch(struct store *store, const struct resource *res, const char *ns, const char *label_selector,
				   store_handler handler, void *arg, struct error **err)
{
	struct kube_store *k = self(store);

	return kube_watch_start(k->client, res, namespace_of(res, ns), NULL, label_selector, k->cancel, handler, arg, err);
}

static struct informer *kube_watch_object(struct store *store, const struct resource *res, const char *ns, const char *name,
					  store_handler handler, void *arg, struct error **err)
{
	struct kube_store *k = self(store);

	if (check_name(res, ns, name, err) < 0)
		return NULL;
	return kube_watch_start(k->client, res, namespace_of(res, ns), name, NULL, k->cancel, handler, arg, err);
}

static void kube_close(struct store *store)
{
	struct kube_store *k = self(store);

	kube_client_free(k->client);
	free(k->namespace_);
	free(k);
}

static const struct store_ops kube_ops = {
	.get = kube_get,
	.list = kube_list_objects,
	.create = kube_create,
	.patch = kube_patch,
	.delete_object = kube_delete,
	.watch = kube_watch,
	.watch_object = kube_watch_object,
	.close = kube_close,
};

/* The order of kube.h. */
static int find_config(const struct kube_options *o, struct kube_config *out, struct error **err)
{
	AUTO_KUBECONFIG struct kubeconfig *k = kubeconfig_new();
	const char *env = getenv("KUBECONFIG"), *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");
	const char *home = getenv("HOME");
	AUTO_FREE char *path = NULL;

	if (!k)
		return error_set_errno(err, ENOMEM, "cannot read the kubeconfig");
	if (o->kubeconfig && *o->kubeconfig) {
		if (kubeconfig_add_files(k, o->kubeconfig, true, err) < 0)
			return -1;
		return kubeconfig_resolve(k, o->context, out, err);
	}
	if (env && *env) {
		if (kubeconfig_add_files(k, env, false, err) < 0)
			return -1;
		if (kubeconfig_empty(k))
			return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig", "no file of KUBECONFIG=%s exists and says something",
					 env);
		return kubeconfig_resolve(k, o->context, out, err);
	}
	if (host && *host && port && *port && access(SERVICE_ACCOUNT "/token", R_OK) == 0)
		return kube_config_in_cluster(SERVICE_ACCOUNT, host, port, out, err);
	if (home && asprintf(&path, "%s/.kube/config", home) < 0) {
		path = NULL;
		return error_set_errno(err, ENOMEM, "cannot read the kubeconfig");
	}
	if (path && kubeconfig_add_files(k, path, false, err) < 0)
		return -1;
	if (kubeconfig_empty(k))
		return error_set(err, ERROR_PERMANENT, "NoKubeconfig",
				 "no cluster is configured: there is no --kubeconfig, no KUBECONFIG, no service account of a pod and no %s",
				 path ? path : "~/.kube/config");
	return kubeconfig_resolve(k, o->context, out, err);
}

struct store *kube_store_open(const struct kube_options *options, struct cancel *cancel, struct error **err)
{
	AUTO_KUBE_CONFIG struct kube_config config = { 0 };
	struct kube_store *k = NULL;
	struct kube_client *client;

	if (find_config(options, &config, err) < 0)
		return NULL;
	client = kube_client_new(&config, options->user_agent, cancel, err);
	if (!client)
		return NULL;
	if (options->deadline_ms)
		kube_client_set_deadline(client, options->deadline_ms);
	k = calloc(1, sizeof *k);
	if (!k) {
		kube_client_free(client);
		error_set_errno(err, ENOMEM, "cannot open the cluster");
		return NULL;
	}
	*k = (struct kube_store){ .store.ops = &kube_ops, .client = client, .cancel = cancel, .namespace_ = move_ptr(config.namespace_) };
	return &k->store;
}

const char *kube_store_namespace(const struct store *store)
{
	return self(store)->namespace_;
}

int kube_store_serves(struct store *store, const struct resource *res, struct error **err)
{
	AUTO_FREE char *path = NULL;
	AUTO_JSON json_t *found = NULL;
	AUTO_ERROR struct error *failed = NULL;
	const json_t *served;
	size_t i;

	if (asprintf(&path, "%s%s/%s", *res->group ? "/apis/" : "/api", res->group, res->version) < 0) {
		path = NULL;
		return error_set_errno(err, ENOMEM, "cannot ask for the kinds that are served");
	}
	found = kube_client_get_path(self(store)->client, path, &failed);
	if (!found && failed->class == ERROR_NOT_FOUND)
		return 0;
	if (!found)
		return error_move(err, move_ptr(failed));
	json_array_foreach (json_object_get(found, "resources"), i, served) {
		const char *name = json_path_string(served, "name");

		if (name && !strcmp(name, res->plural))
			return 1;
	}
	return 0;
}

int kube_store_apply(struct store *store, const struct resource *res, const json_t *object, const char *field_manager, struct error **err)
{
	const char *name = json_path_string(object, "metadata.name"), *ns = json_path_string(object, "metadata.namespace");
	AUTO_FREE char *manager = kube_escape(field_manager), *query = NULL;
	AUTO_JSON json_t *applied = NULL;
	struct kube_call call = {
		.verb = "apply",
		.method = "PATCH",
		.res = res,
		.ns = namespace_of(res, ns),
		.name = name,
		.content_type = "application/apply-patch+yaml", /* JSON is YAML */
		.body = object,
	};

	if (check_name(res, ns, name, err) < 0)
		return -1;
	if (!manager || asprintf(&query, "fieldManager=%s&force=true&fieldValidation=Strict", manager) < 0) {
		query = NULL;
		return error_set_errno(err, ENOMEM, "cannot apply the %s %s", res->kind, name);
	}
	call.query = query;
	applied = kube_client_call(self(store)->client, &call, err);
	return applied ? 0 : -1;
}

void kube_store_requests(const struct store *store, struct request_totals *out)
{
	request_stats_read(kube_client_stats(self(store)->client), out);
}

unsigned kube_store_connections(const struct store *store)
{
	return kube_client_connections(self(store)->client);
}

int kube_store_read(struct store *store, const char *path, http_sink sink, void *arg, struct error **err)
{
	return kube_client_read_path(self(store)->client, path, READ_MS, sink, arg, err);
}
