/* A raw image, or a flat extent: where the file has holes, it is zero. */
#include <errno.h>
#include <stdlib.h>

#include "disk/layer.h"

struct raw_layer {
	struct layer layer;
	struct disk_input *input;
	const char *name;
	uint64_t at;             /* where the disk begins in the file */
	uint64_t data, data_end; /* the data at or after where was asked last, as places in the file */
};

static int raw_map(struct layer *layer, uint64_t at, uint64_t most, struct run *run, struct error **err)
{
	struct raw_layer *r = (struct raw_layer *)layer;
	uint64_t place = r->at + at;

	(void)err;
	if (place < r->data || place >= r->data_end)
		disk_input_next_data(r->input, place, &r->data, &r->data_end);
	*run = (struct run){ .kind = RUN_ZERO, .len = r->data - place, .input = r->input, .name = r->name, .at = place };
	if (place >= r->data) {
		run->kind = RUN_DATA;
		run->len = r->data_end - place;
	}
	run->len = run->len < most ? run->len : most;
	return 0;
}

static void raw_free(struct layer *layer)
{
	free(layer);
}

struct layer *raw_layer_new(struct disk_input *in, const char *name, uint64_t at, uint64_t len, struct error **err)
{
	static const struct layer_ops ops = { .map = raw_map, .free = raw_free };
	uint64_t size = disk_input_size(in);
	struct raw_layer *r;

	if (at > size || len > size - at) {
		error_set(err, ERROR_PERMANENT, "FileTruncated", "%s has %llu bytes, but the disk is %llu bytes from byte %llu on", name,
			  (unsigned long long)size, (unsigned long long)len, (unsigned long long)at);
		return NULL;
	}
	r = calloc(1, sizeof *r);
	if (!r) {
		error_set_errno(err, ENOMEM, "cannot read %s", name);
		return NULL;
	}
	*r = (struct raw_layer){ .layer = { .ops = &ops, .capacity = len }, .input = in, .name = name, .at = at };
	return &r->layer;
}
