#include "source/ova/tape.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <string.h>

#include "base/buffer.h"
#include "disk/format.h"
#include "source/ova/ovf.h"
#include "source/ova/stream.h"

#define BLOCK (256u << 10) /* what is fetched at once where the server sends parts */
#define START 512u
#define MEMBERS_MAX 10000

struct tape {
	const struct remote *remote; /* NULL: the bytes are all in block */
	struct remote_version *version;
	struct cancel *cancel;
	struct archive *archive;      /* NULL until the first member is asked for */
	locale_t locale;              /* names of pax archives are UTF-8 */
	struct remote_stream *stream; /* where the server does not send parts */

	unsigned char *block;      /* fetched last */
	const unsigned char *data; /* block, or the memory */
	uint64_t block_at;         /* where it is in the file */
	size_t block_len;
	uint64_t position; /* of the next byte that libarchive gets */
	bool cut;

	json_t *names;       /* seen so far */
	struct error *error; /* of a callback */
};

/* --- bytes ------------------------------------------------------------------------------------------------------------- */

static int fill(void *arg, const void *data, size_t len, struct error **err)
{
	struct tape *t = arg;
	size_t room = BLOCK - t->block_len, n = len < room ? len : room;

	memcpy(t->block + t->block_len, data, n);
	t->block_len += n;
	if (n == len)
		return 0;
	t->cut = true; /* a server that sends all of the file */
	return error_set(err, ERROR_CANCELLED, "Enough", "the start is enough");
}

/* Fetches what is at the position. */
static int fetch_block(struct tape *t, struct error **err)
{
	uint64_t left = t->version->size - t->position;

	t->block_at = t->position;
	t->block_len = 0;
	return remote_fetch(t->remote, remote_url(t->remote), t->position, left < BLOCK ? left : BLOCK, t->version, NULL, fill, t,
			    t->cancel, err);
}

static la_ssize_t on_read(struct archive *a, void *arg, const void **data)
{
	struct tape *t = arg;

	(void)a;
	if (t->stream) {
		ssize_t n = remote_stream_read(t->stream, data, &t->error);

		if (n > 0)
			t->position += (uint64_t)n;
		return n;
	}
	if (t->position < t->block_at || t->position >= t->block_at + t->block_len) {
		if (!t->remote || t->position >= t->version->size)
			return 0;
		if (fetch_block(t, &t->error) < 0)
			return -1;
	}
	uint64_t skip = t->position - t->block_at;
	*data = t->data + skip;
	t->position += t->block_len - skip;
	return (la_ssize_t)(t->block_len - skip);
}

static la_int64_t on_skip(struct archive *a, void *arg, la_int64_t count)
{
	struct tape *t = arg;
	uint64_t end = t->remote ? t->version->size : t->block_len;

	(void)a;
	if (t->stream || count < 0)
		return 0;
	if ((uint64_t)count > end - t->position)
		count = (la_int64_t)(end - t->position);
	t->position += (uint64_t)count;
	return count;
}

static struct tape *tape_new(struct error **err)
{
	struct tape *t = calloc(1, sizeof *t);

	if (t) {
		t->names = json_object();
		t->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
	}
	if (t && t->names)
		return t;
	tape_close(t);
	error_set_errno(err, ENOMEM, "cannot read the archive");
	return NULL;
}

struct tape *tape_open(const struct remote *remote, struct remote_version *version, struct cancel *cancel, struct error **err)
{
	AUTO_TAPE struct tape *t = tape_new(err);
	AUTO_ERROR struct error *failed = NULL;
	unsigned char *start;

	if (!t)
		return NULL;
	t->remote = remote;
	t->version = version;
	t->cancel = cancel;
	t->block = malloc(BLOCK);
	if (!t->block) {
		error_set_errno(err, ENOMEM, "cannot read the archive");
		return NULL;
	}
	t->data = t->block;
	if (remote_fetch(remote, remote_url(remote), 0, BLOCK, NULL, version, fill, t, cancel, &failed) < 0 && !t->cut &&
	    !(version->size && t->block_len == version->size)) { /* a file shorter than a block came as a whole */
		error_move(err, move_ptr(failed));
		return NULL;
	}
	if (version->ranges && version->size)
		return move_ptr(t);
	if (!version->ranges && !t->cut) {
		version->size = t->block_len; /* all of it is here */
		return move_ptr(t);
	}
	version->ranges = false; /* parts of a file whose size is not told are of no use */
	t->stream = remote_stream_open(remote, version, cancel, err);
	if (!t->stream)
		return NULL;
	/* Of the block only the start is asked for any more. */
	t->block_len = t->block_len < START ? t->block_len : START;
	if ((start = realloc(t->block, START)))
		t->data = t->block = start;
	return move_ptr(t);
}

struct tape *tape_open_memory(const void *data, size_t len, struct error **err)
{
	struct tape *t = tape_new(err);

	if (t) {
		t->data = data;
		t->block_len = len;
	}
	return t;
}

void tape_close(struct tape *t)
{
	if (!t)
		return;
	if (t->archive)
		archive_read_free(t->archive);
	remote_stream_close(t->stream);
	if (t->locale)
		freelocale(t->locale);
	json_decref(t->names);
	error_free(t->error);
	free(t->block);
	free(t);
}

const void *tape_start(const struct tape *t, size_t *len)
{
	*len = t->block_at ? 0 : t->block_len < START ? t->block_len : START;
	return t->data;
}

/* --- members ----------------------------------------------------------------------------------------------------------- */

/* The error of libarchive, or what one of our callbacks met. */
static int fail(struct tape *t, const char *what, struct error **err)
{
	const char *why = t->archive ? archive_error_string(t->archive) : NULL;

	if (t->error)
		return error_move(err, move_ptr(t->error));
	/* So libarchive calls a file that is over in the middle of a member or its header. */
	if (why && strcasestr(why, "truncated")) {
		uint64_t size = t->version && t->version->size ? t->version->size : t->remote ? t->position : t->block_len;

		return error_set(err, ERROR_PERMANENT, "InvalidArchive",
				 "%s: the archive ends early, in the middle of a file, at its %llu bytes, and was cut: copy it to the "
				 "server again, and compare the sizes",
				 what, (unsigned long long)size);
	}
	return error_set(err, ERROR_PERMANENT, "InvalidArchive", "%s: %s", what, why ? why : "it is no tar archive");
}

/* Of what is none from its first bytes on: what it is instead, where that can be told. */
static int no_archive(const struct tape *t, struct error **err)
{
	enum disk_format format = disk_format_of(t->data, t->block_len < DISK_FORMAT_HEAD ? t->block_len : DISK_FORMAT_HEAD);

	if (format != DISK_RAW && !disk_format_is_archive(format))
		return error_set(err, ERROR_PERMANENT, "InvalidArchive",
				 "the file is no OVA, but %s%s%s; spec.url must lead to an OVA, or to an .ovf beside its disks",
				 disk_format_is_image(format) ? "a " : "", disk_format_name(format),
				 disk_format_is_image(format) ? " image" : "");
	return error_set(
		err, ERROR_PERMANENT, "InvalidArchive",
		"the file is no OVA, nor anything else that is known here: spec.url must lead to an OVA (a tar archive), or to an .ovf "
		"beside its disks");
}

static int open_archive(struct tape *t, struct error **err)
{
	t->archive = archive_read_new();
	if (!t->archive || archive_read_support_format_tar(t->archive) != ARCHIVE_OK)
		return error_set_errno(err, ENOMEM, "cannot read the archive");
	if (t->block_len >= 2 && !t->block_at && t->data[0] == 0x1f && t->data[1] == 0x8b)
		return error_set(err, ERROR_PERMANENT, "InvalidArchive",
				 "the file is no OVA, but compressed (gzip) as a whole; put the unpacked one on the server");
	if (t->block_len >= 4 && !t->block_at && !memcmp(t->data, "PK\3\4", 4))
		return error_set(
			err, ERROR_PERMANENT, "InvalidArchive",
			"the file is no OVA, but a ZIP archive; unpack it, and put the OVA, or the .ovf with its files, on the server");
	if (archive_read_open2(t->archive, t, NULL, on_read, on_skip, NULL) == ARCHIVE_OK)
		return 0;
	if (!t->error && !t->block_at)
		return no_archive(t, err);
	return fail(t, "the file is no OVA", err);
}

static int check_kind(struct archive_entry *e, const char *name, struct error **err)
{
	if (archive_entry_hardlink(e) || archive_entry_symlink(e) || archive_entry_filetype(e) == AE_IFLNK)
		return error_set(err, ERROR_PERMANENT, "InvalidArchive", "the OVA's member \"%.200s\" is a link, which is not allowed",
				 name);
	if (archive_entry_filetype(e) != AE_IFREG)
		return error_set(err, ERROR_PERMANENT, "InvalidArchive", "the OVA's member \"%.200s\" is no regular file", name);
	if (archive_entry_sparse_count(e))
		return error_set(err, ERROR_PERMANENT, "InvalidArchive",
				 "the OVA's member \"%.200s\" is stored as a sparse file; make the archive without --sparse", name);
	if (!archive_entry_size_is_set(e) || archive_entry_size(e) < 0)
		return error_set(err, ERROR_PERMANENT, "InvalidArchive", "the OVA's member \"%.200s\" has no size", name);
	return 0;
}

static int take_member(struct tape *t, struct archive_entry *e, struct tape_member *out, struct error **err)
{
	const char *name = archive_entry_pathname(e), *safe;

	if (!name)
		name = archive_entry_pathname_utf8(e);
	safe = name ? ovf_safe_name(name) : NULL;
	if (!safe)
		return error_set(err, ERROR_PERMANENT, "InvalidArchive",
				 "the OVA has a member of the name \"%.200s\", which is not allowed: it leads out of the archive",
				 name ? name : "");
	if (check_kind(e, safe, err) < 0)
		return -1;
	if (json_object_get(t->names, safe))
		return error_set(err, ERROR_PERMANENT, "InvalidArchive", "the OVA has two members of the name \"%.200s\"", safe);
	if (json_object_set_new(t->names, safe, json_true()) < 0)
		return error_set(err, ERROR_PERMANENT, "InvalidArchive", "the OVA has a member whose name is no UTF-8 text");
	if (json_object_size(t->names) > MEMBERS_MAX)
		return error_set(err, ERROR_PERMANENT, "InvalidArchive", "the OVA has more than %d members", MEMBERS_MAX);
	*out = (struct tape_member){ .name = (char *)safe,
				     .size = (uint64_t)archive_entry_size(e),
				     .offset = (uint64_t)archive_filter_bytes(t->archive, 0) };
	return 0;
}

static int next(struct tape *t, struct tape_member *out, struct error **err)
{
	if (!t->archive && open_archive(t, err) < 0)
		return -1;
	for (unsigned directories = 0; directories < MEMBERS_MAX; directories++) {
		struct archive_entry *e;
		int result = archive_read_next_header(t->archive, &e);

		if (result == ARCHIVE_EOF && !t->error)
			return 0;
		if (result != ARCHIVE_OK && result != ARCHIVE_WARN)
			return fail(t, "the OVA cannot be read", err);
		/* "./" of an archive made with tar -c . */
		if (archive_entry_filetype(e) == AE_IFDIR)
			continue;
		return take_member(t, e, out, err) < 0 ? -1 : 1;
	}
	return error_set(err, ERROR_PERMANENT, "InvalidArchive", "the OVA has more than %d directories", MEMBERS_MAX);
}

int tape_next(struct tape *t, struct tape_member *out, struct error **err)
{
	locale_t before = t->locale ? uselocale(t->locale) : (locale_t)0;
	int result = next(t, out, err);

	if (before)
		uselocale(before);
	return result;
}

int tape_data(struct tape *t, source_sink sink, void *arg, struct error **err)
{
	la_int64_t offset, expected = 0;
	const void *data;
	size_t len;

	for (;;) {
		int result = archive_read_data_block(t->archive, &data, &len, &offset);

		if (result == ARCHIVE_EOF && !t->error)
			return 0;
		if (result != ARCHIVE_OK && result != ARCHIVE_WARN)
			return fail(t, "the OVA cannot be read", err);
		if (offset != expected)
			return error_set(err, ERROR_PERMANENT, "InvalidArchive", "a member of the OVA has holes");
		expected += (la_int64_t)len;
		if (len && sink(arg, data, len, err) < 0)
			return -1;
	}
}

static int add_text(void *arg, const void *data, size_t len, struct error **err)
{
	struct buffer *b = arg;

	return buffer_add(b, data, len) == 0 ? 0 : error_set(err, ERROR_PERMANENT, "InvalidArchive", "it is larger than %zu bytes", b->max);
}

int tape_text(struct tape *t, size_t max, char **text, size_t *len, struct error **err)
{
	AUTO_BUFFER struct buffer b = { 0 };

	buffer_init(&b, max);
	if (tape_data(t, add_text, &b, err) < 0)
		return -1;
	*len = b.len;
	*text = buffer_steal(&b);
	return *text ? 0 : error_set_errno(err, ENOMEM, "cannot read the archive");
}
