#include "disk/image.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "disk/bytes.h"
#include "disk/foreign.h"
#include "disk/image_parts.h"

#define PROBLEMS_MAX 32

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

const char *image_add_file(struct disk_image *image, const char *name, const char *kind, uint64_t capacity, uint64_t size,
			   struct error **err)
{
	struct disk_image_file *f;

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
	if (!size || size % 512 || size > INT64_MAX) {
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

static int format_of(struct disk_input *in, const char *wanted, enum disk_format *format, struct error **err)
{
	unsigned char head[DISK_FORMAT_HEAD];
	uint64_t size = disk_input_size(in);
	size_t len = size < sizeof head ? (size_t)size : sizeof head;

	*format = DISK_RAW;
	if (wanted && !strcmp(wanted, "raw"))
		return 0;
	if (disk_input_read(in, 0, head, len, err) < 0)
		return -1;
	*format = disk_format_of(head, len);
	if (*format == DISK_RAW && ends_as_vhd(in))
		*format = DISK_VHD;
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

/* The next layer, made of an input that is in the image already. */
static struct layer *open_layer(struct disk_image *image, struct disk_input *in, const char *wanted, struct parent *parent,
				struct error **err)
{
	enum disk_format format;

	(void)parent;
	if (format_of(in, wanted, &format, err) < 0)
		return NULL;
	if (!image->layer_count)
		image->info.format = format;
	if (format == DISK_RAW)
		return open_raw(image, in, err);
	error_set(err, ERROR_PERMANENT, "UnsupportedFormat", "%s is a %s image, which is not read here", disk_input_name(in),
		  disk_format_name(format));
	return NULL;
}

static void clear_parent(struct parent *parent)
{
	free(parent->name);
	free(parent->format);
	*parent = (struct parent){ 0 };
}

static int open_layers(struct disk_image *image, struct disk_input *in, const char *format, struct error **err)
{
	CLEANUP(clear_parent) struct parent parent = { 0 };

	image->inputs[0] = in;
	for (;;) {
		unsigned i = image->layer_count;
		CLEANUP(clear_parent) struct parent below = { 0 };

		image->layers[i] = open_layer(image, image->inputs[i], i ? parent.format : format, &below, err);
		if (!image->layers[i])
			return i ? error_wrap(err, "parent %u", i) : -1;
		image->layer_count++;
		if (!below.name)
			return 0;
		clear_parent(&parent);
		parent = below;
		below = (struct parent){ 0 };
		if (image->layer_count == LAYERS_MAX)
			return error_set(err, ERROR_PERMANENT, "TooManyLayers", "%s has more than %d parents, one upon the other",
					 image->files[0].name, LAYERS_MAX - 1);
		if (!image->set)
			return error_set(err, ERROR_PERMANENT, "NameRefused",
					 "%s lies upon the image \"%s\", and no other files may be read here",
					 disk_input_name(image->inputs[i]), parent.name);
		image->inputs[i + 1] = image->set->open(image->set->arg, parent.name, err);
		if (!image->inputs[i + 1])
			return error_wrap(err, "%s lies upon another image", disk_input_name(image->inputs[i]));
	}
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
	image->cache = table_cache_new(err);
	if (!image->cache || format_of(in, format, &kind, err) < 0) {
		disk_input_close(in);
	} else if (foreign_reads(kind)) {
		if (open_foreign(image, in, kind, err) == 0)
			return image;
	} else if (open_layers(image, in, format, err) == 0) {
		image->info.capacity = image->layers[0]->capacity;
		image->info.layers = image->layer_count;
		return image;
	}
	disk_image_close(image);
	return NULL;
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
