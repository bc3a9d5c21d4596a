/* A session with an OpenStack: a token, renewed before it ends and when it is refused, and requests to the services of one region.
 *
 * Thread-safe. Sources: OpenStack API references (Identity v3, Compute 2.1, Block Storage v3, Image v2, Network v2.0); API SIG guidelines
 * on microversions, pagination and errors. Answers are limited in size; what the caller believes of them is answer.h's. */
#pragma once

#include "net/http.h"
#include "source/openstack/keystone.h"
#include "source/source.h"

struct openstack_session;

/* object: the OpenstackSource. Logs in and asks for the microversions. */
struct openstack_session *openstack_session_open(const json_t *object, const json_t *secret, struct cancel *cancel, struct error **err);
void openstack_session_close(struct openstack_session *s); /* accepts NULL */
/* A new token, whether or not the old one is good; the catalogue is read again. */
int openstack_session_renew(struct openstack_session *s, struct cancel *cancel, struct error **err);

/* The bounds of spec.uploadImageRetryCount and spec.uploadImageRetryDelay: the longest pause between two looks at a state, and how long to look. */
unsigned openstack_pause_ms(const struct openstack_session *s);
uint64_t openstack_patience_ms(const struct openstack_session *s);
/* The minor microversion in use: of compute 2.x, of block storage 3.x. */
unsigned openstack_minor(const struct openstack_session *s, enum openstack_service service);

/* GET of a path below the service's URL: "/servers/…". Repeated when it fails for a passing reason. Errors: not-found; permanent with the
 * service's own words; reason Forbidden (403), BadRequest (400), QuotaExceeded (413, and 403 that says so); 409 is transient InvalidState. */
json_t *openstack_get(struct openstack_session *s, enum openstack_service service, struct cancel *cancel, struct error **err,
		      const char *path, ...) __attribute__((format(printf, 5, 6)));
/* All elements of a collection, page by page: a new array. path may have a query. key: where an answer has them. */
json_t *openstack_list(struct openstack_session *s, enum openstack_service service, const char *path, const char *key,
		       struct cancel *cancel, struct error **err);

struct openstack_deed {
	enum openstack_service service;
	const char *method, *path;
	const json_t *body;
	const char *content_type; /* NULL: application/json */
	bool lasting;    /* the service works on with our token after it has answered: a token with most of its life before it is used */
	char **location; /* the header's value, owned, or NULL; may be NULL */
};

/* Does something, once: it is repeated only when it surely was not done (no connection, token refused). Not cancellable, but bounded in
 * time, so that its outcome is known; *unknown is set when it is not. answer may be NULL; an empty body gives a JSON null. */
int openstack_do(struct openstack_session *s, const struct openstack_deed *deed, json_t **answer, bool *unknown, struct error **err);
/* DELETE of a path; one that is not there is success. */
int openstack_delete(struct openstack_session *s, enum openstack_service service, const char *path, struct error **err);

/* GETs a body into a sink: len bytes from byte `from` on, len 0: to the end (from 0 as well: no range is asked for). Not repeated, but for a
 * refused token. */
int openstack_stream(struct openstack_session *s, enum openstack_service service, const char *path, uint64_t from, uint64_t len,
		     http_begin begin, http_sink sink, void *arg, struct cancel *cancel, struct error **err);
/* "name:port" of the service. Owned, NULL when memory is out. */
char *openstack_host(struct openstack_session *s, enum openstack_service service);
