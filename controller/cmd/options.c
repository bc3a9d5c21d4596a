#include "cmd/options.h"

#include <getopt.h>
#include <stdarg.h>
#include <string.h>

#include "cmd/cmd.h"

#define OPTIONS_MAX 40
#define COLUMNS 120
#define TEXT_AT 26 /* column of the options' texts */

void option_scan_begin(struct option_scan *scan, const struct command *command, int argc, char **argv)
{
	*scan = (struct option_scan){ .command = command, .argc = argc, .argv = argv };
	optind = 0; /* the beginning, for GNU's getopt */
	opterr = 0;
}

int option_scan_refuse(struct option_scan *scan, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "vm-import-controller %s: ", scan->command->name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nvm-import-controller %s --help tells the options.\n", scan->command->name);
	scan->exit_code = EXIT_USAGE;
	return -1;
}

int option_scan_next(struct option_scan *scan)
{
	struct option longs[OPTIONS_MAX + 1] = { 0 };
	char shorts[2 * OPTIONS_MAX + 2] = ":";
	size_t n = 0, len = 1;
	int id;

	for (const struct cmd_option *o = scan->command->options; o->id && n < OPTIONS_MAX; o++) {
		int has = !o->value ? no_argument : o->value[0] == '[' ? optional_argument : required_argument;

		longs[n++] = (struct option){ o->name, has, NULL, o->id };
		if (o->id < 128) {
			shorts[len++] = (char)o->id;
			if (has == required_argument)
				shorts[len++] = ':';
		}
	}
	id = getopt_long(scan->argc, scan->argv, shorts, longs, NULL);
	switch (id) {
	case -1:
		scan->operands = optind;
		return 0;
	case 'h':
		command_print_help(scan->command, stdout);
		scan->exit_code = EXIT_DONE;
		return -1;
	case ':':
		return option_scan_refuse(scan, "the option %s takes a value", scan->argv[optind - 1]);
	case '?':
		if (optopt && optopt < 128)
			return option_scan_refuse(scan, "there is no option -%c", optopt);
		return option_scan_refuse(scan, "the option %s is not understood", scan->argv[optind - 1]);
	default:
		scan->value = optarg;
		return id;
	}
}

/* Prints words with a margin, beginning in the given column. */
static void wrap(FILE *out, const char *text, size_t len, size_t column, size_t margin)
{
	while (len) {
		size_t word = 0;

		while (word < len && text[word] != ' ')
			word++;
		if (column > margin && column + 1 + word > COLUMNS) {
			fprintf(out, "\n%*s", (int)margin, "");
			column = margin;
		} else if (column > margin) {
			fputc(' ', out);
			column++;
		}
		fwrite(text, 1, word, out);
		column += word;
		while (word < len && text[word] == ' ')
			word++;
		text += word;
		len -= word;
	}
	fputc('\n', out);
}

static void print_paragraphs(FILE *out, const char *text)
{
	while (*text) {
		size_t len = strcspn(text, "\n");

		if (len > 1 && !strncmp(text, "  ", 2))
			fprintf(out, "%.*s\n", (int)len, text);
		else
			wrap(out, text, len, 0, 0);
		text += len + (text[len] == '\n');
	}
}

int option_forms(const struct cmd_option *option, char *out, size_t size)
{
	char letter[8] = "    ", value[64] = "";

	if (option->id < 128)
		snprintf(letter, sizeof letter, "-%c, ", option->id);
	if (option->value && option->value[0] == '[')
		snprintf(value, sizeof value, "[=%.*s]", (int)strcspn(option->value + 1, "]"), option->value + 1);
	else if (option->value)
		snprintf(value, sizeof value, " %s", option->value);
	return snprintf(out, size, "%s--%s%s", letter, option->name, value);
}

void command_print_help(const struct command *command, FILE *out)
{
	fprintf(out, "Usage: vm-import-controller %s [OPTION]...%s%s\n", command->name, *command->arguments ? " " : "", command->arguments);
	print_paragraphs(out, command->description);
	fputc('\n', out);
	for (const struct cmd_option *o = command->options; o->id; o++) {
		char forms[128];
		int len = option_forms(o, forms, sizeof forms);

		fprintf(out, "  %s", forms);
		if (len + 4 > TEXT_AT)
			fprintf(out, "\n%*s", TEXT_AT, "");
		else
			fprintf(out, "%*s", TEXT_AT - len - 2, "");
		wrap(out, o->help, strlen(o->help), TEXT_AT, TEXT_AT);
	}
	if (command->end) {
		fputc('\n', out);
		print_paragraphs(out, command->end);
	}
}
