/* The names that the machines of a run get: the second of two is refused before it begins, not when its disks come. */
#include <pthread.h>
#include <string.h>

#include "reconcile/context.h"

struct names {
	pthread_mutex_t lock; /* guards taken */
	json_t *taken;        /* name -> NAMESPACE/NAME of the import */
};

struct names *names_new(void)
{
	struct names *n = calloc(1, sizeof *n);

	if (!n)
		return NULL;
	n->taken = json_object();
	pthread_mutex_init(&n->lock, NULL);
	if (n->taken)
		return n;
	names_free(n);
	return NULL;
}

void names_free(struct names *n)
{
	if (!n)
		return;
	json_decref(n->taken);
	pthread_mutex_destroy(&n->lock);
	free(n);
}

int names_take(struct names *n, const char *name, const char *import, char **holder)
{
	LOCK_GUARD(&n->lock);
	const char *first = json_string_value(json_object_get(n->taken, name));

	*holder = NULL;
	if (!first)
		return json_object_set_new(n->taken, name, json_string(import));
	if (strcmp(first, import) != 0 && !(*holder = strdup(first)))
		return -1;
	return 0;
}
