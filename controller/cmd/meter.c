#include "cmd/meter.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/size.h"

#define BAR_CELLS 30
#define EVERY_MS 200

void meter_begin(struct meter *m, bool quiet)
{
	*m = (struct meter){ .shown = !quiet && isatty(STDERR_FILENO), .started_ms = clock_monotonic_ms() };
}

void meter_show(struct meter *m, uint64_t part, uint64_t whole, uint64_t bytes)
{
	uint64_t now, spent;
	char bar[BAR_CELLS + 1], size[SIZE_TEXT];

	if (!m->shown || (now = clock_monotonic_ms()) - m->drawn_ms < EVERY_MS)
		return;
	m->drawn_ms = now;
	m->drawn = true;
	spent = now - m->started_ms;
	fputs("\r\033[2K", stderr);
	if (whole) {
		double share = part < whole ? (double)part / (double)whole : 1;

		for (int i = 0; i < BAR_CELLS; i++)
			bar[i] = i < (int)(share * BAR_CELLS) ? '#' : '.';
		bar[BAR_CELLS] = 0;
		fprintf(stderr, "[%s] %3d%%  ", bar, (int)(share * 100));
	}
	fputs(size_text(bytes, size), stderr);
	if (spent)
		fprintf(stderr, ", %s/s", size_text((uint64_t)((double)bytes * 1000 / (double)spent), size));
	if (part && part < whole) {
		double left = (double)spent / 1000 * (double)(whole - part) / (double)part;

		if (left < 100)
			fprintf(stderr, ", %.0f s left", left);
		else
			fprintf(stderr, ", %.0f min left", left / 60);
	}
	fflush(stderr);
}

void meter_end(struct meter *m)
{
	if (m->drawn)
		fputs("\r\033[2K", stderr);
	m->drawn = false;
}

static void *watch(void *arg)
{
	struct meter_watch *w = arg;

	while (!cancel_wait(w->done, 100))
		meter_show(&w->meter, w->position, w->whole, w->position);
	return NULL;
}

void meter_watch_begin(struct meter_watch *w, uint64_t whole, bool quiet)
{
	*w = (struct meter_watch){ .whole = whole };
	meter_begin(&w->meter, quiet);
	if (w->meter.shown && (w->done = cancel_new(NULL)))
		w->running = !pthread_create(&w->thread, NULL, watch, w);
}

void meter_watch_end(struct meter_watch *w)
{
	if (w->running) {
		cancel_request(w->done);
		pthread_join(w->thread, NULL);
		meter_end(&w->meter);
	}
	w->running = false;
	cancel_free(w->done);
	w->done = NULL;
}
