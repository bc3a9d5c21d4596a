/* Is this disk the one whose digest was noted? */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd/advice.h"
#include "cmd/cmd.h"
#include "cmd/image_file.h"
#include "cmd/meter.h"
#include "cmd/numbers.h"
#include "cmd/options.h"
#include "disk/digest.h"

enum { CAPACITY = OPTION_LONG, FORMAT };

static const struct cmd_option flags[] = {
	{ CAPACITY, "capacity", "BYTES", "look at so many bytes only: for a device that is larger than the disk on it", 0, 0 },
	{ FORMAT, "format", "FORMAT",
	  "raw, vmdk or qcow2 (default: a device and what --capacity is given for is raw, a file by content; name raw where it is known, for "
	  "what a raw disk begins with is its guest's)",
	  VALUE_WORDS, "raw vmdk qcow2" },
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
		"Makes the digest of a disk again and compares it with DIGEST, as \"convert\" printed it or a status has it. IMAGE is a raw image "
		"or a block device; in a file also any other image that \"inspect\" reads, whose disk is compared.",
	.options = flags,
	.end = "Exit status: 0 the same, 1 another or not readable, 2 wrong usage.",
	.operand = VALUE_FILE,
};

static int make_digest(const char *path, uint64_t capacity, bool quiet, char out[DISK_DIGEST_TEXT_SIZE], struct error **err)
{
	CLEANUP(meter_watch_end) struct meter_watch watch = { 0 };
	struct disk_digest_options options = { .size = capacity, .guest_bytes = &watch.position };
	uint64_t whole = capacity;
	struct stat st;

	if (!whole && stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
		whole = (uint64_t)st.st_size;
		if (!whole)
			return error_set(err, ERROR_PERMANENT, "FileTruncated", "%s is empty", path);
	}
	meter_watch_begin(&watch, whole, quiet);
	return disk_digest_file(path, &options, out, err);
}

/* Of the disk in an image, as "inspect" makes it. */
static int make_image_digest(const char *path, const char *format, bool quiet, char out[DISK_DIGEST_TEXT_SIZE], struct error **err)
{
	CLEANUP(image_file_close) struct image_file file = { 0 };
	struct disk_result result;

	if (image_file_open(&file, path, format, err) < 0 || image_file_digest(&file, quiet, &result, err) < 0)
		return -1;
	memcpy(out, result.digest, DISK_DIGEST_TEXT_SIZE);
	return 0;
}

/* Whether the disk is inside of the file, rather than the file itself. */
static bool is_image(const char *path, const char *format, uint64_t capacity)
{
	enum disk_format found;
	struct stat st;

	if (format || capacity)
		return format && strcmp(format, "raw");
	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && image_file_format(path, &found, NULL) == 0 && disk_format_is_image(found);
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
	const char *format = NULL;
	uint64_t capacity = 0;
	bool quiet = false;
	int id = 0;

	option_scan_begin(&scan, &command_verify, argc, argv);
	while (id >= 0 && (id = option_scan_next(&scan)) > 0) {
		if (id == 'q')
			quiet = true;
		else if (id == FORMAT)
			format = scan.value;
		else if (!numbers_bytes(scan.value, &capacity))
			id = option_scan_refuse(&scan, "--capacity takes a number of bytes");
	}
	argv += scan.operands;
	if (!id && argc - scan.operands != 2)
		id = option_scan_refuse(&scan, "name an image and a digest");
	else if (!id && !is_digest(argv[1]))
		id = option_scan_refuse(&scan, "the digest must be vmid2: and 64 hexadecimal digits");
	else if (!id && format && strcmp(format, "raw") && strcmp(format, "vmdk") && strcmp(format, "qcow2"))
		id = option_scan_refuse(&scan, "--format takes raw, vmdk or qcow2");
	else if (!id && capacity && format && strcmp(format, "raw"))
		id = option_scan_refuse(&scan, "--capacity is for raw disks: an image says how large its disk is");
	if (id < 0)
		return scan.exit_code;
	if (is_image(argv[0], format, capacity) ? make_image_digest(argv[0], format, quiet, digest, &err) < 0
						: make_digest(argv[0], capacity, quiet, digest, &err) < 0) {
		fprintf(stderr, "vm-import-controller: %s%s\n", error_message(err), advice_of(err));
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
