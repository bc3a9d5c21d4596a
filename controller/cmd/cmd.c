#include "cmd/cmd.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* In the order of the help. Without a name command_run runs. */
const struct command *const cmd_commands[] = {
	&command_run,
	&command_import,
	&command_plan,
	&command_convert,
	&command_inspect,
	&command_verify,
	&command_support_bundle,
	&command_completion,
	&command_man,
	&command_version,
	NULL,
};

const struct cmd_variable cmd_variables[] = {
	{ "DEBUG", "\"true\" is --verbose" },
	{ "KUBECONFIG", "configuration of the cluster, or several separated by colons" },
	{ "LOG_FORMAT", "\"json\" writes the log as JSON lines" },
	{ "SVC_ADDRESS", "host that the images' URLs name" },
	{ NULL, NULL },
};

static void usage(FILE *out)
{
	fputs("Usage: vm-import-controller [COMMAND] [OPTION]...\n"
	      "Brings virtual machines into Harvester and KubeVirt.\n\nCommands:\n",
	      out);
	for (const struct command *const *c = cmd_commands; *c; c++)
		fprintf(out, "  %-15s %s\n", (*c)->name, (*c)->summary);
	fputs("\nvm-import-controller COMMAND --help tells a command's options; without a command it is run.\n", out);
}

/* Nothing that is opened may take the place of a standard descriptor that was closed: it would be read as the input, or have what is said
 * written into it. What is there instead fails as a closed one does. */
static void fill_standard(void)
{
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd ? O_RDONLY : O_WRONLY) < 0)
			return;
}

int cmd_main(int argc, char **argv)
{
	fill_standard();
	/* Buffers are mapped by themselves and go back to the system when they are freed. By default glibc takes them out of its heaps from the
	 * first one on that was freed, and keeps them: eight disks at once took 10 MiB more. */
	mallopt(M_MMAP_THRESHOLD, 128 << 10);
	signal(SIGXFSZ, SIG_IGN); /* a limit on the size of files is an error of the write */
	if (argc < 2)
		return command_run.run(1, (char *[]){ (char *)command_run.name, NULL });
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		usage(stdout);
		return EXIT_DONE;
	}
	if (!strcmp(argv[1], "--version"))
		return command_version.run(1, (char *[]){ (char *)command_version.name, NULL });
	for (const struct command *const *c = cmd_commands; *c; c++)
		if (!strcmp(argv[1], (*c)->name))
			return (*c)->run(argc - 1, argv + 1);
	if (argv[1][0] == '-') { /* options without a command are the daemon's */
		argv[0] = (char *)command_run.name;
		return command_run.run(argc, argv);
	}
	fprintf(stderr, "vm-import-controller: there is no command \"%s\"\n\n", argv[1]);
	usage(stderr);
	return EXIT_USAGE;
}
