/* A streamed disk image -> a sparse raw file, with the engine of the daemon. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/log.h"
#include "cmd/advice.h"
#include "cmd/cmd.h"
#include "cmd/image_file.h"
#include "cmd/meter.h"
#include "cmd/numbers.h"
#include "cmd/options.h"
#include "cmd/signals.h"
#include "disk/pipeline.h"

#define JOURNAL_END ".journal"

enum { FORMAT = OPTION_LONG, CAPACITY, DIGEST, RESUME, SYNC, VERIFY };

static const struct cmd_option flags[] = {
	{ FORMAT, "format", "FORMAT",
	  "vmdk-stream, vmdk (any form of it that is no stream), qcow2 or raw (default: by content, which also tells VHD, VHDX, VDI, QED and "
	  "Parallels; name raw where it is known, for what a raw disk begins with is its guest's)",
	  VALUE_WORDS, "vmdk-stream vmdk qcow2 raw" },
	{ 'O', "output", "FORMAT", "raw or qcow2 (default: qcow2 when OUT ends in .qcow2, else raw)", VALUE_WORDS, "raw qcow2" },
	{ CAPACITY, "capacity", "BYTES", "the size that the disk must have; anything else is an error", 0, 0 },
	{ DIGEST, "digest", NULL, "print the digest only", 0, 0 },
	{ RESUME, "resume", "[MIB]",
	  "keep a journal beside OUT (OUT.journal) until it is done, and when one is there from an earlier try do not write again what is "
	  "right; the disk is synced every so many MiB (default: 256)",
	  0, 0 },
	{ SYNC, "sync", NULL, "wait until the storage has everything", 0, 0 },
	{ VERIFY, "verify", NULL, "read the disk again from the storage, and fail when it is not what was written", 0, 0 },
	{ 'q', "quiet", NULL, "no progress", 0, 0 },
	OPTION_HELP,
	{ 0 },
};

static int run(int argc, char **argv);

const struct command command_convert = {
	.name = "convert",
	.run = run,
	.summary = "turn a disk image into a sparse raw file or a qcow2 image",
	.arguments = "IN OUT",
	.description =
		"Turns a disk image into a sparse raw file or a qcow2 image while it is read. IN is a VMDK (streamOptimized; monolithicSparse, "
		"twoGbMaxExtentSparse, flat, vmfs; vmfsSparse and seSparse snapshots with what they lie upon), a qcow2 or a raw image, or one that "
		"qemu-img reads for us: VHD, VHDX, VDI, QED, Parallels, qcow of version 1; - is standard input, where it must be streamOptimized or "
		"raw. OUT may be a block device: what is to be zero is made so. A file that is there already is written over. One that could not be "
		"finished, also by a signal, is removed, unless --resume is given.\n"
		"Extents, parents and backing files are read from the directory of IN only, and those of an image on a device not at all. IN must not "
		"change while it is read; a file that does is an error. Of what a qcow2 image, compressed or not, and a raw one hold there are no "
		"checksums in them: compare those of the files where it matters.",
	.options = flags,
	.end = "Prints the disk's capacity, how much of it is data, and the digest of its content (README.md, \"Proof of what was written\"). Exit "
	       "status: 0 OUT is the disk, 1 it is not (the reason is on standard error), 2 wrong usage, 130 interrupted.",
	.operand = VALUE_FILE,
};

DEFINE_CLEANUP(struct cancel, cancel_free_p, cancel_free)
DEFINE_CLEANUP(struct disk_pipeline, pipeline_free_p, disk_pipeline_free)
DEFINE_CLEANUP(struct disk_workers, workers_free_p, disk_workers_free)

#define PIECE (256u * 1024) /* bytes that are read of a stream at a time */

struct stream {
	const char *name;
	int fd;
	unsigned char *data; /* PIECE bytes: its beginning, until they are pushed */
	size_t len;
	struct cancel *cancel;
};

static void stream_close(struct stream *s)
{
	if (s->data)
		close(s->fd);
	free(s->data);
}

static ssize_t stream_read(const struct stream *s, size_t at, struct error **err)
{
	struct pollfd fds[] = { { .fd = s->fd, .events = POLLIN }, { .fd = cancel_fd(s->cancel), .events = POLLIN } };
	ssize_t n;

	do {
		poll(fds, 2, -1); /* who writes may do so late, or never */
		if (cancel_check(s->cancel, err) < 0)
			return -1;
		n = read(s->fd, s->data + at, PIECE - at);
	} while (n < 0 && (errno == EINTR || errno == EAGAIN));
	return n < 0 ? error_set_errno(err, errno, "cannot read %s", s->name) : n;
}

/* Images whose tables are read at any place, and what is no disk at all, would be taken as raw disks. */
static int check_stream(const struct stream *s, struct error **err)
{
	enum disk_format found = disk_format_of(s->data, s->len < DISK_FORMAT_HEAD ? s->len : DISK_FORMAT_HEAD);

	if (!s->len)
		return error_set(err, ERROR_PERMANENT, "FileTruncated", "the input is empty");
	if (found == DISK_RAW || found == DISK_VMDK_STREAM || found == DISK_MARKUP)
		return 0; /* of the last the decoder tells what a server sent */
	if (disk_format_is_image(found))
		return error_set(
			err, ERROR_PERMANENT, "UnsupportedFormat",
			"the input is a %s image, which must be a file that can be read at any place; give its path (or --format raw "
			"to take it as a raw disk)",
			disk_format_name(found));
	return disk_format_refuse(found, "the input", err);
}

/* Reads its beginning, which tells what it is, before anything is written. */
static int stream_open(struct stream *s, const char *in, const char *format, struct cancel *cancel, struct error **err)
{
	/* A pipe that nobody writes to yet is waited for like its bytes, where the wait can be ended. */
	AUTO_FD int file = strcmp(in, "-") ? open(in, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
	ssize_t n;

	if (file < 0 || (strcmp(in, "-") && fcntl(file, F_SETFL, 0) < 0))
		return error_set_errno(err, errno, "cannot open %s", in);
	if (!(s->data = malloc(PIECE)))
		return error_set_errno(err, ENOMEM, "cannot read %s", in);
	s->name = in;
	s->cancel = cancel;
	s->fd = move_fd(&file);
	fcntl(s->fd, F_SETPIPE_SZ, 1 << 20); /* fewer switches between us and the writer, when it is a pipe */
	while (s->len < DISK_FORMAT_HEAD && (n = stream_read(s, s->len, err)) != 0) {
		if (n < 0)
			return -1;
		s->len += (size_t)n;
	}
	return format ? 0 : check_stream(s, err);
}

/* Reads a stream from its start to its end. */
static int convert_stream(const struct stream *s, struct disk_pipeline *pipeline, _Atomic uint64_t *position, bool quiet,
			  struct error **err)
{
	ssize_t n = (ssize_t)s->len;
	CLEANUP(meter_end) struct meter meter = { 0 };
	uint64_t whole, read_bytes = 0;
	struct stat st;

	whole = fstat(s->fd, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
	meter_begin(&meter, quiet);
	for (; n > 0; n = stream_read(s, 0, err)) {
		if (disk_pipeline_push(pipeline, s->data, (size_t)n, err) < 0)
			return -1;
		read_bytes += (uint64_t)n;
		meter_show(&meter, read_bytes, whole, *position);
	}
	return n < 0 ? -1 : 0;
}

/* Whether `path`, which is to be written, is the file or device of `in`, by whatever name. */
static int check_apart(const char *path, const struct stat *in, const char *in_name, struct error **err)
{
	struct stat out;

	if (!path || stat(path, &out) < 0)
		return 0;
	if (S_ISBLK(out.st_mode) ? !S_ISBLK(in->st_mode) || out.st_rdev != in->st_rdev
				 : out.st_dev != in->st_dev || out.st_ino != in->st_ino)
		return 0;
	return error_set(err, ERROR_PERMANENT, "OutputIsInput", "%s is the file %s that is read; name another", path, in_name);
}

static int check_apart_all(const struct disk_pipeline_options *out, const struct stat *in, const char *in_name, struct error **err)
{
	return check_apart(out->path, in, in_name, err) < 0 || check_apart(out->journal, in, in_name, err) < 0 ? -1 : 0;
}

/* Nothing that is read, of an image with all its extents and parents, may be written over. */
static int check_output(const struct disk_pipeline_options *out, const struct image_file *file, const struct stream *stream,
			struct error **err)
{
	const struct disk_image_info *info = file->image ? disk_image_info(file->image) : NULL;
	struct stat st;

	if (!info)
		return fstat(stream->fd, &st) == 0 ? check_apart_all(out, &st, stream->name, err) : 0;
	for (size_t i = 0; i < info->file_count; i++)
		if (stat(info->files[i].name, &st) == 0 && check_apart_all(out, &st, info->files[i].name, err) < 0)
			return -1;
	return 0;
}

/* Whether what was read of it before is still so: it is one file, of which the journal's identity tells when it was changed. What is on a
 * device, or consists of several files, may have been changed meanwhile; each block of it is compared. */
static bool stays(const struct disk_image_info *info)
{
	struct stat st;

	return info->file_count == 1 && stat(info->files[0].name, &st) == 0 && S_ISREG(st.st_mode);
}

/* Reads an image in a file, part by part. */
static int convert_image(const struct image_file *file, struct disk_pipeline *pipeline, struct meter_watch *watch, bool quiet,
			 struct error **err)
{
	const struct disk_image_info *info = disk_image_info(file->image);

	for (size_t i = 0; i < info->problem_count; i++)
		fprintf(stderr, "vm-import-controller: %s\n", info->problems[i]);
	meter_watch_begin(watch, info->capacity, quiet);
	if (disk_pipeline_pull(pipeline, file->image, stays(info) ? disk_pipeline_resume(pipeline) : 0, err) < 0)
		return -1;
	return disk_image_finish(file->image, err);
}

/* Whether it is to be read from its start to its end; else it is a file of which any part can be read. */
static int is_stream(const char *in, const char *format, bool *stream, struct error **err)
{
	enum disk_format found;
	struct stat st;

	*stream = true;
	if (!strcmp(in, "-") || (format && !strcmp(format, "vmdk-stream")))
		return 0;
	if (stat(in, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return 0;
	if (image_file_format(in, &found, err) < 0)
		return -1;
	*stream = !format && found == DISK_VMDK_STREAM;
	return 0;
}

/* Says that an earlier try's work is of no use, and why: else it looks as if --resume did not do its work. */
static void tell_anew(const struct disk_pipeline *pipeline, const struct disk_pipeline_options *o, const char *in)
{
	switch (disk_pipeline_journal_use(pipeline)) {
	case DISK_JOURNAL_OF_OTHER:
		fprintf(stderr,
			"vm-import-controller: %s was begun with another input, or %s was changed since: %s is written anew; name another "
			"output for each input to go on with either\n",
			o->journal, in, o->path);
		break;
	case DISK_JOURNAL_BROKEN:
		fprintf(stderr, "vm-import-controller: the journal %s cannot be read, it was cut: %s is written anew\n", o->journal,
			o->path);
		break;
	case DISK_JOURNAL_DISK_GONE:
		fprintf(stderr,
			"vm-import-controller: %s speaks of more than there is of %s, which was removed or cut since: it is written anew\n",
			o->journal, o->path);
		break;
	case DISK_JOURNAL_FRESH:
	case DISK_JOURNAL_GOES_ON:
		break;
	}
}

/* Of an earlier try with --resume, whose disk is written over now. */
static int discard_journal(const char *out, struct error **err)
{
	AUTO_FREE char *journal = NULL;

	if (asprintf(&journal, "%s" JOURNAL_END, out) >= 0)
		return disk_pipeline_discard_journal(journal, err);
	journal = NULL;
	return error_set_errno(err, ENOMEM, "cannot write %s", out);
}

/* begun: whether the output was opened, and what was in it is gone. */
static int convert(const char *in, struct disk_pipeline_options *options, bool quiet, struct disk_result *result, bool *begun,
		   struct error **err)
{
	CLEANUP(stream_close) struct stream input = { 0 };
	CLEANUP(image_file_close) struct image_file file = { 0 };
	CLEANUP(workers_free_p) struct disk_workers *workers = NULL;
	CLEANUP(pipeline_free_p) struct disk_pipeline *pipeline = NULL;
	CLEANUP(meter_watch_end) struct meter_watch watch = { 0 };
	const char *format = options->format;
	bool stream;

	if (is_stream(in, format, &stream, err) < 0)
		return -1;
	/* All of this before anything is written. */
	if (stream ? stream_open(&input, in, format, options->cancel, err) < 0 : image_file_open(&file, in, format, err) < 0)
		return -1;
	if (check_output(options, &file, &input, err) < 0)
		return -1;
	if (options->journal && disk_pipeline_foreign_journal(options->journal))
		return error_set(
			err, ERROR_PERMANENT, "NotAJournal",
			"%s is no journal, but another program's file, and --resume would write over it: move it away, or name another "
			"output; nothing was written",
			options->journal);
	if (!options->journal && discard_journal(options->path, err) < 0)
		return -1;
	if (!stream)
		options->format = NULL; /* the image's, not a stream's */
	workers = disk_workers_new(0, err);
	if (!workers)
		return -1;
	options->workers = workers;
	options->guest_bytes = &watch.position;
	pipeline = disk_pipeline_new(options, err);
	if (!pipeline)
		return -1;
	*begun = true;
	tell_anew(pipeline, options, in);
	if (stream ? convert_stream(&input, pipeline, &watch.position, quiet, err) < 0
		   : convert_image(&file, pipeline, &watch, quiet, err) < 0)
		return -1;
	meter_watch_end(&watch);
	return disk_pipeline_finish(pipeline, result, err);
}

static bool ends_with(const char *text, const char *end)
{
	size_t len = strlen(text), n = strlen(end);

	return len > n && !strcasecmp(text + len - n, end);
}

/* Images that others write, by their names: what is written under such a name would be taken for one. */
static bool named_as_other(const char *path)
{
	static const char *const ends[] = { ".vmdk", ".vhdx", ".vhd", ".vdi", ".qed" };

	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
		if (ends_with(path, ends[i]))
			return true;
	return false;
}

/* Says why it failed. Half a disk looks like a whole one, so none is left, except on a device and where it is gone on with. */
static int tell_failure(const struct error *err, const char *in, const char *path, bool begun, bool resume)
{
	bool interrupted = err && err->class == ERROR_CANCELLED, goes_on = err && err->class != ERROR_PERMANENT;
	struct stat st;

	/* A file that is damaged or was cut is so the next time, too; what feeds a pipe may get further. */
	if (stat(in, &st) == 0 && S_ISREG(st.st_mode) && advice_blames_input(err))
		goes_on = false;
	fprintf(stderr, "vm-import-controller: %s%s", interrupted ? "interrupted" : error_message(err), advice_of(err));
	if (begun && resume && goes_on)
		fprintf(stderr, "; %s is incomplete; the same command goes on", path);
	else if (begun && resume)
		fprintf(stderr, "; %s is incomplete; run the command again once that is mended, or remove it and %s" JOURNAL_END, path,
			path);
	else if (begun && lstat(path, &st) == 0 && (!S_ISREG(st.st_mode) || unlink(path) < 0))
		fprintf(stderr, "; %s is incomplete%s%s", path, S_ISREG(st.st_mode) ? ", and cannot be removed: " : "",
			S_ISREG(st.st_mode) ? strerror(errno) : "");
	else if (begun)
		fprintf(stderr, "; %s was not finished and is removed", path);
	fputc('\n', stderr);
	return interrupted ? EXIT_INTERRUPTED : EXIT_FAILED;
}

static bool is_format(const char *name)
{
	return !strcmp(name, "vmdk-stream") || !strcmp(name, "vmdk") || !strcmp(name, "qcow2") || !strcmp(name, "raw");
}

static int run(int argc, char **argv)
{
	struct disk_pipeline_options pipeline = { .no_sync = true };
	AUTO_ERROR struct error *err = NULL;
	struct disk_result result;
	struct option_scan scan;
	struct stat st;
	AUTO_FREE char *journal = NULL, *identity = NULL;
	bool quiet = false, digest_only = false, resume = false, begun = false;
	const char *output = NULL;
	unsigned mib = 256;
	int id = 0;

	option_scan_begin(&scan, &command_convert, argc, argv);
	while (id >= 0 && (id = option_scan_next(&scan)) > 0) {
		switch (id) {
		case FORMAT:
			pipeline.format = scan.value;
			if (!is_format(scan.value))
				id = option_scan_refuse(&scan, "--format takes vmdk-stream, vmdk, qcow2 or raw, not %s", scan.value);
			break;
		case 'O':
			output = scan.value;
			if (strcmp(output, "raw") && strcmp(output, "qcow2"))
				id = option_scan_refuse(&scan, "--output takes raw or qcow2");
			break;
		case CAPACITY:
			if (!numbers_bytes(scan.value, &pipeline.capacity))
				id = option_scan_refuse(&scan, "--capacity takes a number of bytes");
			break;
		case DIGEST:
			digest_only = true;
			break;
		case RESUME:
			if (scan.value && !numbers_unsigned(scan.value, 1, 1 << 20, &mib))
				id = option_scan_refuse(&scan, "--resume takes a number of MiB");
			pipeline.checkpoint = (uint64_t)mib << 20;
			resume = true;
			pipeline.no_sync = false;
			break;
		case SYNC:
			pipeline.no_sync = false;
			break;
		case VERIFY:
			pipeline.verify = true;
			pipeline.no_sync = false;
			break;
		case 'q':
			quiet = true;
			break;
		}
	}
	argv += scan.operands;
	if (!id && argc - scan.operands != 2)
		id = option_scan_refuse(&scan, "name an input and an output");
	else if (!id && stat(argv[1], &st) == 0 && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		id = option_scan_refuse(&scan, "the output must be a file or a block device");
	else if (!id && !strcmp(argv[1], "-"))
		id = option_scan_refuse(&scan, "the output must be a file or a block device: a disk is not written to standard output");
	else if (!id && !output && named_as_other(argv[1]))
		id = option_scan_refuse(&scan, "only raw and qcow2 are written: name the output so, or say -O raw or -O qcow2");
	pipeline.qcow2 = !id && (output ? !strcmp(output, "qcow2") : ends_with(argv[1], ".qcow2"));
	if (pipeline.qcow2 && resume)
		id = option_scan_refuse(&scan,
					"a qcow2 image that was cut cannot be gone on with: leave --resume away, or write a raw one");
	if (id < 0)
		return scan.exit_code;
	pipeline.path = argv[1];
	if (resume && asprintf(&journal, "%s" JOURNAL_END, pipeline.path) < 0)
		journal = NULL;
	pipeline.journal = journal;
	/* An image in a file goes on where it was, unless it was changed, or is read as something else; of a stream each block is compared. */
	if (resume && stat(argv[0], &st) == 0 && S_ISREG(st.st_mode) &&
	    asprintf(&identity, "%s %s %jd %jd %jd %jd.%09ld", argv[0], pipeline.format ? pipeline.format : "", (intmax_t)st.st_dev,
		     (intmax_t)st.st_ino, (intmax_t)st.st_size, (intmax_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec) < 0)
		identity = NULL;
	pipeline.identity = identity ? identity : argv[0];
	log_setup(LOG_ERROR, false);
	signals_block();
	CLEANUP(cancel_free_p) struct cancel *cancel = cancel_new(NULL);
	CLEANUP(signals_watch_end) struct signals_watch watch = { 0 };
	pipeline.cancel = cancel;
	if (!cancel)
		error_set_errno(&err, ENOMEM, "cannot convert %s", argv[0]);
	if (!cancel || signals_watch_begin(&watch, cancel, &err) < 0 || convert(argv[0], &pipeline, quiet, &result, &begun, &err) < 0)
		return tell_failure(err, argv[0], pipeline.path, begun, resume);
	if (journal)
		unlink(journal);
	if (digest_only)
		puts(result.digest);
	else
		printf("capacity %" PRIu64 "\ndata %" PRIu64 "\ndigest %s\n", result.capacity, result.data_bytes, result.digest);
	if (fflush(stdout) || ferror(stdout)) {
		fputs("vm-import-controller: cannot write to standard output\n", stderr);
		return EXIT_FAILED;
	}
	return EXIT_DONE;
}
