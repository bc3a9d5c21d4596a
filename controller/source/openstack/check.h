/* Preflight: what stands in the way of importing a server. */
#pragma once

#include "api/vm_model.h"
#include "source/openstack/session.h"

/* What can be told without asking for more: the server's state, its volumes. No I/O. gathered: see openstack_gather, and "others" in it: an
 * object, id -> server, of the other servers that its shared volumes (multiattach) are attached to; one that is missing may be anything. */
void openstack_check_server(const json_t *gathered, const struct vm_model *m, json_t *problems);
/* What the quotas do not let us make. left: see quota.h; images: the answer to GET /v2/info/usage, or NULL. No I/O. */
struct quota_need;
void openstack_check_quota(const json_t *gathered, const struct vm_model *m, const struct quota_need *left, const json_t *images,
			   json_t *problems);
/* Both, asked of the cloud. */
int openstack_check(struct openstack_session *s, const struct vm_model *m, json_t *problems, struct cancel *cancel, struct error **err);
