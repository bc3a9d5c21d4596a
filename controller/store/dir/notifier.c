#include "store/dir/notifier.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "store/selector.h"
#include "json/codec.h"

struct watcher {
	struct notifier *notifier;
	struct informer *informer;
	char *ns, *name, *selector; /* NULL: all */
	struct watcher *next;       /* of those whose first list is in */
};

/* Something to tell: an object, or the first list of a watcher. */
struct change {
	json_t *json;
	bool deleted;
	struct watcher *start; /* NULL: an object, for all */
	struct change *next;
};

struct notifier {
	pthread_mutex_t delivering; /* guards watchers; held while handlers run, so that a freed informer is not told. Before lock. */
	pthread_mutex_t lock;       /* guards changes and stopped */
	pthread_cond_t woken;
	struct change *changes, **last;
	bool stopped;
	struct watcher *watchers;
	pthread_t thread;
};

static bool concerns(const struct watcher *w, const json_t *object)
{
	const char *kind = json_path_string(object, "kind"), *ns = json_path_string(object, "metadata.namespace");
	const char *name = json_path_string(object, "metadata.name");

	return kind && !strcmp(kind, informer_resource(w->informer)->kind) && (!w->ns || !strcmp(w->ns, ns ? ns : "")) &&
	       (!w->name || (name && !strcmp(w->name, name)));
}

static void deliver(struct notifier *n, const struct change *c)
{
	if (c->start) {
		c->start->next = n->watchers;
		n->watchers = c->start;
		informer_replace(c->start->informer, c->json);
		return;
	}
	for (struct watcher *w = n->watchers; w; w = w->next) {
		if (!concerns(w, c->json))
			continue;
		/* An object that matches the selector no more is gone for this watcher; informers forget what they do not know. */
		if (c->deleted || !selector_matches(w->selector, c->json))
			informer_remove(w->informer, c->json);
		else
			informer_put(w->informer, c->json);
	}
}

static void change_free(struct change *c)
{
	json_decref(c->json);
	free(c);
}

/* The caller holds the lock. */
static struct change *pop(struct notifier *n)
{
	struct change *c = n->changes;

	if (!c)
		return NULL;
	n->changes = c->next;
	if (!n->changes)
		n->last = &n->changes;
	return c;
}

static void *run(void *arg)
{
	struct notifier *n = arg;
	bool more = true;

	while (more) {
		struct change *c;

		pthread_mutex_lock(&n->lock);
		while (!n->changes && !n->stopped)
			pthread_cond_wait(&n->woken, &n->lock);
		more = n->changes != NULL;
		pthread_mutex_unlock(&n->lock);
		/* Taken out under both locks: an informer that is freed takes its changes along. */
		LOCK_GUARD(&n->delivering);
		pthread_mutex_lock(&n->lock);
		c = pop(n);
		pthread_mutex_unlock(&n->lock);
		if (c) {
			deliver(n, c);
			change_free(c);
		}
	}
	return NULL;
}

struct notifier *notifier_start(struct error **err)
{
	struct notifier *n = calloc(1, sizeof *n);
	int code = ENOMEM;

	if (n) {
		n->last = &n->changes;
		pthread_mutex_init(&n->delivering, NULL);
		pthread_mutex_init(&n->lock, NULL);
		pthread_cond_init(&n->woken, NULL);
		code = pthread_create(&n->thread, NULL, run, n);
		if (!code)
			return n;
		free(n);
	}
	error_set_errno(err, code, "cannot start a thread");
	return NULL;
}

void notifier_stop(struct notifier *n)
{
	struct change *c;

	if (!n)
		return;
	pthread_mutex_lock(&n->lock);
	n->stopped = true;
	pthread_cond_signal(&n->woken);
	pthread_mutex_unlock(&n->lock);
	pthread_join(n->thread, NULL);
	while ((c = pop(n)))
		change_free(c);
	pthread_cond_destroy(&n->woken);
	pthread_mutex_destroy(&n->lock);
	pthread_mutex_destroy(&n->delivering);
	free(n);
}

static struct change *change_new(const json_t *json, bool deleted, struct watcher *start)
{
	struct change *c = calloc(1, sizeof *c);

	if (c)
		*c = (struct change){ json_incref((json_t *)json), deleted, start, NULL };
	return c;
}

static void push(struct notifier *n, struct change *c)
{
	LOCK_GUARD(&n->lock);
	*n->last = c;
	n->last = &c->next;
	pthread_cond_signal(&n->woken);
}

void notifier_tell(struct notifier *n, const json_t *object, bool deleted)
{
	struct change *c = change_new(object, deleted, NULL);

	if (c)
		push(n, c);
}

static void watcher_free(struct watcher *w)
{
	free(w->ns);
	free(w->name);
	free(w->selector);
	free(w);
}

/* From informer_free. */
static void unwatch(void *arg)
{
	struct watcher *w = arg, **p;
	struct notifier *n = w->notifier;

	LOCK_GUARD(&n->delivering);
	for (p = &n->watchers; *p && *p != w; p = &(*p)->next)
		;
	if (*p)
		*p = w->next;
	pthread_mutex_lock(&n->lock);
	n->last = &n->changes;
	while (*n->last) {
		struct change *c = *n->last;

		if (c->start == w) {
			*n->last = c->next;
			change_free(c);
		} else {
			n->last = &c->next;
		}
	}
	pthread_mutex_unlock(&n->lock);
	watcher_free(w);
}

struct informer *notifier_watch(struct notifier *n, const struct resource *res, const char *ns, const char *name,
				const char *label_selector, const json_t *present, store_handler handler, void *arg, struct error **err)
{
	struct watcher *w = calloc(1, sizeof *w);
	struct change *start = w ? change_new(present, false, w) : NULL;

	if (start) {
		w->notifier = n;
		w->ns = ns ? strdup(ns) : NULL;
		w->name = name ? strdup(name) : NULL;
		w->selector = label_selector ? strdup(label_selector) : NULL;
		if ((!ns || w->ns) && (!name || w->name) && (!label_selector || w->selector))
			w->informer = informer_new(res, handler, arg, unwatch, w);
	}
	if (start && w->informer) {
		struct informer *informer = w->informer;

		push(n, start); /* the thread enters it among the watchers: its lock must not be taken here, below the store's */
		return informer;
	}
	if (start)
		change_free(start);
	if (w)
		watcher_free(w);
	error_set_errno(err, ENOMEM, "cannot watch %s", res->plural);
	return NULL;
}
