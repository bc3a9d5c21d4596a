/* Is this disk the one whose digest was noted? */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd/cmd.h"
#include "cmd/meter.h"
#include "cmd/numbers.h"
#include "cmd/options.h"
#include "disk/digest.h"

enum { CAPACITY = OPTION_LONG };

static const struct cmd_option flags[] = {
	{ CAPACITY, "capacity", "BYTES", "look at so many bytes only: for a device that is larger than the disk on it", 0, 0 },
	{ 'q', "quiet", NULL, "say nothing when it is the same, and show no progress", 0, 0 },
	OPTION_HELP,
	{ 0 },
};

static int run(int argc, char **argv);

const struct command command_verify = {
	.name = "verify",
	.run = run,
	.summary = "compare a disk with the digest that was noted of it",
	.arguments = "IMAGE DIGEST",
	.description =
		"Makes the digest of a raw image or a block device again and compares it with DIGEST, as \"convert\" printed it or a "
		"status has it.",
	.options = flags,
	.end = "Exit status: 0 the same, 1 another or not readable, 2 wrong usage.",
	.operand = VALUE_FILE,
};

static int make_digest(const char *path, uint64_t capacity, bool quiet, char out[DISK_DIGEST_TEXT_SIZE], struct error **err)
{
	CLEANUP(meter_watch_end) struct meter_watch watch;
	struct disk_digest_options options = { .size = capacity, .guest_bytes = &watch.position };
	uint64_t whole = capacity;
	struct stat st;

	if (!whole && stat(path, &st) == 0 && S_ISREG(st.st_mode))
		whole = (uint64_t)st.st_size;
	meter_watch_begin(&watch, whole, quiet);
	return disk_digest_file(path, &options, out, err);
}

static bool is_digest(const char *text)
{
	return strlen(text) == DISK_DIGEST_TEXT_SIZE - 2 && !strncmp(text, "vmid2:", 6) && strspn(text + 6, "0123456789abcdef") == 64;
}

static int run(int argc, char **argv)
{
	char digest[DISK_DIGEST_TEXT_SIZE];
	AUTO_ERROR struct error *err = NULL;
	struct option_scan scan;
	uint64_t capacity = 0;
	bool quiet = false;
	int id = 0;

	option_scan_begin(&scan, &command_verify, argc, argv);
	while (id >= 0 && (id = option_scan_next(&scan)) > 0) {
		if (id == 'q')
			quiet = true;
		else if (!numbers_bytes(scan.value, &capacity))
			id = option_scan_refuse(&scan, "--capacity takes a number of bytes");
	}
	argv += scan.operands;
	if (!id && argc - scan.operands != 2)
		id = option_scan_refuse(&scan, "name an image and a digest");
	else if (!id && !is_digest(argv[1]))
		id = option_scan_refuse(&scan, "the digest must be vmid2: and 64 hexadecimal digits");
	if (id < 0)
		return scan.exit_code;
	if (make_digest(argv[0], capacity, quiet, digest, &err) < 0) {
		fprintf(stderr, "vm-import-controller: %s\n", error_message(err));
		return EXIT_FAILED;
	}
	if (strcmp(digest, argv[1])) {
		fprintf(stderr, "vm-import-controller: %s is another disk, or was changed: its digest is %s\n", argv[0], digest);
		return EXIT_FAILED;
	}
	if (!quiet)
		printf("%s is the disk of this digest\n", argv[0]);
	return EXIT_DONE;
}
