#include <pthread.h>
#include <string.h>

#include "reconcile/context.h"

struct attempt {
	struct attempt *next;
	unsigned count;
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

unsigned attempts_add(struct attempts *a, const char *key)
{
	LOCK_GUARD(&a->lock);
	for (struct attempt *at = a->list; at; at = at->next)
		if (!strcmp(at->key, key))
			return ++at->count;
	struct attempt *at = calloc(1, sizeof *at + strlen(key) + 1);
	if (!at)
		return 1;
	strcpy(at->key, key);
	at->count = 1;
	at->next = a->list;
	a->list = at;
	return 1;
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
