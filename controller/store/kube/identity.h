/* Who we are to an API server, and the connection that is made as that: tokens and certificates from files, which are read again when they
 * may have changed, or from an exec plugin, which is run again when what it gave expires or is refused. Thread-safe. Internal to store/kube. */
#pragma once

#include <stdbool.h>

#include "base/cancel.h"
#include "net/http.h"
#include "store/kube/kubeconfig.h"

struct identity;

/* What one request uses. */
struct identity_use {
	struct http_client *http;
	char *authorization; /* a header line, or NULL */
	unsigned generation; /* of the credentials; from 1 */
	struct link *link;
};

/* Copies what it needs; reads and runs nothing. */
struct identity *identity_new(const struct kube_config *config, struct error **err);
void identity_free(struct identity *id); /* when nothing is in use; accepts NULL */

/* Whether there may be newer credentials than those that were refused. */
bool identity_renews(const struct identity *id);
/* The credentials of now, after renewing them where that is due. refused: the generation that the server did not accept; 0: none. While what
 * is newer cannot be had, the last ones serve as long as they are valid. Other threads go on with those while one renews. */
int identity_use(struct identity *id, unsigned refused, struct cancel *cancel, struct identity_use *out, struct error **err);
void identity_release(struct identity *id, struct identity_use *use);
/* The connection could not be trusted: files are read again before the next use. */
void identity_doubt(struct identity *id);
unsigned identity_connections(struct identity *id); /* opened so far */
