#include "disk/input.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

struct disk_input {
	char *name;
	uint64_t size;
	const struct disk_input_ops *ops;
	void *arg;
};

struct disk_input *disk_input_new(const char *name, uint64_t size, const struct disk_input_ops *ops, void *arg, struct error **err)
{
	struct disk_input *in = calloc(1, sizeof *in);

	if (in && (in->name = strdup(name))) {
		in->size = size;
		in->ops = ops;
		in->arg = arg;
		return in;
	}
	free(in);
	if (ops->close)
		ops->close(arg);
	error_set_errno(err, ENOMEM, "cannot read %s", name);
	return NULL;
}

void disk_input_close(struct disk_input *in)
{
	if (!in)
		return;
	if (in->ops->close)
		in->ops->close(in->arg);
	free(in->name);
	free(in);
}

void disk_input_share_ahead(struct disk_input *in, const _Atomic size_t *most)
{
	if (in->ops->share_ahead)
		in->ops->share_ahead(in->arg, most);
}

const char *disk_input_name(const struct disk_input *in)
{
	return in->name;
}

uint64_t disk_input_size(const struct disk_input *in)
{
	return in->size;
}

int disk_input_read(struct disk_input *in, uint64_t offset, void *data, size_t len, struct error **err)
{
	if (offset > in->size || len > in->size - offset)
		return error_set(err, ERROR_PERMANENT, "FileTruncated",
				 "%s has %llu bytes, but %zu bytes at byte %llu are needed: it is not complete, or damaged", in->name,
				 (unsigned long long)in->size, len, (unsigned long long)offset);
	return len ? in->ops->read(in->arg, offset, data, len, err) : 0;
}

int disk_input_finish(struct disk_input *in, struct error **err)
{
	return in->ops->finish ? in->ops->finish(in->arg, err) : 0;
}

void disk_input_next_data(struct disk_input *in, uint64_t at, uint64_t *from, uint64_t *to)
{
	*from = at < in->size ? at : in->size;
	*to = in->size;
	if (*from == *to || !in->ops->next_data)
		return;
	in->ops->next_data(in->arg, at, from, to);
	if (*from < at || *to > in->size || *from > *to || (*from == *to && *from < in->size)) { /* nonsense */
		*from = at;
		*to = in->size;
	}
}

/* A local file. */
struct local {
	int fd;
	char *name;
	uint64_t size;
	bool regular;
	struct timespec modified;
};

static int local_read(void *arg, uint64_t offset, void *data, size_t len, struct error **err)
{
	const struct local *local = arg;
	unsigned char *to = data;

	while (len) {
		ssize_t n = pread(local->fd, to, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set_errno(err, errno, "cannot read %zu bytes at byte %llu of %s", len, (unsigned long long)offset,
					       local->name);
		if (!n)
			return error_set(err, ERROR_TRANSIENT, "ShortRead", "%s ended at byte %llu while it was read", local->name,
					 (unsigned long long)offset);
		to += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static void local_next_data(void *arg, uint64_t at, uint64_t *from, uint64_t *to)
{
	const struct local *local = arg;
	off_t data = lseek(local->fd, (off_t)at, SEEK_DATA), hole;

	struct stat st;

	/* Where there is no data any more there are zeros, unless the file was cut since: reading it tells. */
	if (data < 0 && errno == ENXIO && fstat(local->fd, &st) == 0 && (uint64_t)st.st_size >= local->size)
		*from = *to = local->size;
	if (data < 0) /* else a file system or device that cannot tell */
		return;
	hole = lseek(local->fd, data, SEEK_HOLE);
	/* While somebody changes the file, what is told may be odd. */
	*from = (uint64_t)data < at ? at : (uint64_t)data < local->size ? (uint64_t)data : local->size;
	*to = hole > data && (uint64_t)hole > *from && (uint64_t)hole < local->size ? (uint64_t)hole : local->size;
}

/* A device does not tell. */
static int local_finish(void *arg, struct error **err)
{
	const struct local *local = arg;
	struct stat st;

	if (!local->regular)
		return 0;
	if (fstat(local->fd, &st) < 0)
		return error_set_errno(err, errno, "cannot read %s", local->name);
	if ((uint64_t)st.st_size == local->size && st.st_mtim.tv_sec == local->modified.tv_sec &&
	    st.st_mtim.tv_nsec == local->modified.tv_nsec)
		return 0;
	return error_set(
		err, ERROR_TRANSIENT, "InputChanged",
		"%s was changed while it was read: what came of it is no disk that there ever was; read it while nobody writes to it",
		local->name);
}

static void local_close(void *arg)
{
	struct local *local = arg;

	close(local->fd);
	free(local->name);
	free(local);
}

static int size_of(int fd, const char *name, struct stat *st, uint64_t *size, struct error **err)
{
	if (fstat(fd, st) < 0)
		return error_set_errno(err, errno, "cannot read %s", name);
	if (S_ISBLK(st->st_mode))
		return ioctl(fd, BLKGETSIZE64, size) < 0 ? error_set_errno(err, errno, "cannot tell the size of %s", name) : 0;
	if (!S_ISREG(st->st_mode))
		return error_set(err, ERROR_PERMANENT, "NotADisk", "%s is neither a file nor a block device", name);
	*size = (uint64_t)st->st_size;
	return 0;
}

struct disk_input *disk_input_of_descriptor(int fd, const char *name, struct error **err)
{
	static const struct disk_input_ops ops = {
		.read = local_read, .next_data = local_next_data, .finish = local_finish, .close = local_close
	};
	AUTO_FD int owned = fd;
	struct local *local;
	uint64_t size = 0;
	struct stat st;

	if (size_of(fd, name, &st, &size, err) < 0)
		return NULL;
	local = calloc(1, sizeof *local);
	if (!local || !(local->name = strdup(name))) {
		free(local);
		error_set_errno(err, ENOMEM, "cannot read %s", name);
		return NULL;
	}
	local->fd = move_fd(&owned);
	local->size = size;
	local->regular = S_ISREG(st.st_mode);
	local->modified = st.st_mtim;
	return disk_input_new(name, size, &ops, local, err);
}

struct disk_input *disk_input_open(const char *path, struct error **err)
{
	/* A pipe without a writer would hold up the open for ever. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd >= 0)
		return disk_input_of_descriptor(fd, path, err);
	error_set_errno(err, errno, "cannot open %s", path);
	return NULL;
}

struct disk_directory {
	int fd;
	char *path; /* absolute, without links */
};

struct disk_directory *disk_directory_open(const char *path, struct error **err)
{
	struct disk_directory *d = calloc(1, sizeof *d);

	if (!d) {
		error_set_errno(err, ENOMEM, "cannot open the directory %s", path);
		return NULL;
	}
	d->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->fd >= 0 && (d->path = realpath(path, NULL)))
		return d;
	error_set_errno(err, errno, "cannot open the directory %s", path);
	disk_directory_close(d);
	return NULL;
}

void disk_directory_close(struct disk_directory *d)
{
	if (!d)
		return;
	if (d->fd >= 0)
		close(d->fd);
	free(d->path);
	free(d);
}

static struct disk_input *directory_open(void *arg, const char *name, struct error **err)
{
	struct disk_directory *d = arg;
	size_t prefix = strlen(d->path);
	const char *plain = name;
	AUTO_FREE char *path = NULL;
	int fd;

	if (!strncmp(name, d->path, prefix) && name[prefix] == '/')
		plain = name + prefix + 1;
	if (!*plain || strchr(plain, '/') || strchr(plain, '\\') || !strcmp(plain, ".") || !strcmp(plain, "..")) {
		error_set(err, ERROR_PERMANENT, "NameRefused",
			  "the image names the file \"%s\", which is not one of the directory %s: only files beside the image are read",
			  name, d->path);
		return NULL;
	}
	if (asprintf(&path, "%s/%s", d->path, plain) < 0) {
		path = NULL;
		error_set_errno(err, ENOMEM, "cannot open %s", plain);
		return NULL;
	}
	fd = openat(d->fd, plain, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd >= 0)
		return disk_input_of_descriptor(fd, path, err);
	if (errno == ELOOP)
		error_set(err, ERROR_PERMANENT, "NameRefused",
			  "the image names the file %s, which is a symbolic link: only files beside the image are read", path);
	else
		error_set_errno(err, errno, "cannot open %s, which the image names", path);
	return NULL;
}

struct disk_set disk_directory_set(struct disk_directory *d)
{
	return (struct disk_set){ .open = directory_open, .arg = d };
}
