/* A directory of a test program, which is gone with all that is in it when the tests are done. */
#pragma once

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char directory[64];

static inline int scratch_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* Both are fixtures: of a test, or of all. */
static inline int scratch_make(void **state)
{
	(void)state;
	snprintf(directory, sizeof directory, "/tmp/%.40s.XXXXXX", program_invocation_short_name);
	return mkdtemp(directory) ? 0 : -1;
}

static inline int scratch_remove(void **state)
{
	(void)state;
	return nftw(directory, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The path of a file in it; owned by the caller. */
static inline char *file(const char *name)
{
	char *path = NULL;

	assert_true(asprintf(&path, "%s/%s", directory, name) > 0);
	return path;
}
