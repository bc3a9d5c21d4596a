/* A tar archive on a web server, member by member, read by libarchive without being stored: where the server sends parts of a file, only the
 * parts that are wanted are fetched; where it does not, the file is read once from its beginning. Not thread-safe.
 *
 * Formats: ustar, pax, GNU. Refused (permanent InvalidArchive): names that are absolute or hold "..", links, devices, sparse members, two
 * members of one name. */
#pragma once

#include "source/ova/remote.h"

struct tape;

struct tape_member {
	char *name; /* safe (ovf_safe_name) */
	uint64_t size;
	uint64_t offset; /* in the archive, of its first byte */
};

/* Opens it; version is filled once the server has answered, and says whether it sends parts. */
struct tape *tape_open(const struct remote *remote, struct remote_version *version, struct cancel *cancel, struct error **err);
/* The same of bytes in memory, which stay the caller's: for tests. */
struct tape *tape_open_memory(const void *data, size_t len, struct error **err);
void tape_close(struct tape *tape); /* accepts NULL */

/* The start of the file, for whoever wants to know what it is: at most 512 bytes. */
const void *tape_start(const struct tape *tape, size_t *len);

/* 1: the next member, whose strings are the tape's until the next call; 0: the archive's end; -1. */
int tape_next(struct tape *tape, struct tape_member *member, struct error **err);
/* The member's bytes, all of them, through the sink. */
int tape_data(struct tape *tape, source_sink sink, void *arg, struct error **err);
/* The same into an owned, NUL-terminated buffer of at most max bytes. */
int tape_text(struct tape *tape, size_t max, char **text, size_t *len, struct error **err);

DEFINE_CLEANUP(struct tape, tape_close_p, tape_close)
#define AUTO_TAPE CLEANUP(tape_close_p)
