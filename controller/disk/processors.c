#include "disk/processors.h"

#include <limits.h>
#include <sched.h>
#include <string.h>

#include "base/cleanup.h"

/* Processors that one cgroup's directory allows, rounded up; UINT_MAX: no limit. */
static unsigned cgroup_limit(const char *directory)
{
	AUTO_FREE char *path = NULL;
	AUTO_FILE FILE *f = NULL;
	long long quota, period, n;

	if (asprintf(&path, "/sys/fs/cgroup%s/cpu.max", directory) < 0) {
		path = NULL;
		return UINT_MAX;
	}
	f = fopen(path, "re");
	if (!f || fscanf(f, "%lld %lld", &quota, &period) != 2 || quota <= 0 || period <= 0)
		return UINT_MAX;
	n = quota / period + (quota % period != 0);
	return n < UINT_MAX ? (unsigned)n : UINT_MAX;
}

/* The tightest limit of our cgroup (version 2) and those above it. In a container the file system's root is the container's own. */
static unsigned cgroups_limit(void)
{
	AUTO_FILE FILE *f = fopen("/proc/self/cgroup", "re");
	unsigned limit = cgroup_limit("");
	char line[4096], *slash;

	while (f && fgets(line, sizeof line, f)) {
		if (strncmp(line, "0::/", 4))
			continue;
		line[strcspn(line, "\n")] = 0;
		while ((slash = strrchr(line + 3, '/')) && slash[1]) {
			unsigned n = cgroup_limit(line + 3);

			limit = n < limit ? n : limit;
			*slash = 0;
			if (slash == line + 3)
				break;
		}
	}
	return limit;
}

unsigned processors_usable(void)
{
	unsigned limit = cgroups_limit(), n = 1;
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof set, &set) == 0)
		n = (unsigned)CPU_COUNT(&set);
	n = limit < n ? limit : n;
	return n ? n : 1;
}

unsigned processors_default(void)
{
	unsigned n = processors_usable();

	return n < PROCESSORS_DEFAULT_MAX ? n : PROCESSORS_DEFAULT_MAX;
}
