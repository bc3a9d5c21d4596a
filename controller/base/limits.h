/* What the process may use: the limits of its cgroup (versions 1 and 2), as containers have them, or the machine's. */
#pragma once

#include <stdint.h>

struct limits {
	double cpus;     /* processors' worth of time, e.g. 0.5 */
	uint64_t memory; /* bytes */
};

/* Never fails: what cannot be read is the machine's. root is where cgroups are mounted: NULL is /sys/fs/cgroup. In a container the
 * process's own cgroup is the root of what it sees; outside, the limits of all the cgroups above it hold too, and the least is told.
 * Facts: cpu.max, memory.max (Control Group v2, kernel documentation), cpu.cfs_quota_us, memory.limit_in_bytes (v1). */
struct limits limits_read(const char *root);
