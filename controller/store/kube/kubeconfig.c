#include "store/kube/kubeconfig.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "store/kube/credential.h"
#include "json/codec.h"
#include "json/yaml.h"

struct kubeconfig {
	json_t *clusters, *users, *contexts; /* name -> {"file": ..., "entry": {...}} */
	char *current;
	struct buffer files; /* their names, for messages */
};

/* One entry with where it comes from, for messages and relative paths. */
struct entry {
	const char *kind, *name, *file;
	const json_t *json;
};

void kube_config_free(struct kube_config *c)
{
	free(c->server);
	free(c->namespace_);
	free(c->ca_pem);
	free(c->server_name);
	free(c->proxy_url);
	free(c->cert_pem);
	free(c->key_pem);
	free(c->token);
	free(c->token_file);
	free(c->as_user);
	for (char **g = c->as_groups; g && *g; g++)
		free(*g);
	free(c->as_groups);
	*c = (struct kube_config){ 0 };
}

struct kubeconfig *kubeconfig_new(void)
{
	struct kubeconfig *k = calloc(1, sizeof *k);

	if (!k)
		return NULL;
	buffer_init(&k->files, 4096);
	k->clusters = json_object();
	k->users = json_object();
	k->contexts = json_object();
	if (k->clusters && k->users && k->contexts)
		return k;
	kubeconfig_free(k);
	return NULL;
}

void kubeconfig_free(struct kubeconfig *k)
{
	if (!k)
		return;
	json_decref(k->clusters);
	json_decref(k->users);
	json_decref(k->contexts);
	free(k->current);
	buffer_free(&k->files);
	free(k);
}

bool kubeconfig_empty(const struct kubeconfig *k)
{
	return !json_object_size(k->contexts) && !json_object_size(k->clusters) && !k->current;
}

static int invalid(struct error **err, const char *file, const char *path, const char *what)
{
	return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig", "%s: %s: %s", file, path, what);
}

/* The entries of one list of a file, {"name": ..., KEY: {...}}; a name that an earlier file had stays as it is. */
static int add_entries(json_t *into, const json_t *list, const char *plural, const char *key, const char *file, struct error **err)
{
	AUTO_JSON json_t *seen = json_object();
	const json_t *item;
	size_t i;

	if (list && !json_is_null(list) && !json_is_array(list))
		return invalid(err, file, plural, "expected a list");
	json_array_foreach (list, i, item) {
		const char *name = json_string_value(json_object_get(item, "name"));
		json_t *value = json_object_get(item, key);
		char path[64];

		snprintf(path, sizeof path, "%s[%zu]", plural, i);
		if (!name)
			return invalid(err, file, path, "an entry needs a name (a string)");
		if (value && !json_is_object(value) && !json_is_null(value))
			return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig", "%s: %s.%s: expected a mapping", file, path, key);
		if (json_object_get(seen, name))
			return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig", "%s: %s: the name \"%s\" is there twice", file, path,
					 name);
		json_object_set_new(seen, name, json_true());
		if (!json_object_get(into, name))
			json_object_set_new(
				into, name,
				json_pack("{s:s, s:o}", "file", file, "entry", json_is_object(value) ? json_incref(value) : json_object()));
	}
	return 0;
}

int kubeconfig_add(struct kubeconfig *k, const char *text, size_t len, const char *file, struct error **err)
{
	AUTO_JSON json_t *documents = yaml_load(text, len, file, err);
	const json_t *config = json_array_get(documents, 0), *kind, *current;

	if (!documents)
		return -1;
	if (json_array_size(documents) > 1)
		return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig", "%s: more than one document in a kubeconfig", file);
	if (!config)
		return 0;
	if (!json_is_object(config))
		return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig", "%s is no kubeconfig: expected a mapping", file);
	kind = json_object_get(config, "kind");
	if (json_is_string(kind) && strcmp(json_string_value(kind), "Config"))
		return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig", "%s is no kubeconfig: its kind is %s", file,
				 json_string_value(kind));
	current = json_object_get(config, "current-context");
	if (current && !json_is_null(current) && !json_is_string(current))
		return invalid(err, file, "current-context", "expected a string");
	if (add_entries(k->clusters, json_object_get(config, "clusters"), "clusters", "cluster", file, err) < 0 ||
	    add_entries(k->users, json_object_get(config, "users"), "users", "user", file, err) < 0 ||
	    add_entries(k->contexts, json_object_get(config, "contexts"), "contexts", "context", file, err) < 0)
		return -1;
	if (!k->current && json_string_length(current))
		k->current = strdup(json_string_value(current));
	buffer_addf(&k->files, "%s%s", k->files.len ? ", " : "", file);
	return 0;
}

int kubeconfig_add_files(struct kubeconfig *k, const char *list, bool must_exist, struct error **err)
{
	AUTO_FREE char *copy = strdup(list);
	char *rest = copy, *file;

	if (!copy)
		return error_set_errno(err, ENOMEM, "cannot read %s", list);
	while ((file = strsep(&rest, ":"))) {
		AUTO_FREE char *text = NULL;

		if (!*file || (!must_exist && access(file, F_OK) < 0 && errno == ENOENT))
			continue;
		text = credential_read(file, 16u << 20, err);
		if (!text || kubeconfig_add(k, text, strlen(text), file, err) < 0)
			return -1;
	}
	return 0;
}

/* A member that is a string; NULL when it is absent or empty. */
static int get_string(const struct entry *e, const char *member, const char **out, struct error **err)
{
	const json_t *value = json_object_get(e->json, member);

	if (value && !json_is_null(value) && !json_is_string(value))
		return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig", "%s: %s \"%s\": %s: expected a string (quote it)", e->file,
				 e->kind, e->name, member);
	*out = json_string_length(value) ? json_string_value(value) : NULL;
	return 0;
}

static int copy_string(const struct entry *e, const char *member, char **out, struct error **err)
{
	const char *text = NULL;

	if (get_string(e, member, &text, err) < 0)
		return -1;
	if (text && !(*out = strdup(text)))
		return error_set_errno(err, ENOMEM, "cannot read %s", e->file);
	return 0;
}

/* The file that a member names, seen from the entry's file; owned. */
static char *resolve_path(const struct entry *e, const char *path)
{
	const char *slash = strrchr(e->file, '/');
	char *full = NULL;

	if (*path == '/' || !slash)
		return strdup(path);
	return asprintf(&full, "%.*s/%s", (int)(slash - e->file), e->file, path) < 0 ? NULL : full;
}

/* MEMBER-data holds base64, MEMBER the path of a file; the former wins. */
static int get_pem(const struct entry *e, const char *member, char **out, struct error **err)
{
	const char *data = NULL, *path = NULL;
	AUTO_FREE char *full = NULL;
	char data_member[64];

	snprintf(data_member, sizeof data_member, "%s-data", member);
	if (get_string(e, data_member, &data, err) < 0 || get_string(e, member, &path, err) < 0)
		return -1;
	if (data) {
		*out = credential_decode(data, err);
		return *out ? 0 : error_wrap(err, "%s: %s \"%s\": %s", e->file, e->kind, e->name, data_member);
	}
	if (!path)
		return 0;
	full = resolve_path(e, path);
	*out = full ? credential_read(full, 1u << 20, err) : NULL;
	return *out ? 0 : error_wrap(err, "%s: %s \"%s\": %s", e->file, e->kind, e->name, member);
}

/* "a, b, c" of the names there are. */
static char *names_of(const json_t *entries)
{
	struct buffer b;
	const char *name;
	json_t *value;

	buffer_init(&b, 1000);
	json_object_foreach ((json_t *)entries, name, value)
		buffer_addf(&b, "%s%s", b.len ? ", " : "", name);
	b.failed = false; /* the first of many will do */
	return buffer_steal(&b);
}

static int find(const struct kubeconfig *k, const json_t *entries, const char *kind, const char *name, struct entry *out,
		struct error **err)
{
	const json_t *found = json_object_get(entries, name);
	AUTO_FREE char *names = NULL;

	if (found) {
		*out = (struct entry){ kind, name, json_path_string(found, "file"), json_object_get(found, "entry") };
		return 0;
	}
	names = names_of(entries);
	return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig", "there is no %s \"%s\" in %s; there %s", kind, name,
			 k->files.len ? k->files.data : "the kubeconfig", names && *names ? names : "is none");
}

/* kubectl's rule for a server without a scheme: https when there is anything about TLS. */
static int set_server(const struct entry *cluster, struct kube_config *c, struct error **err)
{
	const char *server = NULL;
	bool tls = c->ca_pem || c->cert_pem || c->insecure;
	size_t len;

	if (get_string(cluster, "server", &server, err) < 0)
		return -1;
	if (!server)
		return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig", "%s: cluster \"%s\" has no server", cluster->file,
				 cluster->name);
	if (asprintf(&c->server, "%s%s", strstr(server, "://") ? "" : tls ? "https://" : "http://", server) < 0) {
		c->server = NULL;
		return error_set_errno(err, ENOMEM, "cannot read %s", cluster->file);
	}
	if (strncmp(c->server, "https://", 8) && strncmp(c->server, "http://", 7))
		return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig", "%s: cluster \"%s\": the server \"%s\" is no http or https URL",
				 cluster->file, cluster->name, server);
	for (len = strlen(c->server); len && c->server[len - 1] == '/'; len--)
		c->server[len - 1] = 0;
	return 0;
}

static int use_cluster(const struct entry *e, struct kube_config *c, struct error **err)
{
	const json_t *insecure = json_object_get(e->json, "insecure-skip-tls-verify");

	if (insecure && !json_is_null(insecure) && !json_is_boolean(insecure))
		return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig",
				 "%s: cluster \"%s\": insecure-skip-tls-verify: expected true or false", e->file, e->name);
	c->insecure = json_is_true(insecure);
	if (get_pem(e, "certificate-authority", &c->ca_pem, err) < 0 || copy_string(e, "tls-server-name", &c->server_name, err) < 0 ||
	    copy_string(e, "proxy-url", &c->proxy_url, err) < 0)
		return -1;
	if (c->insecure && c->ca_pem)
		return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig",
				 "%s: cluster \"%s\" has both a certificate-authority and insecure-skip-tls-verify; remove one", e->file,
				 e->name);
	return 0;
}

/* What we cannot do is refused, rather than tried without credentials. */
static int refuse_unsupported(const struct entry *e, struct error **err)
{
	static const struct {
		const char *member, *what;
	} refused[] = {
		/* exec plugins would be run here, and their answer (ExecCredential) put into token, cert_pem and key_pem. */
		{ "exec", "an exec plugin" },           { "auth-provider", "an auth-provider" },
		{ "username", "basic authentication" }, { "password", "basic authentication" },
		{ "as-uid", "impersonation of a uid" }, { "as-user-extra", "impersonation with extra fields" },
	};

	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		const json_t *value = json_object_get(e->json, refused[i].member);

		if (value && !json_is_null(value) && !(json_is_string(value) && !json_string_length(value)))
			return error_set(
				err, ERROR_PERMANENT, "UnsupportedCredentials",
				"%s: user \"%s\" asks for %s (%s), which is not supported; use a token, a tokenFile or a client certificate",
				e->file, e->name, refused[i].what, refused[i].member);
	}
	return 0;
}

static int use_groups(const struct entry *e, struct kube_config *c, struct error **err)
{
	const json_t *groups = json_object_get(e->json, "as-groups"), *group;
	size_t i;

	if (!groups || json_is_null(groups))
		return 0;
	if (!json_is_array(groups))
		return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig", "%s: user \"%s\": as-groups: expected a list", e->file,
				 e->name);
	c->as_groups = calloc(json_array_size(groups) + 1, sizeof *c->as_groups);
	json_array_foreach (groups, i, group) {
		if (!json_is_string(group))
			return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig", "%s: user \"%s\": as-groups[%zu]: expected a string",
					 e->file, e->name, i);
		if (!c->as_groups || !(c->as_groups[i] = strdup(json_string_value(group))))
			return error_set_errno(err, ENOMEM, "cannot read %s", e->file);
	}
	return 0;
}

static int use_user(const struct entry *e, struct kube_config *c, struct error **err)
{
	const char *token_file = NULL;

	if (refuse_unsupported(e, err) < 0 || get_pem(e, "client-certificate", &c->cert_pem, err) < 0 ||
	    get_pem(e, "client-key", &c->key_pem, err) < 0 || copy_string(e, "token", &c->token, err) < 0 ||
	    get_string(e, "tokenFile", &token_file, err) < 0 || copy_string(e, "as", &c->as_user, err) < 0 || use_groups(e, c, err) < 0)
		return -1;
	if (!c->cert_pem != !c->key_pem)
		return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig", "%s: user \"%s\" has a client %s without its %s", e->file,
				 e->name, c->cert_pem ? "certificate" : "key", c->cert_pem ? "key" : "certificate");
	if (c->token && !credential_fits_header(c->token))
		return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig", "%s: user \"%s\": token: it holds characters that no token has",
				 e->file, e->name);
	if (c->as_user && !credential_fits_header(c->as_user))
		return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig", "%s: user \"%s\": as: it holds control characters", e->file,
				 e->name);
	for (char **g = c->as_groups; g && *g; g++)
		if (!credential_fits_header(*g))
			return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig", "%s: user \"%s\": as-groups: control characters",
					 e->file, e->name);
	if (token_file && !(c->token_file = resolve_path(e, token_file)))
		return error_set_errno(err, ENOMEM, "cannot read %s", e->file);
	return 0;
}

int kubeconfig_resolve(const struct kubeconfig *k, const char *context, struct kube_config *out, struct error **err)
{
	AUTO_KUBE_CONFIG struct kube_config c = { 0 };
	const char *cluster_name = NULL, *user_name = NULL, *name = context && *context ? context : k->current;
	struct entry e, cluster, user;

	if (!name) {
		AUTO_FREE char *names = names_of(k->contexts);

		return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig", "no current-context in %s: choose a context; there %s",
				 k->files.len ? k->files.data : "the kubeconfig", names && *names ? names : "is none");
	}
	if (find(k, k->contexts, "context", name, &e, err) < 0 || get_string(&e, "cluster", &cluster_name, err) < 0 ||
	    get_string(&e, "user", &user_name, err) < 0 || copy_string(&e, "namespace", &c.namespace_, err) < 0)
		return -1;
	if (!cluster_name)
		return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig", "%s: context \"%s\" names no cluster", e.file, e.name);
	if (find(k, k->clusters, "cluster", cluster_name, &cluster, err) < 0 || use_cluster(&cluster, &c, err) < 0)
		return -1;
	if (user_name && (find(k, k->users, "user", user_name, &user, err) < 0 || use_user(&user, &c, err) < 0))
		return -1;
	if (set_server(&cluster, &c, err) < 0)
		return -1;
	if (!c.namespace_ && !(c.namespace_ = strdup("default")))
		return error_set_errno(err, ENOMEM, "cannot read the kubeconfig");
	*out = c;
	c = (struct kube_config){ 0 };
	return 0;
}

int kube_config_in_cluster(const char *directory, const char *host, const char *port, struct kube_config *out, struct error **err)
{
	AUTO_KUBE_CONFIG struct kube_config c = { 0 };
	AUTO_FREE char *ca = NULL, *ns = NULL;
	bool v6 = strchr(host, ':') != NULL;

	if (asprintf(&c.server, "https://%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "", port) < 0) {
		c.server = NULL;
		return error_set_errno(err, ENOMEM, "cannot read the service account");
	}
	if (asprintf(&c.token_file, "%s/token", directory) < 0 || asprintf(&ca, "%s/ca.crt", directory) < 0 ||
	    asprintf(&ns, "%s/namespace", directory) < 0)
		return error_set_errno(err, ENOMEM, "cannot read the service account");
	c.token = kube_token_read(c.token_file, err);
	c.ca_pem = c.token ? credential_read(ca, 1u << 20, err) : NULL;
	if (!c.ca_pem)
		return error_wrap(err, "cannot use the pod's service account");
	c.namespace_ = credential_read(ns, 4096, NULL);
	if (c.namespace_)
		c.namespace_[strcspn(c.namespace_, " \t\r\n")] = 0;
	if (!c.namespace_ || !*c.namespace_) {
		free(c.namespace_);
		c.namespace_ = strdup("default");
	}
	if (!c.namespace_)
		return error_set_errno(err, ENOMEM, "cannot read the service account");
	*out = c;
	c = (struct kube_config){ 0 };
	return 0;
}
