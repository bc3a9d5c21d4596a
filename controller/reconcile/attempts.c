#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "reconcile/context.h"

#define HOLD_MS 2000u
#define HOLD_DOUBLINGS 5 /* a minute at most */

struct attempt {
	struct attempt *next;
	unsigned count;
	unsigned holds;
	uint64_t held_until_ms; /* monotonic */
	char key[];
};

struct attempts {
	pthread_mutex_t lock;
	struct attempt *list; /* only what fails right now is in it: short */
};

struct attempts *attempts_new(void)
{
	struct attempts *a = calloc(1, sizeof *a);

	if (a)
		pthread_mutex_init(&a->lock, NULL);
	return a;
}

void attempts_free(struct attempts *a)
{
	if (!a)
		return;
	while (a->list) {
		struct attempt *at = a->list;

		a->list = at->next;
		free(at);
	}
	pthread_mutex_destroy(&a->lock);
	free(a);
}

/* The caller holds the lock. */
static struct attempt *find(struct attempts *a, const char *key)
{
	struct attempt *at = a->list;

	while (at && strcmp(at->key, key) != 0)
		at = at->next;
	return at;
}

/* Found or made; NULL when memory is out. The caller holds the lock. */
static struct attempt *get(struct attempts *a, const char *key)
{
	struct attempt *at = find(a, key);

	if (at || !(at = calloc(1, sizeof *at + strlen(key) + 1)))
		return at;
	strcpy(at->key, key);
	at->next = a->list;
	a->list = at;
	return at;
}

unsigned attempts_add(struct attempts *a, const char *key)
{
	LOCK_GUARD(&a->lock);
	struct attempt *at = get(a, key);

	return at ? ++at->count : 1;
}

unsigned attempts_hold(struct attempts *a, const char *key)
{
	LOCK_GUARD(&a->lock);
	struct attempt *at = get(a, key);
	unsigned ms = HOLD_MS << (at && at->holds < HOLD_DOUBLINGS ? at->holds : HOLD_DOUBLINGS);

	if (at) {
		at->holds++;
		at->held_until_ms = clock_monotonic_ms() + ms;
	}
	return ms;
}

unsigned attempts_held(struct attempts *a, const char *key)
{
	LOCK_GUARD(&a->lock);
	const struct attempt *at = find(a, key);
	uint64_t now = clock_monotonic_ms();

	return at && at->held_until_ms > now ? (unsigned)(at->held_until_ms - now) : 0;
}

void attempts_reset(struct attempts *a, const char *key)
{
	LOCK_GUARD(&a->lock);
	for (struct attempt **p = &a->list; *p; p = &(*p)->next) {
		if (!strcmp((*p)->key, key)) {
			struct attempt *at = *p;

			*p = at->next;
			free(at);
			return;
		}
	}
}
