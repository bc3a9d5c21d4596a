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
#define NOTE_NAME ".note.json"

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

char *journal_blocks_path(const char *directory, size_t i)
{
	char name[JOURNAL_DISK_NAME_SIZE], *path = NULL;

	journal_disk_name(i, name);
	return asprintf(&path, "%s/.%s.blocks", directory, name) < 0 ? NULL : path;
}

static char *doubt_path(const char *directory, size_t i)
{
	char name[JOURNAL_DISK_NAME_SIZE], *path = NULL;

	journal_disk_name(i, name);
	return asprintf(&path, "%s/.%s.doubt", directory, name) < 0 ? NULL : path;
}

static char *disk_path(const char *directory, size_t i)
{
	char name[JOURNAL_DISK_NAME_SIZE], *path = NULL;

	journal_disk_name(i, name);
	return asprintf(&path, "%s/%s", directory, name) < 0 ? NULL : path;
}

static int64_t modified_ns(const struct stat *st)
{
	return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
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

/* st: the disk's file when it was as the result says. */
static int record(const char *directory, size_t i, const struct vm_model *model, const struct disk_result *result, const struct stat *st,
		  struct error **err)
{
	const struct vm_disk *disk = &model->disks[i];
	AUTO_FREE char *path = journal_path(directory, i);
	AUTO_JSON json_t *json = NULL;

	json = json_pack("{s:s*, s:s*, s:I, s:I, s:I, s:s, s:I}", "source", model->source_id, "id", disk->id, "capacity",
			 (json_int_t)result->capacity, "dataBytes", (json_int_t)result->data_bytes, "streamBytes",
			 (json_int_t)result->stream_bytes, "digest", result->digest, "modified", (json_int_t)modified_ns(st));
	if (!path || !json)
		return error_set_errno(err, ENOMEM, "cannot record the disk");
	return write_json(directory, path, json, err);
}

int journal_record(const char *directory, size_t i, const struct vm_model *model, const struct disk_result *result, struct error **err)
{
	AUTO_FREE char *file = disk_path(directory, i), *doubt = doubt_path(directory, i);
	struct stat st;

	if (!file || !doubt)
		return error_set_errno(err, ENOMEM, "cannot record the disk");
	if (lstat(file, &st) < 0)
		return error_set_errno(err, errno, "cannot record the disk %s", file);
	if (record(directory, i, model, result, &st, err) < 0)
		return -1;
	unlink(doubt);
	return 0;
}

bool journal_doubted(const char *directory, size_t i)
{
	AUTO_FREE char *path = doubt_path(directory, i);

	return !path || access(path, F_OK) == 0 || errno != ENOENT;
}

int journal_forget(const char *directory, size_t i, struct error **err)
{
	AUTO_FREE char *blocks = journal_blocks_path(directory, i), *doubt = doubt_path(directory, i);

	if (!blocks || !doubt)
		return error_set_errno(err, ENOMEM, "cannot forget what was fetched");
	if (unlink(blocks) < 0 && errno != ENOENT)
		return error_set_errno(err, errno, "cannot remove %s", blocks);
	if (sync_directory(directory, err) < 0)
		return -1;
	unlink(doubt);
	return 0;
}

/* Of a disk that was touched since it was recorded. Another one's block journal is as wrong as its record. */
static bool still_the_same(const char *directory, size_t i, const char *file, const char *digest)
{
	AUTO_FREE char *blocks = NULL;
	char now[DISK_DIGEST_TEXT_SIZE];

	if (disk_digest_file(file, NULL, now, NULL) == 0 && !strcmp(now, digest))
		return true;
	blocks = journal_blocks_path(directory, i);
	if (blocks)
		unlink(blocks);
	return false;
}

bool journal_find(const char *directory, size_t i, const struct vm_model *model, struct disk_result *result)
{
	const struct vm_disk *disk = &model->disks[i];
	AUTO_FREE char *path = journal_path(directory, i), *file = disk_path(directory, i);
	AUTO_JSON json_t *json = path ? json_load_file(path, 0, NULL) : NULL;
	const char *id = json_string_value(json_object_get(json, "id")), *digest = json_string_value(json_object_get(json, "digest"));
	const char *source = json_string_value(json_object_get(json, "source"));
	json_int_t capacity = json_integer_value(json_object_get(json, "capacity"));
	json_int_t data = json_integer_value(json_object_get(json, "dataBytes"));
	json_int_t stream = json_integer_value(json_object_get(json, "streamBytes"));
	struct disk_result found;
	struct stat st;
	bool touched;

	if (!json || !file || !digest || strlen(digest) >= sizeof result->digest || data < 0 || stream < 0)
		return false;
	if (capacity <= 0 || (uint64_t)capacity != disk->capacity || strcmp(id ? id : "", disk->id ? disk->id : ""))
		return false;
	if (strcmp(source ? source : "", model->source_id ? model->source_id : ""))
		return false;
	if (lstat(file, &st) < 0 || !S_ISREG(st.st_mode))
		return false;
	touched = json_integer_value(json_object_get(json, "modified")) != modified_ns(&st) || st.st_size != capacity;
	if (touched && !still_the_same(directory, i, file, st.st_size == capacity ? digest : ""))
		return false;
	found = (struct disk_result){ .capacity = (uint64_t)capacity, .data_bytes = (uint64_t)data, .stream_bytes = (uint64_t)stream };
	strcpy(found.digest, digest);
	if (touched) /* it need not be read again each time; where that cannot be noted it is */
		record(directory, i, model, &found, &st, NULL);
	*result = found;
	return true;
}

bool journal_complete(const char *directory, const struct vm_model *model)
{
	struct disk_result ignored;

	for (size_t i = 0; i < model->disk_count; i++)
		if (!journal_find(directory, i, model, &ignored))
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

static char *note_path(const char *directory)
{
	char *path = NULL;

	return asprintf(&path, "%s/" NOTE_NAME, directory) < 0 ? NULL : path;
}

void journal_save_note(const char *directory, const char *note)
{
	AUTO_FREE char *path = note_path(directory);
	AUTO_JSON json_t *json = note ? json_pack("{s:s}", "note", note) : NULL;

	if (path && json)
		write_json(directory, path, json, NULL); /* without it, less is told */
	else if (path)
		unlink(path);
}

char *journal_load_note(const char *directory)
{
	AUTO_FREE char *path = note_path(directory);
	AUTO_JSON json_t *json = path ? json_load_file(path, 0, NULL) : NULL;
	const char *note = json_string_value(json_object_get(json, "note"));

	return note ? strdup(note) : NULL;
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

static bool ends_with(const char *text, const char *end)
{
	size_t len = strlen(text), n = strlen(end);

	return len >= n && !strcmp(text + len - n, end);
}

/* Marks the disk of a block journal ".disk-0.raw.blocks". Without the mark the journal must not stay. */
static void mark_doubted(int directory, const char *blocks)
{
	size_t len = strlen(blocks) - strlen(".blocks");
	AUTO_FREE char *mark = NULL;

	if (asprintf(&mark, "%.*s.doubt", (int)len, blocks) < 0)
		mark = NULL;
	AUTO_FD int fd = mark ? openat(directory, mark, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
	if (fd < 0)
		unlinkat(directory, blocks, 0);
}

void journal_doubt(const char *directory)
{
	CLEANUP(close_directory_p) DIR *d = opendir(directory);
	struct dirent *entry;

	while (d && (entry = readdir(d))) {
		const char *name = entry->d_name;

		if (*name == '.' && ends_with(name, ".blocks"))
			mark_doubted(dirfd(d), name);
		if (*name == '.' && (ends_with(name, ".journal") || !strcmp(name, MODEL_NAME) || !strcmp(name, NOTE_NAME)))
			unlinkat(dirfd(d), name, 0);
	}
	if (d)
		fsync(dirfd(d)); /* what is doubted is not trusted after a power cut either */
	rmdir(directory);        /* when nothing is in it */
}

uint64_t journal_kept_bytes(const char *directory, const struct vm_model *model)
{
	struct disk_result ignored;
	uint64_t sum = 0;

	for (size_t i = 0; i < model->disk_count; i++) {
		AUTO_FREE char *file = disk_path(directory, i);
		struct stat st;

		if (file && lstat(file, &st) == 0 && S_ISREG(st.st_mode) && !journal_find(directory, i, model, &ignored))
			sum += (uint64_t)st.st_blocks * 512;
	}
	return sum;
}
