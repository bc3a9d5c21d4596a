#include <stdio.h>

#include "cmd/cmd.h"

int cmd_version(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	puts("vm-import-controller " VIC_VERSION);
	return EXIT_DONE;
}
