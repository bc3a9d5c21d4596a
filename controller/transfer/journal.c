#include "transfer/journal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "api/vm_model_json.h"
#include "json/codec.h"

#define MODEL_NAME ".model.json"

void journal_disk_name(size_t i, char out[JOURNAL_DISK_NAME_SIZE])
{
	snprintf(out, JOURNAL_DISK_NAME_SIZE, "disk-%zu.raw", i);
}

static char *journal_path(const char *directory, size_t i)
{
	char name[JOURNAL_DISK_NAME_SIZE], *path = NULL;

	journal_disk_name(i, name);
	return asprintf(&path, "%s/.%s.journal", directory, name) < 0 ? NULL : path;
}

static int sync_directory(const char *directory, struct error **err)
{
	AUTO_FD int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return error_set_errno(err, errno, "cannot sync the directory %s", directory);
	return 0;
}

/* Writes the file so that it is there whole or not at all. */
static int write_json(const char *directory, const char *path, const json_t *json, struct error **err)
{
	AUTO_FREE char *text = json_dumps(json, JSON_INDENT(2)), *temporary = NULL;
	size_t len = text ? strlen(text) : 0;

	if (!text || asprintf(&temporary, "%s.new", path) < 0) {
		temporary = NULL;
		return error_set_errno(err, ENOMEM, "cannot write %s", path);
	}
	AUTO_FD int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_set_errno(err, errno, "cannot create %s", temporary);
	for (size_t done = 0; done < len;) {
		ssize_t n = write(fd, text + done, len - done);

		if (n < 0)
			return error_set_errno(err, errno, "cannot write %s", temporary);
		done += (size_t)n;
	}
	if (fsync(fd) < 0 || rename(temporary, path) < 0)
		return error_set_errno(err, errno, "cannot write %s", path);
	return sync_directory(directory, err);
}

int journal_record(const char *directory, size_t i, const struct vm_disk *disk, const struct disk_result *result, struct error **err)
{
	AUTO_FREE char *path = journal_path(directory, i);
	AUTO_JSON json_t *json =
		json_pack("{s:s*, s:I, s:I, s:I, s:s}", "id", disk->id, "capacity", (json_int_t)result->capacity, "dataBytes",
			  (json_int_t)result->data_bytes, "streamBytes", (json_int_t)result->stream_bytes, "digest", result->digest);

	if (!path || !json)
		return error_set_errno(err, ENOMEM, "cannot record the disk");
	return write_json(directory, path, json, err);
}

bool journal_find(const char *directory, size_t i, const struct vm_disk *disk, struct disk_result *result)
{
	AUTO_FREE char *path = journal_path(directory, i), *file = NULL;
	AUTO_JSON json_t *json = path ? json_load_file(path, 0, NULL) : NULL;
	const char *id = json_string_value(json_object_get(json, "id")), *digest = json_string_value(json_object_get(json, "digest"));
	json_int_t capacity = json_integer_value(json_object_get(json, "capacity"));
	json_int_t data = json_integer_value(json_object_get(json, "dataBytes"));
	json_int_t stream = json_integer_value(json_object_get(json, "streamBytes"));
	char name[JOURNAL_DISK_NAME_SIZE];
	struct stat st;

	journal_disk_name(i, name);
	if (asprintf(&file, "%s/%s", directory, name) < 0)
		file = NULL;
	if (!json || !file || !digest || strlen(digest) >= sizeof result->digest || data < 0 || stream < 0)
		return false;
	if (capacity <= 0 || (uint64_t)capacity != disk->capacity || strcmp(id ? id : "", disk->id ? disk->id : ""))
		return false;
	if (lstat(file, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size != capacity)
		return false;
	*result = (struct disk_result){ .capacity = (uint64_t)capacity, .data_bytes = (uint64_t)data, .stream_bytes = (uint64_t)stream };
	strcpy(result->digest, digest);
	return true;
}

bool journal_complete(const char *directory, const struct vm_model *model)
{
	struct disk_result ignored;

	for (size_t i = 0; i < model->disk_count; i++)
		if (!journal_find(directory, i, &model->disks[i], &ignored))
			return false;
	return true;
}

static char *model_path(const char *directory)
{
	char *path = NULL;

	return asprintf(&path, "%s/%s", directory, MODEL_NAME) < 0 ? NULL : path;
}

int journal_save_model(const char *directory, const struct vm_model *model, struct error **err)
{
	AUTO_FREE char *path = model_path(directory);
	AUTO_JSON json_t *json = vm_model_to_json(model);

	if (!path || !json)
		return error_set_errno(err, ENOMEM, "cannot keep the description of the virtual machine");
	return write_json(directory, path, json, err);
}

struct vm_model *journal_load_model(const char *directory)
{
	AUTO_FREE char *path = model_path(directory);
	AUTO_JSON json_t *json = path ? json_load_file(path, 0, NULL) : NULL;

	return json ? vm_model_from_json(json) : NULL;
}

static void close_directory_p(DIR **d)
{
	if (*d)
		closedir(*d);
}

int journal_remove(const char *directory, struct error **err)
{
	CLEANUP(close_directory_p) DIR *d = opendir(directory);
	struct dirent *entry;

	if (!d && errno == ENOENT)
		return 0;
	if (!d)
		return error_set_errno(err, errno, "cannot read %s", directory);
	while ((entry = readdir(d))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (unlinkat(dirfd(d), entry->d_name, 0) < 0 && errno != ENOENT)
			return error_set_errno(err, errno, "cannot remove %s/%s", directory, entry->d_name);
	}
	if (rmdir(directory) < 0 && errno != ENOENT)
		return error_set_errno(err, errno, "cannot remove %s", directory);
	return 0;
}

void journal_forget(const char *directory, const struct vm_model *model)
{
	AUTO_FREE char *path = model_path(directory);

	for (size_t i = 0; i < model->disk_count; i++) {
		AUTO_FREE char *journal = journal_path(directory, i);

		if (journal)
			unlink(journal);
	}
	if (path)
		unlink(path);
}
