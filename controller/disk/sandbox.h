/* A program that reads what we do not trust: started so that it can do nothing but compute. Internal to disk/.
 *
 * It has its arguments, the descriptors that it is given, and
 *  - limits on memory, on processor time and on descriptors; the size of any file that it may write is zero;
 *  - no privileges that it could gain (no_new_privs), no core dump, no environment;
 *  - no network: a namespace of its own where that is allowed, and in any case (x86-64, arm64) a seccomp filter that refuses sockets, the
 *    opening of files for anything but reading, and whatever changes files, other processes or the system;
 *  - no files but those of the system's programs and libraries, where the kernel has Landlock (5.13).
 * It dies when the thread that started it does.
 * Sources: seccomp(2), landlock(7), getrlimit(2), prctl(2), close_range(2). */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cancel.h"
#include "base/error.h"

struct sandbox_options {
	const char *program;    /* a name to be looked for in PATH */
	char *const *arguments; /* from argv[0], ended by NULL */
	const int *descriptors; /* the program's 3, 4 ... */
	size_t descriptor_count;
	uint64_t memory;  /* bytes of address space */
	unsigned seconds; /* of processor time */
	int output;       /* becomes its standard output; -1: none */
};

struct sandbox;

/* The path of a program that PATH has; NULL when there is none. Owned by the caller. */
char *sandbox_find(const char *program);
/* Starts it. not-found when PATH has no such program. */
struct sandbox *sandbox_start(const struct sandbox_options *options, struct error **err);
/* Kills it, if it still runs; sandbox_end is still to be called. */
void sandbox_kill(struct sandbox *s);
/* Waits for its end, which has to come within a minute or before cancel (may be NULL) is requested, else it is killed; and frees it. Fails
 * when it failed, with the last of what it said on standard error. */
int sandbox_end(struct sandbox *s, struct cancel *cancel, struct error **err);
