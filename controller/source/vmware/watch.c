#include "source/vmware/watch.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "source/vmware/wait.h"

#define WATCHES_MAX 64 /* calls that stand open at the endpoint; who finds no place asks now and then */

struct watch {
	struct vmware_watches *all;
	char *vm, *key;
	unsigned within_ms;
	void (*wake)(void *arg, const char *key);
	void *arg;
	pthread_t thread;
	bool done; /* guarded by the lock: the thread is about to end */
	struct watch *next;
};

struct vmware_watches {
	struct vmware_session *session;
	struct cancel *cancel;
	pthread_mutex_t lock; /* guards the list; not held while a thread is joined */
	struct watch *list;
};

struct vmware_watches *vmware_watches_new(struct vmware_session *s)
{
	struct vmware_watches *w = calloc(1, sizeof *w);

	if (!w)
		return NULL;
	w->session = s;
	w->cancel = cancel_new(NULL);
	if (!w->cancel) {
		free(w);
		return NULL;
	}
	pthread_mutex_init(&w->lock, NULL);
	return w;
}

static void *run(void *arg)
{
	static const char *const stopped[] = { "poweredOff", "suspended", NULL };
	struct watch *watch = arg;
	struct vmware_watches *w = watch->all;
	size_t which;

	/* Who is woken looks at the machine: what happened, or failed, is found then. */
	vmware_wait_property(w->session, (struct vmware_ref){ "VirtualMachine", watch->vm }, "runtime.powerState", stopped,
			     watch->within_ms, &which, w->cancel, NULL);
	pthread_mutex_lock(&w->lock);
	watch->done = true; /* before the wake: who is woken may want to watch again */
	pthread_mutex_unlock(&w->lock);
	if (!cancel_requested(w->cancel))
		watch->wake(watch->arg, watch->key);
	return NULL;
}

static void end_watch(struct watch *watch)
{
	pthread_join(watch->thread, NULL);
	free(watch->vm);
	free(watch->key);
	free(watch);
}

static void end_list(struct watch *list)
{
	while (list) {
		struct watch *next = list->next;

		end_watch(list);
		list = next;
	}
}

/* Takes those that are done out of the list, and counts the others. The caller holds the lock. */
static struct watch *take_done(struct vmware_watches *w, size_t *going)
{
	struct watch *done = NULL;

	*going = 0;
	for (struct watch **at = &w->list; *at;) {
		struct watch *watch = *at;

		if (watch->done) {
			*at = watch->next;
			watch->next = done;
			done = watch;
		} else {
			++*going;
			at = &watch->next;
		}
	}
	return done;
}

/* The caller holds the lock. */
static bool start(struct vmware_watches *w, const struct watch *what)
{
	struct watch *watch = malloc(sizeof *watch);

	if (!watch)
		return false;
	*watch = *what;
	watch->vm = strdup(what->vm);
	watch->key = strdup(what->key);
	if (watch->vm && watch->key && pthread_create(&watch->thread, NULL, run, watch) == 0) {
		watch->next = w->list;
		w->list = watch;
		return true;
	}
	free(watch->vm);
	free(watch->key);
	free(watch);
	return false;
}

bool vmware_watches_add(struct vmware_watches *w, const char *vm, unsigned within_ms, void (*wake)(void *arg, const char *key), void *arg,
			const char *key)
{
	struct watch what = { .all = w, .vm = (char *)vm, .key = (char *)key, .within_ms = within_ms, .wake = wake, .arg = arg };
	struct watch *done;
	bool watched = false;
	size_t going;

	pthread_mutex_lock(&w->lock);
	done = take_done(w, &going);
	for (const struct watch *watch = w->list; watch && !watched; watch = watch->next)
		watched = !strcmp(watch->key, key);
	if (!watched && going < WATCHES_MAX)
		watched = start(w, &what);
	pthread_mutex_unlock(&w->lock);
	end_list(done);
	return watched;
}

void vmware_watches_free(struct vmware_watches *w)
{
	if (!w)
		return;
	cancel_request(w->cancel);
	end_list(w->list); /* nobody adds any more */
	cancel_free(w->cancel);
	pthread_mutex_destroy(&w->lock);
	free(w);
}
