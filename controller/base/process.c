#include "base/process.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static void set(struct metrics *m, enum metric_type type, const char *name, const char *help, double value)
{
	series_set(metric_with(metrics_add(m, type, name, NULL, help), NULL), value);
}

/* Descriptors that are open, but for the one that looks. */
static double open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *entry;
	double n = -1;

	if (!dir)
		return 0;
	while ((entry = readdir(dir)))
		n += entry->d_name[0] != '.';
	closedir(dir);
	return n;
}

/* Seconds since the epoch when the machine started; proc(5). */
static double boot_time(void)
{
	AUTO_FILE FILE *f = fopen("/proc/stat", "re");
	char line[256];
	double t;

	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "btime %lf", &t) == 1)
			return t;
	return 0;
}

/* Fields 14, 15, 20, 22, 23 and 24 of /proc/self/stat, counted from 1 (proc(5)); the second is the name in parentheses. */
static void set_stat(struct metrics *m)
{
	AUTO_FILE FILE *f = fopen("/proc/self/stat", "re");
	double user, kernel, threads, started, virtual, pages, ticks = (double)sysconf(_SC_CLK_TCK);
	char line[1024];
	const char *p = f && fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;

	if (!p || sscanf(p + 1, " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %lf %lf %*s %*s %*s %*s %lf %*s %lf %lf %lf", &user, &kernel,
			 &threads, &started, &virtual, &pages) != 6)
		return;
	set(m, METRIC_COUNTER, "process_cpu_seconds_total", "Processor time used, by the program and by the kernel for it",
	    (user + kernel) / ticks);
	set(m, METRIC_GAUGE, "process_resident_memory_bytes", "Memory that is in use and not swapped out",
	    pages * (double)sysconf(_SC_PAGESIZE));
	set(m, METRIC_GAUGE, "process_virtual_memory_bytes", "Size of the address space", virtual);
	set(m, METRIC_GAUGE, "process_threads", "Threads", threads);
	set(m, METRIC_GAUGE, "process_start_time_seconds", "When the process began, in seconds since the epoch",
	    boot_time() + started / ticks);
}

static void collect(void *arg)
{
	struct metrics *m = arg;
	struct rlimit files;

	set_stat(m);
	set(m, METRIC_GAUGE, "process_open_fds", "Open file descriptors", open_files());
	if (getrlimit(RLIMIT_NOFILE, &files) == 0)
		set(m, METRIC_GAUGE, "process_max_fds", "File descriptors that may be open", (double)files.rlim_cur);
}

void process_metrics(struct metrics *metrics)
{
	metrics_ask(metrics, collect, metrics);
}
