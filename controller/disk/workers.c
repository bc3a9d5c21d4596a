#include <errno.h>
#include <libdeflate.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "disk/pipeline.h"
#include "disk/unit.h"

#define UNITS_OWN 2     /* of each pipeline, whatever the others do */
#define ZERO_STEP 4096u /* holes are found at this granularity: the block size of file systems */

struct disk_workers {
	pthread_mutex_t lock; /* guards all but count and threads */
	pthread_cond_t woken;
	struct unit *first, **last; /* the queue */
	struct unit *spare;
	unsigned extra; /* units beyond the pipelines' two that may still be taken */
	unsigned pipelines;
	bool stopped;
	unsigned count;
	pthread_t threads[DISK_WORKERS_MAX];
};

/* What a thread needs for its units. */
struct bench {
	struct libdeflate_decompressor *inflate;
	unsigned char *block;
};

int unit_twice(const struct unit *u, const struct piece *p, struct error **err)
{
	return error_set(err, ERROR_PERMANENT, "InvalidStream",
			 "byte %llu of the disk comes twice, the second time at byte %llu of the stream",
			 (unsigned long long)(u->block * DISK_DIGEST_BLOCK + p->at), (unsigned long long)p->stream_offset);
}

static int inflate_piece(struct bench *b, const struct unit *u, const struct piece *p, struct error **err)
{
	enum libdeflate_result result =
		libdeflate_zlib_decompress(b->inflate, u->data + p->stored_at, p->stored, b->block + p->at, p->len, NULL);
	uint64_t guest = u->block * DISK_DIGEST_BLOCK + p->at;

	if (result == LIBDEFLATE_SUCCESS)
		return 0;
	/* Passing: a second copy of the stream may be sound. */
	return error_set(err, ERROR_TRANSIENT, "CorruptGrain", "grain %llu (byte %llu of the disk) at byte %llu of the stream %s",
			 (unsigned long long)(u->grain ? guest / u->grain : 0), (unsigned long long)guest,
			 (unsigned long long)p->stream_offset,
			 result == LIBDEFLATE_INSUFFICIENT_SPACE ? "inflates to more than a grain"
			 : result == LIBDEFLATE_SHORT_OUTPUT     ? "inflates to less than a grain"
								 : "is corrupt: it does not inflate or its checksum is wrong");
}

static int write_all(const struct unit *u, const unsigned char *data, size_t len, uint64_t at, struct error **err)
{
	while (len) {
		ssize_t n = pwrite(u->fd, data, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return error_set_errno(err, n < 0 ? errno : EIO, "cannot write %zu bytes at %llu of %s", len,
					       (unsigned long long)at, u->path);
		data += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* True when the file has nothing but zeros where the pieces belong. */
static int check_unwritten(const struct bench *b, const struct unit *u, struct error **err)
{
	for (size_t i = 0; i < u->piece_count; i++) {
		const struct piece *p = &u->pieces[i];
		uint64_t at = u->block * (uint64_t)DISK_DIGEST_BLOCK + p->at;
		ssize_t n;

		while ((n = pread(u->fd, b->block, p->len, (off_t)at)) < 0 && errno == EINTR)
			;
		if (n < 0)
			return error_set_errno(err, errno, "cannot read %u bytes at %llu of %s", p->len, (unsigned long long)at, u->path);
		if (!digest_all_zero(b->block, (size_t)n))
			return unit_twice(u, p, err);
	}
	return 0;
}

/* Writes the runs of the block that are not zero. */
static int write_block(struct unit *u, const unsigned char *block, struct error **err)
{
	uint64_t base = u->block * (uint64_t)DISK_DIGEST_BLOCK;
	size_t run = 0, at = 0;

	while (at <= u->len) {
		size_t n = u->len - at < ZERO_STEP ? u->len - at : ZERO_STEP;
		bool zero = !n || digest_all_zero(block + at, n);

		if (zero && at > run) {
			if (write_all(u, block + run, at - run, base + run, err) < 0)
				return -1;
			u->written += at - run;
		}
		if (!n)
			break;
		at += n;
		if (zero)
			run = at;
	}
	return 0;
}

static int process(struct bench *b, struct unit *u, struct error **err)
{
	const unsigned char *block = b->block;

	if (u->again && check_unwritten(b, u, err) < 0)
		return -1;
	if (u->piece_count == 1 && !u->pieces[0].compressed && u->pieces[0].len == u->len) {
		block = u->data;
	} else {
		uint32_t filled = 0;

		for (size_t i = 0; i < u->piece_count; i++) {
			const struct piece *p = &u->pieces[i];

			memset(b->block + filled, 0, p->at - filled);
			if (!p->compressed)
				memcpy(b->block + p->at, u->data + p->stored_at, p->len);
			else if (inflate_piece(b, u, p, err) < 0)
				return -1;
			filled = p->at + p->len;
		}
		memset(b->block + filled, 0, u->len - filled);
	}
	if (!u->no_leaf && !digest_leaf(block, u->len, u->leaf))
		return error_set(err, ERROR_TRANSIENT, "DigestFailed", "the hash library failed");
	return write_block(u, block, err);
}

static void *work(void *arg)
{
	struct disk_workers *w = arg;
	struct bench b = { libdeflate_alloc_decompressor(), malloc(DISK_DIGEST_BLOCK) };

	for (;;) {
		struct unit *u;

		pthread_mutex_lock(&w->lock);
		while (!w->first && !w->stopped)
			pthread_cond_wait(&w->woken, &w->lock);
		u = w->first;
		if (u) {
			w->first = u->next;
			if (!w->first)
				w->last = &w->first;
		}
		pthread_mutex_unlock(&w->lock);
		if (!u)
			break;
		if (b.inflate && b.block)
			process(&b, u, &u->error);
		else
			error_set_errno(&u->error, ENOMEM, "cannot decode the disk");
		u->done(u);
	}
	if (b.inflate)
		libdeflate_free_decompressor(b.inflate);
	free(b.block);
	return NULL;
}

/* Processors that one cgroup's directory allows, rounded up; UINT_MAX: no limit. */
static unsigned cgroup_limit(const char *directory)
{
	AUTO_FREE char *path = NULL;
	AUTO_FILE FILE *f = NULL;
	long long quota, period, n;

	if (asprintf(&path, "/sys/fs/cgroup%s/cpu.max", directory) < 0) {
		path = NULL;
		return UINT_MAX;
	}
	f = fopen(path, "re");
	if (!f || fscanf(f, "%lld %lld", &quota, &period) != 2 || quota <= 0 || period <= 0)
		return UINT_MAX;
	n = quota / period + (quota % period != 0);
	return n < UINT_MAX ? (unsigned)n : UINT_MAX;
}

/* The tightest limit of our cgroup (version 2) and those above it. In a container the file system's root is the container's own. */
static unsigned cgroups_limit(void)
{
	AUTO_FILE FILE *f = fopen("/proc/self/cgroup", "re");
	unsigned limit = cgroup_limit("");
	char line[4096], *slash;

	while (f && fgets(line, sizeof line, f)) {
		if (strncmp(line, "0::/", 4))
			continue;
		line[strcspn(line, "\n")] = 0;
		while ((slash = strrchr(line + 3, '/')) && slash[1]) {
			unsigned n = cgroup_limit(line + 3);

			limit = n < limit ? n : limit;
			*slash = 0;
			if (slash == line + 3)
				break;
		}
	}
	return limit;
}

static unsigned usable_processors(void)
{
	unsigned limit = cgroups_limit(), n = 1;
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof set, &set) == 0)
		n = (unsigned)CPU_COUNT(&set);
	n = limit < n ? limit : n;
	return n ? n : 1;
}

static void free_spare(struct disk_workers *w)
{
	struct unit *u;

	while ((u = w->spare)) {
		w->spare = u->next;
		free(u->data);
		free(u);
	}
}

struct disk_workers *disk_workers_new(unsigned threads, struct error **err)
{
	struct disk_workers *w = calloc(1, sizeof *w);

	if (!w) {
		error_set_errno(err, ENOMEM, "cannot start the disk workers");
		return NULL;
	}
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->woken, NULL);
	w->last = &w->first;
	if (!threads) {
		threads = usable_processors();
		threads = threads < DISK_WORKERS_DEFAULT_MAX ? threads : DISK_WORKERS_DEFAULT_MAX;
	}
	if (threads > DISK_WORKERS_MAX)
		threads = DISK_WORKERS_MAX;
	w->extra = threads;
	for (; w->count < threads; w->count++) {
		int failed = pthread_create(&w->threads[w->count], NULL, work, w);

		if (failed) {
			disk_workers_free(w);
			error_set_errno(err, failed, "cannot start the disk workers");
			return NULL;
		}
	}
	return w;
}

void disk_workers_free(struct disk_workers *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->stopped = true;
	pthread_cond_broadcast(&w->woken);
	pthread_mutex_unlock(&w->lock);
	for (unsigned i = 0; i < w->count; i++)
		pthread_join(w->threads[i], NULL);
	free_spare(w);
	pthread_cond_destroy(&w->woken);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

void workers_submit(struct disk_workers *w, struct unit *u)
{
	u->next = NULL;
	LOCK_GUARD(&w->lock);
	*w->last = u;
	w->last = &u->next;
	pthread_cond_signal(&w->woken);
}

void workers_enter(struct disk_workers *w)
{
	LOCK_GUARD(&w->lock);
	w->pipelines++;
}

void workers_leave(struct disk_workers *w)
{
	LOCK_GUARD(&w->lock);
	if (!--w->pipelines)
		free_spare(w);
}

struct unit *workers_take_unit(struct disk_workers *w, unsigned held)
{
	bool extra = held >= UNITS_OWN;
	struct unit *u;

	LOCK_GUARD(&w->lock);
	if (extra && !w->extra)
		return NULL;
	u = w->spare;
	if (u) {
		w->spare = u->next;
	} else {
		u = calloc(1, sizeof *u);
		if (!u || !(u->data = malloc(UNIT_DATA))) {
			free(u);
			return NULL;
		}
	}
	w->extra -= extra;
	return u;
}

void workers_give_unit(struct disk_workers *w, struct unit *u, unsigned held)
{
	LOCK_GUARD(&w->lock);
	u->next = w->spare;
	w->spare = u;
	w->extra += held > UNITS_OWN;
}
