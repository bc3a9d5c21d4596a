/* A server (as OpenStack calls a virtual machine) and all that is known of it: found by name or UUID, gathered from four services. */
#pragma once

#include <jansson.h>

#include "source/openstack/session.h"

/* The server of this name or UUID: its id, owned. not-found VirtualMachineNotFound; permanent VirtualMachineAmbiguous, which lists them. */
char *openstack_find_server(struct openstack_session *s, const char *name, struct cancel *cancel, struct error **err);

/* What the model is made of:
 * {"server": GET /servers/{id},
 *  "flavor": vcpus, ram, disk, ephemeral, swap, extra_specs, original_name,
 *  "image": of the root disk, null when it boots from a volume or the image is gone,
 *  "volumes": [{"volume": GET /volumes/{id}, "device": "/dev/vdb" or null}] in the order of the attachments,
 *  "ports": GET /ports?device_id=, "networks": {id: name}} */
json_t *openstack_gather(struct openstack_session *s, const char *id, struct cancel *cancel, struct error **err);
/* The server alone. */
json_t *openstack_server(struct openstack_session *s, const char *id, struct cancel *cancel, struct error **err);
/* A regular expression for Nova's filter, which every engine of its databases understands and which the name matches; as part of a URL's
 * query. It may match others. Owned. */
char *openstack_name_filter(const char *name);
