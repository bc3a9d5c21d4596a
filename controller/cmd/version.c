#include <stdio.h>

#include "cmd/cmd.h"
#include "cmd/options.h"

static const struct cmd_option flags[] = { OPTION_HELP, { 0 } };

static int run(int argc, char **argv);

const struct command command_version = {
	.name = "version",
	.run = run,
	.summary = "print the version",
	.arguments = "",
	.description = "Prints the version.",
	.options = flags,
};

static int run(int argc, char **argv)
{
	struct option_scan scan;

	option_scan_begin(&scan, &command_version, argc, argv);
	if (option_scan_next(&scan) < 0)
		return scan.exit_code;
	puts("vm-import-controller " VIC_VERSION);
	return EXIT_DONE;
}
