/* An input whose bytes come from afar, through two windows. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "disk/input.h"

#define SMALL (16u << 10)       /* a read up to this size is one of tables */
#define AHEAD_SMALL (64u << 10) /* fetched at once for it */

struct window {
	unsigned char *bytes;
	size_t size, len; /* of the buffer; of what is in it */
	uint64_t from;
};

struct fetched {
	uint64_t size;
	struct disk_fetch_ops ops;
	void *arg;
	struct window small, large;
	const _Atomic size_t *most; /* bytes of data that are fetched at once; NULL: as many as ever */
};

static bool holds(const struct window *w, uint64_t offset, size_t len)
{
	return offset >= w->from && offset - w->from <= w->len && len <= w->len - (offset - w->from);
}

static size_t ahead_now(const struct fetched *f)
{
	size_t most = f->most ? *f->most : DISK_INPUT_AHEAD;

	return most < AHEAD_SMALL ? AHEAD_SMALL : most < DISK_INPUT_AHEAD ? most : DISK_INPUT_AHEAD;
}

static int fill(struct fetched *f, struct window *w, uint64_t offset, size_t ahead, struct error **err)
{
	uint64_t left = f->size - offset;
	size_t len = left < ahead ? (size_t)left : ahead;

	w->len = 0;
	if (w->size != ahead) {
		free(w->bytes);
		w->bytes = malloc(ahead);
		w->size = w->bytes ? ahead : 0;
	}
	if (!w->bytes)
		return error_set_errno(err, ENOMEM, "cannot read ahead");
	if (f->ops.fetch(f->arg, offset, w->bytes, len, err) < 0)
		return -1;
	w->from = offset;
	w->len = len;
	return 0;
}

static int read_fetched(void *arg, uint64_t offset, void *data, size_t len, struct error **err)
{
	struct fetched *f = arg;
	bool in_large = holds(&f->large, offset, len), small = len <= SMALL && !in_large;
	struct window *w = small ? &f->small : &f->large;
	size_t ahead = ahead_now(f);

	if (len > ahead && !in_large)
		return f->ops.fetch(f->arg, offset, data, len, err);
	if (!holds(w, offset, len) && fill(f, w, offset, small ? AHEAD_SMALL : ahead, err) < 0)
		return -1;
	memcpy(data, w->bytes + (offset - w->from), len);
	return 0;
}

static void share_ahead(void *arg, const _Atomic size_t *most)
{
	((struct fetched *)arg)->most = most;
}

static int finish_fetched(void *arg, struct error **err)
{
	const struct fetched *f = arg;

	return f->ops.finish ? f->ops.finish(f->arg, err) : 0;
}

static void close_fetched(void *arg)
{
	struct fetched *f = arg;

	if (f->ops.close)
		f->ops.close(f->arg);
	free(f->small.bytes);
	free(f->large.bytes);
	free(f);
}

struct disk_input *disk_input_fetched(const char *name, uint64_t size, const struct disk_fetch_ops *ops, void *arg, struct error **err)
{
	static const struct disk_input_ops input = {
		.read = read_fetched, .finish = finish_fetched, .share_ahead = share_ahead, .close = close_fetched
	};
	struct fetched *f = calloc(1, sizeof *f);

	if (!f) {
		if (ops->close)
			ops->close(arg);
		error_set_errno(err, ENOMEM, "cannot open %s", name);
		return NULL;
	}
	f->size = size;
	f->ops = *ops;
	f->arg = arg;
	return disk_input_new(name, size, &input, f, err);
}
