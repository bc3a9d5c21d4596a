/* Is this disk the one whose digest was noted? */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cancel.h"
#include "cmd/cmd.h"
#include "cmd/meter.h"
#include "cmd/numbers.h"
#include "disk/digest.h"

static const char help[] =
	"Usage: vm-import-controller verify [OPTION]... IMAGE DIGEST\n"
	"Makes the digest of a raw image or a block device again and compares it with DIGEST, as \"convert\" printed it or a status has it.\n\n"
	"      --capacity BYTES  look at so many bytes only: for a device that is larger than the disk on it\n"
	"  -q, --quiet           say nothing when it is the same, and show no progress\n"
	"  -h, --help\n\n"
	"Exit status: 0 the same, 1 another or not readable, 2 wrong usage.\n";

static int usage_error(const char *what)
{
	fprintf(stderr, "vm-import-controller verify: %s\nvm-import-controller verify --help tells the options.\n", what);
	return EXIT_USAGE;
}

/* The meter, while the digest is made. */
struct watch {
	struct meter meter;
	_Atomic uint64_t position;
	uint64_t whole;
	struct cancel *done;
};

static void *watch(void *arg)
{
	struct watch *w = arg;

	while (!cancel_wait(w->done, 100))
		meter_show(&w->meter, w->position, w->whole, w->position);
	return NULL;
}

static int make_digest(const char *path, uint64_t capacity, bool quiet, char out[DISK_DIGEST_TEXT_SIZE], struct error **err)
{
	struct watch w = { .whole = capacity, .done = cancel_new(NULL) };
	struct disk_digest_options options = { .size = capacity, .guest_bytes = &w.position };
	struct stat st;
	pthread_t thread;
	int result;

	if (!w.done)
		return error_set_errno(err, ENOMEM, "cannot read %s", path);
	if (!w.whole && stat(path, &st) == 0 && S_ISREG(st.st_mode))
		w.whole = (uint64_t)st.st_size;
	meter_begin(&w.meter, quiet);
	bool watched = w.meter.shown && !pthread_create(&thread, NULL, watch, &w);
	result = disk_digest_file(path, &options, out, err);
	cancel_request(w.done);
	if (watched)
		pthread_join(thread, NULL);
	meter_end(&w.meter);
	cancel_free(w.done);
	return result;
}

static bool is_digest(const char *text)
{
	return strlen(text) == DISK_DIGEST_TEXT_SIZE - 2 && !strncmp(text, "vmid2:", 6) && strspn(text + 6, "0123456789abcdef") == 64;
}

int cmd_verify(int argc, char **argv)
{
	static const struct option options[] = {
		{ "capacity", required_argument, NULL, 'c' },
		{ "quiet", no_argument, NULL, 'q' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	char digest[DISK_DIGEST_TEXT_SIZE];
	AUTO_ERROR struct error *err = NULL;
	uint64_t capacity = 0;
	bool quiet = false;
	int c;

	while ((c = getopt_long(argc, argv, "qh", options, NULL)) != -1) {
		switch (c) {
		case 'c':
			if (!numbers_bytes(optarg, &capacity))
				return usage_error("--capacity takes a number of bytes");
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
		return usage_error("name an image and a digest");
	if (!is_digest(argv[optind + 1]))
		return usage_error("the digest must be vmid2: and 64 hexadecimal digits");
	if (make_digest(argv[optind], capacity, quiet, digest, &err) < 0) {
		fprintf(stderr, "vm-import-controller: %s\n", error_message(err));
		return EXIT_FAILED;
	}
	if (strcmp(digest, argv[optind + 1])) {
		fprintf(stderr, "vm-import-controller: %s is another disk, or was changed: its digest is %s\n", argv[optind], digest);
		return EXIT_FAILED;
	}
	if (!quiet)
		printf("%s is the disk of this digest\n", argv[optind]);
	return EXIT_DONE;
}
