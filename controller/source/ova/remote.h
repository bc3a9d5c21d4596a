/* The web server that an OVA lies on: files in pieces, and whether they are still the same.
 *
 * Sources: RFC 9110, sections 8.8 (validators) and 14 (range requests). Thread-safe. */
#pragma once

#include <jansson.h>

#include "net/http.h"
#include "source/source.h"

struct remote;

/* Of spec.url, spec.httpTimeoutSeconds and the Secret's username, password and ca.crt. */
struct remote *remote_new(const json_t *object, const json_t *secret, const struct source_options *options, struct error **err);
void remote_free(struct remote *remote); /* accepts NULL */
const char *remote_url(const struct remote *remote);
/* The URL for messages; owned, NULL when memory is out. */
char *remote_shown_url(const char *url);
/* The URL of a file beside the OVF: relative is a safe name (ovf_safe_name), escaped where it is needed. Owned, NULL when memory is out. */
char *remote_url_beside(const struct remote *remote, const char *relative);

/* By which a file is told from one that took its place. */
struct remote_version {
	char *etag, *modified; /* as the server writes them, or NULL */
	uint64_t size;         /* bytes; 0: not told */
	bool ranges;           /* the server answered a range request as one */
};
/* Transient SourceChanged when they are surely not of the same file. */
int remote_version_check(const struct remote_version *before, const struct remote_version *now, struct error **err);
void remote_version_clear(struct remote_version *version);

/* Whether the file can be had: HEAD, and a range of one byte where that is refused. */
int remote_probe(const struct remote *remote, struct cancel *cancel, struct error **err);

/* GETs bytes [from, from + len) of a file; len 0: to its end. The sink gets no byte of another place or version: a server that does not do
 * ranges is an error NoRanges unless from is 0 (then all of the file comes), another version transient SourceChanged (version may be NULL). got, if not
 * NULL, is filled before the sink is called. What the sink answers ends the request. */
int remote_fetch(const struct remote *remote, const char *url, uint64_t from, uint64_t len, const struct remote_version *version,
		 struct remote_version *got, source_sink sink, void *sink_arg, struct cancel *cancel, struct error **err);

/* How fast the file comes from this byte on, in bytes a second: reads at most len bytes (0: to its end) for about a second. */
int remote_sample(const struct remote *remote, const char *url, uint64_t from, uint64_t len, uint64_t *bytes_per_second,
		  struct cancel *cancel, struct error **err);

#define NO_RANGES "NoRanges"
