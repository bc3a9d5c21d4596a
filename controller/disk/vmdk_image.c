/* A VMDK as a layer: a descriptor's extents one after the other, of which one at a time is open; or a single sparse extent with its descriptor
 * inside. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "disk/vmdk_descriptor.h"
#include "disk/vmdk_layer.h"

struct extent {
	struct vmdk_extent what;
	const char *name; /* of its file: for errors */
	uint64_t start;   /* bytes of the disk */
};

struct vmdk {
	struct layer layer;
	struct disk_image *image;
	struct extent *extents;
	size_t count;
	/* The one that is open. */
	size_t current; /* count: none */
	struct disk_input *input;
	struct layer *part;
	bool checking; /* each is opened once to see that it can be; what is odd is told then */
};

static uint64_t extent_len(const struct extent *e)
{
	return e->what.sectors * VMDK_SECTOR;
}

static void close_extent(struct vmdk *v)
{
	if (v->part)
		v->part->ops->free(v->part);
	v->part = NULL;
	if (v->input) {
		table_cache_drop(v->image->cache, v->input);
		disk_input_close(v->input);
	}
	v->input = NULL;
	v->current = v->count;
}

static struct layer *part_of(struct vmdk *v, struct extent *e, struct disk_input *in, struct error **err)
{
	switch (e->what.type) {
	case VMDK_FLAT:
	case VMDK_VMFS:
		return raw_layer_new(in, e->name, e->what.offset * VMDK_SECTOR, extent_len(e), err);
	case VMDK_SPARSE:
		return vmdk_hosted_layer_new(v->image, in, e->name, NULL, err);
	case VMDK_VMFSSPARSE:
		return vmdk_cowd_layer_new(v->image, in, e->name, err);
	case VMDK_SESPARSE:
		return vmdk_sesparse_layer_new(v->image, in, e->name, err);
	case VMDK_ZERO:
		break;
	}
	return NULL;
}

/* Opens extent i, which has a file. */
static int open_extent(struct vmdk *v, size_t i, struct error **err)
{
	struct extent *e = &v->extents[i];
	size_t problems = v->image->info.problem_count;

	if (v->input && !v->checking && disk_input_finish(v->input, err) < 0)
		return -1;
	close_extent(v);
	v->input = v->image->set->open(v->image->set->arg, e->what.file, err);
	if (!v->input)
		return -1;
	disk_input_share_ahead(v->input, &v->image->ahead);
	if (!e->name && !(e->name = image_add_file(v->image, disk_input_name(v->input), vmdk_extent_type_name(e->what.type), extent_len(e),
						   disk_input_size(v->input), err)))
		return -1;
	v->part = part_of(v, e, v->input, err);
	if (!v->part)
		return -1;
	if (v->part->capacity < extent_len(e))
		return error_set(err, ERROR_PERMANENT, "InvalidImage",
				 "the extent %s is of %llu bytes of the disk, but its descriptor says %llu", e->name,
				 (unsigned long long)v->part->capacity, (unsigned long long)extent_len(e));
	if (!v->checking) /* told already */
		while (v->image->info.problem_count > problems)
			free(v->image->problems[--v->image->info.problem_count]);
	v->current = i;
	return 0;
}

/* The extent in which the byte lies; there is one. */
static size_t extent_at(const struct vmdk *v, uint64_t at)
{
	size_t low = 0, high = v->count;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (v->extents[middle].start <= at)
			low = middle;
		else
			high = middle;
	}
	return low;
}

static int vmdk_map(struct layer *layer, uint64_t at, uint64_t most, struct run *run, struct error **err)
{
	struct vmdk *v = (struct vmdk *)layer;
	size_t i = extent_at(v, at);
	struct extent *e = &v->extents[i];
	uint64_t left = e->start + extent_len(e) - at;

	most = most < left ? most : left;
	if (e->what.type == VMDK_ZERO) {
		*run = (struct run){ .kind = RUN_ZERO, .len = most };
		return 0;
	}
	if (i != v->current && open_extent(v, i, err) < 0)
		return -1;
	if (v->part->ops->map(v->part, at - e->start, most, run, err) < 0)
		return -1;
	run->whole_at += e->start;
	return 0;
}

static int vmdk_finish(struct layer *layer, struct error **err)
{
	const struct vmdk *v = (const struct vmdk *)layer;

	return v->input ? disk_input_finish(v->input, err) : 0;
}

static void vmdk_free(struct layer *layer)
{
	struct vmdk *v = (struct vmdk *)layer;

	close_extent(v);
	for (size_t i = 0; i < v->count; i++)
		free(v->extents[i].what.file);
	free(v->extents);
	free(v);
}

/* Takes the descriptor's extents over, those that are not empty. */
static int take_extents(struct vmdk *v, struct vmdk_descriptor *d, struct error **err)
{
	uint64_t start = 0;

	v->extents = calloc(d->extent_count + 1, sizeof *v->extents);
	if (!v->extents)
		return error_set_errno(err, ENOMEM, "cannot read the image");
	for (size_t i = 0; i < d->extent_count; i++) {
		if (!d->extents[i].sectors)
			continue;
		v->extents[v->count] = (struct extent){ .what = d->extents[i], .start = start };
		v->extents[v->count].what.file = move_ptr(d->extents[i].file);
		start += extent_len(&v->extents[v->count++]);
	}
	v->layer.capacity = start;
	v->current = v->count;
	return 0;
}

static struct layer *layer_of_extents(struct disk_image *image, struct vmdk_descriptor *d, const char *name, struct error **err)
{
	static const struct layer_ops ops = { vmdk_map, vmdk_finish, vmdk_free };
	struct vmdk *v = calloc(1, sizeof *v);
	CLEANUP(layer_free_p) struct layer *layer = v ? &v->layer : NULL;

	if (!v) {
		error_set_errno(err, ENOMEM, "cannot read %s", name);
		return NULL;
	}
	v->layer.ops = &ops;
	v->image = image;
	v->checking = true;
	if (take_extents(v, d, err) < 0)
		return NULL;
	for (size_t i = 0; i < v->count; i++) {
		struct extent *e = &v->extents[i];

		if (e->what.type == VMDK_ZERO) {
			if (!image_add_file(image, "", "ZERO", extent_len(e), 0, err))
				return NULL;
			continue;
		}
		if (!image->set) {
			error_set(err, ERROR_PERMANENT, "NameRefused", "%s names the file \"%s\", and no other files may be read here",
				  name, e->what.file);
			return NULL;
		}
		if (open_extent(v, i, err) < 0) {
			error_wrap(err, "extent %zu of %s", i + 1, name);
			return NULL;
		}
		if (v->part->grain > v->layer.grain)
			v->layer.grain = v->part->grain;
	}
	v->checking = false;
	close_extent(v);
	return move_ptr(layer);
}

/* What a descriptor says of more than extents. */
static int take_descriptor(struct disk_image *image, struct vmdk_descriptor *d, const char *name, struct parent *parent, bool *has_cid,
			   uint32_t *cid, struct error **err)
{
	*has_cid = d->has_cid;
	*cid = d->cid;
	if (!image->layer_count)
		snprintf(image->info.subformat, sizeof image->info.subformat, "%s", d->create_type);
	if (d->parent_cid == VMDK_NO_PARENT)
		return 0;
	if (!d->parent)
		return error_set(err, ERROR_PERMANENT, "InvalidImage",
				 "%s holds only changes to a disk with the CID %08x, and does not say where that is", name, d->parent_cid);
	parent->name = move_ptr(d->parent);
	parent->format = strdup("vmdk");
	parent->has_cid = true;
	parent->cid = d->parent_cid;
	return parent->format ? 0 : error_set_errno(err, ENOMEM, "cannot read %s", name);
}

static int read_descriptor(struct disk_input *in, uint64_t at, uint64_t len, struct vmdk_descriptor *d, struct error **err)
{
	AUTO_FREE char *text = NULL;

	if (len > VMDK_DESCRIPTOR_MAX)
		return image_broken(disk_input_name(in), at, err, "a descriptor of %llu bytes is more than the %u that are read",
				    (unsigned long long)len, VMDK_DESCRIPTOR_MAX);
	text = malloc(len + 1);
	if (!text)
		return error_set_errno(err, ENOMEM, "cannot read %s", disk_input_name(in));
	return disk_input_read(in, at, text, len, err) < 0 ? -1 : vmdk_descriptor_parse(text, len, disk_input_name(in), d, err);
}

/* A hosted sparse extent by itself. */
static struct layer *open_monolithic(struct disk_image *image, struct disk_input *in, struct parent *parent, bool *has_cid, uint32_t *cid,
				     struct error **err)
{
	CLEANUP(vmdk_descriptor_clear) struct vmdk_descriptor d = { .parent_cid = VMDK_NO_PARENT };
	const char *name = image_add_file(image, disk_input_name(in), "SPARSE", 0, disk_input_size(in), err);
	struct vmdk_embedded embedded;
	CLEANUP(layer_free_p) struct layer *layer = name ? vmdk_hosted_layer_new(image, in, name, &embedded, err) : NULL;

	if (!layer)
		return NULL;
	image->files[image->info.file_count - 1].capacity = layer->capacity;
	if (!embedded.len) {
		image_add_problem(image, "%s has no descriptor: it may be one of several extents, or hold only changes to another disk",
				  name);
		return move_ptr(layer);
	}
	if (read_descriptor(in, embedded.at, embedded.len, &d, err) < 0 || take_descriptor(image, &d, name, parent, has_cid, cid, err) < 0)
		return NULL;
	/* A header of no capacity before a descriptor with extents: these are the disk. */
	if (!layer->capacity && d.sectors)
		return layer_of_extents(image, &d, name, err);
	return move_ptr(layer);
}

struct layer *vmdk_layer_open(struct disk_image *image, struct disk_input *in, enum disk_format format, struct parent *parent,
			      bool *has_cid, uint32_t *cid, struct error **err)
{
	CLEANUP(vmdk_descriptor_clear) struct vmdk_descriptor d = { 0 };
	const char *name;

	*has_cid = false;
	if (format == DISK_VMDK_SPARSE || format == DISK_VMDK_STREAM)
		return open_monolithic(image, in, parent, has_cid, cid, err);
	if (format != DISK_VMDK_DESCRIPTOR) {
		error_set(err, ERROR_PERMANENT, "NeedsDescriptor",
			  "%s is an extent (%s), which holds only changes to another disk: name the .vmdk with its descriptor",
			  disk_input_name(in), format == DISK_VMDK_COWD ? "vmfsSparse" : "seSparse");
		return NULL;
	}
	name = image_add_file(image, disk_input_name(in), "descriptor", 0, disk_input_size(in), err);
	if (!name || read_descriptor(in, 0, disk_input_size(in), &d, err) < 0 ||
	    take_descriptor(image, &d, name, parent, has_cid, cid, err) < 0)
		return NULL;
	if (!d.extent_count && !d.has_ddb) { /* with it, it is whole: an empty disk has none */
		error_set(err, ERROR_PERMANENT, "InvalidImage", "the descriptor %s names no extents", name);
		return NULL;
	}
	return layer_of_extents(image, &d, name, err);
}
