#include "disk/output.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "disk/direct.h"
#include "disk/qcow2_writer.h"

#define DIRECT_MIN (32u << 10) /* shorter runs go through the cache */
/* Writeback is started this often, and what lies so far behind leaves the page cache: a long copy must not push out everything else. */
#define WINDOW (UINT64_C(32) << 20)
#define KEEP_CACHED (UINT64_C(256) << 20)
#define ZERO_STEP (UINT64_C(64) << 20) /* between looks at the cancellation */

struct disk_output {
	char *path; /* NULL: nothing is written */
	int fd;
	_Atomic int direct; /* the same with O_DIRECT; -1: there is none */
	int direct_owned;
	bool device;
	uint64_t kept;              /* bytes from the start that an earlier try wrote */
	struct qcow2_writer *qcow2; /* NULL: raw */
	uint64_t dirty;             /* before this, it may hold something other than zeros where nothing was written yet */
	bool punches;               /* holes can be made, and read as zeros */
	int lost;                   /* errno of a sync that failed; 0: none did */
	atomic_bool cached;         /* something went through the page cache since writeback was last started */
	uint64_t flushed;           /* up to where writeback was started */
};

static int open_device(struct disk_output *o, uint64_t kept, struct error **err)
{
	/* In use by a mounted file system or another program: EBUSY. */
	o->fd = open(o->path, O_RDWR | O_CLOEXEC | O_EXCL);
	if (o->fd < 0 && errno == EBUSY)
		return error_set_code(err, ERROR_PERMANENT, "DeviceBusy", EBUSY,
				      "the device %s is in use (mounted, or opened by a program)", o->path);
	if (o->fd < 0)
		return error_set_errno(err, errno, "cannot open the device %s", o->path);
	o->device = true;
	o->kept = kept;
	o->dirty = UINT64_MAX;
	return 0;
}

static int open_file(struct disk_output *o, uint64_t kept, struct error **err)
{
	struct stat st;

	o->fd = open(o->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (o->fd < 0 || fstat(o->fd, &st) < 0)
		return error_set_errno(err, errno, "cannot create %s", o->path);
	if (!S_ISREG(st.st_mode))
		return error_set(err, ERROR_PERMANENT, "NotADisk", "%s is neither a file nor a block device", o->path);
	/* Cut first, so that all behind is a hole. */
	if (ftruncate(o->fd, kept < (uint64_t)st.st_size ? (off_t)kept : st.st_size) < 0)
		return error_set_errno(err, errno, "cannot create %s", o->path);
	o->dirty = kept;
	o->punches = true;
	return 0;
}

static int open_qcow2(struct disk_output *o, struct error **err)
{
	struct stat st;

	if (stat(o->path, &st) == 0 && !S_ISREG(st.st_mode))
		return error_set(err, ERROR_PERMANENT, "NotAFile", "%s is no file, and a qcow2 image is written to one only", o->path);
	if (open_file(o, 0, err) < 0 || !(o->qcow2 = qcow2_writer_new(o->fd, o->path, err)))
		return -1;
	return 0;
}

struct disk_output *output_open(const char *path, bool qcow2, uint64_t kept, struct error **err)
{
	struct disk_output *o = calloc(1, sizeof *o);
	struct stat st;
	bool device;

	if (!o || (path && !(o->path = strdup(path)))) {
		free(o);
		error_set_errno(err, ENOMEM, "cannot write %s", path ? path : "the disk");
		return NULL;
	}
	o->fd = o->direct_owned = -1;
	if (!path)
		return o;
	device = stat(path, &st) == 0 && S_ISBLK(st.st_mode);
	if ((qcow2 ? open_qcow2(o, err) : device ? open_device(o, kept, err) : open_file(o, kept, err)) < 0) {
		output_close(o);
		return NULL;
	}
	o->direct_owned = direct_reopen(o->fd, path, O_RDWR);
	atomic_init(&o->direct, o->direct_owned);
	return o;
}

void output_close(struct disk_output *o)
{
	if (!o)
		return;
	if (o->direct_owned >= 0)
		close(o->direct_owned);
	if (o->fd >= 0)
		close(o->fd);
	qcow2_writer_free(o->qcow2);
	free(o->path);
	free(o);
}

static int write_failed(const struct disk_output *o, int error, size_t len, uint64_t at, struct error **err)
{
	if (error == ENOSPC || error == EDQUOT)
		return error_set_code(err, ERROR_TRANSIENT, "NoSpace", error, "cannot write %zu bytes at %llu of %s: %s; make room there",
				      len, (unsigned long long)at, o->path, strerror(error));
	return error_set_errno(err, error, "cannot write %zu bytes at %llu of %s", len, (unsigned long long)at, o->path);
}

static int write_cached(struct disk_output *o, const unsigned char *data, size_t len, uint64_t at, struct error **err)
{
	o->cached = true;
	while (len) {
		ssize_t n = pwrite(o->fd, data, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return write_failed(o, n < 0 ? errno : EIO, len, at, err);
		data += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* On a device without holes: the kernel's way, which the device may do by itself. */
static int zero_range(struct disk_output *o, uint64_t from, uint64_t len, struct error **err)
{
	static const unsigned char zeros[DIRECT_ALIGN];
	uint64_t range[2] = { from, len };

	if (o->punches && fallocate(o->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)len) == 0)
		return 0;
	if (o->device && !((from | len) % 512) && ioctl(o->fd, BLKZEROOUT, range) == 0)
		return 0;
	while (len) {
		size_t n = len < sizeof zeros ? (size_t)len : sizeof zeros;

		if (write_cached(o, zeros, n, from, err) < 0)
			return -1;
		from += n;
		len -= n;
	}
	return 0;
}

static int zero(struct disk_output *o, uint64_t from, uint64_t to, struct cancel *cancel, struct error **err)
{
	while (from < to) {
		uint64_t len = to - from < ZERO_STEP ? to - from : ZERO_STEP;

		if (cancel_check(cancel, err) < 0 || zero_range(o, from, len, err) < 0)
			return -1;
		from += len;
	}
	return 0;
}

int output_set_size(struct disk_output *o, uint64_t size, bool written, struct error **err)
{
	uint64_t there = 0;

	if (!o->path)
		return 0;
	if (o->qcow2)
		return qcow2_writer_check(size, err);
	if (!o->device)
		return ftruncate(o->fd, (off_t)size) < 0
			       ? error_set_errno(err, errno, "cannot make %s %llu bytes long", o->path, (unsigned long long)size)
			       : 0;
	if (ioctl(o->fd, BLKGETSIZE64, &there) < 0)
		return error_set_errno(err, errno, "cannot tell the size of %s", o->path);
	if (there < size)
		return error_set(err, ERROR_PERMANENT, "DeviceTooSmall",
				 "the device %s has %llu bytes, the disk %llu: %llu bytes are missing", o->path, (unsigned long long)there,
				 (unsigned long long)size, (unsigned long long)(size - there));
	/* Holes on a device are zeros for certain, or refused: PUNCH_HOLE is BLKDEV_ZERO_NOFALLBACK there. Tried with all that will be
	 * written, which on most storage costs less than doing it piece by piece. */
	uint64_t end = size / DIRECT_ALIGN * DIRECT_ALIGN;
	if (!written && o->kept < end &&
	    fallocate(o->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)o->kept, (off_t)(end - o->kept)) == 0) {
		o->punches = true;
		o->dirty = o->kept;
		return zero(o, end, size, NULL, err); /* a sector or a few */
	}
	return 0;
}

bool output_needs_zeros(const struct disk_output *o, uint64_t at)
{
	return at < o->dirty;
}

static int write_run(struct disk_output *o, const unsigned char *data, size_t len, uint64_t at, struct error **err)
{
	bool aligned = !(((uintptr_t)data | at) % DIRECT_ALIGN);
	size_t direct = aligned && len >= DIRECT_MIN ? len / DIRECT_ALIGN * DIRECT_ALIGN : 0;

	while (direct && o->direct >= 0) {
		ssize_t n = pwrite(o->direct, data, direct, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EINVAL) { /* not taken here after all */
			o->direct = -1;
			break;
		}
		if (n <= 0)
			return write_failed(o, n < 0 ? errno : EIO, len, at, err);
		data += n;
		at += (uint64_t)n;
		len -= (size_t)n;
		/* A part, as on a disk that is full: the cache's way says what is the matter. */
		direct = n % DIRECT_ALIGN ? 0 : direct - (size_t)n;
	}
	return write_cached(o, data, len, at, err);
}

static bool cluster_has_data(const struct digest_map *map, size_t cluster)
{
	size_t steps = QCOW2_CLUSTER / DIGEST_STEP, first = cluster * steps;

	return map->data[first / 64] >> (first % 64) & ((UINT64_C(1) << steps) - 1);
}

/* Clusters that got a place together lie side by side, so that a long run of data is one write here, too. */
static int write_clusters(struct disk_output *o, const unsigned char *block, size_t len, uint64_t at, const struct digest_map *map,
			  struct error **err)
{
	uint64_t host[QCOW2_CLUSTERS];
	uint16_t wanted = 0;

	for (size_t i = 0; i < QCOW2_CLUSTERS; i++)
		wanted |= (uint16_t)(cluster_has_data(map, i) << i);
	if (qcow2_writer_place(o->qcow2, at / DISK_DIGEST_BLOCK, wanted, host, err) < 0)
		return -1;
	for (size_t from = 0, to; from < len; from = to) {
		uint64_t there = host[from / QCOW2_CLUSTER] + from % QCOW2_CLUSTER;

		to = from + DIGEST_STEP;
		if (!digest_map_has(map, from / DIGEST_STEP))
			continue;
		while (to < len && digest_map_has(map, to / DIGEST_STEP) &&
		       host[to / QCOW2_CLUSTER] + to % QCOW2_CLUSTER == there + (to - from))
			to += DIGEST_STEP;
		to = to < len ? to : len;
		if (write_run(o, block + from, to - from, there, err) < 0)
			return -1;
	}
	return 0;
}

int output_write_block(struct disk_output *o, const unsigned char *block, size_t len, uint64_t at, const struct digest_map *map, bool whole,
		       struct error **err)
{
	if (!o->path)
		return 0;
	if (o->qcow2)
		return write_clusters(o, block, len, at, map, err);

	bool zeros = whole && at < o->dirty;

	if (zeros && o->punches && zero(o, at, at + len, NULL, err) < 0)
		return -1;
	for (size_t from = 0; from < len;) {
		bool data = digest_map_has(map, from / DIGEST_STEP);
		size_t to = from + DIGEST_STEP;

		while (to < len && digest_map_has(map, to / DIGEST_STEP) == data)
			to += DIGEST_STEP;
		to = to < len ? to : len;
		if ((data || (zeros && !o->punches)) && write_run(o, block + from, to - from, at + from, err) < 0)
			return -1;
		from = to;
	}
	return 0;
}

int output_zero_unknown(struct disk_output *o, uint64_t from, uint64_t to, struct cancel *cancel, struct error **err)
{
	return zero(o, from, to < o->dirty ? to : o->dirty, cancel, err);
}

void output_passed(struct disk_output *o, uint64_t end)
{
	if (!o->path)
		return;
	if (o->qcow2)
		end = qcow2_writer_end(o->qcow2);
	if (end < o->flushed || end - o->flushed < WINDOW)
		return;
	if (atomic_exchange(&o->cached, false)) {
		sync_file_range(o->fd, (off_t)o->flushed, (off_t)(end - o->flushed), SYNC_FILE_RANGE_WRITE);
		if (o->flushed > KEEP_CACHED)
			posix_fadvise(o->fd, 0, (off_t)(o->flushed - KEEP_CACHED), POSIX_FADV_DONTNEED);
	}
	o->flushed = end;
}

int output_sync(struct disk_output *o, struct error **err)
{
	/* The kernel tells of a failure once, and has what it could not write for written from then on: that a later try succeeds says
	 * nothing. */
	if (o->path && !o->lost && fdatasync(o->fd) < 0)
		o->lost = errno;
	return o->lost ? error_set_errno(err, o->lost, "cannot sync %s", o->path) : 0;
}

/* What a server of files has no room for it may tell only when a descriptor is closed. */
static int close_one(struct disk_output *o, struct error **err)
{
	int fd = o->path ? fcntl(o->fd, F_DUPFD_CLOEXEC, 0) : -1;

	return o->path && (fd < 0 || close(fd) < 0) ? error_set_errno(err, errno, "cannot write %s to its end", o->path) : 0;
}

int output_finish(struct disk_output *o, uint64_t capacity, bool sync, struct error **err)
{
	if (o->qcow2 && qcow2_writer_finish(o->qcow2, capacity, sync, err) < 0)
		return -1;
	return !sync ? close_one(o, err) : o->qcow2 ? 0 : output_sync(o, err);
}

static ssize_t read_some(int fd, unsigned char *data, size_t len, uint64_t at)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = pread(fd, data + got, len - got, (off_t)(at + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (!n)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

ssize_t output_read(struct disk_output *o, void *data, size_t len, uint64_t at)
{
	uint64_t host[QCOW2_CLUSTERS];
	unsigned char *bytes = data;

	if (!o->qcow2)
		return read_some(o->fd, bytes, len, at);
	for (size_t got = 0; got < len;) {
		size_t in = (at + got) % DISK_DIGEST_BLOCK, n = QCOW2_CLUSTER - in % QCOW2_CLUSTER;
		ssize_t there = 0;

		n = n < len - got ? n : len - got;
		if (qcow2_writer_find(o->qcow2, (at + got) / DISK_DIGEST_BLOCK, host, NULL) < 0)
			return -1;
		if (host[in / QCOW2_CLUSTER])
			there = read_some(o->fd, bytes + got, n, host[in / QCOW2_CLUSTER] + in % QCOW2_CLUSTER);
		if (there < 0)
			return -1;
		memset(bytes + got + there, 0, n - (size_t)there);
		got += n;
	}
	return (ssize_t)len;
}

static int read_block(void *arg, unsigned char *block, uint64_t at, size_t len, struct error **err)
{
	struct disk_output *o = arg;

	return output_read(o, block, len, at) < 0
		       ? error_set_errno(err, errno, "cannot read %zu bytes at %llu of %s", len, (unsigned long long)at, o->path)
		       : 0;
}

static uint64_t next_block(void *arg, uint64_t at, uint64_t size)
{
	struct disk_output *o = arg;
	uint64_t host[QCOW2_CLUSTERS];

	for (; at < size; at += DISK_DIGEST_BLOCK) {
		if (qcow2_writer_find(o->qcow2, at / DISK_DIGEST_BLOCK, host, NULL) < 0)
			return at; /* reading it says why */
		for (size_t i = 0; i < QCOW2_CLUSTERS; i++)
			if (host[i])
				return at;
	}
	return size;
}

int output_digest(struct disk_output *o, uint64_t capacity, unsigned char *const *buffers, unsigned buffer_count, struct cancel *cancel,
		  char out[DISK_DIGEST_TEXT_SIZE], struct error **err)
{
	struct disk_digest_options options = { .cancel = cancel };

	if (!o->path)
		return error_set(err, ERROR_PERMANENT, "NotKept",
				 "the stream goes back, so that its digest cannot be told without keeping the disk");
	if (!o->qcow2)
		return digest_descriptor(o->fd, o->path, capacity, buffers, buffer_count, &options, out, err);
	return digest_scan(&(struct digest_reader){ o, next_block, read_block, buffers, buffer_count }, capacity, &options, out, err);
}
