/* From an image's layers to pieces. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk/codec.h"
#include "disk/digest.h"
#include "disk/foreign.h"
#include "disk/image_parts.h"

#define STEP 4096u /* what compressed pieces are aligned to; gaps below it are filled, so that a MiB has no more pieces than it may */
#define WHOLE_MAX (2u << 20) /* the largest cluster of qcow2 */

struct walk {
	struct disk_image *image;
	const struct piece_sink *sink;
	struct cancel *cancel;
	uint64_t stored_end; /* where the last stored piece ended */

	/* For what the workers cannot inflate: the cluster that was inflated last. */
	struct codec *codec;
	unsigned char *packed, *whole;
	const char *whole_name;
	uint64_t whole_from, whole_at;
	size_t whole_good; /* bytes of it that are known to be there */
};

/* What the topmost layer that says anything says. */
static int map(struct disk_image *image, uint64_t at, struct run *run, struct error **err)
{
	uint64_t most = image->info.capacity - at;

	for (unsigned i = 0; i < image->layer_count; i++) {
		struct layer *layer = image->layers[i];
		struct hole *hole = &image->holes[i];
		uint64_t there = layer->capacity > at ? layer->capacity - at : 0;

		if (!there) /* a parent that is smaller: zero from here on */
			break;
		if (at < hole->from || at >= hole->to) {
			if (layer->ops->map(layer, at, most < there ? most : there, run, err) < 0)
				return -1;
			if (run->kind != RUN_HOLE)
				return 0;
			*hole = (struct hole){ at, at + run->len };
		}
		most = hole->to - at < most ? hole->to - at : most;
	}
	*run = (struct run){ .kind = RUN_ZERO, .len = most };
	return 0;
}

/* Room for stored bytes, which the caller fills at once. */
static unsigned char *room(struct walk *w, uint64_t at, size_t len, const struct run *run, uint64_t from, struct error **err)
{
	struct piece_place place = {
		.guest_offset = at, .guest_len = len, .stored = len, .codec = PIECE_STORED, .from = from, .file = run->name
	};

	w->stored_end = at + len;
	return w->sink->room(w->sink->arg, &place, err);
}

/* Zeros between the last stored piece and this one, when they are of the same MiB and near. */
static int fill_gap(struct walk *w, uint64_t at, const struct run *run, struct error **err)
{
	uint64_t gap = at - w->stored_end;
	unsigned char *to;

	if (!gap || gap >= STEP || w->stored_end / DISK_DIGEST_BLOCK != at / DISK_DIGEST_BLOCK || !(w->stored_end % DISK_DIGEST_BLOCK))
		return 0;
	to = room(w, w->stored_end, (size_t)gap, run, run->at, err);
	if (!to)
		return -1;
	memset(to, 0, (size_t)gap);
	return 0;
}

/* How much of len bytes at `at` lies in the same MiB. */
static size_t in_block(uint64_t at, uint64_t len)
{
	uint64_t left = DISK_DIGEST_BLOCK - at % DISK_DIGEST_BLOCK;

	return (size_t)(len < left ? len : left);
}

static int walk_data(struct walk *w, uint64_t at, const struct run *run, struct error **err)
{
	uint64_t from = run->at;

	if (fill_gap(w, at, run, err) < 0)
		return -1;
	for (uint64_t left = run->len; left;) {
		size_t n = in_block(at, left);
		unsigned char *to = room(w, at, n, run, from, err);

		if (!to)
			return -1;
		if (disk_input_read(run->input, from, to, n, err) < 0) {
			memset(to, 0, n); /* what was there is another disk's */
			return -1;
		}
		at += n;
		from += n;
		left -= n;
	}
	return 0;
}

/* Inflates here what the workers cannot: a part of a cluster, or one that is not as they want pieces. */
static int inflate(struct walk *w, uint64_t at, const struct run *run, struct error **err)
{
	size_t least = (size_t)(at + run->len - run->whole_at);
	const char *fault;

	if (w->whole_name == run->name && w->whole_from == run->at && w->whole_at == run->whole_at && least <= w->whole_good)
		return 0;
	if ((!w->codec && !(w->codec = codec_new())) || (!w->whole && !(w->whole = malloc(WHOLE_MAX))) ||
	    (!w->packed && !(w->packed = malloc(2 * WHOLE_MAX))))
		return error_set_errno(err, ENOMEM, "cannot read %s", run->name);
	if (run->whole_len > WHOLE_MAX || run->stored > 2 * WHOLE_MAX)
		return error_set(err, ERROR_PERMANENT, "InvalidImage", "%s has a cluster of %u bytes at byte %llu, more than any may have",
				 run->name, run->stored, (unsigned long long)run->at);
	w->whole_name = NULL;
	if (disk_input_read(run->input, run->at, w->packed, run->stored, err) < 0)
		return -1;
	fault = codec_inflate(w->codec, run->codec, w->packed, run->stored, w->whole, least, run->whole_len);
	if (fault)
		return error_set(err, ERROR_TRANSIENT, "CorruptGrain", "what %s has for byte %llu of the disk, at its byte %llu, %s",
				 run->name, (unsigned long long)run->whole_at, (unsigned long long)run->at, fault);
	w->whole_name = run->name;
	w->whole_from = run->at;
	w->whole_at = run->whole_at;
	w->whole_good = least;
	return 0;
}

static int walk_packed(struct walk *w, uint64_t at, const struct run *run, struct error **err)
{
	bool as_it_is = run->whole_at == at && run->whole_len == run->len && !(at % STEP) && run->len >= STEP &&
			in_block(at, run->len) == run->len && run->stored <= run->whole_len + run->whole_len / 4 + 512;
	struct piece_place place = { .guest_offset = at, .stored = run->stored, .codec = run->codec, .from = run->at, .file = run->name };
	unsigned char *to;

	if (as_it_is) {
		place.guest_len = run->whole_len;
		to = w->sink->room(w->sink->arg, &place, err);
		if (!to)
			return -1;
		if (disk_input_read(run->input, run->at, to, run->stored, err) == 0)
			return 0;
		memset(to, 0, run->stored);
		return -1;
	}
	if (inflate(w, at, run, err) < 0 || !w->whole || fill_gap(w, at, run, err) < 0)
		return -1;
	for (uint64_t left = run->len; left;) {
		size_t n = in_block(at, left);

		to = room(w, at, n, run, run->at, err);
		if (!to)
			return -1;
		memcpy(to, w->whole + (at - run->whole_at), n);
		at += n;
		left -= n;
	}
	return 0;
}

static int walk(struct walk *w, uint64_t from, struct error **err)
{
	uint64_t capacity = w->image->info.capacity;
	struct run run;

	if (w->sink->capacity(w->sink->arg, capacity, w->image->layers[0]->grain, err) < 0)
		return -1;
	for (uint64_t at = from; at < capacity; at += run.len) {
		if (cancel_check(w->cancel, err) < 0 || map(w->image, at, &run, err) < 0)
			return -1;
		if (run.kind == RUN_DATA && walk_data(w, at, &run, err) < 0)
			return -1;
		if (run.kind == RUN_PACKED && walk_packed(w, at, &run, err) < 0)
			return -1;
	}
	return 0;
}

int disk_image_walk(struct disk_image *image, uint64_t from, const struct piece_sink *sink, struct cancel *cancel, struct error **err)
{
	if (image->foreign)
		return foreign_walk(image->foreign, from, sink, cancel, err);

	struct walk w = { .image = image, .sink = sink, .cancel = cancel, .stored_end = from };
	int result = walk(&w, from, err);

	codec_free(w.codec);
	free(w.packed);
	free(w.whole);
	return result;
}

int disk_image_allocated(struct disk_image *image, uint64_t *bytes, struct cancel *cancel, struct error **err)
{
	uint64_t sum = 0;
	struct run run;

	if (image->foreign) {
		sum = disk_input_size(image->inputs[0]);
		*bytes = sum < image->info.capacity ? sum : image->info.capacity;
		return 0;
	}
	for (uint64_t at = 0; at < image->info.capacity; at += run.len) {
		if (cancel_check(cancel, err) < 0 || map(image, at, &run, err) < 0)
			return -1;
		if (run.kind == RUN_DATA || run.kind == RUN_PACKED)
			sum += run.len;
	}
	*bytes = sum;
	return 0;
}
