/* Requests to an API server: authentication, deadlines, the retries that are safe, and Status objects as errors. Thread-safe.
 * Internal to store/kube. */
#pragma once

#include <jansson.h>

#include "api/resource.h"
#include "base/cancel.h"
#include "net/http.h"
#include "store/kube/kubeconfig.h"
#include "store/kube/request_stats.h"

#define CLIENT_DEADLINE_MS 30000 /* of a call with all its tries, unless another one is set */

struct kube_client;

/* Makes no request. cancel, which may be NULL, ends all calls; it must outlive the client. */
struct kube_client *kube_client_new(const struct kube_config *config, const char *user_agent, struct cancel *cancel, struct error **err);
void kube_client_free(struct kube_client *client);                      /* accepts NULL */
void kube_client_set_deadline(struct kube_client *client, unsigned ms); /* before its first call */

struct kube_call {
	const char *verb;   /* of the API (get, list, create, ...): errors name it */
	const char *method; /* of HTTP */
	const struct resource *res;
	const char *ns;                 /* NULL: cluster-scoped, or all namespaces */
	const char *name, *subresource; /* NULL: of the collection */
	const char *query;              /* escaped, without "?"; NULL: none */
	const char *content_type;
	const json_t *body;    /* NULL: none */
	struct cancel *cancel; /* NULL: the client's */
};

/* The object that the server answered with. */
json_t *kube_client_call(struct kube_client *client, const struct kube_call *call, struct error **err);
/* A GET below the server's URL ("/apis/..."). */
json_t *kube_client_get_path(struct kube_client *client, const char *path, struct error **err);
/* One try of a GET whose body goes to a sink as it arrives; returns when the server ends it. */
int kube_client_stream(struct kube_client *client, const struct kube_call *call, unsigned timeout_ms, http_sink sink, void *sink_arg,
		       struct error **err);

struct request_stats *kube_client_stats(struct kube_client *client); /* borrowed */
unsigned kube_client_connections(struct kube_client *client);        /* opened so far */
/* For how long from now the server asked us to leave it alone (Retry-After). */
unsigned kube_client_pause_ms(const struct kube_client *client);

/* The same with the answer as it is: to the sink. */
int kube_client_read_path(struct kube_client *client, const char *path, unsigned timeout_ms, http_sink sink, void *sink_arg,
			  struct error **err);

/* What a query's value may hold: everything else is percent-encoded (RFC 3986, section 2.3). Owned. */
char *kube_escape(const char *text);
/* Whether it can be a segment of a path (the API server refuses "", ".", "..", "/" and "%"). */
bool kube_is_path_segment(const char *text);
/* The path of a resource's collection or object; errors when a name is none. Owned. */
char *kube_path(const struct kube_call *call, struct error **err);
