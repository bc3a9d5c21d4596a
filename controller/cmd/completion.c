/* What shells complete, from the tables. */
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/options.h"

static const struct cmd_option flags[] = { OPTION_HELP, { 0 } };

static int run(int argc, char **argv);

const struct command command_completion = {
	.name = "completion",
	.run = run,
	.summary = "print what a shell completes: bash, zsh or fish",
	.arguments = "SHELL",
	.description =
		"Prints a script that lets a shell complete commands, options and their values. Try it:\n"
		"  bash: . <(vm-import-controller completion bash)\n"
		"  zsh:  . <(vm-import-controller completion zsh)\n"
		"  fish: vm-import-controller completion fish | source\n"
		"Where it stays: /usr/share/bash-completion/completions/vm-import-controller, _vm-import-controller in a directory of zsh's "
		"fpath, ~/.config/fish/completions/vm-import-controller.fish.",
	.options = flags,
	.operand = VALUE_WORDS,
	.words = "bash zsh fish",
};

/* Text within single quotes of a shell. zsh: the characters that its descriptions take for their own, too. */
static void quoted(const char *text, bool zsh)
{
	for (; *text; text++) {
		if (*text == '\'')
			fputs("'\\''", stdout);
		else if (zsh && strchr("[]:\\", *text))
			printf("\\%c", *text);
		else if (!zsh && *text == '\\')
			fputs("\\\\", stdout);
		else
			putchar(*text == '\n' ? ' ' : *text);
	}
}

static const char *action(enum option_value kind)
{
	return kind == VALUE_FILE ? "-f" : kind == VALUE_DIRECTORY ? "-d" : "";
}

static void bash(void)
{
	puts("# vm-import-controller for bash: made by \"vm-import-controller completion bash\"\n"
	     "_vm_import_controller() {\n"
	     "\tlocal word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command=\"\" i\n"
	     "\tlocal IFS=$'\\n'\n"
	     "\tCOMPREPLY=()\n"
	     "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	     "\t\tcase ${COMP_WORDS[i]} in -*) ;; *) command=${COMP_WORDS[i]}; break ;; esac\n"
	     "\tdone\n"
	     "\t# --name=value is three words\n"
	     "\tif [ \"$word\" = = ]; then word=\"\"; elif [ \"$before\" = = ]; then before=${COMP_WORDS[COMP_CWORD - 2]}; fi\n"
	     "\tcase $command in\n"
	     "\t\"\")");
	fputs("\t\tCOMPREPLY=($(compgen -W $'", stdout);
	for (const struct command *const *c = cmd_commands; *c; c++)
		printf("%s\\n", (*c)->name);
	puts("--help\\n--version' -- \"$word\"))\n\t\t;;");
	for (const struct command *const *c = cmd_commands; *c; c++) {
		printf("\t%s)\n\t\tcase $before in\n", (*c)->name);
		for (const struct cmd_option *o = (*c)->options; o->id; o++) {
			if (!o->value || o->value[0] == '[')
				continue;
			printf("\t\t--%s", o->name);
			if (o->id < 128)
				printf(" | -%c", o->id);
			if (o->kind == VALUE_WORDS)
				printf(") IFS=' ' COMPREPLY=($(IFS=' '; compgen -W '%s' -- \"$word\")); return ;;\n", o->words);
			else if (*action(o->kind))
				printf(") COMPREPLY=($(compgen %s -- \"$word\")); return ;;\n", action(o->kind));
			else
				puts(") return ;;");
		}
		puts("\t\tesac\n\t\tcase $word in");
		fputs("\t\t-*) COMPREPLY=($(compgen -W $'", stdout);
		for (const struct cmd_option *o = (*c)->options; o->id; o++)
			printf("--%s\\n", o->name);
		puts("' -- \"$word\")) ;;");
		if ((*c)->operand == VALUE_WORDS)
			printf("\t\t*) COMPREPLY=($(IFS=' '; compgen -W '%s' -- \"$word\")) ;;\n", (*c)->words);
		else if (*action((*c)->operand))
			printf("\t\t*) COMPREPLY=($(compgen %s -- \"$word\")) ;;\n", action((*c)->operand));
		puts("\t\tesac\n\t\t;;");
	}
	puts("\tesac\n}\ncomplete -o filenames -F _vm_import_controller vm-import-controller");
}

static void zsh_action(enum option_value kind, const char *words)
{
	if (kind == VALUE_FILE)
		fputs("_files", stdout);
	else if (kind == VALUE_DIRECTORY)
		fputs("_files -/", stdout);
	else if (kind == VALUE_WORDS)
		printf("(%s)", words);
}

static void zsh(void)
{
	puts("#compdef vm-import-controller\n"
	     "# vm-import-controller for zsh: made by \"vm-import-controller completion zsh\"\n"
	     "_vm_import_controller() {\n"
	     "\tlocal -a commands\n"
	     "\tlocal line state\n"
	     "\tcommands=(");
	for (const struct command *const *c = cmd_commands; *c; c++) {
		printf("\t\t'%s:", (*c)->name);
		quoted((*c)->summary, true);
		puts("'");
	}
	puts("\t)\n"
	     "\t_arguments -C '1: :->command' '*:: :->rest' && return\n"
	     "\tcase $state in\n"
	     "\tcommand) _describe command commands ;;\n"
	     "\trest)\n"
	     "\t\tcase $words[1] in");
	for (const struct command *const *c = cmd_commands; *c; c++) {
		printf("\t\t%s)\n\t\t\t_arguments", (*c)->name);
		for (const struct cmd_option *o = (*c)->options; o->id; o++) {
			bool optional = o->value && o->value[0] == '[';

			for (int letter = 0; letter < (o->id < 128 ? 2 : 1); letter++) {
				fputs(" \\\n\t\t\t\t'", stdout);
				if (letter)
					printf("*-%c", o->id);
				else
					printf("*--%s%s", o->name, !o->value ? "" : optional ? "=-" : "=");
				putchar('[');
				quoted(o->help, true);
				putchar(']');
				if (o->value) {
					printf("%s:%s:", optional ? ":" : "", optional ? "value" : o->value);
					zsh_action(o->kind, o->words);
				}
				putchar('\'');
			}
		}
		if ((*c)->operand != VALUE_OTHER) {
			printf(" \\\n\t\t\t\t'*:%s:", (*c)->name);
			zsh_action((*c)->operand, (*c)->words);
			putchar('\'');
		}
		puts("\n\t\t\t;;");
	}
	puts("\t\tesac\n\t\t;;\n\tesac\n}\n"
	     "if [ \"$funcstack[1]\" = _vm_import_controller ]; then _vm_import_controller \"$@\"; else compdef _vm_import_controller "
	     "vm-import-controller; fi");
}

static void fish(void)
{
	puts("# vm-import-controller for fish: made by \"vm-import-controller completion fish\"\n"
	     "complete -c vm-import-controller -f");
	for (const struct command *const *c = cmd_commands; *c; c++) {
		printf("complete -c vm-import-controller -n __fish_use_subcommand -a %s -d '", (*c)->name);
		quoted((*c)->summary, false);
		puts("'");
	}
	for (const struct command *const *c = cmd_commands; *c; c++) {
		for (const struct cmd_option *o = (*c)->options; o->id; o++) {
			printf("complete -c vm-import-controller -n '__fish_seen_subcommand_from %s' -l %s", (*c)->name, o->name);
			if (o->id < 128)
				printf(" -s %c", o->id);
			if (o->value && o->value[0] != '[')
				fputs(o->kind == VALUE_FILE ? " -r -F" : " -x", stdout);
			if (o->kind == VALUE_DIRECTORY)
				fputs(" -a '(__fish_complete_directories)'", stdout);
			if (o->kind == VALUE_WORDS)
				printf(" -a '%s'", o->words);
			fputs(" -d '", stdout);
			quoted(o->help, false);
			puts("'");
		}
		if ((*c)->operand == VALUE_FILE)
			printf("complete -c vm-import-controller -n '__fish_seen_subcommand_from %s' -F\n", (*c)->name);
		else if ((*c)->operand == VALUE_WORDS)
			printf("complete -c vm-import-controller -n '__fish_seen_subcommand_from %s' -a '%s'\n", (*c)->name, (*c)->words);
	}
}

static int run(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*print)(void);
	} shells[] = { { "bash", bash }, { "zsh", zsh }, { "fish", fish } };
	struct option_scan scan;

	option_scan_begin(&scan, &command_completion, argc, argv);
	if (option_scan_next(&scan) < 0)
		return scan.exit_code;
	if (argc - scan.operands == 1)
		for (size_t i = 0; i < sizeof shells / sizeof *shells; i++)
			if (!strcmp(argv[scan.operands], shells[i].name)) {
				shells[i].print();
				return fflush(stdout) || ferror(stdout) ? EXIT_FAILED : EXIT_DONE;
			}
	option_scan_refuse(&scan, "name a shell: bash, zsh or fish");
	return scan.exit_code;
}
