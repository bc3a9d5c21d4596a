#include "cmd/cmd.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
} commands[] = {
	{ "run", cmd_run, "watch VirtualMachineImports in a Kubernetes cluster and carry them out (the default)" },
	{ "import", cmd_import, "carry out VirtualMachineImports from manifest files, without a cluster" },
	{ "convert", cmd_convert, "turn a streamed disk image into a sparse raw file" },
	{ "verify", cmd_verify, "compare a disk with the digest that was noted of it" },
	{ "version", cmd_version, "print the version" },
};

#define COMMANDS (sizeof commands / sizeof *commands)

static void usage(FILE *out)
{
	fputs("Usage: vm-import-controller [COMMAND] [OPTION]...\n"
	      "Brings virtual machines from VMware vSphere into Harvester and KubeVirt.\n\nCommands:\n",
	      out);
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
	fputs("\nvm-import-controller COMMAND --help tells a command's options.\n", out);
}

int cmd_main(int argc, char **argv)
{
	signal(SIGXFSZ, SIG_IGN); /* a limit on the size of files is an error of the write */
	if (argc < 2)
		return cmd_run(1, (char *[]){ (char *)"run", NULL });
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		usage(stdout);
		return EXIT_DONE;
	}
	if (!strcmp(argv[1], "--version"))
		return cmd_version(1, argv + 1);
	for (size_t i = 0; i < COMMANDS; i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].run(argc - 1, argv + 1);
	if (argv[1][0] == '-') { /* options without a command are the daemon's */
		argv[0] = (char *)"run";
		return cmd_run(argc, argv);
	}
	fprintf(stderr, "vm-import-controller: there is no command \"%s\"\n\n", argv[1]);
	usage(stderr);
	return EXIT_USAGE;
}
