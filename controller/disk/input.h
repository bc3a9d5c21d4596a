/* Bytes that can be read at any place: a file, a block device, or what a source serves by ranges; and the set of files that belong
 * together, outside of which nothing is ever opened. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct disk_input;

/* How a source gives what it can read at any place. One thread at a time uses an input; different inputs may be used at once. */
struct disk_input_ops {
	/* Reads exactly len bytes at offset, which lie within the size. Most reads ascend, with small ones (tables, up to 16 KiB) between
	 * those of data (up to 1 MiB): what has a latency does well to fetch ahead. */
	int (*read)(void *arg, uint64_t offset, void *data, size_t len, struct error **err);
	/* Where the next data at or after `at` lies, as [*from, *to); *from is the size when there is none. What is between is zero. NULL: it
	 * cannot be told. */
	void (*next_data)(void *arg, uint64_t at, uint64_t *from, uint64_t *to);
	/* All that was needed has been read: was it right, where only the end shows that (a checksum, a file that was changed meanwhile)?
	 * May be NULL. */
	int (*finish)(void *arg, struct error **err);
	void (*share_ahead)(void *arg, const _Atomic size_t *most); /* disk_input_share_ahead; may be NULL */
	void (*close)(void *arg);                                   /* may be NULL */
};

/* name is what errors call it; copied. arg is closed with the input, and when this fails. */
struct disk_input *disk_input_new(const char *name, uint64_t size, const struct disk_input_ops *ops, void *arg, struct error **err);
/* A regular file or block device that a user named: it may be a symbolic link. */
struct disk_input *disk_input_open(const char *path, struct error **err);
/* The same of an open descriptor, which becomes the input's, also on failure. */
struct disk_input *disk_input_of_descriptor(int fd, const char *name, struct error **err);
/* What is read ahead of data, and kept in memory, in bytes: by all disks that are written at once together, and by all layers of each
 * (disk_input_share_ahead). */
#define DISK_INPUT_AHEAD ((size_t)2 << 20)

/* One whose bytes come from afar: reads are served from two windows, of tables (64 KiB) and of data, which are fetched as a whole, so that
 * what is read in order costs few requests. What is longer than a window is fetched as it is asked for. fetch gets exactly len bytes at offset, which lie within the size. */
struct disk_fetch_ops {
	int (*fetch)(void *arg, uint64_t offset, void *data, size_t len, struct error **err);
	int (*finish)(void *arg, struct error **err); /* as that of disk_input_ops; may be NULL */
	void (*close)(void *arg);                     /* may be NULL */
};
struct disk_input *disk_input_fetched(const char *name, uint64_t size, const struct disk_fetch_ops *ops, void *arg, struct error **err);
void disk_input_close(struct disk_input *in); /* accepts NULL */
/* Reads ahead no more than this is at that time; it must outlive the input. DISK_INPUT_AHEAD until this is called. */
void disk_input_share_ahead(struct disk_input *in, const _Atomic size_t *most);

const char *disk_input_name(const struct disk_input *in);
uint64_t disk_input_size(const struct disk_input *in); /* bytes */
/* Beyond the end is an error (permanent, FileTruncated) that names the file, the place and what is missing. */
int disk_input_read(struct disk_input *in, uint64_t offset, void *data, size_t len, struct error **err);
/* After the last read; what was read counts only when this succeeds. */
int disk_input_finish(struct disk_input *in, struct error **err);
/* As next_data of the ops; all is data where it cannot be told. */
void disk_input_next_data(struct disk_input *in, uint64_t at, uint64_t *from, uint64_t *to);

/* The files that an image may name: its extents, its parents. Whoever gives the set decides what a name may mean; an image never opens
 * anything by itself. */
struct disk_set {
	/* The file of this name, as the image has it; not-found, or permanent (NameRefused), when the set has none. */
	struct disk_input *(*open)(void *arg, const char *name, struct error **err);
	void *arg;
};

/* The files of one directory, not of those below it: a name with a slash is refused, unless it is this directory's own absolute path and a
 * plain name. Symbolic links, and what is neither a file nor a block device, are refused. */
struct disk_directory;
struct disk_directory *disk_directory_open(const char *path, struct error **err);
void disk_directory_close(struct disk_directory *d); /* accepts NULL */
struct disk_set disk_directory_set(struct disk_directory *d);
