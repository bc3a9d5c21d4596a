#include "cmd/signals.h"

#include <signal.h>
#include <stddef.h>
#include <time.h>

static void stop_set(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
}

void signals_block(void)
{
	sigset_t set;

	stop_set(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

bool signals_wait(int ms)
{
	struct timespec timeout = { ms / 1000, (long)(ms % 1000) * 1000000 };
	sigset_t set;
	int got;

	stop_set(&set);
	got = ms < 0 ? sigwaitinfo(&set, NULL) : sigtimedwait(&set, NULL, &timeout);
	if (got < 0)
		return false;
	/* The default action is to end: a second signal does. */
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	return true;
}
