/* A file below a directory, opened to be served. Internal to web/; not thread-safe. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct image;

/* A regular file, found without following any link and without leaving the directory. A name that begins with a dot, the key's too, is
 * never served. NULL for whatever reason. */
struct image *image_open(int directory, const char *path);
void image_close(struct image *image); /* accepts NULL */

uint64_t image_size(const struct image *image);
/* A strong validator (RFC 9110, section 8.8.3), quotes included: another one when the file was written to. */
const char *image_etag(const struct image *image);
/* Up to len bytes at the offset, for which reading holes costs no disk. 0 behind the end, -1 on an error. */
ssize_t image_read(struct image *image, uint64_t offset, void *to, size_t len);
/* Tells the kernel what will be read. */
void image_advise(const struct image *image, uint64_t offset, uint64_t len);
