/* How Nova lays out a guest's CPUs. No I/O.
 *
 * Source: Nova, "CPU topologies" (hw:cpu_sockets, hw:cpu_cores, hw:cpu_threads and their hw:cpu_max_ forms in flavors; hw_cpu_… in images):
 * wishes of the flavor go before those of the image; of all layouts that give the number and keep the maxima, the one that fulfils
 * most wishes is taken, then the one with the most sockets and cores, then with the most sockets. */
#pragma once

#include <jansson.h>

/* vcpus: 1 to 4096. extra_specs and properties may be NULL. */
void openstack_topology(unsigned vcpus, const json_t *extra_specs, const json_t *properties, unsigned *sockets, unsigned *cores,
			unsigned *threads);
