/* I/O past the page cache: a copy less for each byte, and what is in the cache stays there. Internal to disk/. */
#pragma once

#include <stdint.h>

#define DIRECT_ALIGN 4096u /* of memory, offset and length: what all devices and file systems take that take any */

/* A second descriptor of the open file or device, with O_DIRECT; -1 where there is no such thing (some file systems) or the path means
 * another file by now. flags: O_RDONLY or O_RDWR. */
int direct_reopen(int fd, const char *path, int flags);
void *direct_buffer(uint64_t size); /* aligned; NULL when memory is out; to be freed with free */
