#include "cmd/signals.h"

#include <signal.h>
#include <stddef.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"

static void stop_set(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
}

static void all_set(sigset_t *set)
{
	stop_set(set);
	sigaddset(set, SIGUSR1);
	sigaddset(set, SIGUSR2);
}

void signals_block(void)
{
	sigset_t set;

	all_set(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* Said while the log is at the more talkative of both levels. */
static void change_level(bool debug)
{
	if (debug)
		log_set_debug(true);
	log_write(LOG_INFO, "the log's level is changed", "level", debug ? "debug" : "as at the start", NULL);
	if (!debug)
		log_set_debug(false);
}

bool signals_wait(int ms)
{
	uint64_t now = clock_monotonic_ms(), end = now + (ms > 0 ? (uint64_t)ms : 0);
	sigset_t set, stop;

	all_set(&set);
	do {
		uint64_t left = end > now ? end - now : 0;
		struct timespec timeout = { (time_t)(left / 1000), (long)(left % 1000) * 1000000 };
		int got = ms < 0 ? sigwaitinfo(&set, NULL) : sigtimedwait(&set, NULL, &timeout);

		if (got == SIGUSR1 || got == SIGUSR2) {
			change_level(got == SIGUSR1);
		} else if (got > 0) {
			/* The default action is to end: a second signal does. */
			stop_set(&stop);
			sigprocmask(SIG_UNBLOCK, &stop, NULL);
			return true;
		}
		now = clock_monotonic_ms();
	} while (ms < 0 || now < end);
	return false;
}

static void *watch_main(void *arg)
{
	struct signals_watch *watch = arg;
	int before;

	signals_wait(-1);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	cancel_request(watch->cancel);
	return NULL;
}

int signals_watch_begin(struct signals_watch *watch, struct cancel *cancel, struct error **err)
{
	int failed;

	watch->cancel = cancel;
	failed = pthread_create(&watch->thread, NULL, watch_main, watch);
	if (failed)
		return error_set_errno(err, failed, "cannot wait for signals");
	watch->started = true;
	return 0;
}

void signals_watch_end(struct signals_watch *watch)
{
	if (!watch->started)
		return;
	pthread_cancel(watch->thread); /* it waits in sigwaitinfo, which may be cancelled, or is as good as done */
	pthread_join(watch->thread, NULL);
	watch->started = false;
}
