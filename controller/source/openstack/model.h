/* A server as a vm_model. No I/O.
 *
 * Disks: the boot disk first, then as Nova names devices: ephemeral disk, swap disk, volumes by their device's letter. Their ids are
 * OPENSTACK_ROOT, OPENSTACK_EPHEMERAL, OPENSTACK_SWAP and the UUIDs of volumes. A volume of n GiB has a capacity of n times 2^30 bytes, a root
 * disk that is no volume that of the flavor (of its image, where the flavor has none).
 * NICs: in the order of the server's member "addresses", which Nova keeps in the order of its own list of ports, the one it gives the guest
 * its cards by, but network by network; ports without an address follow by the time of their making. (os-interface and Neutron tell them in any order.)
 *
 * Sources: Compute API, GET /servers/{id}; Glance, "Useful image properties" (hw_…, os_…); Nova, flavor extra specs. */
#pragma once

#include <jansson.h>

#include "api/vm_model.h"
#include "base/error.h"

#define OPENSTACK_ROOT "root"
#define OPENSTACK_EPHEMERAL "ephemeral"
#define OPENSTACK_SWAP "swap"

/* gathered: see openstack_gather. */
struct vm_model *openstack_model(const json_t *gathered, struct error **err);
enum vm_power openstack_power(const json_t *server);
/* Whether the root disk is a file of the hypervisor's and no volume. */
bool openstack_has_local_root(const json_t *server);
