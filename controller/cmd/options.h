/* A subcommand as a table: from it come dispatch, parsing, --help, the manual page and what shells complete.
 *
 * Texts are plain English without markup, a paragraph a line ("\n" between them); a line that begins with two spaces is shown as it is. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

/* What a shell offers for a value. */
enum option_value { VALUE_OTHER, VALUE_FILE, VALUE_DIRECTORY, VALUE_WORDS };

struct cmd_option {
	int id;            /* below 128: its short form is this letter; others begin with OPTION_LONG; 0 ends a table */
	const char *name;  /* long form */
	const char *value; /* what is shown for its value; NULL: it has none; "[MIB]": it may be left out, and is given as --name=MIB */
	const char *help;
	enum option_value kind;
	const char *words; /* VALUE_WORDS: separated by spaces */
};

#define OPTION_LONG 256
/* What every command has; the last row of its table but one. */
#define OPTION_HELP { 'h', "help", NULL, "say this", 0, 0 }

struct command {
	const char *name;
	int (*run)(int argc, char **argv); /* argv[0] is the name; returns the exit code */
	const char *summary;               /* a line of the list of commands */
	const char *arguments;             /* in the usage line: "IN OUT"; may be "" */
	const char *description;
	const struct cmd_option *options;
	const char *end;           /* below the options; NULL: nothing */
	enum option_value operand; /* what a shell offers for an argument that is no option */
	const char *words;
};

/* An environment variable; the table of all is ended by a NULL name. */
struct cmd_variable {
	const char *name, *help;
};

/* Goes through the options:
 *
 *   struct option_scan scan;
 *   for (option_scan_begin(&scan, &command_run, argc, argv); (id = option_scan_next(&scan)) > 0;)
 *           switch (id) ...
 *   if (id < 0) return scan.exit_code;
 *
 * As in getopt_long(3), options may stand behind arguments, "--" ends them, and long ones may be shortened. One scan at a time. */
struct option_scan {
	const struct command *command;
	int argc;
	char **argv;
	const char *value; /* of the option; NULL: it has none */
	int operands;      /* at the end: the index in argv of the first argument that is no option */
	int exit_code;
};

void option_scan_begin(struct option_scan *scan, const struct command *command, int argc, char **argv);
/* The option's id; 0 at the end; -1 when help was given or the usage was wrong (said on stderr): exit_code is set. */
int option_scan_next(struct option_scan *scan);
/* Says on stderr what is wrong with the usage, and where help is. Returns -1; exit_code is set. */
int option_scan_refuse(struct option_scan *scan, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "  -f, --filename FILE" without the leading spaces: "-f, --filename FILE". */
int option_forms(const struct cmd_option *option, char *out, size_t size);
void command_print_help(const struct command *command, FILE *out);

/* The commands, ended by NULL, and the variables: cmd.c. */
extern const struct command *const cmd_commands[];
extern const struct cmd_variable cmd_variables[];
