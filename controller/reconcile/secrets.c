#include "reconcile/secrets.h"

#include <pthread.h>
#include <string.h>

#include "api/resources.h"
#include "store/informer.h"
#include "json/codec.h"

/* Who names a Secret. */
struct user {
	struct user *next;
	char name[];
};

struct watched {
	struct secrets *owner;
	struct watched *next;
	struct informer *informer; /* NULL: may not be watched */
	char *ns, *name;
	char *seen; /* the version that was read last; guarded by the lock, as users is */
	struct user *users;
};

struct secrets {
	struct secrets_options options;
	pthread_mutex_t changing; /* who changes the list; taken before lock, held while watches begin and end */
	pthread_mutex_t lock;     /* guards the list for readers and what it says; not held during a call */
	struct watched *list;
};

struct secrets *secrets_new(const struct secrets_options *options)
{
	struct secrets *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->options = *options;
	pthread_mutex_init(&s->changing, NULL);
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

static void watched_free(struct watched *w)
{
	informer_free(w->informer); /* no call of on_change after this */
	while (w->users) {
		struct user *u = w->users;

		w->users = u->next;
		free(u);
	}
	free(w->seen);
	free(w->ns);
	free(w->name);
	free(w);
}

void secrets_free(struct secrets *s)
{
	if (!s)
		return;
	while (s->list) {
		struct watched *w = s->list;

		s->list = w->next;
		watched_free(w);
	}
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->changing);
	free(s);
}

static void on_change(void *arg, enum store_event event, const json_t *old, const json_t *object)
{
	struct watched *w = arg;
	const struct secrets_options *o = &w->owner->options;
	const char *version = json_path_string(object, "metadata.resourceVersion");

	(void)old;
	LOCK_GUARD(&w->owner->lock);
	if (event != STORE_DELETED && version && w->seen && !strcmp(version, w->seen))
		return;
	for (const struct user *u = w->users; u; u = u->next)
		o->changed(o->changed_arg, u->name);
}

static struct watched *find(struct secrets *s, const char *ns, const char *name)
{
	for (struct watched *w = s->list; w; w = w->next)
		if (!strcmp(w->ns, ns) && !strcmp(w->name, name))
			return w;
	return NULL;
}

static bool add_user(struct watched *w, const char *name)
{
	struct user *u;

	for (u = w->users; u; u = u->next)
		if (!strcmp(u->name, name))
			return true;
	u = calloc(1, sizeof *u + strlen(name) + 1);
	if (!u)
		return false;
	strcpy(u->name, name);
	u->next = w->users;
	w->users = u;
	return true;
}

static void drop_user(struct watched *w, const char *name)
{
	for (struct user **at = &w->users; *at; at = &(*at)->next) {
		struct user *u = *at;

		if (strcmp(u->name, name))
			continue;
		*at = u->next;
		free(u);
		return;
	}
}

/* Takes user from all Secrets but keep, and out of the list, as new owner, those that nobody names any more. */
static struct watched *drop(struct secrets *s, const char *user, const struct watched *keep)
{
	struct watched *unused = NULL;

	LOCK_GUARD(&s->lock);
	for (struct watched **at = &s->list; *at;) {
		struct watched *w = *at;

		if (w != keep)
			drop_user(w, user);
		if (w->users) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		w->next = unused;
		unused = w;
	}
	return unused;
}

/* Begins a watch if that is allowed. The caller holds changing. */
static void begin(struct secrets *s, const char *user, const char *ns, const char *name)
{
	struct watched *w = calloc(1, sizeof *w);

	if (!w)
		return;
	w->owner = s;
	w->ns = strdup(ns);
	w->name = strdup(name);
	if (!w->ns || !w->name || !add_user(w, user) ||
	    (s->options.may_watch && !s->options.may_watch(s->options.may_watch_arg, ns, name))) {
		watched_free(w);
		return;
	}
	{
		/* Its first list may be told of before the watch is returned. */
		LOCK_GUARD(&s->lock);
		w->next = s->list;
		s->list = w;
	}
	w->informer = store_watch_object(s->options.store, &api_secrets, ns, name, on_change, w, NULL);
	if (w->informer)
		return;
	struct watched *unused = drop(s, user, NULL);
	if (unused)
		watched_free(unused);
}

void secrets_use(struct secrets *s, const char *user, const char *ns, const char *name)
{
	struct watched *w = NULL, *unused;
	bool known;

	LOCK_GUARD(&s->changing);
	{
		LOCK_GUARD(&s->lock);
		w = name ? find(s, ns, name) : NULL;
		known = w && add_user(w, user);
	}
	unused = drop(s, user, w);
	while (unused) {
		struct watched *next = unused->next;

		watched_free(unused);
		unused = next;
	}
	if (name && !known)
		begin(s, user, ns, name);
}

void secrets_seen(struct secrets *s, const char *ns, const char *name, const json_t *secret)
{
	const char *version = json_path_string(secret, "metadata.resourceVersion");

	LOCK_GUARD(&s->lock);
	struct watched *w = find(s, ns, name);
	char *copy = w && version ? strdup(version) : NULL;
	if (!copy)
		return;
	free(w->seen);
	w->seen = copy;
}

size_t secrets_count(struct secrets *s)
{
	size_t n = 0;

	LOCK_GUARD(&s->lock);
	for (const struct watched *w = s->list; w; w = w->next)
		n++;
	return n;
}
