/* Images of a few sectors in memory, made field by field, so that a test can put in what no program would; how they are read, and what is said of
 * those that cannot be. */
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk/image.h"
#include "disk_fixture.h"

struct file {
	const char *name;
	unsigned char *data;
	uint64_t size;
	unsigned reads;
};

static struct file files[8];
static size_t file_count;
static unsigned open_inputs;

static inline void put_le(unsigned char *p, uint64_t v, int bytes)
{
	for (int i = 0; i < bytes; i++)
		p[i] = (unsigned char)(v >> 8 * i);
}

static inline void put_be(unsigned char *p, uint64_t v, int bytes)
{
	for (int i = 0; i < bytes; i++)
		p[i] = (unsigned char)(v >> 8 * (bytes - 1 - i));
}

static inline unsigned char *add_file(const char *name, uint64_t size)
{
	struct file *f = &files[file_count++];

	assert_true(file_count <= sizeof files / sizeof *files);
	*f = (struct file){ name, calloc(1, size + 1), size, 0 };
	assert_non_null(f->data);
	return f->data;
}

static inline void add_text(const char *name, const char *text)
{
	memcpy(add_file(name, strlen(text)), text, strlen(text));
}

static inline int clear_files(void **state)
{
	(void)state;
	while (file_count)
		free(files[--file_count].data);
	assert_int_equal(open_inputs, 0);
	return 0;
}

static inline int file_read(void *arg, uint64_t offset, void *data, size_t len, struct error **err)
{
	struct file *f = arg;

	(void)err;
	f->reads++;
	assert_true(offset <= f->size && len <= f->size - offset);
	memcpy(data, f->data + offset, len);
	return 0;
}

static inline void file_close(void *arg)
{
	(void)arg;
	open_inputs--;
}

static inline struct disk_input *set_open(void *arg, const char *name, struct error **err)
{
	static const struct disk_input_ops ops = { .read = file_read, .close = file_close };

	(void)arg;
	for (size_t i = 0; i < file_count; i++)
		if (!strcmp(files[i].name, name)) {
			open_inputs++;
			return disk_input_new(name, files[i].size, &ops, &files[i], err);
		}
	error_set(err, ERROR_NOT_FOUND, "NoFile", "there is no file %s", name);
	return NULL;
}

static const struct disk_set set = { .open = set_open };

static inline struct disk_image *open_image(const char *name, const char *format, struct error **err)
{
	struct disk_input *in = set_open(NULL, name, NULL);

	assert_non_null(in);
	return disk_image_open(in, &set, format, err);
}

/* Reads the whole image into a file; its bytes, which the caller frees. NULL: why not. */
static inline unsigned char *read_image(const char *name, uint64_t *size, struct error **err)
{
	struct disk_image *image = open_image(name, NULL, err);
	struct disk_pipeline_options options = { .workers = workers, .no_sync = true };
	struct disk_pipeline *pipeline;
	struct disk_result result;
	unsigned char *bytes = NULL;
	char path[80];
	int fd, failed;

	if (!image)
		return NULL;
	snprintf(path, sizeof path, "%s/out", directory);
	options.path = path;
	pipeline = disk_pipeline_new(&options, err);
	assert_non_null(pipeline);
	failed = disk_pipeline_pull(pipeline, image, 0, err) < 0 || disk_pipeline_finish(pipeline, &result, err) < 0;
	disk_pipeline_free(pipeline);
	disk_image_close(image);
	if (failed) {
		struct stat st;

		/* nothing is written past the end */
		assert_true(stat(path, &st) < 0 || st.st_blocks * 512 <= 64 << 20);
		unlink(path);
		return NULL;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	*size = result.capacity;
	assert_true(fd >= 0 && result.capacity < 64 << 20);
	bytes = malloc(result.capacity + 1);
	assert_int_equal(read(fd, bytes, result.capacity + 1), result.capacity);
	close(fd);
	unlink(path);
	return bytes;
}

/* It must be refused, with a message that has each of these parts. */
static inline void refused(const char *name, const char *reason, const char *part, const char *other)
{
	AUTO_ERROR struct error *err = NULL;
	uint64_t size;
	unsigned char *bytes = read_image(name, &size, &err);

	free(bytes);
	if (bytes)
		fail_msg("%s was read", name);
	assert_string_equal(err->reason, reason);
	if ((!strstr(err->message, name) && !strstr(err->message, "delta")) || (part && !strstr(err->message, part)) ||
	    (other && !strstr(err->message, other)))
		fail_msg("\"%s\" says nothing of \"%s\", \"%s\", \"%s\"", err->message, name, part, other ? other : "");
}

/* Whatever it is, cut after each sector: an error, never another disk. */
static inline void cut_everywhere(const char *name, uint64_t full)
{
	AUTO_ERROR struct error *err = NULL;
	struct file *f = NULL;
	uint64_t size, cut;
	unsigned char *whole, *bytes;

	for (size_t i = 0; i < file_count; i++)
		if (!strcmp(files[i].name, name))
			f = &files[i];
	assert_non_null(f);
	cut = f->size;
	whole = read_image(files[0].name, &size, &err);
	assert_non_null(whole);
	assert_int_equal(size, full);
	for (f->size = 0; f->size < cut; f->size += 512) {
		AUTO_ERROR struct error *why = NULL;
		unsigned char *saved = f->data, *exact = malloc(f->size + 1); /* so that the sanitizer sees what is read behind it */

		assert_non_null(exact);
		memcpy(exact, saved, f->size);
		f->data = exact;
		bytes = read_image(files[0].name, &size, &why);
		f->data = saved;
		free(exact);
		/* too short to be told: as a raw disk it is another, which only a source that says the format can know */
		if (bytes && !(files[0].data == saved && f->size < 512)) {
			assert_int_equal(size, full);
			assert_memory_equal(bytes, whole, full);
		} else if (!bytes) {
			/* the file and the place, or that it is empty */
			if (!strstr(why->message, name) ||
			    (!strstr(why->message, "byte") && (f->size || !strstr(why->message, "is empty"))))
				fail_msg("%s cut at %llu: %s", name, (unsigned long long)f->size, why->message);
		}
		free(bytes);
	}
	free(whole);
	clear_files(NULL);
}
