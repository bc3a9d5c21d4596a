#include "cmd/term.h"

#include <errno.h>
#include <pthread.h>

#include "api/resources.h"
#include "leader/gate.h"
#include "store/kube/access.h"

struct term {
	struct election *election;
	struct cancel *cancel;  /* of the requests */
	struct cancel *stopped; /* the end of term_stop */
	struct store *kube, *store;
	struct event_recorder *events;
	struct target *target;
	struct reconciler *reconciler;
	unsigned patience_ms;
	bool all_secrets; /* any Secret may be watched; used by one thread at a time */
};

static bool may_write(void *arg)
{
	const struct term *t = arg;

	return !t->election || election_leads(t->election);
}

/* What may not be watched is read when its source is looked at again. */
static bool may_watch_secret(void *arg, const char *ns, const char *name)
{
	struct term *t = arg;

	if (!t->all_secrets)
		t->all_secrets = kube_store_allows(t->kube, "list", &api_secrets, NULL, NULL, NULL, NULL) == 1 &&
				 kube_store_allows(t->kube, "watch", &api_secrets, NULL, NULL, NULL, NULL) == 1;
	return t->all_secrets || (kube_store_allows(t->kube, "list", &api_secrets, ns, name, NULL, NULL) == 1 &&
				  kube_store_allows(t->kube, "watch", &api_secrets, ns, name, NULL, NULL) == 1);
}

static int begin(struct term *t, const struct term_options *o, struct error **err)
{
	if (!(t->cancel = cancel_new(NULL)))
		return error_set_errno(err, ENOMEM, "cannot start");
	if (!(t->kube = kube_store_open(o->kube, t->cancel, err)))
		return error_wrap(err, "cannot use the cluster's configuration");
	if (!(t->store = gate_store_new(t->kube, may_write, t, err)) ||
	    !(t->events = event_recorder_new(t->store, "vm-import-controller", err)) || !(t->target = target_harvester_new(t->store, err)))
		return -1;
	struct reconciler_options reconciler = {
		.store = t->store,
		.target = t->target,
		.web = o->web,
		.events = t->events,
		.scratch = o->scratch,
		.workers = o->workers,
		.max_streams = o->streams,
		.max_host_streams = o->host_streams,
		.max_endpoint_streams = o->endpoint_streams,
		.metrics = o->metrics,
		.sources = o->sources,
		.may_watch_secret = may_watch_secret,
		.may_watch_secret_arg = t,
	};
	t->reconciler = reconciler_start(&reconciler, err);
	return t->reconciler ? 0 : -1;
}

struct term *term_start(const struct term_options *options, struct error **err)
{
	struct term *t = calloc(1, sizeof *t);

	if (!t) {
		error_set_errno(err, ENOMEM, "cannot start");
		return NULL;
	}
	t->election = options->election;
	if (begin(t, options, err) == 0)
		return t;
	term_stop(t, 0);
	term_free(t);
	return NULL;
}

char *term_unready(const struct term *t)
{
	return reconciler_unready(t->reconciler);
}

char *term_stuck(const struct term *t)
{
	return reconciler_stuck(t->reconciler);
}

const struct store *term_store(const struct term *t)
{
	return t->kube;
}

/* Ends the requests to a cluster that does not answer: leases at the sources are given back by then, and Kubernetes waits for nobody. */
static void *lose_patience(void *arg)
{
	struct term *t = arg;

	if (!cancel_wait(t->stopped, t->patience_ms))
		cancel_request(t->cancel);
	return NULL;
}

void term_stop(struct term *t, unsigned patience_ms)
{
	pthread_t patience;
	bool limited;

	if (!patience_ms && t->cancel)
		cancel_request(t->cancel);
	if (!patience_ms && t->reconciler)
		reconciler_interrupt(t->reconciler);
	t->patience_ms = patience_ms;
	t->stopped = cancel_new(NULL);
	limited = t->stopped && t->cancel && !pthread_create(&patience, NULL, lose_patience, t);
	reconciler_stop(move_ptr(t->reconciler));
	target_free(move_ptr(t->target));
	event_recorder_free(move_ptr(t->events));
	if (limited) {
		cancel_request(t->stopped);
		pthread_join(patience, NULL);
	}
	if (t->cancel)
		cancel_request(t->cancel);
}

void term_free(struct term *t)
{
	if (!t)
		return;
	store_close(t->store);
	store_close(t->kube);
	cancel_free(t->cancel);
	cancel_free(t->stopped);
	free(t);
}
