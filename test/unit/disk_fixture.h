/* What tests of disks share: a directory, workers, other people's programs, content. */
#pragma once

#include <stdarg.h>

#include "disk/pipeline.h"
#include "scratch.h"

static struct disk_workers *workers;

/* Fixtures of all tests of a program. */
static inline int disks_begin(void **state)
{
	if (scratch_make(state) < 0)
		return -1;
	workers = disk_workers_new(2, NULL);
	return workers ? 0 : -1;
}

static inline int disks_end(void **state)
{
	disk_workers_free(workers);
	return scratch_remove(state);
}

/* A shell's command; its status. */
static inline int status_of(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline int status_of(const char *fmt, ...)
{
	AUTO_FREE char *command = NULL;
	va_list ap;

	va_start(ap, fmt);
	assert_true(vasprintf(&command, fmt, ap) > 0);
	va_end(ap);
	return system(command);
}

/* One that must succeed. */
#define run(...) assert_int_equal(status_of(__VA_ARGS__), 0)

/* A file's bytes, owned by the caller. */
static inline unsigned char *load(const char *path, size_t *len)
{
	FILE *f = fopen(path, "re");
	unsigned char *data;
	struct stat st;

	assert_true(f && fstat(fileno(f), &st) == 0);
	*len = (size_t)st.st_size;
	data = malloc(*len + 1);
	assert_int_equal(fread(data, 1, *len, f), *len);
	assert_int_equal(fclose(f), 0);
	return data;
}

/* Data of all sizes and holes of all sizes, the same each time, as a raw file and as bytes, owned by the caller. */
static inline unsigned char *make_disk(const char *raw, size_t len, unsigned seed)
{
	unsigned char *disk = calloc(1, len + 1);
	FILE *f = fopen(raw, "we");

	assert_true(disk && f);
	for (size_t at = 0; at < len;) {
		size_t n = (size_t)512 << rand_r(&seed) % 12, hole = (size_t)512 << rand_r(&seed) % 12;

		for (size_t i = at; i < at + n && i < len; i++)
			disk[i] = (unsigned char)(rand_r(&seed) >> 5);
		at += n + hole;
	}
	assert_int_equal(fwrite(disk, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	return disk;
}
