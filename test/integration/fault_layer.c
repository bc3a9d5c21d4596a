/* Storage that fails, for a program that is started with LD_PRELOAD=this. Counts what is done to the files whose path holds
 * $FAULT_FILES, and at operation number $FAULT_AT does $FAULT_KIND:
 *
 *   kill     the process is killed, the operation half done when it is a write
 *   power    the same, and what was not synced is lost in part: of each 4 KiB that was written since its file's last sync there is, by
 *            chance ($FAULT_SEED), an older state; and of the file's length
 *   ENOSPC   this and all later writes fail, the first after half of its bytes; so does making files longer by allocation
 *   EIO      the same without a half
 *   flip     this write is done with another bit than it should
 *   sync     the first sync from this operation on fails, and what was written since the one before is lost as by power: the kernel, which
 *            could not write it, has forgotten it, so that all later syncs succeed
 *   close    closing fails, as where a server has no room for what was written ($FAULT_AT means nothing)
 *   nopunch  holes cannot be made ($FAULT_AT means nothing)
 *
 * With $FAULT_WHILE it does so only while there is a file of this name.
 *
 * $FAULT_REPORT gets a line "operations bytes" at the end: how much there was, and how many bytes were written.
 * All operations are done one after the other, so that "before" means something. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define PAGE 4096
#define PATHS 16

/* What a page, or (page -1) the length, was before an operation that is not synced. */
struct undo {
	int path;
	off_t page;
	off_t size;
	bool last; /* set by the cut: this one and the later ones of the page are taken back */
	unsigned char old[PAGE];
	struct undo *next; /* older */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *paths[PATHS];
static struct undo *undos;
static long operations, bytes;

static const char *setting(const char *name)
{
	const char *value = getenv(name);

	return value ? value : "";
}

/* The index of the descriptor's path, -1 when it is none of ours. */
static int path_of(int fd)
{
	char link[64], path[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof path - 1);
	if (n <= 0 || !*setting("FAULT_FILES"))
		return -1;
	path[n] = 0;
	if (!strstr(path, setting("FAULT_FILES")))
		return -1;
	for (int i = 0; i < PATHS; i++) {
		if (!paths[i])
			paths[i] = strdup(path);
		if (!strcmp(paths[i], path))
			return i;
	}
	abort();
}

static void remember(int path, off_t page)
{
	int fd = open(paths[path], O_RDONLY | O_CLOEXEC);
	struct undo *u = calloc(1, sizeof *u);
	struct stat st;

	if (!u || fd < 0 || fstat(fd, &st) < 0)
		abort();
	*u = (struct undo){ .path = path, .page = page, .size = st.st_size, .next = undos };
	if (page >= 0 && syscall(SYS_pread64, fd, u->old, (size_t)PAGE, page * PAGE) < 0)
		abort();
	close(fd);
	undos = u;
}

static void remember_range(int path, off_t from, off_t len)
{
	remember(path, -1);
	for (off_t page = from / PAGE; page * PAGE < from + len; page++)
		remember(path, page);
}

static void synced(int path)
{
	for (struct undo **p = &undos; *p;) {
		struct undo *u = *p;

		if (u->path != path) {
			p = &u->next;
			continue;
		}
		*p = u->next;
		free(u);
	}
}

/* Of each page's states since the last sync, one by chance. */
static void lose(void)
{
	unsigned seed = (unsigned)atoi(setting("FAULT_SEED"));

	for (struct undo *u = undos; u; u = u->next) {
		unsigned states = 1, back;
		struct undo *v;

		if (u->last)
			continue;
		for (v = u; v; v = v->next) /* the same page, older and older */
			states += v->path == u->path && v->page == u->page;
		back = (unsigned)rand_r(&seed) % states;
		for (v = u; v; v = v->next) {
			if (v->path != u->path || v->page != u->page)
				continue;
			v->last = true;
			if (!back)
				continue;
			back--;
			int fd = open(v->path >= 0 ? paths[v->path] : "", O_WRONLY | O_CLOEXEC);
			struct stat st;

			if (fd < 0 || fstat(fd, &st) < 0)
				abort();
			if (v->page < 0 ? syscall(SYS_ftruncate, fd, v->size) < 0
					: v->page * PAGE < st.st_size &&
						  syscall(SYS_pwrite64, fd, v->old,
							  st.st_size - v->page * PAGE < PAGE ? st.st_size - v->page * PAGE : PAGE,
							  v->page * PAGE) < 0)
				abort();
			close(fd);
		}
	}
}

/* Counts an operation; true when it is to be cut. */
static bool count(void)
{
	long at = atol(setting("FAULT_AT"));

	return ++operations >= at && at > 0 && (!*setting("FAULT_WHILE") || access(setting("FAULT_WHILE"), F_OK) == 0);
}

static bool kind(const char *name)
{
	return !strcmp(setting("FAULT_KIND"), name);
}

static void cut(void)
{
	if (kind("power"))
		lose();
	raise(SIGKILL);
}

static bool failing(void)
{
	if (!kind("ENOSPC") && !kind("EIO"))
		return false;
	errno = kind("EIO") ? EIO : ENOSPC;
	return true;
}

static ssize_t do_write(int fd, const void *data, size_t len, off_t at)
{
	return at < 0 ? syscall(SYS_write, fd, data, len) : syscall(SYS_pwrite64, fd, data, len, at);
}

static ssize_t write_some(int fd, const void *data, size_t len, off_t at)
{
	int path = path_of(fd);
	ssize_t done;

	if (path < 0)
		return do_write(fd, data, len, at);
	pthread_mutex_lock(&lock);
	bool now = count();
	if (now && failing() && (kind("EIO") || operations > atol(setting("FAULT_AT")) || len < 2 * PAGE)) {
		pthread_mutex_unlock(&lock);
		return -1;
	}
	if (kind("flip") && now && operations == atol(setting("FAULT_AT")) && len) {
		unsigned char *wrong = aligned_alloc(PAGE, (len + PAGE - 1) / PAGE * PAGE);

		if (!wrong)
			abort();
		memcpy(wrong, data, len);
		wrong[len / 2] ^= 16;
		done = do_write(fd, wrong, len, at);
		free(wrong);
		bytes += done > 0 ? done : 0;
		pthread_mutex_unlock(&lock);
		return done;
	}
	if (kind("flip") || kind("sync"))
		now = false;
	if (kind("power") || kind("sync"))
		remember_range(path, at < 0 ? lseek(fd, 0, SEEK_CUR) : at, (off_t)len);
	done = do_write(fd, data, now ? (len >= 2 * PAGE ? len / 2 / PAGE * PAGE : kind("ENOSPC") ? 0 : len / 2) : len, at);
	if (now && !failing())
		cut();
	bytes += done > 0 ? done : 0;
	pthread_mutex_unlock(&lock);
	return done;
}

/* An operation that is done, or cut before it. */
#define PLAIN(fd, before, call, after)                                       \
	do {                                                                 \
		int path = path_of(fd), result;                              \
		if (path < 0)                                                \
			return (call);                                       \
		pthread_mutex_lock(&lock);                                   \
		if (count() && !kind("flip") && !kind("sync") && !failing()) \
			cut();                                               \
		if (kind("power") || kind("sync")) {                         \
			before;                                              \
		}                                                            \
		result = (call);                                             \
		after;                                                       \
		pthread_mutex_unlock(&lock);                                 \
		return result;                                               \
	} while (0)

ssize_t pwrite64(int fd, const void *data, size_t len, off_t at)
{
	return write_some(fd, data, len, at);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at)
{
	return write_some(fd, data, len, at);
}

ssize_t write(int fd, const void *data, size_t len)
{
	return write_some(fd, data, len, -1);
}

static off_t size_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? 0 : st.st_size;
}

int ftruncate64(int fd, off_t size)
{
	PLAIN(fd, remember_range(path, size, size_of(fd) > size ? size_of(fd) - size : 0), (int)syscall(SYS_ftruncate, fd, size), );
}

int ftruncate(int fd, off_t size)
{
	return ftruncate64(fd, size);
}

int fallocate64(int fd, int mode, off_t from, off_t len)
{
	if (kind("nopunch") && path_of(fd) >= 0) {
		errno = EOPNOTSUPP;
		return -1;
	}
	PLAIN(fd, remember_range(path, from, len), (int)syscall(SYS_fallocate, fd, mode, from, len), );
}

int fallocate(int fd, int mode, off_t from, off_t len)
{
	return fallocate64(fd, mode, from, len);
}

int close(int fd)
{
	bool fails = kind("close") && path_of(fd) >= 0;
	int result = (int)syscall(SYS_close, fd);

	if (!fails)
		return result;
	errno = EDQUOT;
	return -1;
}

static int sync_file(long call, int fd)
{
	static bool failed;

	if (!kind("sync") || failed || operations < atol(setting("FAULT_AT")))
		return (int)syscall(call, fd);
	failed = true;
	lose();
	for (int i = 0; i < PATHS; i++)
		synced(i);
	errno = EIO;
	return -1;
}

int fdatasync(int fd)
{
	PLAIN(fd, , sync_file(SYS_fdatasync, fd), if (!result) synced(path));
}

int fsync(int fd)
{
	PLAIN(fd, , sync_file(SYS_fsync, fd), if (!result) synced(path));
}

__attribute__((destructor)) static void report(void)
{
	FILE *f = *setting("FAULT_REPORT") ? fopen(setting("FAULT_REPORT"), "we") : NULL;

	if (f) {
		fprintf(f, "%ld %ld\n", operations, bytes);
		fclose(f);
	}
}
