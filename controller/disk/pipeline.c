#include "disk/pipeline.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "disk/decoder.h"
#include "disk/image.h"
#include "disk/unit.h"

#define CHECKPOINT (UINT64_C(256) << 20) /* bytes that are written between two syncs of a disk with a journal */
#define CHECKPOINT_BLOCKS 2048

struct disk_pipeline {
	struct disk_pipeline_options options;
	char *path;
	struct disk_output *output;
	struct block_journal *journal; /* NULL: none, or of no use any more */
	enum disk_journal_use journal_use;
	uint64_t uncommitted; /* bytes written since the last checkpoint */
	unsigned uncommitted_blocks;
	bool finished_well;
	struct decoder *decoder;
	struct disk_image *image; /* that is read instead; NULL: none, or no more */
	bool pulled;
	unsigned char start[4]; /* of the stream, until the format is known */
	size_t start_len;

	uint64_t capacity;
	bool have_capacity;
	uint64_t stream_bytes;

	struct workers_share share;
	struct unit *current;       /* being filled */
	struct unit *first, **last; /* submitted, in the disk's order; only the pushing thread's */
	struct unit *spare;

	pthread_mutex_t lock; /* guards the units' finished */
	pthread_cond_t finished;

	uint64_t next_block; /* after the highest that was begun */
	bool unordered;      /* the stream went back: the tree is useless, the file tells the digest at the end */
	uint32_t grain;      /* bytes; 0: the format has none */
	uint64_t resumed;    /* bytes of a raw disk that are there from an earlier run */
	struct digest_hasher *hasher;
	struct digest_tree tree;
	uint64_t data_bytes;
	struct error *error; /* the first; there is no going on after it */
};

static void unit_done(struct unit *u)
{
	struct disk_pipeline *p = u->owner;

	LOCK_GUARD(&p->lock);
	u->finished = true;
	pthread_cond_signal(&p->finished);
}

/* What was noted so far is made durable: first the disk, then the journal that speaks of it (disk/block_journal.h). */
static int checkpoint(struct disk_pipeline *p, struct error **err)
{
	p->uncommitted = p->uncommitted_blocks = 0;
	return output_sync(p->output, err) < 0 ? -1 : block_journal_commit(p->journal, err);
}

static int note(struct disk_pipeline *p, const struct unit *u, struct error **err)
{
	struct block_record record = { .block = u->block, .data_bytes = u->written, .place = u->record.place };

	if (!p->journal || !u->written || u->partial)
		return 0;
	memcpy(record.node, u->node, sizeof record.node);
	if (block_journal_note(p->journal, &record, u->known, err) < 0)
		return -1;
	p->uncommitted += u->known ? 0 : u->written;
	p->uncommitted_blocks++;
	return p->uncommitted < (p->options.checkpoint ? p->options.checkpoint : CHECKPOINT) && p->uncommitted_blocks < CHECKPOINT_BLOCKS
		       ? 0
		       : checkpoint(p, err);
}

static void give_unit(struct disk_pipeline *p, struct unit *u)
{
	u->after = p->spare;
	p->spare = u;
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
			digest_tree_add(&p->tree, u->block, u->node);
		p->data_bytes += u->written;
		output_passed(p->output, (u->block + 1) * DISK_DIGEST_BLOCK);
		note(p, u, &p->error);
	}
	give_unit(p, u);
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

/* Makes zero what was passed over, [from, to) in blocks, where it may not be. */
static int pass_over(struct disk_pipeline *p, uint64_t from, uint64_t to, struct error **err)
{
	uint64_t start = from * DISK_DIGEST_BLOCK, end = to * DISK_DIGEST_BLOCK;
	struct block_record record;

	if (p->journal && block_journal_peek(p->journal, from, &record) && record.block < to &&
	    block_journal_forget(p->journal, record.place, err) < 0)
		return -1;
	end = p->have_capacity && end > p->capacity ? p->capacity : end;
	return start < end ? output_zero_unknown(p->output, start, end, p->options.cancel, err) : 0;
}

/* The stream goes back: what was digested and noted of blocks is not all of them. */
static int go_unordered(struct disk_pipeline *p, struct error **err)
{
	struct block_journal *journal = move_ptr(p->journal);
	int result = 0;

	p->unordered = true;
	if (journal) {
		while (retire(p, true)) /* they may use it */
			;
		result = block_journal_forget(journal, 0, err);
		block_journal_close(journal);
	}
	return result;
}

static struct unit *empty_unit(struct disk_pipeline *p)
{
	struct unit *u = p->spare;

	if (u)
		p->spare = u->after;
	else
		u = calloc(1, sizeof *u);
	if (u && !(u->data = workers_take_data(p->options.workers, &p->share))) {
		free(u);
		u = NULL;
	}
	return u;
}

static struct unit *fresh_unit(struct disk_pipeline *p, uint64_t block, struct error **err)
{
	uint64_t left = p->capacity - block * DISK_DIGEST_BLOCK;
	bool again = block < p->next_block;
	struct unit *u;

	while (retire(p, false))
		;
	if (p->image) /* memory is shared with whoever came or went meanwhile */
		disk_image_limit_ahead(p->image, DISK_INPUT_AHEAD / workers_pipelines(p->options.workers));
	if (again && !p->unordered && go_unordered(p, err) < 0)
		return NULL;
	if (again)
		await_block(p, block);
	else if (pass_over(p, p->next_block, block, err) < 0)
		return NULL;
	u = empty_unit(p);
	if (!u) {
		error_set_errno(err, ENOMEM, "cannot decode %s", p->path);
		return NULL;
	}
	u->owner = p;
	u->share = &p->share;
	u->done = unit_done;
	u->output = p->output;
	u->path = p->path;
	u->journal = p->journal;
	u->recorded = p->journal && block_journal_peek(p->journal, block, &u->record);
	u->block = block;
	/* A raw stream of unknown length ends with its last piece. */
	u->len = p->have_capacity ? (left < DISK_DIGEST_BLOCK ? (uint32_t)left : DISK_DIGEST_BLOCK) : 0;
	u->data_len = u->piece_count = 0;
	u->written = 0;
	u->known = u->finished = u->partial = false;
	u->grain = p->grain;
	u->again = again;
	u->no_node = p->unordered;
	if (!again)
		p->next_block = block + 1;
	return u;
}

/* Where a piece belongs in the unit's ascending list, at which it makes room. NULL: there is something already. */
static struct piece *make_place(struct unit *u, uint32_t at, uint32_t len, uint64_t stream_offset, struct error **err)
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

static void *on_room(void *arg, const struct piece_place *place, struct error **err)
{
	struct disk_pipeline *p = arg;
	uint64_t block = place->guest_offset / DISK_DIGEST_BLOCK, end = place->guest_offset + place->guest_len;
	uint32_t at = (uint32_t)(place->guest_offset % DISK_DIGEST_BLOCK), len = (uint32_t)place->guest_len;
	struct unit *u = p->current;
	struct piece *last, *new;
	void *room;

	if (u && u->block != block) {
		submit(p);
		u = NULL;
	}
	if (!u) {
		if (take_error(p, err) < 0 || cancel_check(p->options.cancel, err) < 0)
			return NULL;
		u = p->current = fresh_unit(p, block, err);
		if (!u)
			return NULL;
	}
	if (place->stored > UNIT_DATA - u->data_len) {
		error_set(err, ERROR_PERMANENT, "InvalidStream", "too much data for one MiB of the disk at byte %llu of %s",
			  (unsigned long long)place->from, place->file ? place->file : "the stream");
		return NULL;
	}
	last = u->piece_count ? &u->pieces[u->piece_count - 1] : NULL;
	if (last && place->codec == PIECE_STORED && last->codec == PIECE_STORED && last->at + last->len == at &&
	    last->stored_at + last->stored == u->data_len) {
		last->len += len;
		last->stored += (uint32_t)place->stored;
	} else {
		new = make_place(u, at, len, place->from, err);
		if (!new)
			return NULL;
		*new = (struct piece){ .at = at,
				       .len = len,
				       .stored_at = (uint32_t)u->data_len,
				       .stored = (uint32_t)place->stored,
				       .stream_offset = place->from,
				       .file = place->file,
				       .codec = place->codec };
	}
	if (!p->have_capacity)
		u->len = at + len;
	room = u->data + u->data_len;
	u->data_len += place->stored;
	if (p->options.guest_bytes && end > *p->options.guest_bytes)
		*p->options.guest_bytes = end;
	return room;
}

static int on_piece(void *arg, uint64_t guest_offset, size_t guest_len, const void *data, size_t stored, enum piece_codec codec,
		    uint64_t stream_offset, struct error **err)
{
	struct piece_place place = {
		.guest_offset = guest_offset, .guest_len = guest_len, .stored = stored, .codec = codec, .from = stream_offset
	};
	void *room = on_room(arg, &place, err);

	if (!room)
		return -1;
	memcpy(room, data, stored);
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
	return output_set_size(p->output, bytes, false, err);
}

static struct piece_sink sink_of(struct disk_pipeline *p)
{
	return (struct piece_sink){ .arg = p, .capacity = on_capacity, .piece = on_piece, .room = on_room };
}

/* A decoder of the format, NULL when there is none. */
static struct decoder *decoder_of(struct disk_pipeline *p, const char *format, struct error **err)
{
	struct piece_sink sink = sink_of(p);
	struct decoder *decoder = NULL;

	if (!strcmp(format, "vmdk-stream"))
		decoder = vmdk_stream_decoder_new(&sink);
	else if (!strcmp(format, "raw"))
		decoder = raw_decoder_new(&sink, p->options.capacity, p->resumed);
	else
		error_set(err, ERROR_PERMANENT, "UnknownFormat", "a stream of the format \"%s\" cannot be decoded", format);
	if (!decoder && (!err || !*err))
		error_set_errno(err, ENOMEM, "cannot decode the disk");
	return decoder;
}

static enum disk_journal_use use_of(enum block_journal_origin origin)
{
	switch (origin) {
	case BLOCK_JOURNAL_OWN:
		return DISK_JOURNAL_GOES_ON;
	case BLOCK_JOURNAL_OTHER:
		return DISK_JOURNAL_OF_OTHER;
	case BLOCK_JOURNAL_BROKEN:
		return DISK_JOURNAL_BROKEN;
	case BLOCK_JOURNAL_NEW:
		break;
	}
	return DISK_JOURNAL_FRESH;
}

enum disk_journal_use disk_pipeline_journal_use(const struct disk_pipeline *p)
{
	return p->journal_use;
}

/* The journal, and how much of the file it vouches for. */
static int open_journal(struct disk_pipeline *p, uint64_t *kept, struct error **err)
{
	const struct disk_pipeline_options *o = &p->options;
	uint64_t data, least;
	struct stat st;

	*kept = 0;
	if (!o->journal)
		return 0;
	p->journal = block_journal_open(o->journal, o->identity ? o->identity : "", err);
	if (!p->journal)
		return -1;
	p->journal_use = use_of(block_journal_origin(p->journal));
	*kept = block_journal_end(p->journal, &data);
	if (!*kept)
		return 0;
	/* The last block may be the disk's last, and so a short one; a disk whose size is known was made so long at once. */
	least = !o->capacity ? *kept - DISK_DIGEST_BLOCK + data : *kept < o->capacity ? *kept : o->capacity;
	if (lstat(o->path, &st) < 0 || (S_ISREG(st.st_mode) && (uint64_t)st.st_size < least)) { /* not the file that it was */
		*kept = 0;
		p->journal_use = DISK_JOURNAL_DISK_GONE;
		return block_journal_forget(p->journal, 0, err);
	}
	return 0;
}

static bool known_format(const char *format)
{
	return !format || !strcmp(format, "vmdk-stream") || !strcmp(format, "raw");
}

int disk_pipeline_discard_journal(const char *path, struct error **err)
{
	return block_journal_discard(path, err);
}

bool disk_pipeline_foreign_journal(const char *path)
{
	return block_journal_is_foreign(path);
}

struct disk_pipeline *disk_pipeline_new(const struct disk_pipeline_options *options, struct error **err)
{
	struct disk_pipeline *p = calloc(1, sizeof *p);
	uint64_t kept;

	if (!p || !(p->path = strdup(options->path ? options->path : "the disk"))) {
		free(p);
		error_set_errno(err, ENOMEM, "cannot write %s", options->path ? options->path : "the disk");
		return NULL;
	}
	p->options = *options;
	workers_enter(options->workers);
	p->last = &p->first;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->finished, NULL);
	if (options->capacity > INT64_MAX)
		error_set(err, ERROR_PERMANENT, "InvalidCapacity", "a disk of %llu bytes is impossible",
			  (unsigned long long)options->capacity);
	else if (!known_format(options->format))
		error_set(err, ERROR_PERMANENT, "UnknownFormat", "a stream of the format \"%s\" cannot be decoded", options->format);
	else if (options->journal && options->qcow2)
		error_set(err, ERROR_PERMANENT, "NoResume", "a qcow2 image that was cut cannot be gone on with, so it takes no journal");
	else if ((p->hasher = digest_hasher_new(err)) && open_journal(p, &kept, err) == 0)
		p->output = output_open(options->path, options->qcow2, kept, err);
	p->tree.hasher = p->hasher;
	if (p->output)
		return p;
	disk_pipeline_free(p);
	return NULL;
}

uint64_t disk_pipeline_resume(struct disk_pipeline *p)
{
	struct block_record record;

	while (p->journal && !p->decoder && block_journal_peek(p->journal, p->next_block, &record)) {
		digest_tree_add(&p->tree, record.block, record.node);
		p->data_bytes += record.data_bytes;
		p->next_block = record.block + 1;
	}
	p->resumed = p->next_block * DISK_DIGEST_BLOCK;
	if (p->options.capacity && p->resumed > p->options.capacity)
		p->resumed = p->options.capacity;
	return p->resumed;
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
	if (!p->decoder && p->options.format && !(p->decoder = decoder_of(p, p->options.format, err)))
		return -1;
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

/* Hands on what is being filled, waits for all that the workers have, and tells the first error: theirs, or why the input ended. */
static int settle(struct disk_pipeline *p, struct error **why, struct error **err)
{
	if (p->current)
		p->current->partial = *why != NULL;
	submit(p);
	while (retire(p, true))
		;
	if (!p->error)
		p->error = move_ptr(*why);
	return take_error(p, err);
}

int disk_pipeline_pull(struct disk_pipeline *p, struct disk_image *image, uint64_t from, struct error **err)
{
	struct piece_sink sink = sink_of(p);
	AUTO_ERROR struct error *why = NULL;

	if (take_error(p, err) < 0)
		return -1;
	p->pulled = true;
	p->image = image;
	disk_image_walk(image, from, &sink, p->options.cancel, &why);
	p->image = NULL;
	return settle(p, &why, err);
}

/* The decoder's last word, and what the units that are still with the workers say. */
static int drain(struct disk_pipeline *p, struct error **err)
{
	AUTO_ERROR struct error *why = NULL;

	if (take_error(p, err) < 0 || cancel_check(p->options.cancel, err) < 0)
		return -1;
	if (!p->decoder && !p->pulled && p->options.format && !(p->decoder = decoder_of(p, p->options.format, err)))
		return -1;
	if (p->decoder)
		p->decoder->ops->finish(p->decoder, &why);
	else if (p->pulled)
		;
	else if (p->start_len)
		error_set(&why, ERROR_TRANSIENT, "StreamTruncated", "the stream ended after %zu bytes", p->start_len);
	else
		error_set(&why, ERROR_TRANSIENT, "StreamTruncated", "the stream is empty");
	return settle(p, &why, err);
}

/* A raw stream of unknown length has told it by ending. */
static int settle_capacity(struct disk_pipeline *p, struct error **err)
{
	if (p->have_capacity)
		return 0;
	p->capacity = p->resumed + p->stream_bytes;
	p->have_capacity = true;
	return output_set_size(p->output, p->capacity, true, err);
}

/* The digest of what is there, read with the memory that this pipeline may have anyhow. */
static int digest_again(struct disk_pipeline *p, char out[DISK_DIGEST_TEXT_SIZE], struct error **err)
{
	unsigned char *buffers[2] = { NULL };
	int result = -1;

	for (unsigned i = 0; i < 2; i++)
		buffers[i] = workers_take_data(p->options.workers, &p->share);
	if (buffers[0] && buffers[1])
		result = output_digest(p->output, p->capacity, buffers, 2, p->options.cancel, out, err);
	else
		error_set_errno(err, ENOMEM, "cannot read %s", p->path);
	for (unsigned i = 0; i < 2; i++)
		if (buffers[i])
			workers_give_data(p->options.workers, &p->share, buffers[i]);
	return result;
}

/* Whether the storage has what was written to it. What it has instead is not to be gone on with. */
static int verify(struct disk_pipeline *p, const char *digest, struct error **err)
{
	struct block_journal *journal = p->journal;
	char now[DISK_DIGEST_TEXT_SIZE];

	if (digest_again(p, now, err) < 0)
		return -1;
	if (!strcmp(now, digest))
		return 0;
	if (journal && block_journal_forget(journal, 0, err) < 0)
		return -1;
	p->journal = NULL; /* nor is what was noted since the last checkpoint */
	block_journal_close(journal);
	return error_set(
		err, ERROR_TRANSIENT, "VerifyFailed",
		"%s holds another disk than was written to it (digest %s, not %s): the storage lost or changed something; check it",
		p->path, now, digest);
}

int disk_pipeline_finish(struct disk_pipeline *p, struct disk_result *result, struct error **err)
{
	struct disk_result r;

	if (drain(p, err) < 0 || settle_capacity(p, err) < 0 || pass_over(p, p->next_block, UINT64_MAX / DISK_DIGEST_BLOCK, err) < 0)
		return -1;
	if (output_finish(p->output, p->capacity, !p->options.no_sync, err) < 0)
		return -1;
	r = (struct disk_result){ .capacity = p->capacity, .data_bytes = p->data_bytes, .stream_bytes = p->stream_bytes };
	if (p->unordered ? digest_again(p, r.digest, err) : digest_tree_finish(&p->tree, p->capacity, r.digest, err))
		return -1;
	if (p->options.verify && verify(p, r.digest, err) < 0)
		return -1;
	if (p->options.guest_bytes)
		*p->options.guest_bytes = p->capacity;
	*result = r;
	p->finished_well = true;
	return 0;
}

void disk_pipeline_free(struct disk_pipeline *p)
{
	struct unit *u;

	if (!p)
		return;
	while (retire(p, true))
		;
	/* What is right so far is not to be fetched or written again. */
	if (p->journal && p->output && !p->finished_well)
		checkpoint(p, NULL);
	if (p->current) {
		workers_give_data(p->options.workers, &p->share, move_ptr(p->current->data));
		give_unit(p, p->current);
	}
	while ((u = p->spare)) {
		p->spare = u->after;
		free(u);
	}
	workers_leave(p->options.workers);
	if (p->decoder)
		p->decoder->ops->free(p->decoder);
	block_journal_close(p->journal);
	output_close(p->output);
	digest_hasher_free(p->hasher);
	error_free(p->error);
	pthread_cond_destroy(&p->finished);
	pthread_mutex_destroy(&p->lock);
	free(p->path);
	free(p);
}
