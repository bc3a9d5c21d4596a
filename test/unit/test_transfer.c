// links: transfer disk source api json base PkgConfig::jansson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "disk/input.h"
#include "transfer/journal.h"
#include "transfer/transfer.h"

/* A source of raw disks whose misbehaviour a test chooses. Disk i is filled with the byte i + 1 where it is not zero. */
struct fake {
	struct source source;
	atomic_uint begun, completed, aborted, released, streams, ended_jobs;
	atomic_uint fail_streams;  /* so many streams break off in the middle, transiently */
	atomic_uint cut_first;     /* so many of the first disk do, too */
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

static struct fake *fake_of(struct source_export *e)
{
	return (struct fake *)((char *)e - offsetof(struct fake, export));
}

static struct source_export *fake_begin(struct source *source, const struct vm_model *model, source_ledger ledger, void *arg,
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
						    .whole = f->whole };
	if (f->by_place)
		f->disks[f->place].format = f->format;
	f->export = (struct source_export){ .ops = source->ops, .disks = f->disks, .disk_count = model->disk_count, .endpoint = "vcenter" };
	return &f->export;
}

/* What the disk has at [at, at + len), which is of one 64 KiB: every other of them is a hole. */
static void fill(const struct fake *f, size_t i, uint64_t at, char *data, size_t len)
{
	memset(data, at / 65536 % 2 ? 0 : (int)i + 1 + (at >> 20 ? f->other : 0), len);
}

static int fake_resume(struct source_export *e, size_t i, uint64_t from, source_sink sink, void *arg, struct cancel *cancel,
		       struct error **err)
{
	struct fake *f = fake_of(e);
	char piece[65536];
	uint64_t left = f->disks[i].capacity - from;
	bool fail = false;

	f->streams++;
	if (from)
		f->resumed++;
	if (f->busy) {
		f->busy--;
		return error_set_code(err, ERROR_TRANSIENT, "HTTPStatus", 503, "busy");
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
		if (f->hang && cancel_wait(cancel, 20000))
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

static int read_by_place(void *arg, uint64_t offset, void *data, size_t len, struct error **err)
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

static int finish_by_place(void *arg, struct error **err)
{
	struct fake *f = ((struct place *)arg)->fake;

	if (!f->wrong)
		return 0;
	f->wrong--;
	return error_set(err, ERROR_TRANSIENT, "ChecksumMismatch", "another checksum");
}

static struct disk_input *fake_open(struct source_export *e, size_t i, const char *name, struct cancel *cancel, struct error **err)
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

static int fake_stream(struct source_export *e, size_t i, source_sink sink, void *arg, struct cancel *cancel, struct error **err)
{
	return fake_resume(e, i, 0, sink, arg, cancel, err);
}

static char *fake_note(struct source_export *e)
{
	return fake_of(e)->resumable ? strdup("by another way") : NULL;
}

static int fake_nvram(struct source_export *e, unsigned char **data, size_t *len, struct cancel *cancel, struct error **err)
{
	(void)e;
	(void)cancel;
	(void)err;
	*data = (unsigned char *)strdup("vars");
	*len = 4;
	return 0;
}

static void fake_progress(struct source_export *e, unsigned percent)
{
	(void)e;
	assert_true(percent <= 100);
}

static int fake_end(struct source_export *e, bool ok, struct error **err)
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

static void released(void *arg)
{
	((struct fake *)arg)->released++;
}

static void notified(void *arg, const char *key)
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

static void setup_notified(struct bench *b, unsigned notify_ms)
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

static void setup(struct bench *b)
{
	setup_notified(b, 20);
}

static void teardown(struct bench *b)
{
	char parent[80];

	transfer_engine_free(b->engine);
	metrics_free(b->metrics);
	assert_int_equal(journal_remove(b->below, NULL), 0);
	snprintf(parent, sizeof parent, "%s/a", b->directory);
	rmdir(parent);
	assert_int_equal(rmdir(b->directory), 0);
}

static int start(struct bench *b, source_ledger ledger, struct error **err)
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

static enum transfer_state wait_end(struct bench *b, struct transfer_status *status)
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

static void check_disk(struct bench *b, size_t i)
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

static void test_fetches_all_disks_once(void **state)
{
	struct transfer_status status;
	struct bench b;

	(void)state;
	setup(&b);
	transfer_status(b.engine, "job", &status);
	assert_int_equal(status.state, TRANSFER_NONE);
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	assert_int_equal(status.disk_count, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_true(status.disks[i].done);
		assert_int_equal(status.disks[i].transferred, disks[i].capacity);
		assert_memory_equal(status.disks[i].digest, "vmid2:", 6);
		check_disk(&b, i);
	}
	transfer_status_clear(&status);
	assert_int_equal(b.fake.completed, 1);
	assert_int_equal(b.fake.released, 1);
	/* The next process finds the journal and fetches nothing. */
	transfer_end(b.engine, "job");
	assert_true(journal_complete(b.below, &model));
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	transfer_status_clear(&status);
	assert_int_equal(b.fake.begun, 1);
	assert_int_equal(b.fake.streams, 3);
	assert_int_equal(b.fake.released, 2);
	teardown(&b);
}

static void check_digest(const char *path, const char *told)
{
	char digest[DISK_DIGEST_TEXT_SIZE];

	assert_int_equal(disk_digest_file(path, NULL, digest, NULL), 0);
	assert_string_equal(digest, told);
}

static void test_fetches_only_what_is_missing(void **state)
{
	struct transfer_status status;
	char path[128];
	struct bench b;
	int fd;

	(void)state;
	setup(&b);
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	transfer_status_clear(&status);
	transfer_end(b.engine, "job");
	/* A disk of another length is not the one that was recorded. */
	snprintf(path, sizeof path, "%s/disk-1.raw", b.below);
	assert_int_equal(truncate(path, 5), 0);
	assert_false(journal_complete(b.below, &model));
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	check_digest(path, status.disks[1].digest);
	transfer_status_clear(&status);
	assert_int_equal(b.fake.streams, 4);
	check_disk(&b, 1);
	/* Nor is one of other content; one that was only touched is. */
	transfer_end(b.engine, "job");
	assert_int_equal(utimensat(AT_FDCWD, path, NULL, 0), 0);
	assert_true(journal_complete(b.below, &model));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "?", 1, 70000), 1);
	close(fd);
	assert_false(journal_complete(b.below, &model));
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	check_digest(path, status.disks[1].digest);
	transfer_status_clear(&status);
	assert_int_equal(b.fake.streams, 5);
	check_disk(&b, 1);
	teardown(&b);
}

/* What a failed import fetched stays, is compared with what the source sends now, and corrected. */
static void test_doubted_disks_are_compared(void **state)
{
	struct transfer_status status;
	char path[128], blocks[128], first[DISK_DIGEST_TEXT_SIZE];
	struct stat before, after;
	struct bench b;

	(void)state;
	setup(&b);
	snprintf(path, sizeof path, "%s/disk-0.raw", b.below);
	snprintf(blocks, sizeof blocks, "%s/.disk-0.raw.blocks", b.below);
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	strcpy(first, status.disks[0].digest);
	transfer_status_clear(&status);
	transfer_end(b.engine, "job");
	assert_int_equal(stat(path, &before), 0);
	journal_doubt(b.below);
	assert_int_equal(access(blocks, F_OK), 0);
	assert_false(journal_complete(b.below, &model));
	assert_true(journal_kept_bytes(b.below, &model) > 0);
	assert_null(journal_load_model(b.below));
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	assert_int_equal(b.fake.streams, 6);
	assert_string_equal(status.disks[0].digest, first);
	transfer_status_clear(&status);
	transfer_end(b.engine, "job");
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	/* The machine ran in between. */
	journal_doubt(b.below);
	b.fake.other = 40;
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	assert_string_not_equal(status.disks[0].digest, first);
	check_digest(path, status.disks[0].digest);
	transfer_status_clear(&status);
	/* An empty directory is not kept. */
	transfer_end(b.engine, "job");
	assert_int_equal(journal_remove(b.below, NULL), 0);
	assert_int_equal(mkdir(b.below, 0700), 0);
	journal_doubt(b.below);
	assert_int_equal(access(b.below, F_OK), -1);
	teardown(&b);
}

/* A machine that was started while it was read has disks of two states: none of them is kept, though all of the bytes came. */
static void test_a_machine_that_was_started_is_read_anew(void **state)
{
	struct transfer_status status;
	struct bench b;

	(void)state;
	setup(&b);
	b.fake.resumable = b.fake.started = true;
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_FAILED);
	assert_string_equal(status.error->reason, "NotPoweredOff");
	transfer_status_clear(&status);
	transfer_end(b.engine, "job");
	assert_int_equal(b.fake.streams, 3);
	assert_false(journal_complete(b.below, &model));
	b.fake.started = false;
	b.fake.other = 40;
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	transfer_status_clear(&status);
	assert_int_equal(b.fake.streams, 6);
	assert_int_equal(b.fake.resumed, 0);
	teardown(&b);
}

/* What is read by place counts only when the input says at the end that it was right. */
static void test_a_wrong_input_is_read_again(void **state)
{
	struct transfer_status status;
	struct bench b;

	(void)state;
	setup(&b);
	b.fake.by_place = b.fake.whole = true;
	b.fake.place = 2;
	b.fake.format = "raw";
	b.fake.wrong = 1;
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	transfer_status_clear(&status);
	assert_int_equal(b.fake.wrong, 0);
	assert_int_equal(b.fake.opened, 2);
	check_disk(&b, 2);
	teardown(&b);
}

static void test_breaks_are_fetched_again(void **state)
{
	struct transfer_status status;
	struct bench b;

	(void)state;
	setup(&b);
	b.fake.fail_streams = 2;
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	transfer_status_clear(&status);
	assert_int_equal(b.fake.begun, 1);
	assert_int_equal(b.fake.streams, 5);
	for (size_t i = 0; i < 3; i++)
		check_disk(&b, i);
	teardown(&b);
}

/* A cut stream goes on where it was when the source can do that, but not what may be of another state of the source. */
static void test_goes_on_in_the_middle(void **state)
{
	uint64_t all = disks[0].capacity + disks[1].capacity + disks[2].capacity;
	struct transfer_status status;
	char path[128];
	struct bench b;
	FILE *f;

	(void)state;
	setup(&b);
	b.fake.resumable = true;
	b.fake.cut_first = 1;
	b.fake.busy = 1;
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	assert_string_equal(status.note, "by another way");
	transfer_status_clear(&status);
	assert_int_equal(b.fake.resumed, 1);
	assert_true(b.fake.sent < all + (1 << 20)); /* a block that was not whole comes again */
	for (size_t i = 0; i < 3; i++)
		check_disk(&b, i);
	snprintf(path, sizeof path, "%s/nvram", b.below);
	f = fopen(path, "re");
	assert_non_null(f);
	assert_non_null(fgets(path, sizeof path, f));
	assert_string_equal(path, "vars");
	fclose(f);
	/* What another process began, too. */
	transfer_end(b.engine, "job");
	assert_int_equal(journal_remove(b.below, NULL), 0);
	b.fake.cut_first = 1;
	b.fake.permanent = true;
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_FAILED);
	transfer_status_clear(&status);
	transfer_end(b.engine, "job");
	b.fake.permanent = false;
	b.fake.resumed = 0;
	b.fake.sent = 0;
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	transfer_status_clear(&status);
	assert_int_equal(b.fake.resumed, 1);
	assert_true(b.fake.sent < all);
	check_disk(&b, 0);
	/* The machine ran: nothing of before is believed, in the try that comes after one that was interrupted neither. */
	transfer_end(b.engine, "job");
	journal_doubt(b.below);
	assert_true(journal_doubted(b.below, 0));
	b.fake.other = 40;
	b.fake.cut_first = 1;
	b.fake.permanent = true;
	b.fake.resumed = 0;
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_FAILED);
	transfer_status_clear(&status);
	transfer_end(b.engine, "job");
	b.fake.permanent = false;
	assert_int_equal(b.fake.resumed, 0);
	assert_false(journal_doubted(b.below, 0));
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	assert_int_equal(b.fake.resumed, 1);
	snprintf(path, sizeof path, "%s/disk-0.raw", b.below);
	check_digest(path, status.disks[0].digest);
	transfer_status_clear(&status);
	f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(fseek(f, 2 << 20, SEEK_SET), 0);
	assert_int_equal(fgetc(f), 1 + 40);
	fclose(f);
	teardown(&b);
}

/* Waits for the end, which is to be this one, and forgets the job. */
static void expect_end(struct bench *b, enum transfer_state state)
{
	struct transfer_status status;
	char path[128];

	assert_int_equal(start(b, NULL, NULL), 0);
	assert_int_equal(wait_end(b, &status), state);
	if (state == TRANSFER_DONE) {
		snprintf(path, sizeof path, "%s/disk-0.raw", b->below);
		check_disk(b, 0);
		check_digest(path, status.disks[0].digest);
	}
	transfer_status_clear(&status);
	transfer_end(b->engine, "job");
}

static double received(struct bench *b)
{
	return series_get(metric_with(metrics_add(b->metrics, METRIC_COUNTER, "vm_import_source_bytes_total", "kind", ""), "Fake", NULL));
}

/* So does a disk that is read by place, whatever it is made of. */
static void test_reading_goes_on_in_the_middle(void **state)
{
	static const char *const formats[] = { "raw", "vmdk" };
	char first[DISK_DIGEST_TEXT_SIZE], path[128];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct bench b;

		setup(&b);
		snprintf(path, sizeof path, "%s/disk-0.raw", b.below);
		b.fake.by_place = true;
		b.fake.format = formats[i];
		b.fake.cut_reads = 1;
		expect_end(&b, TRANSFER_DONE);
		assert_int_equal(b.fake.opened, 2);
		assert_in_range(b.fake.lowest, 1 << 20, 2 << 20);
		assert_int_equal(disk_digest_file(path, NULL, first, NULL), 0);
		/* What is read is counted: that of the disks, and the descriptor each time it is opened. */
		assert_in_range((uint64_t)received(&b), b.fake.sent, b.fake.sent + 2 * 1024);
		/* What another process began, too. */
		assert_int_equal(journal_remove(b.below, NULL), 0);
		b.fake.opened = 0;
		b.fake.cut_reads = 1;
		b.fake.permanent = true;
		expect_end(&b, TRANSFER_FAILED);
		assert_int_equal(b.fake.opened, 1);
		assert_int_equal(b.fake.lowest, 0);
		expect_end(&b, TRANSFER_DONE);
		assert_int_equal(b.fake.opened, 2);
		assert_in_range(b.fake.lowest, 1 << 20, 2 << 20);
		check_digest(path, first);
		/* The machine ran: nothing of before is believed. */
		journal_doubt(b.below);
		b.fake.other = 40;
		b.fake.cut_reads = 1;
		expect_end(&b, TRANSFER_FAILED);
		assert_int_equal(b.fake.lowest, 0);
		expect_end(&b, TRANSFER_DONE);
		assert_in_range(b.fake.lowest, 1 << 20, 2 << 20);
		teardown(&b);
	}
}

/* Where only all of a file shows that it is right, every try reads all of it. */
static void test_what_is_checked_as_a_whole_is_read_whole(void **state)
{
	struct bench b;

	(void)state;
	setup(&b);
	b.fake.by_place = b.fake.whole = true;
	b.fake.format = "raw";
	b.fake.cut_reads = 1;
	expect_end(&b, TRANSFER_DONE);
	assert_int_equal(b.fake.opened, 2);
	assert_int_equal(b.fake.lowest, 0);
	teardown(&b);
}

/* An image that names what its source has not. */
static void test_what_a_source_does_not_have_is_told(void **state)
{
	struct transfer_status status;
	struct bench b;

	(void)state;
	setup(&b);
	b.fake.by_place = true;
	b.fake.place = 1; /* of another capacity than the descriptor's extents have */
	b.fake.format = "vmdk";
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_FAILED);
	assert_non_null(strstr(status.error->message, "Hard disk 2"));
	assert_int_equal(status.error->class, ERROR_PERMANENT);
	transfer_status_clear(&status);
	assert_int_equal(b.fake.aborted, 1);
	teardown(&b);
}

static void test_permanent_failure_aborts(void **state)
{
	struct transfer_status status;
	struct bench b;

	(void)state;
	setup(&b);
	b.fake.fail_streams = 1;
	b.fake.permanent = true;
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_FAILED);
	assert_int_equal(status.error->class, ERROR_PERMANENT);
	assert_non_null(strstr(status.error->message, "Hard disk"));
	transfer_status_clear(&status);
	assert_int_equal(b.fake.aborted, 1);
	assert_int_equal(b.fake.completed, 0);
	assert_int_equal(b.fake.released, 1);
	teardown(&b);
}

/* Who writes what it is told into an object, and is called for that change again, must not find another figure each time. */
static void test_figures_change_with_notifications_only(void **state)
{
	static const unsigned beats[] = { 60000, 20 };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct transfer_status status;
		struct bench b;

		setup_notified(&b, beats[i]);
		b.fake.hang = true;
		assert_int_equal(start(&b, NULL, NULL), 0);
		while (b.fake.streams < 3)
			cancel_wait(NULL, 5);
		cancel_wait(NULL, 300);
		transfer_status(b.engine, "job", &status);
		assert_int_equal(status.state, TRANSFER_RUNNING);
		assert_int_equal(status.disks[0].transferred > 0, i == 1);
		transfer_status_clear(&status);
		transfer_end(b.engine, "job");
		teardown(&b);
	}
}

static void test_cancel_lets_go_at_once(void **state)
{
	uint64_t begun;
	struct bench b;

	(void)state;
	setup(&b);
	b.fake.hang = true;
	assert_int_equal(start(&b, NULL, NULL), 0);
	while (b.fake.streams < 3)
		cancel_wait(NULL, 5);
	begun = clock_monotonic_ms();
	transfer_end(b.engine, "job");
	assert_true(clock_monotonic_ms() - begun < 2000);
	assert_int_equal(b.fake.aborted, 1);
	assert_int_equal(b.fake.released, 1);
	assert_false(journal_complete(b.below, &model));
	teardown(&b);
}

static void test_engine_end_cancels_jobs(void **state)
{
	struct bench b;

	(void)state;
	setup(&b);
	b.fake.hang = true;
	assert_int_equal(start(&b, NULL, NULL), 0);
	while (!b.fake.streams)
		cancel_wait(NULL, 5);
	teardown(&b);
	assert_int_equal(b.fake.aborted, 1);
	assert_int_equal(b.fake.released, 1);
}

static int refuse(void *arg, bool made, const char *kind, const char *id, struct error **err)
{
	(void)arg;
	(void)kind;
	(void)id;
	return made ? error_set(err, ERROR_CONFLICT, "Conflict", "not recorded") : 0;
}

static void test_nothing_is_made_that_is_not_recorded(void **state)
{
	struct transfer_status status;
	struct bench b;

	(void)state;
	setup(&b);
	assert_int_equal(start(&b, refuse, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_FAILED);
	transfer_status_clear(&status);
	assert_int_equal(b.fake.begun, 0);
	teardown(&b);
}

static void test_no_space_is_told_before(void **state)
{
	struct vm_disk huge = { .id = (char *)"1", .capacity = UINT64_MAX / 2 };
	struct vm_disk *small = model.disks;
	AUTO_ERROR struct error *err = NULL;
	struct bench b;

	(void)state;
	setup(&b);
	model.disks = &huge;
	model.disk_count = 1;
	assert_int_equal(start(&b, NULL, &err), -1);
	model.disks = small;
	model.disk_count = 3;
	assert_string_equal(err->reason, "NoSpace");
	assert_non_null(strstr(err->message, "are missing"));
	assert_non_null(strstr(err->message, "pvcClaim.size")); /* which value to change */
	assert_int_equal(b.fake.released, 1);
	teardown(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fetches_all_disks_once),
		cmocka_unit_test(test_fetches_only_what_is_missing),
		cmocka_unit_test(test_doubted_disks_are_compared),
		cmocka_unit_test(test_a_machine_that_was_started_is_read_anew),
		cmocka_unit_test(test_a_wrong_input_is_read_again),
		cmocka_unit_test(test_breaks_are_fetched_again),
		cmocka_unit_test(test_goes_on_in_the_middle),
		cmocka_unit_test(test_reading_goes_on_in_the_middle),
		cmocka_unit_test(test_what_is_checked_as_a_whole_is_read_whole),
		cmocka_unit_test(test_what_a_source_does_not_have_is_told),
		cmocka_unit_test(test_permanent_failure_aborts),
		cmocka_unit_test(test_figures_change_with_notifications_only),
		cmocka_unit_test(test_cancel_lets_go_at_once),
		cmocka_unit_test(test_engine_end_cancels_jobs),
		cmocka_unit_test(test_nothing_is_made_that_is_not_recorded),
		cmocka_unit_test(test_no_space_is_told_before),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
