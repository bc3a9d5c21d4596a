#include "disk/image.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "disk/bytes.h"
#include "disk/foreign.h"
#include "disk/image_parts.h"
#include "disk/qcow2_layer.h"
#include "disk/vmdk_descriptor.h"
#include "disk/vmdk_layer.h"

#define PROBLEMS_MAX 32
#define FILES_MAX (VMDK_EXTENTS_MAX + 2 * LAYERS_MAX) /* of all layers, since what is known of each is kept */

void image_add_problem(struct disk_image *image, const char *fmt, ...)
{
	va_list ap;

	if (image->info.problem_count == PROBLEMS_MAX ||
	    (!image->problems && !(image->problems = calloc(PROBLEMS_MAX, sizeof *image->problems))))
		return;
	va_start(ap, fmt);
	if (vasprintf(&image->problems[image->info.problem_count], fmt, ap) >= 0)
		image->info.problem_count++;
	va_end(ap);
	image->info.problems = image->problems;
}

int image_broken(const char *name, uint64_t at, struct error **err, const char *fmt, ...)
{
	AUTO_FREE char *what = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&what, fmt, ap) < 0)
		what = NULL;
	va_end(ap);
	return error_set(err, ERROR_PERMANENT, "InvalidImage", "%s is broken at byte %llu: %s", name, (unsigned long long)at,
			 what ? what : "");
}

int image_too_short(const char *name, uint64_t at, uint64_t place, uint64_t need, uint64_t size, struct error **err, const char *fmt, ...)
{
	AUTO_FREE char *what = NULL;
	uint64_t end;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&what, fmt, ap) < 0)
		what = NULL;
	va_end(ap);
	if (__builtin_add_overflow(place, need, &end))
		end = UINT64_MAX;
	return image_broken(
		name, at, err,
		"%s is to be at byte %llu, which needs bytes up to %llu, but the file has %llu bytes: it was cut, or this entry is "
		"damaged",
		what ? what : "it", (unsigned long long)place, (unsigned long long)end, (unsigned long long)size);
}

const char *image_add_file(struct disk_image *image, const char *name, const char *kind, uint64_t capacity, uint64_t size,
			   struct error **err)
{
	struct disk_image_file *f;

	if (image->info.file_count == FILES_MAX) {
		error_set(err, ERROR_PERMANENT, "InvalidImage", "%s is one more than the %d files of which an image may be made here", name,
			  FILES_MAX);
		return NULL;
	}
	if (image->info.file_count == image->files_room) {
		size_t room = image->files_room ? 2 * image->files_room : 4;

		f = reallocarray(image->files, room, sizeof *f);
		if (!f)
			goto fail;
		image->info.files = image->files = f;
		image->files_room = room;
	}
	f = &image->files[image->info.file_count];
	*f = (struct disk_image_file){ .name = strdup(name), .kind = strdup(kind), .capacity = capacity, .size = size };
	f->layer = image->layer_count;
	if (f->name && f->kind) {
		image->info.file_count++;
		return f->name;
	}
	free(f->name);
	free(f->kind);
fail:
	error_set_errno(err, ENOMEM, "cannot read %s", name);
	return NULL;
}

static struct layer *open_raw(struct disk_image *image, struct disk_input *in, struct error **err)
{
	uint64_t size = disk_input_size(in);
	const char *name = image_add_file(image, disk_input_name(in), "raw", size, size, err);

	if (!name)
		return NULL;
	if (size % 512 || size > INT64_MAX) {
		error_set(err, ERROR_PERMANENT, "FileTruncated", "%s has %llu bytes, which is no disk: it must be a multiple of 512", name,
			  (unsigned long long)size);
		return NULL;
	}
	return raw_layer_new(in, name, 0, size, err);
}

/* A VHD of fixed size is told by the footer behind the disk's bytes: its cookie, type 2, and the complement of the sum of its bytes. */
static bool ends_as_vhd(struct disk_input *in)
{
	unsigned char footer[512];
	uint64_t size = disk_input_size(in);
	uint32_t sum = 0;

	if (size < 2 * sizeof footer || disk_input_read(in, size - sizeof footer, footer, sizeof footer, NULL) < 0 ||
	    memcmp(footer, "conectix", 8) || get_be32(footer + 60) != 2)
		return false;
	for (size_t i = 0; i < sizeof footer; i++)
		sum += i >= 64 && i < 68 ? 0 : footer[i];
	return get_be32(footer + 64) == ~sum;
}

int disk_image_format(struct disk_input *in, enum disk_format *format, struct error **err)
{
	unsigned char head[DISK_FORMAT_HEAD];
	uint64_t size = disk_input_size(in);
	size_t len = size < sizeof head ? (size_t)size : sizeof head;

	if (disk_input_read(in, 0, head, len, err) < 0)
		return -1;
	*format = disk_format_of(head, len);
	if (*format == DISK_RAW && ends_as_vhd(in))
		*format = DISK_VHD;
	return 0;
}

static int format_of(struct disk_input *in, const char *wanted, enum disk_format *format, struct error **err)
{
	*format = DISK_RAW;
	if (!disk_input_size(in))
		return error_set(err, ERROR_PERMANENT, "FileTruncated", "%s is empty", disk_input_name(in));
	if (wanted && !strcmp(wanted, "raw"))
		return 0;
	if (disk_image_format(in, format, err) < 0)
		return -1;
	if (wanted && strcmp(wanted, disk_format_name(*format)))
		return error_set(err, ERROR_PERMANENT, "WrongFormat", "%s is not of the format \"%s\" but \"%s\", by how it begins",
				 disk_input_name(in), wanted, disk_format_name(*format));
	return 0;
}

/* Another program reads the whole image. */
static int open_foreign(struct disk_image *image, struct disk_input *in, enum disk_format format, struct error **err)
{
	image->inputs[0] = in;
	image->foreign = foreign_open(in, format, err);
	if (!image->foreign)
		return -1;
	image->info.format = format;
	image->info.capacity = foreign_capacity(image->foreign);
	image->info.layers = 1;
	return image_add_file(image, disk_input_name(in), disk_format_name(format), image->info.capacity, disk_input_size(in), err) ? 0
																    : -1;
}

static struct layer *open_vmdk(struct disk_image *image, struct disk_input *in, enum disk_format format, const struct parent *wanted,
			       struct parent *below, struct error **err)
{
	bool has_cid;
	uint32_t cid;
	CLEANUP(layer_free_p) struct layer *layer = vmdk_layer_open(image, in, format, below, &has_cid, &cid, err);

	if (!layer)
		return NULL;
	if (wanted->has_cid && !has_cid) {
		image_add_problem(image, "%s has no CID: whether it was changed since the layer above was made cannot be told",
				  disk_input_name(in));
	} else if (wanted->has_cid && cid != wanted->cid) {
		error_set(
			err, ERROR_PERMANENT, "ParentChanged",
			"%s has the CID %08x, but the layer above was made upon %08x: it is another disk, or was changed since, and both together would be "
			"none",
			disk_input_name(in), cid, wanted->cid);
		return NULL;
	}
	return move_ptr(layer);
}

/* The next layer, made of an input that is in the image already. wanted: what the layer above says of it. */
static struct layer *open_layer(struct disk_image *image, struct disk_input *in, const struct parent *wanted, struct parent *below,
				struct error **err)
{
	enum disk_format format;

	if (format_of(in, wanted->format, &format, err) < 0)
		return NULL;
	if (!image->layer_count)
		image->info.format = format;
	switch (format) {
	case DISK_RAW:
		return open_raw(image, in, err);
	case DISK_VMDK_SPARSE:
	case DISK_VMDK_STREAM:
	case DISK_VMDK_DESCRIPTOR:
	case DISK_VMDK_COWD:
	case DISK_VMDK_SESPARSE:
		return open_vmdk(image, in, format, wanted, below, err);
	case DISK_QCOW2:
		return qcow2_layer_open(image, in, below, err);
	default:
		disk_format_refuse(format, disk_input_name(in), err);
		return NULL;
	}
}

static void clear_parent(struct parent *parent)
{
	free(parent->name);
	free(parent->format);
	*parent = (struct parent){ 0 };
}

/* The layer's parent, opened within the set. */
static struct disk_input *open_parent(struct disk_image *image, const char *of, const char *name, struct error **err)
{
	struct disk_input *in = NULL;

	if (image->layer_count == LAYERS_MAX)
		error_set(err, ERROR_PERMANENT, "TooManyLayers", "%s has more than %d parents, one upon the other", image->files[0].name,
			  LAYERS_MAX - 1);
	else if (!image->set)
		error_set(err, ERROR_PERMANENT, "NameRefused", "%s lies upon the image \"%s\", and no other files may be read here", of,
			  name);
	else if (!(in = image->set->open(image->set->arg, name, err)))
		error_wrap(err, "%s lies upon another image", of);
	return in;
}

static int open_layers(struct disk_image *image, struct disk_input *in, const char *format, struct error **err)
{
	CLEANUP(clear_parent) struct parent wanted = { .format = format ? strdup(format) : NULL };

	if (format && !wanted.format) {
		disk_input_close(in);
		return error_set_errno(err, ENOMEM, "cannot read the image");
	}
	while (in) {
		struct parent below = { 0 };
		unsigned i = image->layer_count;

		image->inputs[i] = in;
		disk_input_share_ahead(in, &image->ahead);
		image->layers[i] = open_layer(image, in, &wanted, &below, err);
		clear_parent(&wanted);
		wanted = below;
		if (!image->layers[i])
			return -1;
		image->layer_count++;
		if (!wanted.name)
			return 0;
		in = open_parent(image, disk_input_name(image->inputs[i]), wanted.name, err);
	}
	return -1;
}

struct disk_image *disk_image_open(struct disk_input *in, const struct disk_set *set, const char *format, struct error **err)
{
	struct disk_image *image = calloc(1, sizeof *image);
	enum disk_format kind;

	if (!image) {
		disk_input_close(in);
		error_set_errno(err, ENOMEM, "cannot read the image");
		return NULL;
	}
	image->set = set;
	image->ahead = DISK_INPUT_AHEAD;
	image->cache = table_cache_new(err);
	if (!image->cache || format_of(in, format, &kind, err) < 0) {
		disk_input_close(in);
	} else if (foreign_reads(kind)) {
		if (open_foreign(image, in, kind, err) == 0)
			return image;
	} else if (open_layers(image, in, format, err) == 0) {
		image->info.capacity = image->layers[0]->capacity;
		image->info.layers = image->layer_count;
		disk_image_limit_ahead(image, DISK_INPUT_AHEAD);
		return image;
	}
	disk_image_close(image);
	return NULL;
}

void disk_image_limit_ahead(struct disk_image *image, size_t most)
{
	image->ahead = most / (image->layer_count ? image->layer_count : 1);
}

int disk_image_finish(struct disk_image *image, struct error **err)
{
	for (unsigned i = 0; i < LAYERS_MAX; i++) {
		struct layer *layer = image->layers[i];

		if (image->inputs[i] && disk_input_finish(image->inputs[i], err) < 0)
			return -1;
		if (layer && layer->ops->finish && layer->ops->finish(layer, err) < 0)
			return -1;
	}
	return 0;
}

void disk_image_close(struct disk_image *image)
{
	if (!image)
		return;
	for (unsigned i = 0; i < LAYERS_MAX; i++) {
		if (image->layers[i])
			image->layers[i]->ops->free(image->layers[i]);
		disk_input_close(image->inputs[i]);
	}
	foreign_close(image->foreign);
	table_cache_free(image->cache);
	for (size_t i = 0; i < image->info.file_count; i++) {
		free(image->files[i].name);
		free(image->files[i].kind);
	}
	free(image->files);
	for (size_t i = 0; i < image->info.problem_count; i++)
		free(image->problems[i]);
	free(image->problems);
	free(image);
}

const struct disk_image_info *disk_image_info(const struct disk_image *image)
{
	return &image->info;
}
