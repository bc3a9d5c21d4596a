/* Keystone, version 3: what is asked of it and what it grants. No I/O, no state.
 *
 * Source: OpenStack Identity API v3, "Authentication and token management" (passwords scoped to a project, application credentials) and
 * "Service catalog". Errors name the key of the Secret or the field of the spec that is to be changed. */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "base/error.h"

enum openstack_service { OPENSTACK_COMPUTE, OPENSTACK_VOLUME, OPENSTACK_IMAGE, OPENSTACK_NETWORK, OPENSTACK_SERVICES };

/* The URL of version 3 out of spec.endpoint, without a slash at its end: ".../v3". Owned. */
char *keystone_url(const char *endpoint, struct error **err);

/* The body of POST /auth/tokens out of the Secret: application_credential_id and application_credential_secret where they are there; else
 * username, password, project_name (or project_id) and domain_name (or user_domain_name and project_domain_name). It holds the password.
 * *who: for messages; owned. */
json_t *keystone_request(const json_t *secret, char **who, struct error **err);

struct keystone_grant {
	char *project;                  /* id */
	uint64_t life_ms;               /* from its issue to its end */
	char *urls[OPENSTACK_SERVICES]; /* of the API's version, without a slash at the end */
};

/* Out of the answer's body. region: spec.region; NULL or "": the only one there is. interface: public, internal or admin. */
int keystone_parse(const json_t *answer, const char *region, const char *interface, struct keystone_grant *grant, struct error **err);
void keystone_grant_clear(struct keystone_grant *grant);
