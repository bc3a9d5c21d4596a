#include "disk/qcow2_writer.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "disk/bytes.h"

#define ENTRIES (QCOW2_CLUSTER / 8)                              /* of an L2 table */
#define TABLE_BLOCKS (ENTRIES / QCOW2_CLUSTERS)                  /* of 1 MiB that a table tells of */
#define TABLE_BYTES ((uint64_t)TABLE_BLOCKS * DISK_DIGEST_BLOCK) /* of the disk: 512 MiB */
#define L1_MAX ((32u << 20) / 8)                                 /* entries; what QEMU takes */
#define REFCOUNTS (QCOW2_CLUSTER / 2)                            /* of 16 bits in a refcount block */
#define REFTABLE_MAX (8u << 20)                                  /* bytes; what QEMU takes */
#define COPIED (UINT64_C(1) << 63)                               /* nobody else has the cluster */
#define OFFSET UINT64_C(0x00fffffffffffe00)
#define HEADER 104u

struct qcow2_writer {
	int fd;
	const char *path;
	pthread_mutex_t lock; /* guards what follows; not held while reading or writing */
	uint64_t *l1;         /* places of L2 tables; 0: none */
	size_t l1_len;        /* entries there is room for */
	uint64_t clusters;    /* of the file: given away */
};

struct qcow2_writer *qcow2_writer_new(int fd, const char *path, struct error **err)
{
	struct qcow2_writer *w = calloc(1, sizeof *w);

	if (!w) {
		error_set_errno(err, ENOMEM, "cannot write %s", path);
		return NULL;
	}
	w->fd = fd;
	w->path = path;
	w->clusters = 1; /* the header's */
	pthread_mutex_init(&w->lock, NULL);
	return w;
}

void qcow2_writer_free(struct qcow2_writer *w)
{
	if (!w)
		return;
	pthread_mutex_destroy(&w->lock);
	free(w->l1);
	free(w);
}

int qcow2_writer_check(uint64_t capacity, struct error **err)
{
	if (capacity / TABLE_BYTES < L1_MAX)
		return 0;
	return error_set(err, ERROR_PERMANENT, "DiskTooLarge", "a disk of %llu bytes is too large for a qcow2 image; write a raw one",
			 (unsigned long long)capacity);
}

static int write_all(struct qcow2_writer *w, const void *data, size_t len, uint64_t at, struct error **err)
{
	const unsigned char *p = data;

	while (len) {
		ssize_t n = pwrite(w->fd, p, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return error_set_errno(err, n ? errno : EIO, "cannot write %zu bytes at %llu of %s", len, (unsigned long long)at,
					       w->path);
		p += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* Where the block's entries are in its table; 0 when there is no table. The caller holds the lock. */
static uint64_t entries_at(const struct qcow2_writer *w, uint64_t block)
{
	uint64_t table = block / TABLE_BLOCKS;

	return table < w->l1_len && w->l1[table] ? w->l1[table] + block % TABLE_BLOCKS * QCOW2_CLUSTERS * 8 : 0;
}

static int read_entries(struct qcow2_writer *w, uint64_t at, uint64_t host[QCOW2_CLUSTERS], struct error **err)
{
	unsigned char bytes[QCOW2_CLUSTERS * 8] = { 0 };
	ssize_t n = 0;

	/* A table that was not written to its end may lie behind the file's: zeros. */
	for (size_t got = 0; at && got < sizeof bytes; got += (size_t)n) {
		while ((n = pread(w->fd, bytes + got, sizeof bytes - got, (off_t)(at + got))) < 0 && errno == EINTR)
			;
		if (n < 0)
			return error_set_errno(err, errno, "cannot read %zu bytes at %llu of %s", sizeof bytes - got,
					       (unsigned long long)(at + got), w->path);
		if (!n)
			break;
	}
	for (size_t i = 0; i < QCOW2_CLUSTERS; i++)
		host[i] = get_be64(bytes + 8 * i) & OFFSET;
	return 0;
}

int qcow2_writer_find(struct qcow2_writer *w, uint64_t block, uint64_t host[QCOW2_CLUSTERS], struct error **err)
{
	uint64_t at;

	pthread_mutex_lock(&w->lock);
	at = entries_at(w, block);
	pthread_mutex_unlock(&w->lock);
	return read_entries(w, at, host, err);
}

/* Makes room for an entry of the L1 table. The caller holds the lock. */
static bool grow(struct qcow2_writer *w, uint64_t table)
{
	size_t len = w->l1_len ? w->l1_len : 64;
	uint64_t *l1;

	while (len <= table)
		len *= 2;
	if (len == w->l1_len)
		return true;
	l1 = realloc(w->l1, len * sizeof *l1);
	if (!l1)
		return false;
	memset(l1 + w->l1_len, 0, (len - w->l1_len) * sizeof *l1);
	w->l1 = l1;
	w->l1_len = len;
	return true;
}

/* Gives away so many clusters, the first's number; and a table for the block where there is none. */
static int take(struct qcow2_writer *w, uint64_t block, unsigned count, uint64_t *first, uint64_t *at, struct error **err)
{
	uint64_t table = block / TABLE_BLOCKS;

	if (table >= L1_MAX)
		return qcow2_writer_check(UINT64_MAX, err);
	LOCK_GUARD(&w->lock);
	if (!grow(w, table))
		return error_set_errno(err, ENOMEM, "cannot write %s", w->path);
	if (!w->l1[table])
		w->l1[table] = w->clusters++ * QCOW2_CLUSTER;
	*at = entries_at(w, block);
	*first = w->clusters;
	w->clusters += count;
	return 0;
}

int qcow2_writer_place(struct qcow2_writer *w, uint64_t block, uint16_t wanted, uint64_t host[QCOW2_CLUSTERS], struct error **err)
{
	unsigned char bytes[QCOW2_CLUSTERS * 8];
	uint64_t next = 0, at = 0;
	unsigned count = 0;

	if (qcow2_writer_find(w, block, host, err) < 0)
		return -1;
	for (size_t i = 0; i < QCOW2_CLUSTERS; i++)
		count += (wanted >> i & 1) && !host[i];
	if (!count)
		return 0;
	if (take(w, block, count, &next, &at, err) < 0)
		return -1;
	for (size_t i = 0; i < QCOW2_CLUSTERS; i++) {
		if ((wanted >> i & 1) && !host[i])
			host[i] = next++ * QCOW2_CLUSTER;
		put_be64(bytes + 8 * i, host[i] ? host[i] | COPIED : 0);
	}
	return write_all(w, bytes, sizeof bytes, at, err);
}

uint64_t qcow2_writer_end(struct qcow2_writer *w)
{
	LOCK_GUARD(&w->lock);
	return w->clusters * QCOW2_CLUSTER;
}

static uint64_t up(uint64_t n, uint64_t unit)
{
	return n / unit + (n % unit != 0);
}

/* Writes the L1 table, which was given its place, from what is not zero of it. */
static int write_l1(struct qcow2_writer *w, uint64_t at, struct error **err)
{
	unsigned char bytes[4096];

	for (size_t i = 0; i < w->l1_len; i += sizeof bytes / 8) {
		uint64_t any = 0;

		for (size_t k = 0; k < sizeof bytes / 8; k++) {
			uint64_t entry = i + k < w->l1_len ? w->l1[i + k] : 0;

			any |= entry;
			put_be64(bytes + 8 * k, entry ? entry | COPIED : 0);
		}
		if (any && write_all(w, bytes, sizeof bytes, at + i * 8, err) < 0)
			return -1;
	}
	return 0;
}

/* Refcount blocks from cluster `first` on, and the table that names them behind them: each cluster of the file has one user. */
static int write_refcounts(struct qcow2_writer *w, uint64_t first, uint64_t blocks, uint64_t total, struct error **err)
{
	unsigned char bytes[4096];

	for (uint64_t i = 0; i < total; i += sizeof bytes / 2) {
		for (uint64_t k = 0; k < sizeof bytes / 2; k++) {
			bytes[2 * k] = 0;
			bytes[2 * k + 1] = i + k < total;
		}
		if (write_all(w, bytes, sizeof bytes, first * QCOW2_CLUSTER + i * 2, err) < 0)
			return -1;
	}
	for (uint64_t i = 0; i < blocks; i++) {
		put_be64(bytes, (first + i) * QCOW2_CLUSTER);
		if (write_all(w, bytes, 8, (first + blocks) * QCOW2_CLUSTER + i * 8, err) < 0)
			return -1;
	}
	return 0;
}

static int sync_file(struct qcow2_writer *w, struct error **err)
{
	return fdatasync(w->fd) < 0 ? error_set_errno(err, errno, "cannot sync %s", w->path) : 0;
}

int qcow2_writer_finish(struct qcow2_writer *w, uint64_t capacity, bool sync, struct error **err)
{
	uint64_t l1 = w->clusters, l1_entries = up(capacity, TABLE_BYTES), used = l1 + up(l1_entries * 8, QCOW2_CLUSTER);
	uint64_t blocks = 1, table = 1, total = used + 2;
	unsigned char header[HEADER] = { 'Q', 'F', 'I', 0xfb };

	if (qcow2_writer_check(capacity, err) < 0)
		return -1;
	/* The refcounts have refcounts, too. */
	while (blocks < up(total, REFCOUNTS) || table < up(blocks * 8, QCOW2_CLUSTER)) {
		blocks = up(total, REFCOUNTS);
		table = up(blocks * 8, QCOW2_CLUSTER);
		total = used + blocks + table;
	}
	if (table * QCOW2_CLUSTER > REFTABLE_MAX)
		return qcow2_writer_check(UINT64_MAX, err);
	if (ftruncate(w->fd, (off_t)(total * QCOW2_CLUSTER)) < 0)
		return error_set_errno(err, errno, "cannot make %s %llu bytes long", w->path, (unsigned long long)(total * QCOW2_CLUSTER));
	if (write_l1(w, l1 * QCOW2_CLUSTER, err) < 0 || write_refcounts(w, used, blocks, total, err) < 0 || (sync && sync_file(w, err) < 0))
		return -1;
	put_be32(header + 4, 3);
	put_be32(header + 20, 16); /* cluster bits */
	put_be64(header + 24, capacity);
	put_be32(header + 36, (uint32_t)l1_entries);
	put_be64(header + 40, l1 * QCOW2_CLUSTER);
	put_be64(header + 48, (used + blocks) * QCOW2_CLUSTER);
	put_be32(header + 56, (uint32_t)table);
	put_be32(header + 96, 4); /* refcounts of 16 bits */
	put_be32(header + 100, HEADER);
	if (write_all(w, header, sizeof header, 0, err) < 0)
		return -1;
	return sync ? sync_file(w, err) : 0;
}
