/* A store over a Kubernetes API server.
 *
 * Credentials: client certificates, tokens, token files, exec plugins, impersonation. Files are read again every minute and when what they hold is
 * refused; plugins run again when their credential expires or is refused. Basic authentication and auth-providers are refused. A proxy is
 * used only when the kubeconfig names one (proxy-url). All requests and watches share one connection where the server speaks HTTP/2.
 *
 * Calls end within 30 s, or what the options say. Tried again are reads, and writes that were certainly not carried out (no connection, 429);
 * Retry-After is honoured. The client's own limit is 100 requests a second, 200 at once; status and leases go before lists and watches. 401 and
 * 403 are permanent, but transient within 30 s of trouble with the server: one that has just started refuses what it will allow in a moment. */
#pragma once

#include "net/http.h"
#include "store/kube/request_stats.h"
#include "store/store.h"

struct kube_options {
	const char
		*kubeconfig; /* path or colon-separated list; NULL: $KUBECONFIG, else the service account of the pod, else ~/.kube/config */
	const char *context; /* NULL: the current one */
	const char *user_agent;
	unsigned deadline_ms; /* of a call with all its tries; 0: 30,000 */
};

/* Reads the configuration and prepares the client; makes no request. */
struct store *kube_store_open(const struct kube_options *options, struct cancel *cancel, struct error **err);
/* The namespace of the context or of the service account; "default" otherwise. Borrowed. */
const char *kube_store_namespace(const struct store *store);
/* Whether this resource is served (discovery), so that an absent CRD is told from an empty list: 1, 0, or -1 with an error. */
int kube_store_serves(struct store *store, const struct resource *res, struct error **err);
/* Server-side apply of an object of any kind given by its apiVersion and kind (for our CRDs at start). */
int kube_store_apply(struct store *store, const struct resource *res, const json_t *object, const char *field_manager, struct error **err);
/* What the store's requests came to so far. */
void kube_store_requests(const struct store *store, struct request_totals *out);
/* How many connections it opened so far: one, where the server speaks HTTP/2 and nothing went wrong. */
unsigned kube_store_connections(const struct store *store);
/* A GET below the server's URL ("/api/v1/...?..."), with the answer as it is to the sink: 2 minutes at most. */
int kube_store_read(struct store *store, const char *path, http_sink sink, void *arg, struct error **err);
