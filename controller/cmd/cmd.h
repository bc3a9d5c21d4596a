/* The subcommands: a file each, with a table (cmd/options.h) each; cmd.c lists them. */
#pragma once

#include "cmd/options.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

/* Dispatches to a subcommand; without one it runs the daemon. Returns the exit code. */
int cmd_main(int argc, char **argv);

extern const struct command command_run, command_import, command_plan, command_convert, command_inspect, command_verify,
	command_support_bundle, command_completion, command_man, command_version;
