#include "reconcile/outdated.h"

#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

struct outdated {
	pthread_mutex_t lock;
	json_t *versions; /* key -> version; only of what was just written */
};

struct outdated *outdated_new(void)
{
	struct outdated *o = calloc(1, sizeof *o);

	if (!o || !(o->versions = json_object())) {
		free(o);
		return NULL;
	}
	pthread_mutex_init(&o->lock, NULL);
	return o;
}

void outdated_free(struct outdated *o)
{
	if (!o)
		return;
	json_decref(o->versions);
	pthread_mutex_destroy(&o->lock);
	free(o);
}

void outdated_note(struct outdated *o, const char *key, const char *version)
{
	LOCK_GUARD(&o->lock);
	if (version)
		json_object_set_new(o->versions, key, json_string(version));
}

bool outdated_is(struct outdated *o, const char *key, const char *version)
{
	LOCK_GUARD(&o->lock);
	const char *old = json_string_value(json_object_get(o->versions, key));

	if (old && version && !strcmp(old, version))
		return true;
	if (old)
		json_object_del(o->versions, key);
	return false;
}
