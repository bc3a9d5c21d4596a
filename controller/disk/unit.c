#include "disk/unit.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "disk/codec.h"

struct unit_tools {
	struct codec *codec;
	struct digest_hasher *hasher;
};

struct unit_tools *unit_tools_new(struct error **err)
{
	struct unit_tools *t = calloc(1, sizeof *t);

	if (t && (t->codec = codec_new()) && (t->hasher = digest_hasher_new(NULL)))
		return t;
	unit_tools_free(t);
	error_set_errno(err, ENOMEM, "cannot decode the disk");
	return NULL;
}

void unit_tools_free(struct unit_tools *t)
{
	if (!t)
		return;
	codec_free(t->codec);
	digest_hasher_free(t->hasher);
	free(t);
}

/* Where a piece came from, in words. */
static const char *file_of(const struct piece *p)
{
	return p->file ? p->file : "the stream";
}

int unit_twice(const struct unit *u, const struct piece *p, struct error **err)
{
	return error_set(err, ERROR_PERMANENT, "InvalidStream", "byte %llu of the disk comes twice, the second time at byte %llu of %s",
			 (unsigned long long)(u->block * DISK_DIGEST_BLOCK + p->at), (unsigned long long)p->stream_offset, file_of(p));
}

/* Some writers fill up the grain in which the disk ends; the block has room for it. */
static size_t inflated_most(const struct unit *u, const struct piece *p)
{
	bool short_last = p->at + p->len == u->len && p->len < u->grain && u->grain <= DISK_DIGEST_BLOCK - p->at;

	return short_last ? u->grain : p->len;
}

static int inflate_piece(struct unit_tools *t, const struct unit *u, const struct piece *p, struct error **err)
{
	const char *fault =
		codec_inflate(t->codec, p->codec, u->data + p->stored_at, p->stored, u->block_buffer + p->at, p->len, inflated_most(u, p));
	uint64_t guest = u->block * DISK_DIGEST_BLOCK + p->at;

	if (!fault)
		return 0;
	/* Passing: a second copy of the stream may be sound. */
	return error_set(err, ERROR_TRANSIENT, "CorruptGrain", "grain %llu (byte %llu of the disk) at byte %llu of %s %s",
			 (unsigned long long)(u->grain ? guest / u->grain : 0), (unsigned long long)guest,
			 (unsigned long long)p->stream_offset, file_of(p), fault);
}

/* True when the file has nothing but zeros where the pieces belong. */
static int check_unwritten(const struct unit *u, struct error **err)
{
	for (size_t i = 0; i < u->piece_count; i++) {
		const struct piece *p = &u->pieces[i];
		uint64_t at = u->block * (uint64_t)DISK_DIGEST_BLOCK + p->at;
		ssize_t n = output_read(u->output, u->block_buffer, p->len, at);

		if (n < 0)
			return error_set_errno(err, errno, "cannot read %u bytes at %llu of %s", p->len, (unsigned long long)at, u->path);
		if (!digest_all_zero(u->block_buffer, (size_t)n))
			return unit_twice(u, p, err);
	}
	return 0;
}

int unit_decode(struct unit_tools *t, struct unit *u, struct error **err)
{
	uint32_t filled = 0;

	if (u->again && check_unwritten(u, err) < 0)
		return -1;
	if (u->piece_count == 1 && u->pieces[0].codec == PIECE_STORED && u->pieces[0].len == u->len) {
		u->bytes = u->data;
		return 0;
	}
	u->bytes = u->block_buffer;
	for (size_t i = 0; i < u->piece_count; i++) {
		const struct piece *p = &u->pieces[i];

		memset(u->block_buffer + filled, 0, p->at - filled);
		if (p->codec == PIECE_STORED)
			memcpy(u->block_buffer + p->at, u->data + p->stored_at, p->len);
		else if (inflate_piece(t, u, p, err) < 0)
			return -1;
		filled = p->at + p->len;
	}
	memset(u->block_buffer + filled, 0, u->len - filled);
	return 0;
}

static uint64_t data_bytes(const struct unit *u)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < sizeof u->map.data / sizeof *u->map.data; i++)
		bytes += (uint64_t)__builtin_popcountll(u->map.data[i]) * DIGEST_STEP;
	if (u->len % DIGEST_STEP && digest_map_has(&u->map, u->len / DIGEST_STEP))
		bytes -= DIGEST_STEP - u->len % DIGEST_STEP;
	return bytes;
}

int unit_examine(struct unit_tools *t, struct unit *u, bool *write, struct error **err)
{
	digest_map_block(&u->map, u->bytes, u->len);
	if (!u->no_node && !digest_block(t->hasher, u->bytes, u->len, &u->map, u->node))
		return error_set(err, ERROR_TRANSIENT, "DigestFailed", "the hash library failed");
	u->written = data_bytes(u);
	u->known = u->recorded && u->record.block == u->block && !memcmp(u->node, u->record.node, DIGEST_SIZE);
	*write = !u->known && (u->written || (!u->again && output_needs_zeros(u->output, u->block * (uint64_t)DISK_DIGEST_BLOCK)));
	/* What the journal says of this block, or that it was zero, is to be forgotten before the block is touched. */
	if (u->known || !u->recorded || (!u->written && u->record.block != u->block))
		return 0;
	return block_journal_forget(u->journal, u->record.place, err);
}

int unit_write(struct unit *u, struct error **err)
{
	return output_write_block(u->output, u->bytes, u->len, u->block * (uint64_t)DISK_DIGEST_BLOCK, &u->map, !u->again, err);
}
