#include "web/image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/cleanup.h"

struct image {
	int fd;
	uint64_t size;
	char etag[64];
	/* What is known of the file's map: a hole from hole to data, data from there to data_end. */
	uint64_t hole, data, data_end;
};

static bool has_hidden_part(const char *path)
{
	return path[0] == '.' || strstr(path, "/.");
}

struct image *image_open(int directory, const char *path)
{
	struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS };
	AUTO_FD int fd = has_hidden_part(path) ? -1 : (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
	struct image *image;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < 0)
		return NULL;
	image = calloc(1, sizeof *image);
	if (!image)
		return NULL;
	image->fd = move_fd(&fd);
	image->size = (uint64_t)st.st_size;
	snprintf(image->etag, sizeof image->etag, "\"%llx-%llx-%llx.%lx\"", (unsigned long long)st.st_ino, (unsigned long long)st.st_size,
		 (unsigned long long)st.st_mtim.tv_sec, (unsigned long)st.st_mtim.tv_nsec);
	return image;
}

void image_close(struct image *image)
{
	if (!image)
		return;
	close(image->fd);
	free(image);
}

uint64_t image_size(const struct image *image)
{
	return image->size;
}

const char *image_etag(const struct image *image)
{
	return image->etag;
}

/* Looks where the data at or behind the offset begins and ends. */
static void look(struct image *image, uint64_t offset)
{
	off_t data = lseek(image->fd, (off_t)offset, SEEK_DATA), end = -1;

	image->hole = offset;
	if (data >= 0) {
		image->data = (uint64_t)data;
		end = lseek(image->fd, data, SEEK_HOLE);
	} else { /* ENXIO: a hole up to the end; otherwise a file system that knows no holes: all is data */
		image->data = errno == ENXIO ? UINT64_MAX : offset;
	}
	image->data_end = end < 0 ? UINT64_MAX : (uint64_t)end;
}

ssize_t image_read(struct image *image, uint64_t offset, void *to, size_t len)
{
	struct stat st;

	if (offset < image->hole || offset >= image->data_end)
		look(image, offset);
	if (offset >= image->data)
		return pread(image->fd, to, len, (off_t)offset);
	/* The end may have moved since; nothing is made up behind it. */
	if (fstat(image->fd, &st) < 0)
		return -1;
	if (st.st_size < 0 || offset >= (uint64_t)st.st_size)
		return 0;
	if (len > (uint64_t)st.st_size - offset)
		len = (size_t)((uint64_t)st.st_size - offset);
	if (len > image->data - offset)
		len = (size_t)(image->data - offset);
	memset(to, 0, len);
	return (ssize_t)len;
}

void image_advise(const struct image *image, uint64_t offset, uint64_t len)
{
	posix_fadvise(image->fd, (off_t)offset, (off_t)len, POSIX_FADV_SEQUENTIAL);
}
