#include "transfer/counted.h"

#include <errno.h>
#include <stdlib.h>

struct counted {
	struct disk_input *in;
	struct series *bytes;
};

static int read_counted(void *arg, uint64_t offset, void *data, size_t len, struct error **err)
{
	const struct counted *c = arg;

	if (disk_input_read(c->in, offset, data, len, err) < 0)
		return -1;
	series_add(c->bytes, (double)len);
	return 0;
}

static void next_data(void *arg, uint64_t at, uint64_t *from, uint64_t *to)
{
	const struct counted *c = arg;

	disk_input_next_data(c->in, at, from, to);
}

static int finish(void *arg, struct error **err)
{
	const struct counted *c = arg;

	return disk_input_finish(c->in, err);
}

static void share_ahead(void *arg, const _Atomic size_t *most)
{
	const struct counted *c = arg;

	disk_input_share_ahead(c->in, most);
}

static void close_counted(void *arg)
{
	struct counted *c = arg;

	disk_input_close(c->in);
	free(c);
}

struct disk_input *counted_input(struct disk_input *in, struct series *bytes, struct error **err)
{
	static const struct disk_input_ops ops = {
		.read = read_counted, .next_data = next_data, .finish = finish, .share_ahead = share_ahead, .close = close_counted
	};
	struct counted *c;

	if (!in)
		return NULL;
	c = malloc(sizeof *c);
	if (!c) {
		disk_input_close(in);
		error_set_errno(err, ENOMEM, "cannot read the disk");
		return NULL;
	}
	*c = (struct counted){ in, bytes };
	return disk_input_new(disk_input_name(in), disk_input_size(in), &ops, c, err);
}
