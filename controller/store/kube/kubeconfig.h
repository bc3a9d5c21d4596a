/* Where an API server is, whom to trust there and who we are: from kubeconfig files, or from the service account of a pod.
 *
 * Files are merged as kubectl does it ("Organizing Cluster Access Using kubeconfig Files", kubernetes.io): the first file that names a
 * cluster, user, context or the current context wins, whole entries at a time; relative paths are relative to their file. What is wrong is
 * named with file, line and column. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* A program that gives credentials (client.authentication.k8s.io, "client-go credential plugins", kubernetes.io). */
struct kube_exec {
	char *api_version;  /* client.authentication.k8s.io/v1 or /v1beta1; NULL: there is no plugin */
	char *command;      /* with a slash: a path, else looked for in PATH */
	char **args, **env; /* NULL-ended, or NULL; env: "NAME=VALUE" beside our own environment */
	char *install_hint;
	char *cluster_config; /* JSON: what the cluster's extension says to the plugin */
	bool wants_cluster;   /* provideClusterInfo */
	enum { EXEC_IF_AVAILABLE, EXEC_NEVER, EXEC_ALWAYS } interactive;
};

/* The answer. Strings are owned, NULL when absent; PEM and tokens are the contents, not paths. */
struct kube_config {
	char *server;     /* URL without a slash at its end */
	char *namespace_; /* never NULL */
	char *ca_pem;
	bool insecure;
	char *server_name; /* to verify instead of the URL's host */
	char *proxy_url;
	char *cert_pem, *key_pem;
	char *ca_file, *cert_file, *key_file; /* where these were read from, to be read again when they change; NULL: they were inline */
	char *token;
	char *token_file;       /* read again from time to time; what it held last wins over token */
	char *as_user, *as_uid; /* impersonation */
	char **as_groups;       /* NULL-ended, or NULL */
	char **as_extra;        /* the same: header lines "Impersonate-Extra-KEY: VALUE" */
	struct kube_exec exec;
};

void kube_config_free(struct kube_config *config); /* frees what it holds; accepts a zeroed struct */
void kube_string_list_free(char **list);           /* NULL-ended; accepts NULL */
#define AUTO_KUBE_CONFIG CLEANUP(kube_config_free)

struct kubeconfig;

struct kubeconfig *kubeconfig_new(void);    /* NULL when memory is out */
void kubeconfig_free(struct kubeconfig *k); /* accepts NULL */
/* Adds the text of a file. Errors name file, line and column, or file and entry. */
int kubeconfig_add(struct kubeconfig *k, const char *text, size_t len, const char *file, struct error **err);
/* Adds the files of a colon-separated list. Absent files are an error only when they must exist. */
int kubeconfig_add_files(struct kubeconfig *k, const char *list, bool must_exist, struct error **err);
bool kubeconfig_empty(const struct kubeconfig *k);
/* Fills *out from a context (NULL: the current one); reads the certificates that the entries name, runs nothing. */
int kubeconfig_resolve(const struct kubeconfig *k, const char *context, struct kube_config *out, struct error **err);

/* The service account that a pod has below directory (token, ca.crt, namespace). */
int kube_config_in_cluster(const char *directory, const char *host, const char *port, struct kube_config *out, struct error **err);

/* The token that a file holds, owned: at most 64 KiB, without white space around it, fit for a header. */
char *kube_token_read(const char *path, struct error **err);

static inline void kubeconfig_free_p(struct kubeconfig **k)
{
	kubeconfig_free(*k);
}
#define AUTO_KUBECONFIG CLEANUP(kubeconfig_free_p)
