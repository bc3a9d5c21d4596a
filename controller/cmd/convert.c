/* A streamed disk image -> a sparse raw file, with the engine of the daemon. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd/cmd.h"
#include "cmd/meter.h"
#include "cmd/numbers.h"
#include "disk/pipeline.h"

static const char help[] =
	"Usage: vm-import-controller convert [OPTION]... IN OUT\n"
	"Turns a disk image into a sparse raw file while it is read. IN is a streamOptimized VMDK or a raw image; - is standard input.\n"
	"OUT may be a block device: what is to be zero is made so.\n\n"
	"      --format FORMAT   vmdk-stream or raw (default: by content)\n"
	"      --capacity BYTES  the size that the disk must have; anything else is an error\n"
	"      --digest          print the digest only\n"
	"      --resume[=MIB]    keep a journal beside OUT (OUT.journal) until it is done, and when one is there from an earlier try do not\n"
	"                        write again what is right; the disk is synced every so many MiB (256)\n"
	"      --sync            wait until the storage has everything\n"
	"  -q, --quiet           no progress\n"
	"  -h, --help\n\n"
	"Prints the disk's capacity, how much of it is data, and the digest of its content (which is described in disk/digest.h).\n";

static int usage_error(const char *what)
{
	fprintf(stderr, "vm-import-controller convert: %s\nvm-import-controller convert --help tells the options.\n", what);
	return EXIT_USAGE;
}

DEFINE_CLEANUP(struct disk_pipeline, pipeline_free_p, disk_pipeline_free)
DEFINE_CLEANUP(struct disk_workers, workers_free_p, disk_workers_free)

static int convert(const char *in, struct disk_pipeline_options *options, bool quiet, struct disk_result *result, struct error **err)
{
	AUTO_FD int file = strcmp(in, "-") ? open(in, O_RDONLY | O_CLOEXEC) : dup(STDIN_FILENO);
	CLEANUP(workers_free_p) struct disk_workers *workers = NULL;
	CLEANUP(pipeline_free_p) struct disk_pipeline *pipeline = NULL;
	size_t piece = 256 * 1024;
	AUTO_FREE unsigned char *data = malloc(piece);
	_Atomic uint64_t position = 0;
	uint64_t whole, read_bytes = 0;
	CLEANUP(meter_end) struct meter meter = { 0 };
	struct stat st;
	ssize_t n;

	if (file < 0 || !data)
		return error_set_errno(err, errno, "cannot open %s", in);
	whole = fstat(file, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
	meter_begin(&meter, quiet);
	fcntl(file, F_SETPIPE_SZ, 1 << 20); /* fewer switches between us and the writer, when it is a pipe */
	workers = disk_workers_new(0, err);
	if (!workers)
		return -1;
	options->workers = workers;
	options->guest_bytes = &position;
	pipeline = disk_pipeline_new(options, err);
	if (!pipeline)
		return -1;
	if (whole && options->format && !strcmp(options->format, "raw")) {
		read_bytes = disk_pipeline_resume(pipeline);
		if (lseek(file, (off_t)read_bytes, SEEK_SET) < 0)
			return error_set_errno(err, errno, "cannot read %s", in);
	}
	while ((n = read(file, data, piece)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set_errno(err, errno, "cannot read %s", in);
		if (disk_pipeline_push(pipeline, data, (size_t)n, err) < 0)
			return -1;
		read_bytes += (uint64_t)n;
		meter_show(&meter, read_bytes, whole, position);
	}
	meter_end(&meter);
	return disk_pipeline_finish(pipeline, result, err);
}

int cmd_convert(int argc, char **argv)
{
	static const struct option options[] = {
		{ "format", required_argument, NULL, 'f' }, { "capacity", required_argument, NULL, 'c' },
		{ "digest", no_argument, NULL, 'd' },       { "resume", optional_argument, NULL, 'r' },
		{ "sync", no_argument, NULL, 's' },         { "quiet", no_argument, NULL, 'q' },
		{ "help", no_argument, NULL, 'h' },         { 0 },
	};
	struct disk_pipeline_options pipeline = { .no_sync = true };
	AUTO_ERROR struct error *err = NULL;
	struct disk_result result;
	struct stat st;
	AUTO_FREE char *journal = NULL, *identity = NULL;
	bool quiet = false, digest_only = false, resume = false;
	unsigned mib = 256;
	int c;

	while ((c = getopt_long(argc, argv, "qh", options, NULL)) != -1) {
		switch (c) {
		case 'f':
			pipeline.format = optarg;
			break;
		case 'c':
			if (!numbers_bytes(optarg, &pipeline.capacity))
				return usage_error("--capacity takes a number of bytes");
			break;
		case 'd':
			digest_only = true;
			break;
		case 'r':
			if (optarg && !numbers_unsigned(optarg, 1, 1 << 20, &mib))
				return usage_error("--resume takes a number of MiB");
			pipeline.checkpoint = (uint64_t)mib << 20;
			resume = true;
			pipeline.no_sync = false;
			break;
		case 's':
			pipeline.no_sync = false;
			break;
		case 'q':
			quiet = true;
			break;
		case 'h':
			fputs(help, stdout);
			return EXIT_DONE;
		default:
			return usage_error("the option is not understood");
		}
	}
	if (argc - optind != 2)
		return usage_error("name an input and an output");
	pipeline.path = argv[optind + 1];
	if (stat(pipeline.path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return usage_error("the output must be a file or a block device");
	if (resume && asprintf(&journal, "%s.journal", pipeline.path) < 0)
		journal = NULL;
	pipeline.journal = journal;
	/* A raw image in a file goes on where it was, unless it was changed; of a stream each block is compared. */
	if (resume && stat(argv[optind], &st) == 0 && S_ISREG(st.st_mode) &&
	    asprintf(&identity, "%s %jd %jd %jd.%09ld", argv[optind], (intmax_t)st.st_ino, (intmax_t)st.st_size,
		     (intmax_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec) < 0)
		identity = NULL;
	pipeline.identity = identity ? identity : argv[optind];
	if (convert(argv[optind], &pipeline, quiet, &result, &err) < 0) {
		fprintf(stderr, "vm-import-controller: %s\n", error_message(err));
		return EXIT_FAILED;
	}
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
