#include "cmd/daemon.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "api/resources.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/process.h"
#include "cmd/cmd.h"
#include "cmd/request_metrics.h"
#include "cmd/setup.h"
#include "cmd/signals.h"
#include "cmd/term.h"
#include "store/kube/access.h"

#define STOP_PATIENCE_MS 8000
#define STOP_MAX_MS (5 * 60 * 1000) /* a term that has not ended by then will not */
#define SETUP_MS 15000              /* how long imports wait for the definitions; then they are watched for as they are */
#define LOOK_MS 200                 /* how often it is looked whether we lead */

/* What serves; made in order, taken down in reverse. */
struct daemon {
	const struct daemon_options *options;
	struct kube_options kube, lease_kube;
	struct cancel *cancel;    /* of the requests of store and lease_store */
	struct cancel *preparing; /* of the setup */
	struct store *store, *lease_store;
	struct setup *setup;
	struct web *web;
	struct election *election; /* NULL: there is none */
	struct metrics *metrics;
	pthread_mutex_t lock; /* guards the rest; the web server's thread reads it */
	struct term *term;
	uint64_t stopping;           /* when the end of a term was begun; 0: none is ending */
	struct request_totals ended; /* of terms that are over */
};

/* Another replica leads. It may well serve the images of ours, if both have the same scratch space; else it must not be asked for them. */
static char *standby_unready(struct daemon *d)
{
	AUTO_FREE char *leader = NULL, *scratch = NULL;
	char mine[WEB_SCRATCH_ID_SIZE], *text = NULL;

	election_leader(d->election, &leader, &scratch);
	if (!leader)
		return strdup("not ready: there is no leader yet");
	if (scratch && web_scratch_id(d->web, mine) == 0 && !strcmp(scratch, mine))
		return NULL;
	if (asprintf(&text, "not ready: %s leads, and its scratch space, where the disks are, is not that of this replica", leader) < 0)
		text = NULL;
	return text;
}

static char *unready(void *arg)
{
	struct daemon *d = arg;

	LOCK_GUARD(&d->lock);
	if (d->term)
		return term_unready(d->term);
	if (d->stopping)
		return strdup("not ready: stopping");
	if (d->election && !election_leads(d->election))
		return standby_unready(d);
	return strdup("not ready: starting");
}

static char *sick(void *arg)
{
	struct daemon *d = arg;

	LOCK_GUARD(&d->lock);
	if (d->stopping && clock_monotonic_ms() - d->stopping > STOP_MAX_MS)
		return strdup("the reconcilers do not end");
	return d->term ? term_stuck(d->term) : NULL;
}

static char *metrics_of(void *arg)
{
	const struct daemon *d = arg;

	return metrics_text(d->metrics);
}

static void collect(void *arg)
{
	struct daemon *d = arg;
	struct request_totals requests;

	{
		LOCK_GUARD(&d->lock);
		requests = d->ended;
		if (d->term)
			request_metrics_add(&requests, term_store(d->term));
	}
	request_metrics_add(&requests, d->store);
	if (d->lease_store)
		request_metrics_add(&requests, d->lease_store);
	request_metrics_set(d->metrics, &requests);
	if (d->election)
		series_set(metric_with(metrics_add(d->metrics, METRIC_GAUGE, "leader_election_master_status", "name",
						   "Whether this replica leads: 1, or 0"),
				       d->options->lease_name, NULL),
			   election_leads(d->election));
}

static void start_metrics(struct daemon *d)
{
	struct metrics *m = d->metrics = metrics_new();

	series_set(metric_with(metrics_add(m, METRIC_GAUGE, "vm_import_build_info", "version", "The version of the program; always 1"),
			       VIC_VERSION, NULL),
		   1);
	process_metrics(m);
	metrics_ask(m, collect, d);
}

static const char *lease_namespace(const struct daemon *d)
{
	const char *pod = getenv("POD_NAMESPACE");

	if (d->options->lease_namespace)
		return d->options->lease_namespace;
	return pod && *pod ? pod : kube_store_namespace(d->store);
}

/* 1, 0, or -1: it could not be found out. */
static int may_elect(struct daemon *d)
{
	static const char *const verbs[] = { "get", "create", "patch" };

	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
		int allowed = kube_store_allows(d->store, verbs[i], &api_leases, lease_namespace(d), NULL, NULL, NULL);

		if (allowed <= 0)
			return allowed;
	}
	return 1;
}

static int join_election(struct daemon *d, struct error **err)
{
	const struct daemon_options *o = d->options;
	char scratch[WEB_SCRATCH_ID_SIZE];
	int allowed = o->elect == ELECT_AUTO ? may_elect(d) : o->elect == ELECT_YES;

	if (!allowed && o->elect == ELECT_AUTO)
		log_write(LOG_WARNING, "no leader election: leases may not be read, created and patched; run one replica", "namespace",
			  lease_namespace(d), NULL);
	if (!allowed)
		return 0;
	/* A client of its own, which waits for no other requests, and whose calls end in time for another try before the deadline. */
	d->lease_kube = d->kube;
	d->lease_kube.deadline_ms = (o->deadline_s ? o->deadline_s : ELECTION_DEADLINE_S) * 1000 / 2;
	d->lease_store = kube_store_open(&d->lease_kube, d->cancel, err);
	if (!d->lease_store)
		return -1;
	struct election_options election = {
		.store = d->lease_store,
		.ns = lease_namespace(d),
		.name = o->lease_name,
		.duration_s = o->lease_s,
		.deadline_s = o->deadline_s,
		.retry_s = o->retry_s,
		.note = web_scratch_id(d->web, scratch) == 0 ? scratch : NULL,
	};
	d->election = election_new(&election, err);
	return d->election ? election_start(d->election, err) : -1;
}

/* 1: a signal came. */
static int start(struct daemon *d, struct error **err)
{
	const struct daemon_options *o = d->options;
	struct web_options web = { .port = o->port,
				   .root = o->scratch,
				   .advertise = o->address,
				   .certificate = o->certificate,
				   .key = o->key,
				   .sick = sick,
				   .unready = unready,
				   .metrics = metrics_of,
				   .arg = d };

	d->kube = (struct kube_options){
		.kubeconfig = o->kubeconfig,
		.context = o->context,
		.user_agent = "vm-import-controller/" VIC_VERSION,
	};
	if (mkdir(o->scratch, 0700) < 0 && errno != EEXIST)
		return error_set_errno(err, errno, "cannot create the scratch directory %s (--scratch)", o->scratch);
	if (!(d->cancel = cancel_new(NULL)))
		return error_set_errno(err, ENOMEM, "cannot start");
	if (!(d->store = kube_store_open(&d->kube, d->cancel, err)))
		return error_wrap(err, "cannot use the cluster's configuration");
	start_metrics(d);
	if (!(d->web = web_start(&web, err)))
		return error_wrap(err, "cannot start the image server on port %d (--port)", o->port);
	if (!(d->preparing = cancel_new(NULL)) || !(d->setup = setup_start(d->store, lease_namespace(d), d->preparing, err)))
		return -1;
	for (uint64_t end = clock_monotonic_ms() + SETUP_MS; !setup_tried(d->setup) && clock_monotonic_ms() < end;)
		if (signals_wait(50))
			return 1;
	return join_election(d, err);
}

static int begin_term(struct daemon *d, struct error **err)
{
	const struct daemon_options *o = d->options;
	struct term_options options = {
		.kube = &d->kube,
		.election = d->election,
		.web = d->web,
		.metrics = d->metrics,
		.scratch = o->scratch,
		.workers = o->workers,
		.streams = o->streams,
		.host_streams = o->host_streams,
		.endpoint_streams = o->endpoint_streams,
		.sources = { .allow_local_urls = o->allow_local_urls },
	};
	struct term *term = term_start(&options, err);

	LOCK_GUARD(&d->lock);
	d->term = term;
	return term ? 0 : -1;
}

static void end_term(struct daemon *d, unsigned patience_ms)
{
	struct term *term;

	pthread_mutex_lock(&d->lock);
	term = move_ptr(d->term);
	d->stopping = term ? clock_monotonic_ms() : 0;
	pthread_mutex_unlock(&d->lock);
	if (!term)
		return;
	term_stop(term, patience_ms);
	pthread_mutex_lock(&d->lock);
	d->stopping = 0;
	request_metrics_add(&d->ended, term_store(term));
	pthread_mutex_unlock(&d->lock);
	term_free(term);
}

/* Until a signal comes. */
static int serve(struct daemon *d, struct error **err)
{
	if (!d->election) {
		if (begin_term(d, err) < 0)
			return -1;
		signals_wait(-1);
		return 0;
	}
	do {
		bool leads = election_leads(d->election);

		if (leads && !d->term && begin_term(d, err) < 0)
			return -1;
		if (leads)
			continue;
		if (d->term) {
			end_term(d, 0);
			log_write(LOG_INFO, "stopped to work; others go on with it", NULL);
		}
		election_rejoin(d->election);
	} while (!signals_wait(LOOK_MS));
	return 0;
}

static void stop(struct daemon *d)
{
	if (d->preparing)
		cancel_request(d->preparing);
	/* The reconcilers have the web server make URLs: it falls silent first and goes last. */
	web_silence(d->web);
	/* They write until their end, so the lease is kept until then. */
	end_term(d, STOP_PATIENCE_MS);
	if (d->election)
		election_stop(d->election);
	election_free(d->election);
	if (d->cancel)
		cancel_request(d->cancel);
	setup_free(d->setup);
	web_stop(d->web);
	metrics_free(d->metrics);
	store_close(d->lease_store);
	store_close(d->store);
	cancel_free(d->cancel);
	cancel_free(d->preparing);
}

static void log_start(const struct daemon *d)
{
	struct limits limits = limits_read(NULL);
	char port[16], cpus[24], memory[24], streams[16];

	snprintf(port, sizeof port, "%d", web_port(d->web));
	snprintf(cpus, sizeof cpus, "%.2f", limits.cpus);
	snprintf(memory, sizeof memory, "%" PRIu64 " MiB", limits.memory >> 20);
	snprintf(streams, sizeof streams, "%u", d->options->streams);
	log_write(LOG_INFO, "started", "version", VIC_VERSION, "scratch", d->options->scratch, "port", port, "address", d->options->address,
		  "cpus", cpus, "memory", memory, "streams", streams, "leader_election",
		  d->election ? election_identity(d->election) : "no", NULL);
}

int daemon_run(const struct daemon_options *options)
{
	struct daemon d = { .options = options, .lock = PTHREAD_MUTEX_INITIALIZER };
	AUTO_ERROR struct error *err = NULL;
	int started = start(&d, &err);

	if (!started) {
		log_start(&d);
		started = serve(&d, &err);
		if (!started)
			log_write(LOG_INFO, "stopping", NULL);
	}
	if (started < 0)
		log_write(LOG_ERROR, "cannot start", "error", error_message(err), NULL);
	stop(&d);
	if (started >= 0)
		log_write(LOG_INFO, "stopped", NULL);
	return started < 0 ? EXIT_FAILED : EXIT_DONE;
}
