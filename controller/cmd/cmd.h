/* The subcommands: a file each, a line each in the table of cmd.c. */
#pragma once

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

/* Dispatches to a subcommand; without one it runs the daemon. Returns the exit code. */
int cmd_main(int argc, char **argv);

/* argv[0] is the subcommand's name. */
int cmd_run(int argc, char **argv);
int cmd_import(int argc, char **argv);
int cmd_convert(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_version(int argc, char **argv);
