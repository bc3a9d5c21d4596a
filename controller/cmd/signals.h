/* Signals of the whole process, blocked in every thread and read by the main one: SIGINT and SIGTERM stop it, SIGUSR1 turns the log's
 * debugging lines on, SIGUSR2 sets its level back to what log_setup said at the start. */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "base/cancel.h"

/* Before any thread is started, after log_setup. Ignores SIGPIPE too. */
void signals_block(void);
/* Waits at most ms (-1: for ever) for a signal to stop; true when there was one. From then on a second one ends the process at once
 * with status 128 + its number. Meanwhile it obeys the signals for the log. */
bool signals_wait(int ms);

/* A thread that requests cancel at the first signal to stop, for a command whose main thread works. */
struct signals_watch {
	struct cancel *cancel; /* borrowed */
	pthread_t thread;
	bool started;
};
/* After signals_block. */
int signals_watch_begin(struct signals_watch *watch, struct cancel *cancel, struct error **err);
void signals_watch_end(struct signals_watch *watch); /* accepts one that was zeroed */
