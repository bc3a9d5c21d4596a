/* The digest of a disk that is read: threads read and hash blocks, each puts its node into the tree when it is its turn. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "disk/digest_tree.h"
#include "disk/direct.h"
#include "disk/processors.h"

#define THREADS_MAX 16

struct file {
	int fd, direct; /* direct: -1 when there is none */
	const char *path;
};

struct scan {
	const struct digest_reader *reader;
	uint64_t size;
	struct cancel *cancel;
	_Atomic uint64_t *position;

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t turned;
	uint64_t at;         /* where to look for the next block */
	uint64_t next, turn; /* tickets: blocks are claimed in the file's order, and put in in that order */
	unsigned buffers_taken;
	struct digest_tree tree;
	struct error *error; /* the first; nothing is claimed after it */
};

static int size_of(int fd, const char *path, uint64_t *size, struct error **err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "cannot read %s", path);
	if (S_ISBLK(st.st_mode)) {
		if (ioctl(fd, BLKGETSIZE64, size) < 0)
			return error_set_errno(err, errno, "cannot tell the size of %s", path);
		return 0;
	}
	if (!S_ISREG(st.st_mode))
		return error_set(err, ERROR_PERMANENT, "NotADisk", "%s is neither a file nor a block device", path);
	*size = (uint64_t)st.st_size;
	return 0;
}

/* The start of the block that holds the next data at or after `at`; size when there is none. */
static uint64_t next_data(void *arg, uint64_t at, uint64_t size)
{
	const struct file *f = arg;
	struct stat st;
	off_t data = lseek(f->fd, (off_t)at, SEEK_DATA);

	if (data < 0) /* a device that cannot tell is read whole, as is a file that was cut meanwhile: that tells where it ends */
		return errno == ENXIO && fstat(f->fd, &st) == 0 && (uint64_t)st.st_size >= size ? size : at;
	return (uint64_t)data < at ? at : (uint64_t)data - (uint64_t)data % DISK_DIGEST_BLOCK;
}

static int read_block(void *arg, unsigned char *block, uint64_t at, size_t want, struct error **err)
{
	const struct file *f = arg;
	size_t got = 0;

	while (got < want) {
		bool direct = f->direct >= 0 && !(got % DIRECT_ALIGN) && want - got >= DIRECT_ALIGN;
		size_t n = direct ? (want - got) / DIRECT_ALIGN * DIRECT_ALIGN : want - got;
		ssize_t done = pread(direct ? f->direct : f->fd, block + got, n, (off_t)(at + got));

		if (done < 0 && errno == EINVAL && direct) /* not taken here after all */
			done = pread(f->fd, block + got, n, (off_t)(at + got));
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done ? error_set_errno(err, errno, "cannot read %s at byte %llu", f->path, (unsigned long long)(at + got))
				    : error_set(err, ERROR_TRANSIENT, "ShortRead", "%s ended at byte %llu while it was read", f->path,
						(unsigned long long)(at + got));
		got += (size_t)done;
	}
	return 0;
}

/* Claims the next block with data; false when there is none, or nothing more to be done. */
static bool claim(struct scan *s, uint64_t *at, uint64_t *ticket)
{
	LOCK_GUARD(&s->lock);
	if (s->error || (s->at = s->reader->next_data(s->reader->arg, s->at, s->size)) >= s->size || cancel_check(s->cancel, &s->error) < 0)
		return false;
	*at = s->at;
	*ticket = s->next++;
	s->at += DISK_DIGEST_BLOCK;
	if (s->position)
		*s->position = *at;
	return true;
}

static void put_in(struct scan *s, uint64_t ticket, uint64_t at, const unsigned char node[DIGEST_SIZE], struct error *error)
{
	LOCK_GUARD(&s->lock);
	while (s->turn != ticket)
		pthread_cond_wait(&s->turned, &s->lock);
	if (error && !s->error)
		s->error = move_ptr(error);
	error_free(error);
	if (!s->error)
		digest_tree_add(&s->tree, at / DISK_DIGEST_BLOCK, node);
	s->turn++;
	pthread_cond_broadcast(&s->turned);
}

static unsigned char *take_buffer(struct scan *s)
{
	LOCK_GUARD(&s->lock);
	return s->reader->buffers[s->buffers_taken++];
}

DEFINE_CLEANUP(struct digest_hasher, hasher_free_p, digest_hasher_free)

static void *scan_blocks(void *arg)
{
	struct scan *s = arg;
	AUTO_FREE unsigned char *own = s->reader->buffers ? NULL : direct_buffer(DISK_DIGEST_BLOCK);
	unsigned char *block = s->reader->buffers ? take_buffer(s) : own;
	struct error *error = NULL;
	CLEANUP(hasher_free_p) struct digest_hasher *hasher = digest_hasher_new(&error);
	uint64_t at, ticket;

	if (!block && !error)
		error_set_errno(&error, ENOMEM, "cannot read the disk");
	while (claim(s, &at, &ticket)) {
		size_t len = s->size - at < DISK_DIGEST_BLOCK ? (size_t)(s->size - at) : DISK_DIGEST_BLOCK;
		unsigned char node[DIGEST_SIZE] = { 0 };
		struct digest_map map;

		if (!error && s->reader->read(s->reader->arg, block, at, len, &error) == 0) {
			digest_map_block(&map, block, len);
			if (!digest_block(hasher, block, len, &map, node))
				error_set(&error, ERROR_TRANSIENT, "DigestFailed", "the hash library failed");
		}
		put_in(s, ticket, at, node, move_ptr(error));
	}
	error_free(error);
	return NULL;
}

int digest_scan(const struct digest_reader *reader, uint64_t size, const struct disk_digest_options *options,
		char out[DISK_DIGEST_TEXT_SIZE], struct error **err)
{
	CLEANUP(hasher_free_p) struct digest_hasher *hasher = digest_hasher_new(err);
	struct scan s = { .reader = reader, .size = size };
	unsigned threads = options && options->threads ? options->threads : processors_default(), started = 0;
	uint64_t blocks = size / DISK_DIGEST_BLOCK + 1;
	pthread_t others[THREADS_MAX];

	if (!hasher)
		return -1;
	if (options) {
		s.cancel = options->cancel;
		s.position = options->guest_bytes;
	}
	s.tree.hasher = hasher;
	pthread_mutex_init(&s.lock, NULL);
	pthread_cond_init(&s.turned, NULL);
	threads = reader->buffers ? reader->buffer_count : threads > THREADS_MAX ? THREADS_MAX : threads;
	while (started + 1 < threads && started + 1 < blocks && !pthread_create(&others[started], NULL, scan_blocks, &s))
		started++;
	scan_blocks(&s); /* this thread is one of them: without others it goes slower */
	while (started)
		pthread_join(others[--started], NULL);
	pthread_cond_destroy(&s.turned);
	pthread_mutex_destroy(&s.lock);
	if (s.error)
		return error_move(err, s.error);
	return digest_tree_finish(&s.tree, size, out, err);
}

int digest_descriptor(int fd, const char *path, uint64_t size, unsigned char *const *buffers, unsigned buffer_count,
		      const struct disk_digest_options *options, char out[DISK_DIGEST_TEXT_SIZE], struct error **err)
{
	AUTO_FD int direct = direct_reopen(fd, path, O_RDONLY);
	struct file file = { fd, direct, path };

	return digest_scan(&(struct digest_reader){ &file, next_data, read_block, buffers, buffer_count }, size, options, out, err);
}

int disk_digest_file(const char *path, const struct disk_digest_options *options, char out[DISK_DIGEST_TEXT_SIZE], struct error **err)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* a pipe is not waited for */
	uint64_t size = 0;

	if (fd < 0)
		return error_set_errno(err, errno, "cannot read %s", path);
	if (size_of(fd, path, &size, err) < 0)
		return -1;
	if (options && options->size > size)
		return error_set(err, ERROR_PERMANENT, "DiskTooSmall", "%s has %llu bytes, fewer than the disk's %llu: %llu are missing",
				 path, (unsigned long long)size, (unsigned long long)options->size,
				 (unsigned long long)(options->size - size));
	return digest_descriptor(fd, path, options && options->size ? options->size : size, NULL, 0, options, out, err);
}
