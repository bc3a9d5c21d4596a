#include "transfer/budget.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/clock.h"

#define RISE_MS 15000
#define CUT_MS 2000 /* complaints within so long are of one trouble */
#define PLACES_KEPT 200
#define LOOK_MS 500 /* how often who waits looks whether a limit has risen */

/* A host, or the service behind hosts. */
struct place {
	char *name;
	unsigned running, waiting;
	unsigned max, allowed;
	uint64_t cut, risen; /* when allowed went down and up last, monotonic milliseconds */
	struct place *next;
};

struct budget_grant {
	struct budgets *budgets;
	struct place *host, *endpoint; /* NULL: none */
	const void *owner;
	int fd; /* readable once granted */
	bool granted;
	struct budget_grant *next;
};

struct budgets {
	struct budget_limits limits;
	pthread_mutex_t lock; /* guards all below */
	struct place *hosts, *endpoints;
	struct budget_grant *waiting, **last; /* the longest first */
	struct budget_grant *running;
	unsigned count; /* of those running */
};

struct budgets *budgets_new(const struct budget_limits *limits)
{
	struct budgets *b = calloc(1, sizeof *b);

	if (!b)
		return NULL;
	b->limits = *limits;
	if (!b->limits.rise_ms)
		b->limits.rise_ms = RISE_MS;
	b->last = &b->waiting;
	pthread_mutex_init(&b->lock, NULL);
	return b;
}

static void places_free(struct place *list)
{
	while (list) {
		struct place *next = list->next;

		free(list->name);
		free(list);
		list = next;
	}
}

void budgets_free(struct budgets *b)
{
	if (!b)
		return;
	places_free(b->hosts);
	places_free(b->endpoints);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

/* A limit that was lowered comes back, one at a time. */
static void rise(const struct budgets *b, struct place *p, uint64_t now)
{
	while (p->allowed < p->max) {
		uint64_t since = p->cut > p->risen ? p->cut : p->risen;

		if (now - since < b->limits.rise_ms)
			return;
		p->allowed++;
		p->risen = since + b->limits.rise_ms;
	}
}

/* The place of this name, made when there is none; of very many, those that nobody uses and that have recovered go. NULL when memory is out. */
static struct place *place_of(const struct budgets *b, struct place **list, const char *name, unsigned max, uint64_t now)
{
	struct place *found = NULL;
	size_t count = 0;

	for (struct place **at = list; *at;) {
		struct place *p = *at;

		rise(b, p, now);
		if (!strcmp(p->name, name)) {
			found = p;
		} else if (++count > PLACES_KEPT && !p->running && !p->waiting && p->allowed == p->max) {
			*at = p->next;
			free(p->name);
			free(p);
			continue;
		}
		at = &p->next;
	}
	if (found)
		return found;
	found = calloc(1, sizeof *found);
	if (!found || !(found->name = strdup(name))) {
		free(found);
		return NULL;
	}
	found->max = found->allowed = max ? max : UINT_MAX;
	found->next = *list;
	return *list = found;
}

static bool has_room(const struct place *p)
{
	return !p || p->running < p->allowed;
}

static unsigned streams_of(const struct budgets *b, const void *owner)
{
	unsigned n = 0;

	for (const struct budget_grant *g = b->running; g; g = g->next)
		n += g->owner == owner;
	return n;
}

/* Who goes next, where in the list; NULL when nobody can. */
static struct budget_grant **next_of(struct budgets *b, uint64_t now)
{
	struct budget_grant **best = NULL;
	unsigned fewest = UINT_MAX;

	if (b->limits.total && b->count >= b->limits.total)
		return NULL;
	for (struct budget_grant **at = &b->waiting; *at; at = &(*at)->next) {
		struct budget_grant *g = *at;
		unsigned n;

		if (g->host)
			rise(b, g->host, now);
		if (!has_room(g->host) || !has_room(g->endpoint))
			continue;
		n = streams_of(b, g->owner);
		if (n < fewest) {
			best = at;
			fewest = n;
		}
	}
	return best;
}

static void unlink_waiting(struct budgets *b, struct budget_grant **at)
{
	struct budget_grant *g = *at;

	*at = g->next;
	if (b->last == &g->next)
		b->last = at;
	g->next = NULL;
	if (g->host)
		g->host->waiting--;
	if (g->endpoint)
		g->endpoint->waiting--;
}

/* The caller holds the lock. */
static void dispatch(struct budgets *b)
{
	uint64_t now = clock_monotonic_ms(), one = 1;
	struct budget_grant **at;

	while ((at = next_of(b, now))) {
		struct budget_grant *g = *at;

		unlink_waiting(b, at);
		if (g->host)
			g->host->running++;
		if (g->endpoint)
			g->endpoint->running++;
		b->count++;
		g->next = b->running;
		b->running = g;
		g->granted = true;
		while (write(g->fd, &one, sizeof one) < 0 && errno == EINTR)
			;
	}
}

static int enter(struct budgets *b, struct budget_grant *g, const char *endpoint, const char *host)
{
	uint64_t now = clock_monotonic_ms();
	bool named = host && *host;

	LOCK_GUARD(&b->lock);
	if (named || b->limits.unnamed)
		g->host = place_of(b, &b->hosts, named ? host : "", named ? b->limits.per_host : b->limits.unnamed, now);
	if ((named || b->limits.unnamed) && !g->host)
		return -1;
	if (endpoint && *endpoint && !(g->endpoint = place_of(b, &b->endpoints, endpoint, b->limits.per_endpoint, now)))
		return -1;
	if (g->host)
		g->host->waiting++;
	if (g->endpoint)
		g->endpoint->waiting++;
	*b->last = g;
	b->last = &g->next;
	dispatch(b);
	return 0;
}

/* 1: granted, 0: not yet, -1: not wanted any more, and out of the list. */
static int look(struct budgets *b, struct budget_grant *g, const struct cancel *cancel, struct error **err)
{
	LOCK_GUARD(&b->lock);
	bool wanted = !cancel_requested(cancel);

	if (!g->granted && wanted)
		dispatch(b);
	if (g->granted)
		return 1;
	if (wanted)
		return 0;
	for (struct budget_grant **at = &b->waiting; *at; at = &(*at)->next) {
		if (*at == g) {
			unlink_waiting(b, at);
			break;
		}
	}
	return cancel_check(cancel, err);
}

int budgets_take(struct budgets *b, const char *endpoint, const char *host, const void *owner, struct cancel *cancel,
		 struct budget_grant **out, struct error **err)
{
	struct budget_grant *g = calloc(1, sizeof *g);
	int result;

	if (!g)
		return error_set_errno(err, ENOMEM, "cannot wait for a free transfer slot");
	*g = (struct budget_grant){ .budgets = b, .owner = owner, .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };
	if (g->fd < 0 || enter(b, g, endpoint, host) < 0) {
		result = error_set_errno(err, g->fd < 0 ? errno : ENOMEM, "cannot wait for a free transfer slot");
	} else {
		struct pollfd wait[2] = { { .fd = g->fd, .events = POLLIN }, { .fd = cancel_fd(cancel), .events = POLLIN } };

		while ((result = look(b, g, cancel, err)) == 0)
			poll(wait, 2, LOOK_MS);
	}
	if (result > 0 && cancel_requested(cancel)) {
		budgets_give(g);
		return cancel_check(cancel, err);
	}
	if (result > 0) {
		*out = g;
		return 0;
	}
	if (g->fd >= 0)
		close(g->fd);
	free(g);
	return -1;
}

void budgets_note(struct budget_grant *g, enum budget_event event)
{
	struct budgets *b = g->budgets;
	struct place *p = g->host;
	uint64_t now = clock_monotonic_ms();
	unsigned base, fewer;

	LOCK_GUARD(&b->lock);
	if (!p || !*p->name) /* nobody in particular */
		return;
	rise(b, p, now);
	if (p->cut && now - p->cut < CUT_MS)
		return;
	base = p->running < p->allowed ? p->running : p->allowed;
	/* One that refuses has told exactly how many it can. */
	fewer = event == BUDGET_REFUSED && p->running <= p->allowed ? base - 1 : base / 2;
	p->allowed = fewer ? fewer : 1;
	p->cut = now;
}

void budgets_give(struct budget_grant *g)
{
	struct budgets *b;

	if (!g)
		return;
	b = g->budgets;
	{
		LOCK_GUARD(&b->lock);
		for (struct budget_grant **at = &b->running; *at; at = &(*at)->next) {
			if (*at == g) {
				*at = g->next;
				break;
			}
		}
		b->count--;
		if (g->host)
			g->host->running--;
		if (g->endpoint)
			g->endpoint->running--;
		dispatch(b);
	}
	close(g->fd);
	free(g);
}

void budgets_each(struct budgets *b, void (*each)(void *arg, const char *host, unsigned running, unsigned waiting, unsigned allowed),
		  void *arg)
{
	uint64_t now = clock_monotonic_ms();

	LOCK_GUARD(&b->lock);
	for (struct place *p = b->hosts; p; p = p->next) {
		rise(b, p, now);
		each(arg, p->name, p->running, p->waiting, p->allowed);
	}
}
