#include "cmd/image_file.h"

#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>

DEFINE_CLEANUP(struct disk_input, input_close_p, disk_input_close)

int image_file_open(struct image_file *f, const char *path, const char *format, struct error **err)
{
	struct disk_input *in = disk_input_open(path, err);
	AUTO_FREE char *real = NULL;

	*f = (struct image_file){ 0 };
	if (!in)
		return -1;
	real = realpath(path, NULL);
	if (!real)
		error_set_errno(err, errno, "cannot open %s", path);
	else
		f->directory = disk_directory_open(dirname(real), err);
	if (!f->directory) {
		disk_input_close(in);
		return -1;
	}
	f->set = disk_directory_set(f->directory);
	f->image = disk_image_open(in, &f->set, format, err);
	return f->image ? 0 : -1;
}

void image_file_close(struct image_file *f)
{
	disk_image_close(f->image);
	disk_directory_close(f->directory);
	*f = (struct image_file){ 0 };
}

int image_file_format(const char *path, enum disk_format *format, struct error **err)
{
	CLEANUP(input_close_p) struct disk_input *in = disk_input_open(path, err);
	unsigned char head[DISK_FORMAT_HEAD];
	size_t len;

	if (!in)
		return -1;
	len = disk_input_size(in) < sizeof head ? (size_t)disk_input_size(in) : sizeof head;
	if (disk_input_read(in, 0, head, len, err) < 0)
		return -1;
	*format = disk_format_of(head, len);
	return 0;
}
