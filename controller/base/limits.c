#include "base/limits.h"

#include <inttypes.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

#define DEFAULT_ROOT "/sys/fs/cgroup"

/* The first line of DIR/NAME; false when there is none. */
static bool read_line(const char *dir, const char *name, char *line, size_t size)
{
	AUTO_FREE char *path = NULL;
	FILE *f;
	bool good;

	if (asprintf(&path, "%s/%s", dir, name) < 0) {
		path = NULL;
		return false;
	}
	if (!(f = fopen(path, "re")))
		return false;
	good = fgets(line, (int)size, f);
	fclose(f);
	return good;
}

static void lower_memory(struct limits *l, const char *dir, const char *name)
{
	char line[64];
	uint64_t bytes;

	/* "max" is no number; version 1 says 2^63 less a page where there is no limit. */
	if (read_line(dir, name, line, sizeof line) && sscanf(line, "%" SCNu64, &bytes) == 1 && bytes && bytes < l->memory)
		l->memory = bytes;
}

static void lower_cpus(struct limits *l, double quota, double period)
{
	if (quota > 0 && period > 0 && quota / period < l->cpus)
		l->cpus = quota / period;
}

static void read_directory(struct limits *l, const char *dir)
{
	double quota = 0, period = 0;
	char line[64];

	if (read_line(dir, "cpu.max", line, sizeof line) && sscanf(line, "%lf %lf", &quota, &period) == 2)
		lower_cpus(l, quota, period);
	if (read_line(dir, "cpu.cfs_quota_us", line, sizeof line) && sscanf(line, "%lf", &quota) == 1 &&
	    read_line(dir, "cpu.cfs_period_us", line, sizeof line) && sscanf(line, "%lf", &period) == 1)
		lower_cpus(l, quota, period);
	lower_memory(l, dir, "memory.max");
	lower_memory(l, dir, "memory.limit_in_bytes");
}

/* Reads the directory of a cgroup and those above it, as far as the root of the hierarchy. */
static void read_up(struct limits *l, const char *base, const char *cgroup)
{
	AUTO_FREE char *path = NULL;
	size_t root = strlen(base);
	char *slash;

	if (asprintf(&path, "%s%s", base, cgroup) < 0) {
		path = NULL;
		return;
	}
	for (;;) {
		read_directory(l, path);
		slash = strrchr(path, '/');
		if (!slash || (size_t)(slash - path) < root)
			return;
		*slash = '\0';
	}
}

struct limits limits_read(const char *root)
{
	const char *base = root ? root : DEFAULT_ROOT;
	struct limits l = { 0 };
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
	AUTO_FREE char *cpu = NULL, *memory = NULL;
	char line[512];
	cpu_set_t set;
	FILE *f;

	l.cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (double)sysconf(_SC_NPROCESSORS_ONLN);
	l.memory = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : UINT64_MAX;
	if (asprintf(&cpu, "%s/cpu", base) < 0)
		cpu = NULL;
	if (asprintf(&memory, "%s/memory", base) < 0)
		memory = NULL;
	read_directory(&l, base);
	if (cpu)
		read_directory(&l, cpu);
	if (memory)
		read_directory(&l, memory);

	/* "0::/kubepods/pod1" or "4:memory:/kubepods/pod1": only outside of containers is there such a directory. */
	f = root ? NULL : fopen("/proc/self/cgroup", "re");
	while (f && fgets(line, sizeof line, f)) {
		char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;

		line[strcspn(line, "\n")] = '\0';
		if (!path)
			continue;
		*path++ = '\0';
		controllers++;
		if (!*controllers)
			read_up(&l, base, path);
		else if (cpu && strstr(controllers, "cpu"))
			read_up(&l, cpu, path);
		else if (memory && strstr(controllers, "memory"))
			read_up(&l, memory, path);
	}
	if (f)
		fclose(f);
	return l;
}
