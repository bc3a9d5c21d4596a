#include "disk/block_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "disk/bytes.h"

#define HEADER 64u
#define IDENTITY_AT 32u
#define RECORD 56u
#define CHECKED 48u /* of a record */
#define PENDING_MAX 4096

static const char magic[8] = "vicblks1";

struct block_journal {
	char *path;
	int fd;
	unsigned char identity[DIGEST_SIZE];
	enum block_journal_origin origin;
	pthread_mutex_t lock; /* guards what follows */
	int uncut;            /* errno of a cut that failed: what was to go may be there still, whatever is said later; 0: none did */
	uint64_t count;       /* records in the file */
	uint64_t end;         /* after the last one's block, in bytes of the disk */
	uint64_t end_data;    /* data bytes of that block */
	uint64_t cursor;      /* of peek */
	bool have_ahead;      /* the record at the cursor was read */
	struct block_record ahead;
	unsigned char *pending; /* records to be appended */
	size_t pending_count;
};

static bool checksum(const struct block_journal *j, const unsigned char *record, unsigned char out[8])
{
	unsigned char text[DIGEST_SIZE + CHECKED], sum[DIGEST_SIZE];

	memcpy(text, j->identity, DIGEST_SIZE);
	memcpy(text + DIGEST_SIZE, record, CHECKED);
	if (!EVP_Digest(text, sizeof text, sum, NULL, EVP_sha256(), NULL))
		return false;
	memcpy(out, sum, 8);
	return true;
}

static bool decode(const struct block_journal *j, const unsigned char *bytes, uint64_t place, struct block_record *record)
{
	unsigned char sum[8];

	if (!checksum(j, bytes, sum) || memcmp(sum, bytes + CHECKED, sizeof sum))
		return false;
	*record = (struct block_record){ .block = get_le64(bytes), .data_bytes = get_le64(bytes + 8), .place = place };
	memcpy(record->node, bytes + 16, DIGEST_SIZE);
	return record->block < UINT64_MAX / DISK_DIGEST_BLOCK - 1 && record->data_bytes <= DISK_DIGEST_BLOCK;
}

static int write_all(struct block_journal *j, const unsigned char *data, size_t len, uint64_t at, struct error **err)
{
	while (len) {
		ssize_t n = pwrite(j->fd, data, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return error_set_errno(err, n ? errno : EIO, "cannot write %zu bytes of the journal %s", len, j->path);
		data += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static int cut(struct block_journal *j, uint64_t count, struct error **err)
{
	if (!j->uncut && (ftruncate(j->fd, (off_t)(HEADER + count * RECORD)) < 0 || fdatasync(j->fd) < 0))
		j->uncut = errno;
	return j->uncut ? error_set_errno(err, j->uncut, "cannot cut the journal %s", j->path) : 0;
}

/* A journal without records. That its name is durable, too, does not matter: without it all is fetched again. */
static int begin(struct block_journal *j, struct error **err)
{
	unsigned char header[HEADER] = { 0 };

	memcpy(header, magic, sizeof magic);
	memcpy(header + IDENTITY_AT, j->identity, DIGEST_SIZE);
	if (ftruncate(j->fd, 0) < 0)
		return error_set_errno(err, errno, "cannot begin the journal %s", j->path);
	return write_all(j, header, sizeof header, 0, err) < 0 ? -1 : cut(j, 0, err);
}

/* Counts the records that are whole, and cuts what is not. */
static int scan(struct block_journal *j, struct error **err)
{
	unsigned char header[HEADER], bytes[RECORD * 256];
	struct block_record record = { 0 };
	uint64_t next = 0;
	ssize_t n;

	n = pread(j->fd, header, sizeof header, 0);
	j->origin = !n                                                          ? BLOCK_JOURNAL_NEW
		    : n != sizeof header || memcmp(header, magic, sizeof magic) ? BLOCK_JOURNAL_BROKEN
		    : memcmp(header + IDENTITY_AT, j->identity, DIGEST_SIZE)    ? BLOCK_JOURNAL_OTHER
										: BLOCK_JOURNAL_OWN;
	if (j->origin != BLOCK_JOURNAL_OWN)
		return begin(j, err);
	for (;;) {
		n = pread(j->fd, bytes, sizeof bytes, (off_t)(HEADER + j->count * RECORD));
		if (n < 0)
			return error_set_errno(err, errno, "cannot read the journal %s", j->path);
		for (size_t at = 0; at + RECORD <= (size_t)n; at += RECORD) {
			if (!decode(j, bytes + at, j->count, &record) || record.block < next)
				return cut(j, j->count, err);
			j->count++;
			next = record.block + 1;
			j->end = next * DISK_DIGEST_BLOCK;
			j->end_data = record.data_bytes;
		}
		if (n < (ssize_t)sizeof bytes)
			return n % RECORD ? cut(j, j->count, err) : 0;
	}
}

struct block_journal *block_journal_open(const char *path, const char *identity, struct error **err)
{
	struct block_journal *j = calloc(1, sizeof *j);

	if (!j || !(j->path = strdup(path)) || !(j->pending = malloc((size_t)RECORD * PENDING_MAX)) ||
	    !EVP_Digest(identity, strlen(identity), j->identity, NULL, EVP_sha256(), NULL)) {
		if (j) {
			free(j->pending);
			free(j->path);
		}
		free(j);
		error_set_errno(err, ENOMEM, "cannot open the journal %s", path);
		return NULL;
	}
	pthread_mutex_init(&j->lock, NULL);
	j->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (j->fd < 0)
		error_set_errno(err, errno, "cannot open the journal %s", path);
	if (j->fd < 0 || scan(j, err) < 0) {
		block_journal_close(j);
		return NULL;
	}
	return j;
}

bool block_journal_is_foreign(const char *path)
{
	static const char zeros[sizeof magic];
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	char head[sizeof magic];
	ssize_t n = fd < 0 ? 0 : pread(fd, head, sizeof head, 0);

	return n > 0 && memcmp(head, magic, (size_t)n) != 0 && memcmp(head, zeros, (size_t)n) != 0;
}

int block_journal_discard(const char *path, struct error **err)
{
	AUTO_FD int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	unsigned char head[sizeof magic];

	if (fd < 0 || pread(fd, head, sizeof head, 0) != sizeof head || memcmp(head, magic, sizeof magic))
		return 0;
	if (ftruncate(fd, 0) < 0 || fdatasync(fd) < 0 || unlink(path) < 0)
		return error_set_errno(err, errno, "cannot remove the journal %s, which is wrong from now on", path);
	return 0;
}

void block_journal_close(struct block_journal *j)
{
	if (!j)
		return;
	if (j->fd >= 0)
		close(j->fd);
	pthread_mutex_destroy(&j->lock);
	free(j->pending);
	free(j->path);
	free(j);
}

enum block_journal_origin block_journal_origin(const struct block_journal *j)
{
	return j->origin;
}

uint64_t block_journal_end(struct block_journal *j, uint64_t *data)
{
	LOCK_GUARD(&j->lock);
	*data = j->end_data;
	return j->end;
}

bool block_journal_peek(struct block_journal *j, uint64_t block, struct block_record *record)
{
	LOCK_GUARD(&j->lock);
	for (; j->cursor < j->count; j->cursor++, j->have_ahead = false) {
		unsigned char bytes[RECORD];

		if (!j->have_ahead && (pread(j->fd, bytes, sizeof bytes, (off_t)(HEADER + j->cursor * RECORD)) != sizeof bytes ||
				       !decode(j, bytes, j->cursor, &j->ahead)))
			return false;
		j->have_ahead = true;
		if (j->ahead.block >= block) {
			*record = j->ahead;
			return true;
		}
	}
	return false;
}

int block_journal_forget(struct block_journal *j, uint64_t place, struct error **err)
{
	LOCK_GUARD(&j->lock);
	if (place >= j->count)
		return 0;
	if (cut(j, place, err) < 0)
		return -1;
	j->count = place;
	return 0;
}

static int append(struct block_journal *j, struct error **err)
{
	if (!j->pending_count)
		return 0;
	if (j->uncut)
		return error_set_errno(err, j->uncut, "cannot cut the journal %s", j->path);
	if (write_all(j, j->pending, j->pending_count * RECORD, HEADER + j->count * RECORD, err) < 0)
		return -1;
	if (fdatasync(j->fd) < 0)
		return error_set_errno(err, errno, "cannot sync the journal %s", j->path);
	j->count += j->pending_count;
	j->cursor = j->count; /* what this run wrote is nothing to go by for it */
	j->have_ahead = false;
	j->pending_count = 0;
	return 0;
}

int block_journal_note(struct block_journal *j, const struct block_record *record, bool known, struct error **err)
{
	unsigned char *bytes;

	LOCK_GUARD(&j->lock);
	if (known && record->place < j->count)
		return 0;
	if (j->pending_count == PENDING_MAX)
		return error_set(err, ERROR_PERMANENT, "JournalFull", "the journal %s was not committed for too long", j->path);
	bytes = j->pending + j->pending_count * RECORD;
	put_le64(bytes, record->block);
	put_le64(bytes + 8, record->data_bytes);
	memcpy(bytes + 16, record->node, DIGEST_SIZE);
	if (!checksum(j, bytes, bytes + CHECKED))
		return error_set(err, ERROR_TRANSIENT, "DigestFailed", "the hash library failed");
	j->pending_count++;
	return 0;
}

int block_journal_commit(struct block_journal *j, struct error **err)
{
	LOCK_GUARD(&j->lock);
	return append(j, err);
}
