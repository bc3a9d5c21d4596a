#include "disk/pipeline.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>

#include "disk/bytes.h"
#include "disk/decoder.h"
#include "disk/unit.h"

/* Writeback is started this often, and what lies so far behind leaves the page cache: a long copy must not push out everything else. */
#define WINDOW (UINT64_C(32) << 20)
#define KEEP_CACHED (UINT64_C(256) << 20)

struct disk_pipeline {
	struct disk_pipeline_options options;
	char *path;
	int fd;
	struct decoder *decoder;
	unsigned char start[4]; /* of the stream, until the format is known */
	size_t start_len;

	uint64_t capacity;
	bool have_capacity;
	uint64_t stream_bytes;

	unsigned held;              /* units */
	struct unit *current;       /* being filled */
	struct unit *first, **last; /* submitted, in the disk's order; only the pushing thread's */

	pthread_mutex_t lock; /* guards the units' finished */
	pthread_cond_t finished;

	uint64_t next_block; /* after the highest that was begun */
	bool unordered;      /* the stream went back: the tree is useless, the file tells the digest at the end */
	uint32_t grain;      /* bytes; 0: the format has none */
	struct digest_tree tree;
	uint64_t data_bytes;
	uint64_t flushed;    /* of the file: up to where writeback was started */
	struct error *error; /* the first; there is no going on after it */
};

static void unit_done(struct unit *u)
{
	struct disk_pipeline *p = u->owner;

	LOCK_GUARD(&p->lock);
	u->finished = true;
	pthread_cond_signal(&p->finished);
}

/* Starts writeback of what was written up to `end`, and drops the cache of what lies far behind. */
static void flush_behind(struct disk_pipeline *p, uint64_t end)
{
	if (end < p->flushed || end - p->flushed < WINDOW)
		return;
	sync_file_range(p->fd, (off_t)p->flushed, (off_t)(end - p->flushed), SYNC_FILE_RANGE_WRITE);
	if (p->flushed > KEEP_CACHED)
		posix_fadvise(p->fd, 0, (off_t)(p->flushed - KEEP_CACHED), POSIX_FADV_DONTNEED);
	p->flushed = end;
}

/* Takes back the first submitted unit; waits for it when told to. False when there is none, or it is not finished. */
static bool retire(struct disk_pipeline *p, bool wait)
{
	struct unit *u = p->first;

	if (!u)
		return false;
	pthread_mutex_lock(&p->lock);
	while (wait && !u->finished)
		pthread_cond_wait(&p->finished, &p->lock);
	bool finished = u->finished;
	pthread_mutex_unlock(&p->lock);
	if (!finished)
		return false;
	p->first = u->after;
	if (!p->first)
		p->last = &p->first;
	if (u->error && !p->error)
		p->error = move_ptr(u->error);
	error_free(move_ptr(u->error));
	if (!p->error) {
		if (!p->unordered)
			digest_tree_add(&p->tree, u->block, u->leaf);
		p->data_bytes += u->written;
		flush_behind(p, (u->block + 1) * DISK_DIGEST_BLOCK);
	}
	workers_give_unit(p->options.workers, u, p->held--);
	return true;
}

static int take_error(struct disk_pipeline *p, struct error **err)
{
	if (!p->error)
		return 0;
	error_set_code(err, p->error->class, p->error->reason, p->error->code, "%s", p->error->message);
	return -1;
}

static void submit(struct disk_pipeline *p)
{
	struct unit *u = p->current;

	if (!u)
		return;
	p->current = NULL;
	u->after = NULL;
	*p->last = u;
	p->last = &u->after;
	workers_submit(p->options.workers, u);
}

/* Waits until no unit of the block is with the workers. */
static void await_block(struct disk_pipeline *p, uint64_t block)
{
	for (const struct unit *u = p->first; u;) {
		if (u->block == block) {
			retire(p, true);
			u = p->first;
		} else {
			u = u->after;
		}
	}
}

static struct unit *fresh_unit(struct disk_pipeline *p, uint64_t block, struct error **err)
{
	uint64_t left = p->capacity - block * DISK_DIGEST_BLOCK;
	struct unit *u;

	while (retire(p, false))
		;
	while (!(u = workers_take_unit(p->options.workers, p->held))) {
		if (!retire(p, true)) {
			error_set_errno(err, ENOMEM, "cannot decode %s", p->path);
			return NULL;
		}
	}
	p->held++;
	u->owner = p;
	u->done = unit_done;
	u->fd = p->fd;
	u->path = p->path;
	u->block = block;
	/* A raw stream of unknown length ends with its last piece. */
	u->len = p->have_capacity ? (left < DISK_DIGEST_BLOCK ? (uint32_t)left : DISK_DIGEST_BLOCK) : 0;
	u->data_len = u->piece_count = 0;
	u->written = 0;
	u->finished = false;
	u->grain = p->grain;
	u->again = block < p->next_block;
	if (u->again) {
		p->unordered = true;
		await_block(p, block);
	} else {
		p->next_block = block + 1;
	}
	u->no_leaf = p->unordered;
	return u;
}

/* Where a piece belongs in the unit's ascending list, at which it makes room. NULL: there is something already. */
static struct piece *place(struct unit *u, uint32_t at, uint32_t len, uint64_t stream_offset, struct error **err)
{
	size_t i = u->piece_count;

	while (i && u->pieces[i - 1].at >= at + len)
		i--;
	if (i && u->pieces[i - 1].at + u->pieces[i - 1].len > at) {
		unit_twice(u, &(struct piece){ .at = at, .stream_offset = stream_offset }, err);
		return NULL;
	}
	if (u->piece_count == UNIT_PIECES) {
		error_set(err, ERROR_PERMANENT, "InvalidStream", "too many pieces for one MiB of the disk at byte %llu of the stream",
			  (unsigned long long)stream_offset);
		return NULL;
	}
	memmove(&u->pieces[i + 1], &u->pieces[i], (u->piece_count - i) * sizeof *u->pieces);
	u->piece_count++;
	return &u->pieces[i];
}

static int on_piece(void *arg, uint64_t guest_offset, size_t guest_len, const void *data, size_t stored, bool compressed,
		    uint64_t stream_offset, struct error **err)
{
	struct disk_pipeline *p = arg;
	uint64_t block = guest_offset / DISK_DIGEST_BLOCK;
	uint32_t at = (uint32_t)(guest_offset % DISK_DIGEST_BLOCK);
	struct unit *u = p->current;
	struct piece *last, *new;

	if (u && u->block != block) {
		submit(p);
		u = NULL;
	}
	if (!u) {
		if (take_error(p, err) < 0 || cancel_check(p->options.cancel, err) < 0)
			return -1;
		u = p->current = fresh_unit(p, block, err);
		if (!u)
			return -1;
	}
	if (stored > UNIT_DATA - u->data_len)
		return error_set(err, ERROR_PERMANENT, "InvalidStream", "too much data for one MiB of the disk at byte %llu of the stream",
				 (unsigned long long)stream_offset);
	last = u->piece_count ? &u->pieces[u->piece_count - 1] : NULL;
	if (last && !compressed && !last->compressed && last->at + last->len == at && last->stored_at + last->stored == u->data_len) {
		last->len += (uint32_t)guest_len;
		last->stored += (uint32_t)stored;
	} else {
		new = place(u, at, (uint32_t)guest_len, stream_offset, err);
		if (!new)
			return -1;
		*new = (struct piece){ .at = at,
				       .len = (uint32_t)guest_len,
				       .stored_at = (uint32_t)u->data_len,
				       .stored = (uint32_t)stored,
				       .stream_offset = stream_offset,
				       .compressed = compressed };
	}
	if (!p->have_capacity)
		u->len = at + (uint32_t)guest_len;
	memcpy(u->data + u->data_len, data, stored);
	u->data_len += stored;
	if (p->options.guest_bytes && guest_offset + guest_len > *p->options.guest_bytes)
		*p->options.guest_bytes = guest_offset + guest_len;
	return 0;
}

static int on_capacity(void *arg, uint64_t bytes, uint32_t grain, struct error **err)
{
	struct disk_pipeline *p = arg;

	if (p->options.capacity && p->options.capacity != bytes)
		return error_set(err, ERROR_PERMANENT, "CapacityMismatch", "the stream is of a disk of %llu bytes, expected %llu",
				 (unsigned long long)bytes, (unsigned long long)p->options.capacity);
	p->capacity = bytes;
	p->have_capacity = true;
	p->grain = grain;
	if (ftruncate(p->fd, (off_t)bytes) < 0)
		return error_set_errno(err, errno, "cannot make %s %llu bytes long", p->path, (unsigned long long)bytes);
	return 0;
}

/* A decoder of the format, NULL when there is none. */
static struct decoder *decoder_of(struct disk_pipeline *p, const char *format, struct error **err)
{
	struct piece_sink sink = { .arg = p, .capacity = on_capacity, .piece = on_piece };
	struct decoder *decoder = NULL;

	if (!strcmp(format, "vmdk-stream"))
		decoder = vmdk_stream_decoder_new(&sink);
	else if (!strcmp(format, "raw"))
		decoder = raw_decoder_new(&sink, p->options.capacity);
	else
		error_set(err, ERROR_PERMANENT, "UnknownFormat", "a stream of the format \"%s\" cannot be decoded", format);
	if (!decoder && (!err || !*err))
		error_set_errno(err, ENOMEM, "cannot decode the disk");
	return decoder;
}

struct disk_pipeline *disk_pipeline_new(const struct disk_pipeline_options *options, struct error **err)
{
	struct disk_pipeline *p = calloc(1, sizeof *p);

	if (!p || !(p->path = strdup(options->path))) {
		free(p);
		error_set_errno(err, ENOMEM, "cannot write %s", options->path);
		return NULL;
	}
	p->options = *options;
	workers_enter(options->workers);
	p->last = &p->first;
	p->fd = -1;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->finished, NULL);
	if (options->capacity > INT64_MAX) {
		error_set(err, ERROR_PERMANENT, "InvalidCapacity", "a disk of %llu bytes is impossible",
			  (unsigned long long)options->capacity);
		goto fail;
	}
	p->fd = open(options->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	/* Truncated to nothing first, so that all is a hole. */
	if (p->fd < 0 || ftruncate(p->fd, 0) < 0) {
		error_set_errno(err, errno, "cannot create %s", options->path);
		goto fail;
	}
	if (options->format && !(p->decoder = decoder_of(p, options->format, err)))
		goto fail;
	return p;
fail:
	disk_pipeline_free(p);
	return NULL;
}

/* By the first four bytes. A text that a server sent instead of a disk goes where it is told from one. */
static const char *format_of(const unsigned char start[4])
{
	static const char stream[][5] = { "KDMV", "<!DO", "<!do", "<htm", "<HTM", "<?xm" };

	for (size_t i = 0; i < sizeof stream / sizeof *stream; i++)
		if (!memcmp(start, stream[i], 4))
			return "vmdk-stream";
	return "raw";
}

static int push(struct disk_pipeline *p, const unsigned char *data, size_t len, struct error **err)
{
	p->stream_bytes += len;
	if (!p->decoder) {
		while (p->start_len < sizeof p->start && len) {
			p->start[p->start_len++] = *data++;
			len--;
		}
		if (p->start_len < sizeof p->start)
			return 0;
		p->decoder = decoder_of(p, format_of(p->start), err);
		if (!p->decoder || p->decoder->ops->push(p->decoder, p->start, sizeof p->start, err) < 0)
			return -1;
	}
	return p->decoder->ops->push(p->decoder, data, len, err);
}

int disk_pipeline_push(struct disk_pipeline *p, const void *data, size_t len, struct error **err)
{
	AUTO_ERROR struct error *why = NULL;

	while (retire(p, false))
		;
	if (take_error(p, err) < 0 || cancel_check(p->options.cancel, err) < 0)
		return -1;
	if (push(p, data, len, &why) == 0)
		return 0;
	if (!p->error)
		p->error = move_ptr(why);
	return take_error(p, err);
}

/* The decoder's last word, and what the units that are still with the workers say. */
static int drain(struct disk_pipeline *p, struct error **err)
{
	AUTO_ERROR struct error *why = NULL;

	if (take_error(p, err) < 0 || cancel_check(p->options.cancel, err) < 0)
		return -1;
	if (p->decoder)
		p->decoder->ops->finish(p->decoder, &why);
	else if (p->start_len)
		error_set(&why, ERROR_TRANSIENT, "StreamTruncated", "the stream ended after %zu bytes", p->start_len);
	else
		error_set(&why, ERROR_TRANSIENT, "StreamTruncated", "the stream is empty");
	submit(p);
	while (retire(p, true))
		;
	if (!p->error)
		p->error = move_ptr(why);
	return take_error(p, err);
}

/* A raw stream of unknown length has told it by ending. */
static int settle_capacity(struct disk_pipeline *p, struct error **err)
{
	if (p->have_capacity)
		return 0;
	p->capacity = p->stream_bytes;
	if (ftruncate(p->fd, (off_t)p->capacity) < 0)
		return error_set_errno(err, errno, "cannot make %s %llu bytes long", p->path, (unsigned long long)p->capacity);
	return 0;
}

int disk_pipeline_finish(struct disk_pipeline *p, struct disk_result *result, struct error **err)
{
	struct disk_result r;

	if (drain(p, err) < 0 || settle_capacity(p, err) < 0)
		return -1;
	if (!p->options.no_sync && fdatasync(p->fd) < 0)
		return error_set_errno(err, errno, "cannot sync %s", p->path);
	r = (struct disk_result){ .capacity = p->capacity, .data_bytes = p->data_bytes, .stream_bytes = p->stream_bytes };
	if (p->unordered ? digest_descriptor(p->fd, p->path, p->capacity, p->options.cancel, r.digest, err)
			 : digest_tree_finish(&p->tree, p->capacity, r.digest, err))
		return -1;
	if (p->options.guest_bytes)
		*p->options.guest_bytes = p->capacity;
	*result = r;
	return 0;
}

void disk_pipeline_free(struct disk_pipeline *p)
{
	if (!p)
		return;
	while (retire(p, true))
		;
	if (p->current)
		workers_give_unit(p->options.workers, p->current, p->held--);
	workers_leave(p->options.workers);
	if (p->decoder)
		p->decoder->ops->free(p->decoder);
	if (p->fd >= 0)
		close(p->fd);
	error_free(p->error);
	pthread_cond_destroy(&p->finished);
	pthread_mutex_destroy(&p->lock);
	free(p->path);
	free(p);
}
