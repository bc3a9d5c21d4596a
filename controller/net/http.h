/* HTTP over libcurl: one blocking request at a time a thread, connections kept and shared by a client. HTTP/2 where the server offers it.
 *
 * A client is thread-safe; a response belongs to the caller. Certificates are verified by a CA bundle, or pinned by fingerprint. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/error.h"

struct http_client;

/* Whom a client trusts and who it is. Strings are copied. All may be NULL. */
struct http_trust {
	const char *ca_pem;     /* PEM certificates to trust instead of the system's */
	const char *pin_sha1;   /* "AA:BB:...": trust exactly the certificate with this SHA-1 fingerprint (vSphere's thumbprint) */
	const char *pin_sha256; /* the same with SHA-256 */
	bool first_use; /* trust what the system's CAs verify, and else the first certificate that is seen: no other one from then on, as SSH
			 * does. With pin_sha256 that one is known from before. Not with ca_pem. */
	bool insecure;  /* verify nothing; only by the user's explicit wish */
	const char *client_cert_pem; /* PEM client certificate and key */
	const char *client_key_pem;
	const char *server_name; /* name to verify and send as SNI instead of the URL's host */
	bool refuse_local; /* connect to no loopback or link-local address (net/address.h), whatever name it has and after redirects too */
	const char *proxy_url; /* NULL: none, whatever the environment says */
};

struct http_client *http_client_new(const struct http_trust *trust, struct error **err);
/* The SHA-256 fingerprint "AA:BB:..." of the certificate that a client with first_use trusts now; owned, NULL before any was seen. */
char *http_client_first_use(struct http_client *client);
void http_client_free(struct http_client *client);
/* Before the first request: all requests share one connection where the server speaks HTTP/2, driven by a thread of the client's own. When
 * the connection is silent for 5 s while an answer is waited for, or for 30 s while streams are open, probe_url (NULL: none) is asked for;
 * without an answer in 5 s all that is on the connection fails (ConnectionLost) and the next request makes a new one. begin is then
 * called on that thread. Not for clients with refuse_local or first_use. */
int http_client_share(struct http_client *client, const char *probe_url, struct error **err);
unsigned http_client_connections(const struct http_client *client); /* of a client that shares: how many it opened so far */

/* Takes a piece of the body. Returns 0, or -1 with an error to abort the transfer. Called on the requesting thread, also of a client that shares. */
typedef int (*http_sink)(void *arg, const void *data, size_t len, struct error **err);

struct http_response;
/* Sees status, headers and content_length of a 2xx answer before the first byte of its body goes to the sink; not called when there is none.
 * Returns 0, or -1 with an error to abort the transfer. */
typedef int (*http_begin)(void *arg, const struct http_response *head, struct error **err);

struct http_request {
	const char *method; /* NULL: GET */
	const char *url;
	const char *const *headers; /* NULL-ended "Name: value" */
	const void *body;           /* sent when body_len > 0 or the method is POST, PUT or PATCH */
	size_t body_len;
	unsigned timeout_ms;         /* for the whole exchange; 0: none (streams) */
	unsigned connect_timeout_ms; /* 0: 15,000 */
	unsigned stall_timeout_ms;   /* no byte for so long is an error; 0: none */
	size_t max_body;  /* for a body kept in memory; 0: 16 MiB. A larger one is an error (of a 2xx answer; else its start is kept) */
	http_sink sink;   /* when set, a 2xx body goes there and not into the response; other bodies are kept for the message.
					* One cut short is an error where it has a length or chunks; one that the connection's end ends needs a mark of its own. */
	http_begin begin; /* may be NULL; its argument is sink_arg */
	void *sink_arg;
	struct cancel *cancel;       /* may be NULL */
	const char *user, *password; /* basic authentication, when set */
	bool once; /* a kept connection that turns out to be closed is an error, also when no byte of an answer came: without this the request is
		    * sent again on another, though the server may have carried it out */
	bool follow_redirects; /* GET and HEAD only, at most 5, http and https only; neither credentials nor headers of one's own to another host */
};

struct http_response {
	int status;
	char *body; /* NUL-terminated; never NULL on success */
	size_t body_len;
	char *headers;          /* raw lines of the last response */
	int64_t content_length; /* -1 when not declared */
	char *effective_url;
};

/* Runs the request. Fails (transient, reason ConnectionFailed, TLSFailed, TimedOut, ...) when there was no complete HTTP answer; an
 * answer of any status is success here, but one that says that http was spoken at a port of https (HTTPStatus, permanent). A refused certificate (TLSFailed) is permanent, as is a refused address (AddressRefused), and the message says which (subject, issuer,
 * fingerprints) and why. Messages hold neither user, password nor query of a URL, and are valid UTF-8. */
int http_perform(struct http_client *client, const struct http_request *request, struct http_response *response, struct error **err);

/* As http_perform, but a status outside 200..299 is an error too: 404 not-found, 409 conflict, 410 gone, 408/429/5xx transient, the
 * rest permanent; code is the status; the message quotes the start of the body. */
int http_fetch(struct http_client *client, const struct http_request *request, struct http_response *response, struct error **err);

/* Whether the answer is of another URL than the one that was asked for. */
bool http_was_redirected(const char *url, const struct http_response *response);

/* The class of an answer's status, as http_fetch has it; of a success it means nothing. */
enum error_class http_status_class(int status);

/* The value of a header of the response (case-insensitive), as an owned string, or NULL. */
char *http_response_header(const struct http_response *response, const char *name);
void http_response_free(struct http_response *response); /* frees what it holds; accepts a zeroed struct */

#define AUTO_RESPONSE CLEANUP(http_response_free)
