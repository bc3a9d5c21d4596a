#include "cmd/image_file.h"

#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd/meter.h"

DEFINE_CLEANUP(struct disk_input, input_close_p, disk_input_close)
DEFINE_CLEANUP(struct disk_pipeline, pipeline_free_p, disk_pipeline_free)
DEFINE_CLEANUP(struct disk_workers, workers_free_p, disk_workers_free)

int image_file_open(struct image_file *f, const char *path, const char *format, struct error **err)
{
	struct disk_input *in = disk_input_open(path, err);
	AUTO_FREE char *real = NULL;
	struct stat st;

	*f = (struct image_file){ 0 };
	if (!in)
		return -1;
	real = realpath(path, NULL);
	if (!real || stat(real, &st) < 0)
		error_set_errno(err, errno, "cannot open %s", path);
	else
		f->directory = disk_directory_open(dirname(real), err);
	if (!f->directory) {
		disk_input_close(in);
		return -1;
	}
	f->set = disk_directory_set(f->directory);
	/* Beside a device are the devices of everybody. */
	f->image = disk_image_open(in, S_ISBLK(st.st_mode) ? NULL : &f->set, format, err);
	return f->image ? 0 : -1;
}

void image_file_close(struct image_file *f)
{
	disk_image_close(f->image);
	disk_directory_close(f->directory);
	*f = (struct image_file){ 0 };
}

int image_file_digest(const struct image_file *f, bool quiet, struct disk_result *result, struct error **err)
{
	CLEANUP(workers_free_p) struct disk_workers *workers = disk_workers_new(0, err);
	CLEANUP(pipeline_free_p) struct disk_pipeline *pipeline = NULL;
	CLEANUP(meter_watch_end) struct meter_watch watch = { 0 };
	struct disk_pipeline_options options = { .workers = workers, .guest_bytes = &watch.position };

	if (!workers || !(pipeline = disk_pipeline_new(&options, err)))
		return -1;
	meter_watch_begin(&watch, disk_image_info(f->image)->capacity, quiet);
	if (disk_pipeline_pull(pipeline, f->image, 0, err) < 0 || disk_image_finish(f->image, err) < 0)
		return -1;
	meter_watch_end(&watch);
	return disk_pipeline_finish(pipeline, result, err);
}

int image_file_format(const char *path, enum disk_format *format, struct error **err)
{
	CLEANUP(input_close_p) struct disk_input *in = disk_input_open(path, err);

	return in ? disk_image_format(in, format, err) : -1;
}
