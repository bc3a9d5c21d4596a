/* The web server (libwebsockets, a thread of its own): disk images under signed URLs with HEAD, GET and ranges; /healthz, /readyz,
 * /metrics. There is no listing; what is not there, not signed, no regular file or hidden (a name that begins with a dot) is the same 404.
 *
 * HTTP as of RFC 9110: one range a request (several are answered with the whole), ETag and If-Range, 416 and 405. At most 200 connections;
 * a client that reads nothing for 300 s is dropped. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct web;

struct web_options {
	const char *bind;      /* an IPv4 or IPv6 address or an interface; NULL: all addresses of both */
	int port;              /* 0: a free one (web_port tells) */
	const char *root;      /* the scratch directory; only files that a signed URL names below it are served, links never followed */
	const char *advertise; /* host (or host:port) put in URLs: SVC_ADDRESS. Without a port the server's own is added. */
	/* PEM files with a certificate (its chain behind it) and its key: then all is served by HTTPS, TLS 1.2 or newer. Both or neither. They
	 * are looked at again every tls_reload_ms (0: 30 s), and a new pair holds for new connections. */
	const char *certificate, *key;
	unsigned tls_reload_ms;
	/* What /healthz and /readyz complain of (NULL: nothing), and the text of /metrics; freed with free. May be NULL. Called on the
	 * server's thread: they must not block. */
	char *(*sick)(void *arg);
	char *(*unready)(void *arg);
	char *(*metrics)(void *arg);
	void *arg;
};

/* Starts it. The signing key is kept in <root>/.image-key (mode 0600), so that URLs stay valid over a restart. */
struct web *web_start(const struct web_options *options, struct error **err);
int web_port(const struct web *web);
/* The URL of the file at the relative path below root: http(s)://HOST:PORT/images/<signature>/<path>. Owned by the caller. */
char *web_url(const struct web *web, const char *path, struct error **err);
/* What tells the scratch directory from others: two servers with the same one make and accept the same URLs. */
#define WEB_SCRATCH_ID_SIZE 17
int web_scratch_id(const struct web *web, char out[WEB_SCRATCH_ID_SIZE]);
/* Ends serving, keeps the rest: no callback is called any more. URLs can still be made. Accepts NULL. */
void web_silence(struct web *web);
/* Ends within a second: what is being downloaded is cut off. Accepts NULL. */
void web_stop(struct web *web);
