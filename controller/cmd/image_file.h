/* An image that a user named, with the files beside it. */
#pragma once

#include "disk/image.h"
#include "disk/pipeline.h"

struct image_file {
	struct disk_directory *directory;
	struct disk_set set;
	struct disk_image *image;
};

/* Opens it. What the image names is looked for in its directory only. Not to be moved while it is open. */
int image_file_open(struct image_file *f, const char *path, const char *format, struct error **err);
void image_file_close(struct image_file *f); /* accepts a zeroed one */
/* Reads all of its disk, and writes nothing. Shows progress on a terminal unless it is to be quiet. */
int image_file_digest(const struct image_file *f, bool quiet, struct disk_result *result, struct error **err);
/* What it is by its content, as disk_image_format. */
int image_file_format(const char *path, enum disk_format *format, struct error **err);
