/* The users of a kubeconfig: what they are known by. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "store/kube/client.h"
#include "store/kube/credential.h"
#include "store/kube/kubeconfig_entry.h"
#include "json/codec.h"

#define EXEC_GROUP "client.authentication.k8s.io/"
/* Where a cluster says something to exec plugins (ExecConfig.provideClusterInfo, client-go's clientcmd api). */
#define EXEC_EXTENSION "client.authentication.k8s.io/exec"

static int no_memory(const struct entry *e, struct error **err)
{
	return error_set_errno(err, ENOMEM, "cannot read %s", e->file);
}

/* What we cannot do is refused, rather than tried without credentials. */
static int refuse_unsupported(const struct entry *e, struct error **err)
{
	static const struct {
		const char *member, *what;
	} refused[] = {
		{ "auth-provider", "an auth-provider, which Kubernetes itself has given up" },
		{ "username", "basic authentication, which Kubernetes itself has given up" },
		{ "password", "basic authentication, which Kubernetes itself has given up" },
	};

	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		const json_t *value = json_object_get(e->json, refused[i].member);
		AUTO_ERROR struct error *why = NULL;

		if (!value || json_is_null(value) || (json_is_string(value) && !json_string_length(value)))
			continue;
		entry_fail(e, refused[i].member, &why, "this asks for %s; use a token, a tokenFile, a client certificate or an exec plugin",
			   refused[i].what);
		return error_set(err, ERROR_PERMANENT, "UnsupportedCredentials", "%s", error_message(why));
	}
	return 0;
}

/* A list of strings; *out NULL when it is absent. */
static int string_list(const struct entry *e, const char *member, char ***out, struct error **err)
{
	const json_t *list = json_object_get(e->json, member), *item;
	char path[80];
	size_t i;

	if (!list || json_is_null(list))
		return 0;
	if (!json_is_array(list))
		return entry_fail(e, member, err, "expected a list");
	*out = calloc(json_array_size(list) + 1, sizeof **out);
	if (!*out)
		return no_memory(e, err);
	json_array_foreach (list, i, item) {
		snprintf(path, sizeof path, "%s[%zu]", member, i);
		if (!json_is_string(item))
			return entry_fail(e, path, err, "expected a string");
		(*out)[i] = strdup(json_string_value(item));
		if (!(*out)[i])
			return no_memory(e, err);
	}
	return 0;
}

/* as-user-extra: {KEY: [VALUE, ...]} as header lines ("User impersonation", kubernetes.io: keys are percent-encoded). */
static int use_extra(const struct entry *e, struct kube_config *c, struct error **err)
{
	json_t *extra = json_object_get(e->json, "as-user-extra"), *values;
	size_t count = 0, n = 0, i;
	const char *key;
	const json_t *value;

	if (!extra || json_is_null(extra))
		return 0;
	if (!json_is_object(extra))
		return entry_fail(e, "as-user-extra", err, "expected a mapping of lists");
	json_object_foreach (extra, key, values)
		count += json_array_size(values);
	c->as_extra = calloc(count + 1, sizeof *c->as_extra);
	if (!c->as_extra)
		return no_memory(e, err);
	json_object_foreach (extra, key, values) {
		AUTO_FREE char *escaped = kube_escape(key);

		if (!json_is_array(values))
			return entry_fail(e, "as-user-extra", err, "%s: expected a list", key);
		json_array_foreach (values, i, value) {
			if (!json_is_string(value) || !credential_fits_header(json_string_value(value)))
				return entry_fail(e, "as-user-extra", err, "%s: expected strings without control characters", key);
			if (!escaped || asprintf(&c->as_extra[n], "Impersonate-Extra-%s: %s", escaped, json_string_value(value)) < 0) {
				c->as_extra[n] = NULL;
				return no_memory(e, err);
			}
			n++;
		}
	}
	return 0;
}

static int use_impersonation(const struct entry *e, struct kube_config *c, struct error **err)
{
	if (entry_header(e, "as", &c->as_user, err) < 0 || entry_header(e, "as-uid", &c->as_uid, err) < 0 ||
	    string_list(e, "as-groups", &c->as_groups, err) < 0 || use_extra(e, c, err) < 0)
		return -1;
	for (char **g = c->as_groups; g && *g; g++)
		if (!credential_fits_header(*g))
			return entry_fail(e, "as-groups", err, "it holds control characters");
	if (!c->as_user && (c->as_uid || (c->as_groups && *c->as_groups) || (c->as_extra && *c->as_extra)))
		return entry_fail(e, NULL, err, "as-uid, as-groups and as-user-extra need a user to impersonate (as)");
	return 0;
}

int kubeconfig_use_user(const struct entry *e, const struct entry *cluster, struct kube_config *c, struct error **err)
{
	const char *token_file = NULL;

	if (refuse_unsupported(e, err) < 0 || entry_pem(e, "client-certificate", &c->cert_pem, &c->cert_file, err) < 0 ||
	    entry_pem(e, "client-key", &c->key_pem, &c->key_file, err) < 0 || entry_copy(e, "token", &c->token, err) < 0 ||
	    entry_string(e, "tokenFile", &token_file, err) < 0 || use_impersonation(e, c, err) < 0)
		return -1;
	if (!c->cert_pem != !c->key_pem)
		return entry_fail(e, NULL, err, "it has a client %s without its %s", c->cert_pem ? "certificate" : "key",
				  c->cert_pem ? "key" : "certificate");
	if (c->token && !credential_fits_header(c->token))
		return entry_fail(e, "token", err, "it holds characters that no token has");
	if (token_file && !(c->token_file = entry_path(e, token_file)))
		return no_memory(e, err);
	return kubeconfig_use_exec(e, cluster, c, err);
}

/* env: [{name: ..., value: ...}] as NAME=VALUE. */
static int use_env(const struct entry *e, struct kube_exec *x, struct error **err)
{
	const json_t *list = json_object_get(e->json, "env"), *item;
	char path[48];
	size_t i;

	if (!list || json_is_null(list))
		return 0;
	if (!json_is_array(list))
		return entry_fail(e, "env", err, "expected a list");
	x->env = calloc(json_array_size(list) + 1, sizeof *x->env);
	if (!x->env)
		return no_memory(e, err);
	json_array_foreach (list, i, item) {
		const char *name = json_string_value(json_object_get(item, "name")),
			   *value = json_string_value(json_object_get(item, "value"));

		snprintf(path, sizeof path, "env[%zu]", i);
		if (!name || !*name || strchr(name, '=') || (!value && json_object_get(item, "value")))
			return entry_fail(e, path, err, "expected a name and a value (strings)");
		if (asprintf(&x->env[i], "%s=%s", name, value ? value : "") < 0) {
			x->env[i] = NULL;
			return no_memory(e, err);
		}
	}
	return 0;
}

static int use_mode(const struct entry *e, struct kube_exec *x, struct error **err)
{
	static const char *const modes[] = { "IfAvailable", "Never", "Always" };
	const char *mode = NULL;

	if (entry_string(e, "interactiveMode", &mode, err) < 0)
		return -1;
	if (!mode && !strcmp(x->api_version, EXEC_GROUP "v1"))
		return entry_fail(e, NULL, err, "interactiveMode is missing: Never, IfAvailable or Always");
	for (unsigned i = 0; i < 3; i++)
		if (!mode || !strcmp(mode, modes[i])) {
			x->interactive = i;
			return 0;
		}
	return entry_fail(e, "interactiveMode", err, "\"%s\" is none of Never, IfAvailable and Always", mode);
}

/* extensions: [{name: ..., extension: anything}] of the cluster. */
static int use_cluster_config(const struct entry *cluster, struct kube_exec *x, struct error **err)
{
	const json_t *list = json_object_get(cluster->json, "extensions"), *item;
	size_t i;

	json_array_foreach (list, i, item) {
		const char *name = json_string_value(json_object_get(item, "name"));
		const json_t *value = json_object_get(item, "extension");

		if (!name || strcmp(name, EXEC_EXTENSION) || !value || json_is_null(value))
			continue;
		x->cluster_config = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
		return x->cluster_config ? 0 : no_memory(cluster, err);
	}
	return 0;
}

int kubeconfig_use_exec(const struct entry *user, const struct entry *cluster, struct kube_config *c, struct error **err)
{
	const json_t *json = json_object_get(user->json, "exec");
	AUTO_FREE char *path = NULL;
	const char *command = NULL;
	struct kube_exec *x = &c->exec;
	struct entry e = *user;

	if (!json || json_is_null(json) || c->token || c->token_file) /* a token wins, as with kubectl */
		return 0;
	if (!json_is_object(json))
		return entry_fail(user, "exec", err, "expected a mapping");
	if (asprintf(&path, "%s.exec", user->path) < 0) {
		path = NULL;
		return no_memory(user, err);
	}
	e.kind = "the exec plugin of user";
	e.path = path;
	e.json = json;
	if (entry_string(&e, "command", &command, err) < 0 || entry_copy(&e, "apiVersion", &x->api_version, err) < 0 ||
	    entry_copy(&e, "installHint", &x->install_hint, err) < 0 || string_list(&e, "args", &x->args, err) < 0 ||
	    entry_boolean(&e, "provideClusterInfo", &x->wants_cluster, err) < 0 || use_env(&e, x, err) < 0)
		return -1;
	if (!command)
		return entry_fail(&e, NULL, err, "its command is missing");
	if (!x->api_version)
		return entry_fail(&e, NULL, err, "its apiVersion is missing: " EXEC_GROUP "v1 or " EXEC_GROUP "v1beta1");
	if (strcmp(x->api_version, EXEC_GROUP "v1") && strcmp(x->api_version, EXEC_GROUP "v1beta1"))
		return entry_fail(&e, "apiVersion", err, "\"%s\" is not supported; use " EXEC_GROUP "v1 or " EXEC_GROUP "v1beta1",
				  x->api_version);
	x->command = strchr(command, '/') ? entry_path(&e, command) : strdup(command);
	if (!x->command)
		return no_memory(&e, err);
	return use_mode(&e, x, err) < 0 || (x->wants_cluster && use_cluster_config(cluster, x, err) < 0) ? -1 : 0;
}
