/* Signals of the whole process: SIGINT and SIGTERM are blocked in every thread and read by the main one. */
#pragma once

#include <stdbool.h>

/* Before any thread is started. Ignores SIGPIPE too. */
void signals_block(void);
/* Waits at most ms (-1: for ever) for a signal to stop; true when there was one. From then on a second one ends the process at once
 * with status 128 + its number. */
bool signals_wait(int ms);
