#include "store/kube/kubeconfig.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "store/kube/credential.h"
#include "store/kube/kubeconfig_entry.h"
#include "json/codec.h"
#include "json/yaml.h"

struct kubeconfig {
	json_t *clusters, *users, *contexts; /* name -> {"file": ..., "path": ..., "entry": {...}} */
	json_t *texts;                       /* file -> its text, for the places in messages */
	char *current;
	struct buffer files; /* their names, for messages */
};

void kube_string_list_free(char **list)
{
	for (char **s = list; s && *s; s++)
		free(*s);
	free(list);
}

void kube_config_free(struct kube_config *c)
{
	free(c->server);
	free(c->namespace_);
	free(c->ca_pem);
	free(c->server_name);
	free(c->proxy_url);
	free(c->cert_pem);
	free(c->key_pem);
	free(c->ca_file);
	free(c->cert_file);
	free(c->key_file);
	free(c->token);
	free(c->token_file);
	free(c->as_user);
	free(c->as_uid);
	kube_string_list_free(c->as_groups);
	kube_string_list_free(c->as_extra);
	free(c->exec.api_version);
	free(c->exec.command);
	free(c->exec.install_hint);
	free(c->exec.cluster_config);
	kube_string_list_free(c->exec.args);
	kube_string_list_free(c->exec.env);
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
	k->texts = json_object();
	if (k->clusters && k->users && k->contexts && k->texts)
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
	json_decref(k->texts);
	free(k->current);
	buffer_free(&k->files);
	free(k);
}

bool kubeconfig_empty(const struct kubeconfig *k)
{
	return !json_object_size(k->contexts) && !json_object_size(k->clusters) && !k->current;
}

/* A file as it is read, for messages. */
struct text {
	const char *file, *text;
	size_t len;
};

/* "FILE, line L, column C: PATH: what". */
static int invalid(struct error **err, const struct text *t, const char *path, const char *what)
{
	size_t line, column;

	yaml_locate(t->text, t->len, path, &line, &column);
	return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig", "%s, line %zu, column %zu: %s%s%s", t->file, line, column, path,
			 *path ? ": " : "", what);
}

/* The entries of one list of a file, {"name": ..., KEY: {...}}; a name that an earlier file had stays as it is. */
static int add_entries(json_t *into, const json_t *list, const char *plural, const char *key, const struct text *t, struct error **err)
{
	AUTO_JSON json_t *seen = json_object();
	const json_t *item;
	size_t i;

	if (list && !json_is_null(list) && !json_is_array(list))
		return invalid(err, t, plural, "expected a list");
	json_array_foreach (list, i, item) {
		const char *name = json_string_value(json_object_get(item, "name"));
		json_t *value = json_object_get(item, key);
		char path[64];

		snprintf(path, sizeof path, "%s[%zu]", plural, i);
		if (!name)
			return invalid(err, t, path, "an entry needs a name (a string)");
		if (json_object_get(seen, name))
			return invalid(err, t, path, "another entry has this name");
		snprintf(path, sizeof path, "%s[%zu].%s", plural, i, key);
		if (value && !json_is_object(value) && !json_is_null(value))
			return invalid(err, t, path, "expected a mapping");
		json_object_set_new(seen, name, json_true());
		if (!json_object_get(into, name))
			json_object_set_new(into, name,
					    json_pack("{s:s, s:s, s:o}", "file", t->file, "path", path, "entry",
						      json_is_object(value) ? json_incref(value) : json_object()));
	}
	return 0;
}

int kubeconfig_add(struct kubeconfig *k, const char *text, size_t len, const char *file, struct error **err)
{
	AUTO_JSON json_t *documents = yaml_load(text, len, file, err);
	const json_t *config = json_array_get(documents, 0), *kind, *current;
	struct text t = { file, text, len };

	if (!documents)
		return -1;
	if (json_array_size(documents) > 1)
		return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig", "%s: more than one document in a kubeconfig", file);
	if (!config)
		return 0;
	if (!json_is_object(config))
		return invalid(err, &t, "", "this is no kubeconfig: expected a mapping");
	kind = json_object_get(config, "kind");
	if (json_is_string(kind) && strcmp(json_string_value(kind), "Config"))
		return invalid(err, &t, "kind", "this is no kubeconfig: expected Config");
	current = json_object_get(config, "current-context");
	if (current && !json_is_null(current) && !json_is_string(current))
		return invalid(err, &t, "current-context", "expected a string");
	if (json_object_set_new(k->texts, file, json_stringn_nocheck(text, len)) < 0)
		return error_set_errno(err, ENOMEM, "cannot read %s", file);
	if (add_entries(k->clusters, json_object_get(config, "clusters"), "clusters", "cluster", &t, err) < 0 ||
	    add_entries(k->users, json_object_get(config, "users"), "users", "user", &t, err) < 0 ||
	    add_entries(k->contexts, json_object_get(config, "contexts"), "contexts", "context", &t, err) < 0)
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
		const char *file = json_path_string(found, "file"), *text = json_string_value(json_object_get(k->texts, file));

		*out = (struct entry){
			kind, name, file, text ? text : "", json_path_string(found, "path"), json_object_get(found, "entry")
		};
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

	if (entry_string(cluster, "server", &server, err) < 0)
		return -1;
	if (!server)
		return entry_fail(cluster, NULL, err, "it has no server");
	if (asprintf(&c->server, "%s%s", strstr(server, "://") ? "" : tls ? "https://" : "http://", server) < 0) {
		c->server = NULL;
		return error_set_errno(err, ENOMEM, "cannot read %s", cluster->file);
	}
	if (strncmp(c->server, "https://", 8) && strncmp(c->server, "http://", 7))
		return entry_fail(cluster, "server", err, "\"%s\" is no http or https URL", server);
	for (len = strlen(c->server); len && c->server[len - 1] == '/'; len--)
		c->server[len - 1] = 0;
	return 0;
}

static int use_cluster(const struct entry *e, struct kube_config *c, struct error **err)
{
	if (entry_boolean(e, "insecure-skip-tls-verify", &c->insecure, err) < 0 ||
	    entry_pem(e, "certificate-authority", &c->ca_pem, &c->ca_file, err) < 0 ||
	    entry_copy(e, "tls-server-name", &c->server_name, err) < 0 || entry_copy(e, "proxy-url", &c->proxy_url, err) < 0)
		return -1;
	if (c->proxy_url && strncmp(c->proxy_url, "http://", 7) && strncmp(c->proxy_url, "https://", 8) &&
	    strncmp(c->proxy_url, "socks5://", 9))
		return entry_fail(e, "proxy-url", err, "expected a URL that begins with http://, https:// or socks5://");
	if (c->insecure && c->ca_pem)
		return entry_fail(e, "insecure-skip-tls-verify", err, "there is a certificate-authority too; remove one");
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
	if (find(k, k->contexts, "context", name, &e, err) < 0 || entry_string(&e, "cluster", &cluster_name, err) < 0 ||
	    entry_string(&e, "user", &user_name, err) < 0 || entry_copy(&e, "namespace", &c.namespace_, err) < 0)
		return -1;
	if (!cluster_name)
		return entry_fail(&e, NULL, err, "it names no cluster");
	if (find(k, k->clusters, "cluster", cluster_name, &cluster, err) < 0 || use_cluster(&cluster, &c, err) < 0)
		return -1;
	if (user_name && (find(k, k->users, "user", user_name, &user, err) < 0 || kubeconfig_use_user(&user, &cluster, &c, err) < 0))
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
	c.ca_file = move_ptr(ca);
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
