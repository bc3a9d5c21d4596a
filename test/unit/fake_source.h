/* A transfer engine with a source whose misbehaviour a test chooses. */
#pragma once

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk/input.h"
#include "transfer/journal.h"
#include "transfer/transfer.h"

/* A source of raw disks. Disk i is filled with the byte i + 1 where it is not zero. */
struct fake {
	struct source source;
	atomic_uint begun, completed, aborted, released, streams, ended_jobs;
	atomic_uint fail_streams;  /* so many streams break off in the middle, transiently */
	atomic_uint cut_first;     /* so many of the first disk do, too */
	atomic_uint short_streams; /* so many end in the middle, and say that this is all */
	bool stored;               /* as source_disk's */
	atomic_bool permanent;     /* they fail for good */
	atomic_bool hang;          /* streams wait for their cancellation */
	atomic_int other;          /* from the second MiB on, this is added to the bytes */
	atomic_bool resumable;     /* it sends disks from any byte on */
	atomic_bool started;       /* at the end of the first disk's stream the machine turns out to have been started */
	atomic_bool by_place;      /* one disk is read by place */
	bool whole;                /* as source_disk's */
	size_t place;              /* which one */
	const char *format;        /* as which it is: "raw", or "vmdk" of a descriptor that names two extents */
	atomic_uint cut_reads;     /* so many times reading breaks off in its second half */
	atomic_uint opened, wrong; /* so often it was; so many times what was read turns out to be wrong at the end */
	_Atomic uint64_t lowest;   /* byte of the disk that was read since it was opened last */
	atomic_uint resumed, busy; /* streams that began in the middle; such as are refused before the first byte */
	_Atomic uint64_t sent;
	struct source_disk disks[3];
	struct source_export export;
};

static inline struct fake *fake_of(struct source_export *e)
{
	return (struct fake *)((char *)e - offsetof(struct fake, export));
}

static inline struct source_export *fake_begin(struct source *source, const struct vm_model *model, source_ledger ledger, void *arg,
					       struct cancel *cancel, struct error **err)
{
	struct fake *f = (struct fake *)source;

	(void)cancel;
	if (ledger && ledger(arg, true, "ExportLease", "lease-1", err) < 0)
		return NULL;
	f->begun++;
	for (size_t i = 0; i < model->disk_count; i++)
		f->disks[i] = (struct source_disk){ .id = model->disks[i].id,
						    .format = "raw",
						    .capacity = model->disks[i].capacity,
						    .host = "esx1",
						    .resumable = f->resumable,
						    .by_place = f->by_place && i == f->place,
						    .stored = f->stored,
						    .whole = f->whole };
	if (f->by_place)
		f->disks[f->place].format = f->format;
	f->export = (struct source_export){ .ops = source->ops, .disks = f->disks, .disk_count = model->disk_count, .endpoint = "vcenter" };
	return &f->export;
}

/* What the disk has at [at, at + len), which is of one 64 KiB: every other of them is a hole. */
static inline void fill(const struct fake *f, size_t i, uint64_t at, char *data, size_t len)
{
	memset(data, at / 65536 % 2 ? 0 : (int)i + 1 + (at >> 20 ? f->other : 0), len);
}

static inline int fake_resume(struct source_export *e, size_t i, uint64_t from, source_sink sink, void *arg, struct cancel *cancel,
			      struct error **err)
{
	struct fake *f = fake_of(e);
	char piece[65536];
	uint64_t left = f->disks[i].capacity - from;
	bool fail = false, ends = false;

	f->streams++;
	if (from)
		f->resumed++;
	if (f->busy) {
		f->busy--;
		return error_set_code(err, ERROR_TRANSIENT, "HTTPStatus", 503, "busy");
	}
	if (f->short_streams) {
		f->short_streams--;
		ends = true;
	}
	if (f->fail_streams) {
		f->fail_streams--;
		fail = true;
	}
	if (!i && f->cut_first) {
		f->cut_first--;
		fail = true;
	}
	for (uint64_t at = from; left; at += sizeof piece) {
		size_t n = left < sizeof piece ? (size_t)left : sizeof piece;

		fill(f, i, at, piece, sizeof piece);
		if (sink(arg, piece, n, err) < 0)
			return -1;
		left -= n;
		f->sent += n;
		if (fail && left < f->disks[i].capacity / 2)
			return f->permanent ? error_set(err, ERROR_PERMANENT, "Broken", "no such disk")
					    : error_set(err, ERROR_TRANSIENT, "Cut", "the connection broke");
		if (ends && left < f->disks[i].capacity / 2)
			return 0;
		if (f->hang && !ends && cancel_wait(cancel, 20000))
			return cancel_check(cancel, err);
	}
	if (i || !f->started)
		return 0;
	f->disks[i].spoilt = true;
	return error_set(err, ERROR_TRANSIENT, "NotPoweredOff", "it was started");
}

#define FIRST_EXTENT (UINT64_C(1) << 20) /* bytes */

/* A file of the disk that is read by place. */
struct place {
	struct fake *fake;
	uint64_t start;   /* byte of the disk */
	const char *text; /* its content, when it is not the disk's */
};

static inline int read_by_place(void *arg, uint64_t offset, void *data, size_t len, struct error **err)
{
	const struct place *place = arg;
	struct fake *f = place->fake;
	uint64_t from = place->start + offset;

	if (place->text) {
		memcpy(data, place->text + offset, len);
		return 0;
	}
	if (f->cut_reads && from >= f->disks[f->place].capacity / 2) {
		f->cut_reads--;
		return f->permanent ? error_set(err, ERROR_PERMANENT, "Broken", "no such disk")
				    : error_set(err, ERROR_TRANSIENT, "Cut", "the connection broke");
	}
	f->lowest = from < f->lowest ? from : f->lowest;
	f->sent += len;
	for (size_t done = 0, n; done < len; done += n) {
		n = 65536 - (from + done) % 65536;
		n = n < len - done ? n : len - done;
		fill(f, f->place, from + done, (char *)data + done, n);
	}
	return 0;
}

static inline int finish_by_place(void *arg, struct error **err)
{
	struct fake *f = ((struct place *)arg)->fake;

	if (!f->wrong)
		return 0;
	f->wrong--;
	return error_set(err, ERROR_TRANSIENT, "ChecksumMismatch", "another checksum");
}

static inline struct disk_input *fake_open(struct source_export *e, size_t i, const char *name, struct cancel *cancel, struct error **err)
{
	static const struct disk_input_ops ops = { .read = read_by_place, .finish = finish_by_place, .close = free };
	static const char text[] = "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"twoGbMaxExtentFlat\"\n"
				   "RW 2048 FLAT \"a\" 0\nRW 4097 FLAT \"b\" 0\n";
	struct fake *f = fake_of(e);
	uint64_t size = f->disks[i].capacity;
	struct place place = { .fake = f };

	(void)cancel;
	assert_int_equal(i, f->place);
	if (!name) {
		f->opened++;
		f->lowest = UINT64_MAX;
		if (!strcmp(f->format, "vmdk")) {
			place.text = text;
			size = sizeof text - 1;
		}
	} else if (!strcmp(name, "a")) {
		size = FIRST_EXTENT;
	} else if (!strcmp(name, "b")) {
		place.start = FIRST_EXTENT;
		size -= FIRST_EXTENT;
	} else {
		error_set(err, ERROR_NOT_FOUND, "NoFile", "there is no %s", name);
		return NULL;
	}
	struct place *copy = malloc(sizeof *copy);
	assert_non_null(copy);
	*copy = place;
	return disk_input_new("by place", size, &ops, copy, err);
}

static inline int fake_stream(struct source_export *e, size_t i, source_sink sink, void *arg, struct cancel *cancel, struct error **err)
{
	return fake_resume(e, i, 0, sink, arg, cancel, err);
}

static inline char *fake_note(struct source_export *e)
{
	return fake_of(e)->resumable ? strdup("by another way") : NULL;
}

static inline int fake_nvram(struct source_export *e, unsigned char **data, size_t *len, struct cancel *cancel, struct error **err)
{
	(void)e;
	(void)cancel;
	(void)err;
	*data = (unsigned char *)strdup("vars");
	*len = 4;
	return 0;
}

static inline void fake_progress(struct source_export *e, unsigned percent)
{
	(void)e;
	assert_true(percent <= 100);
}

static inline int fake_end(struct source_export *e, bool ok, struct error **err)
{
	(void)err;
	if (ok)
		fake_of(e)->completed++;
	else
		fake_of(e)->aborted++;
	return 0;
}

static const struct source_ops fake_ops = {
	.kind = "Fake",
	.export_begin = fake_begin,
	.export_stream = fake_stream,
	.export_resume = fake_resume,
	.export_open = fake_open,
	.export_note = fake_note,
	.export_nvram = fake_nvram,
	.export_progress = fake_progress,
	.export_end = fake_end,
};

static struct vm_disk disks[] = {
	{ .id = (char *)"2000", .label = (char *)"Hard disk 1", .capacity = 3 * 1024 * 1024 + 512, .boot_order = 1 },
	{ .id = (char *)"2001", .label = (char *)"Hard disk 2", .capacity = 1024 * 1024, .boot_order = 2 },
	{ .id = (char *)"2002", .label = (char *)"Hard disk 3", .capacity = 512, .boot_order = 3 },
};
static struct vm_model model = {
	.name = (char *)"vm", .source_id = (char *)"vm-1", .vcpus = 1, .cores_per_socket = 1, .disks = disks, .disk_count = 3
};

static inline void released(void *arg)
{
	((struct fake *)arg)->released++;
}

static inline void notified(void *arg, const char *key)
{
	assert_string_equal(key, "job");
	(void)arg;
}

struct bench {
	struct fake fake;
	struct metrics *metrics;
	struct transfer_engine *engine;
	char directory[64], below[80];
};

static inline void setup_notified(struct bench *b, unsigned notify_ms)
{
	struct transfer_options options = { .notify = notified, .arg = b, .notify_ms = notify_ms };

	memset(b, 0, sizeof *b);
	options.metrics = b->metrics = metrics_new();
	b->fake.source.ops = &fake_ops;
	strcpy(b->directory, "/tmp/test_transfer.XXXXXX");
	assert_non_null(mkdtemp(b->directory));
	snprintf(b->below, sizeof b->below, "%s/a/b", b->directory);
	b->engine = transfer_engine_new(&options, NULL);
	assert_non_null(b->engine);
}

static inline void setup(struct bench *b)
{
	setup_notified(b, 20);
}

static inline void teardown(struct bench *b)
{
	char parent[80];

	transfer_engine_free(b->engine);
	metrics_free(b->metrics);
	assert_int_equal(journal_remove(b->below, NULL), 0);
	snprintf(parent, sizeof parent, "%s/a", b->directory);
	rmdir(parent);
	assert_int_equal(rmdir(b->directory), 0);
}

static inline int start(struct bench *b, source_ledger ledger, struct error **err)
{
	struct transfer_job_options options = { .key = "job",
						.directory = b->below,
						.source = &b->fake.source,
						.release = released,
						.release_arg = &b->fake,
						.model = &model,
						.ledger = ledger };

	return transfer_start(b->engine, &options, err);
}

static inline enum transfer_state wait_end(struct bench *b, struct transfer_status *status)
{
	for (int i = 0; i < 1000; i++) {
		transfer_status(b->engine, "job", status);
		if (status->state != TRANSFER_RUNNING)
			return status->state;
		transfer_status_clear(status);
		cancel_wait(NULL, 10);
	}
	fail_msg("the job did not end");
	return TRANSFER_NONE;
}

static inline void check_disk(struct bench *b, size_t i)
{
	char path[128], name[JOURNAL_DISK_NAME_SIZE];
	unsigned char byte;
	struct stat st;
	int fd;

	journal_disk_name(i, name);
	snprintf(path, sizeof path, "%s/%s", b->below, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, disks[i].capacity);
	assert_int_equal(pread(fd, &byte, 1, 0), 1);
	assert_int_equal(byte, i + 1);
	if (disks[i].capacity > 65536) {
		assert_int_equal(pread(fd, &byte, 1, 65536), 1);
		assert_int_equal(byte, 0);
	}
	close(fd);
}

static inline void check_digest(const char *path, const char *told)
{
	char digest[DISK_DIGEST_TEXT_SIZE];

	assert_int_equal(disk_digest_file(path, NULL, digest, NULL), 0);
	assert_string_equal(digest, told);
}
