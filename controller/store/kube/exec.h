/* Exec credential plugins: a program of the kubeconfig that prints a token or a client certificate (client.authentication.k8s.io/v1 and
 * v1beta1; "client-go credential plugins", kubernetes.io). Internal to store/kube. */
#pragma once

#include <stdint.h>

#include "base/cancel.h"
#include "base/error.h"
#include "store/kube/kubeconfig.h"

#define EXEC_OUTPUT_MAX (1u << 20)

struct exec_credential {
	char *token;              /* or NULL */
	char *cert_pem, *key_pem; /* both or none */
	int64_t expires;          /* seconds since the epoch; 0: it does not say */
};

void exec_credential_free(struct exec_credential *c); /* frees what it holds; accepts a zeroed struct */
#define AUTO_EXEC_CREDENTIAL CLEANUP(exec_credential_free)

/* Runs the plugin of config.exec and waits for it, at most timeout_ms milliseconds, then kills it. Its standard input is ours when it may ask
 * and we have a terminal. A plugin that cannot be started is a permanent error, with the kubeconfig's hint how to install it; one that fails is
 * transient, with the end of what it printed on standard error. */
int exec_credential_fetch(const struct kube_config *config, struct cancel *cancel, unsigned timeout_ms, struct exec_credential *out,
			  struct error **err);
/* What the plugin printed, as a credential. Fails (transient, InvalidCredential) when it is none. */
int exec_credential_parse(const char *text, size_t len, const char *api_version, struct exec_credential *out, struct error **err);
