/* What is this disk image, and is it whole? */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cmd/advice.h"
#include "cmd/cmd.h"
#include "cmd/image_file.h"

enum { FORMAT = OPTION_LONG, JSON, FAST };

static const struct cmd_option flags[] = {
	{ FORMAT, "format", "FORMAT", "vmdk, qcow2 or raw (default: by content)", VALUE_WORDS, "vmdk qcow2 raw" },
	{ FAST, "fast", NULL, "read the tables only: no digest, and damage to the data is not found", 0, 0 },
	{ JSON, "json", NULL, "as JSON", 0, 0 },
	{ 'q', "quiet", NULL, "no progress", 0, 0 },
	OPTION_HELP,
	{ 0 },
};

static int run(int argc, char **argv);

const struct command command_inspect = {
	.name = "inspect",
	.run = run,
	.summary = "tell what a disk image is, and whether it is whole",
	.arguments = "IN",
	.description =
		"Tells the format of a disk image, the capacity of its disk, how much of it is there, the files that it is made of, the digest of its "
		"content (as \"convert\" would print it) and what is wrong with it. IN is anything that \"convert\" reads from a file.\n"
		"Extents, parents and backing files are read from the directory of IN only, and those of an image on a device not at all. IN must not "
		"change while it is read; a file that does is an error.",
	.options = flags,
	.end = "Exit status: 0 it can be read, also with problems; 1 it cannot (the reason is on standard error, with --json the last of the "
	       "problems); 2 wrong usage.",
	.operand = VALUE_FILE,
};

DEFINE_CLEANUP(json_t, json_free_p, json_decref)

/* A file's name as JSON: what is no UTF-8 in it is shown as "?". */
static json_t *text(const char *bytes)
{
	json_t *string = json_string(bytes);
	char *copy;

	if (string)
		return string;
	copy = strdup(bytes);
	for (char *p = copy; p && *p; p++)
		*p = *p < 0 ? '?' : *p;
	string = copy ? json_string(copy) : NULL;
	free(copy);
	return string;
}

static json_t *files_of(const struct disk_image_info *info)
{
	json_t *files = json_array();

	for (size_t i = 0; i < info->file_count; i++) {
		const struct disk_image_file *f = &info->files[i];

		json_array_append_new(files, json_pack("{s:o, s:s, s:i, s:I, s:I}", "file", text(f->name), "type", f->kind, "layer",
						       (int)f->layer, "capacity", (json_int_t)f->capacity, "size", (json_int_t)f->size));
	}
	return files;
}

/* All that is known of it. failed: why it cannot be read; with `all` that is among the problems, too. */
static json_t *describe(const char *path, bool fast, const char *format, bool quiet, bool all, struct error **failed)
{
	CLEANUP(image_file_close) struct image_file file = { 0 };
	json_t *out = json_object(), *problems = json_array();
	enum disk_format found = DISK_RAW;
	struct disk_result result;
	uint64_t allocated;

	if (image_file_open(&file, path, format, failed) == 0) {
		const struct disk_image_info *info = disk_image_info(file.image);

		json_object_set_new(out, "format", json_string(disk_format_name(info->format)));
		json_object_set_new(out, "subformat", text(info->subformat));
		json_object_set_new(out, "capacity", json_integer((json_int_t)info->capacity));
		json_object_set_new(out, "layers", json_integer(info->layers));
		json_object_set_new(out, "extents", files_of(info));
		if (disk_image_allocated(file.image, &allocated, NULL, failed) == 0)
			json_object_set_new(out, "allocated", json_integer((json_int_t)allocated));
		if (!fast && !*failed && image_file_digest(&file, quiet, &result, failed) == 0) {
			json_object_set_new(out, "data", json_integer((json_int_t)result.data_bytes));
			json_object_set_new(out, "digest", json_string(result.digest));
		}
		for (size_t i = 0; i < info->problem_count; i++)
			json_array_append_new(problems, text(info->problems[i]));
	} else if (image_file_format(path, &found, NULL) == 0) {
		json_object_set_new(out, "format", json_string(disk_format_name(found)));
	}
	if (*failed && all)
		json_array_append_new(problems, text(error_message(*failed)));
	json_object_set_new(out, "readable", json_boolean(!*failed));
	json_object_set_new(out, "problems", problems);
	return out;
}

static void print_number(const json_t *all, const char *key)
{
	const json_t *value = json_object_get(all, key);

	if (value)
		printf("%s %" JSON_INTEGER_FORMAT "\n", key, json_integer_value(value));
}

static void print_text(const json_t *all)
{
	const char *subformat = json_string_value(json_object_get(all, "subformat")), *digest;
	const json_t *item;
	size_t i;

	if (json_object_get(all, "format"))
		printf("format %s%s%s\n", json_string_value(json_object_get(all, "format")), subformat && *subformat ? " " : "",
		       subformat ? subformat : "");
	print_number(all, "capacity");
	print_number(all, "allocated");
	print_number(all, "data");
	json_array_foreach (json_object_get(all, "extents"), i, item)
		printf("extent %" JSON_INTEGER_FORMAT " %s %" JSON_INTEGER_FORMAT " %s\n",
		       json_integer_value(json_object_get(item, "layer")), json_string_value(json_object_get(item, "type")),
		       json_integer_value(json_object_get(item, "capacity")), json_string_value(json_object_get(item, "file")));
	digest = json_string_value(json_object_get(all, "digest"));
	if (digest)
		printf("digest %s\n", digest);
	json_array_foreach (json_object_get(all, "problems"), i, item)
		printf("problem %s\n", json_string_value(item));
}

static int run(int argc, char **argv)
{
	AUTO_ERROR struct error *failed = NULL;
	CLEANUP(json_free_p) json_t *all = NULL;
	struct option_scan scan;
	const char *format = NULL;
	bool json = false, fast = false, quiet = false;
	int id = 0;

	option_scan_begin(&scan, &command_inspect, argc, argv);
	while (id >= 0 && (id = option_scan_next(&scan)) > 0) {
		switch (id) {
		case FORMAT:
			format = scan.value;
			if (strcmp(format, "raw") && strcmp(format, "vmdk") && strcmp(format, "qcow2"))
				id = option_scan_refuse(&scan, "--format takes vmdk, qcow2 or raw, not %s", format);
			break;
		case JSON:
			json = true;
			break;
		case FAST:
			fast = true;
			break;
		case 'q':
			quiet = true;
			break;
		}
	}
	if (!id && argc - scan.operands != 1)
		id = option_scan_refuse(&scan, "name an image");
	if (id < 0)
		return scan.exit_code;
	/* Told once: a program reads it in the JSON, a person after what is known. */
	all = describe(argv[scan.operands], fast, format, quiet, json, &failed);
	if (json) {
		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		print_text(all);
	}
	if (fflush(stdout) || ferror(stdout)) {
		fputs("vm-import-controller: cannot write to standard output\n", stderr);
		return EXIT_FAILED;
	}
	if (failed && !json)
		fprintf(stderr, "vm-import-controller: %s%s\n", error_message(failed), advice_of(failed));
	return failed ? EXIT_FAILED : EXIT_DONE;
}
