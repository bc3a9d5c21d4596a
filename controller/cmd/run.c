#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/process.h"
#include "cmd/cmd.h"
#include "cmd/numbers.h"
#include "cmd/options.h"
#include "cmd/request_metrics.h"
#include "cmd/setup.h"
#include "cmd/signals.h"
#include "reconcile/reconciler.h"
#include "store/kube/kube.h"

#define DEFAULT_ADDRESS "harvester-vm-import-controller.harvester-system.svc"
#define STOP_PATIENCE_MS 8000
#define SETUP_MS 15000 /* how long imports wait for the definitions; then they are watched for as they are */
#define STREAMS 16
#define STREAM_MEMORY (32u << 20) /* of the limit, a stream; what it takes is less */
#define DEFAULT_SCRATCH "/tmp/vm-import-controller"

struct run_options {
	const char *kubeconfig, *context, *scratch, *address;
	int port;
	unsigned workers, streams, host_streams, endpoint_streams;
	bool verbose, allow_local_urls;
};

enum { KUBECONFIG = OPTION_LONG, CONTEXT, SCRATCH, PORT, ADDRESS, WORKERS, STREAMS_AT_ONCE, HOST_STREAMS, ENDPOINT_STREAMS, LOCAL_URLS };

static const struct cmd_option flags[] = {
	{ KUBECONFIG, "kubeconfig", "FILE",
	  "configuration of the cluster (default: $KUBECONFIG, the pod's service account, ~/.kube/config)", VALUE_FILE, 0 },
	{ CONTEXT, "context", "NAME", "context in it (default: the current one)", 0, 0 },
	{ SCRATCH, "scratch", "DIR", "where disks are kept until the cluster has them (default: " DEFAULT_SCRATCH ")", VALUE_DIRECTORY, 0 },
	{ PORT, "port", "N", "port of the image server (default: 8080)", 0, 0 },
	{ ADDRESS, "address", "HOST", "host that image URLs name (default: $SVC_ADDRESS, else " DEFAULT_ADDRESS ")", 0, 0 },
	{ WORKERS, "workers", "N", "reconcile workers (default: 4)", 0, 0 },
	{ STREAMS_AT_ONCE, "streams", "N", "disks fetched at once (default: 16, fewer where memory is limited to less than 512 MiB)", 0,
	  0 },
	{ HOST_STREAMS, "streams-per-host", "N", "of these from one host, as an ESXi host; fewer while it has trouble (default: 4)", 0, 0 },
	{ ENDPOINT_STREAMS, "streams-per-endpoint", "N", "of these from all hosts of one vCenter (default: 32)", 0, 0 },
	{ LOCAL_URLS, "allow-local-urls", NULL, "URLs in sources may lead to loopback and link-local addresses", 0, 0 },
	{ 'v', "verbose", NULL, "log more (also: DEBUG=true)", 0, 0 },
	OPTION_HELP,
	{ 0 },
};

static int run(int argc, char **argv);

const struct command command_run = {
	.name = "run",
	.run = run,
	.summary = "watch VirtualMachineImports in a Kubernetes cluster and carry them out (the default)",
	.arguments = "",
	.description = "Watches sources and VirtualMachineImports in a Kubernetes cluster and carries the imports out.",
	.options = flags,
	.end = "LOG_FORMAT=json writes the log as JSON lines. SIGTERM stops: leases at the source are given back, what was fetched is kept. "
	       "SIGUSR1 turns the log's debugging lines on while it runs, SIGUSR2 off again.",
	.operand = VALUE_OTHER,
};

static int parse(struct option_scan *scan, struct run_options *o)
{
	unsigned port;
	int id;

	while ((id = option_scan_next(scan)) > 0) {
		bool good = true;

		switch (id) {
		case KUBECONFIG:
			o->kubeconfig = scan->value;
			break;
		case CONTEXT:
			o->context = scan->value;
			break;
		case SCRATCH:
			o->scratch = scan->value;
			break;
		case ADDRESS:
			o->address = scan->value;
			break;
		case PORT:
			good = numbers_unsigned(scan->value, 0, 65535, &port);
			o->port = good ? (int)port : 0;
			break;
		case WORKERS:
			good = numbers_unsigned(scan->value, 1, 256, &o->workers);
			break;
		case STREAMS_AT_ONCE:
			good = numbers_unsigned(scan->value, 1, 1024, &o->streams);
			break;
		case HOST_STREAMS:
			good = numbers_unsigned(scan->value, 1, 1024, &o->host_streams);
			break;
		case ENDPOINT_STREAMS:
			good = numbers_unsigned(scan->value, 1, 1024, &o->endpoint_streams);
			break;
		case LOCAL_URLS:
			o->allow_local_urls = true;
			break;
		case 'v':
			o->verbose = true;
			break;
		}
		if (!good)
			return option_scan_refuse(scan, "\"%s\" is no number in the option's range", scan->value);
	}
	if (!id && scan->operands < scan->argc)
		return option_scan_refuse(scan, "unexpected argument \"%s\"", scan->argv[scan->operands]);
	return id;
}

/* What serves; made in order, taken down in reverse. */
struct daemon {
	struct cancel *cancel;    /* of the store's requests */
	struct cancel *preparing; /* of the setup */
	struct cancel *stopped;   /* the end of stop */
	struct store *store;
	struct setup *setup;
	struct event_recorder *events;
	struct target *target;
	struct web *web;
	struct reconciler *reconciler;
	struct metrics *metrics;
};

static bool ready(void *arg)
{
	const struct daemon *d = arg;

	return __atomic_load_n(&d->reconciler, __ATOMIC_ACQUIRE) && reconciler_synced(d->reconciler);
}

static char *metrics_of(void *arg)
{
	const struct daemon *d = arg;

	return metrics_text(d->metrics);
}

static void collect(void *arg)
{
	const struct daemon *d = arg;

	request_metrics_collect(d->metrics, d->store);
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

/* 1: a signal came. */
static int start(struct daemon *d, const struct run_options *o, struct error **err)
{
	struct kube_options kube = { .kubeconfig = o->kubeconfig,
				     .context = o->context,
				     .user_agent = "vm-import-controller/" VIC_VERSION };
	struct web_options web = {
		.port = o->port, .root = o->scratch, .advertise = o->address, .ready = ready, .metrics = metrics_of, .arg = d
	};

	if (mkdir(o->scratch, 0700) < 0 && errno != EEXIST)
		return error_set_errno(err, errno, "cannot create the scratch directory %s (--scratch)", o->scratch);
	if (!(d->cancel = cancel_new(NULL)))
		return error_set_errno(err, ENOMEM, "cannot start");
	if (!(d->store = kube_store_open(&kube, d->cancel, err)))
		return error_wrap(err, "cannot use the cluster's configuration");
	start_metrics(d);
	if (!(d->events = event_recorder_new(d->store, "vm-import-controller", err)) || !(d->target = target_harvester_new(d->store, err)))
		return -1;
	if (!(d->web = web_start(&web, err)))
		return error_wrap(err, "cannot start the image server on port %d (--port)", o->port);
	if (!(d->preparing = cancel_new(NULL)) || !(d->setup = setup_start(d->store, kube_store_namespace(d->store), d->preparing, err)))
		return -1;
	for (uint64_t end = clock_monotonic_ms() + SETUP_MS; !setup_tried(d->setup) && clock_monotonic_ms() < end;)
		if (signals_wait(50))
			return 1;
	struct reconciler_options reconciler = {
		.store = d->store,
		.target = d->target,
		.web = d->web,
		.events = d->events,
		.scratch = o->scratch,
		.workers = o->workers,
		.max_streams = o->streams,
		.metrics = d->metrics,
		.max_host_streams = o->host_streams,
		.max_endpoint_streams = o->endpoint_streams,
		.sources = { .allow_local_urls = o->allow_local_urls },
	};
	struct reconciler *r = reconciler_start(&reconciler, err);
	__atomic_store_n(&d->reconciler, r, __ATOMIC_RELEASE);
	return r ? 0 : -1;
}

/* Ends the requests to a cluster that does not answer: leases are given back by then, and Kubernetes waits for nobody. */
static void *lose_patience(void *arg)
{
	struct daemon *d = arg;

	if (!cancel_wait(d->stopped, STOP_PATIENCE_MS))
		cancel_request(d->cancel);
	return NULL;
}

static void stop(struct daemon *d)
{
	struct reconciler *r = d->reconciler;
	pthread_t patience;
	bool limited;

	if (d->preparing)
		cancel_request(d->preparing);
	d->stopped = cancel_new(NULL);
	limited = d->stopped && d->cancel && !pthread_create(&patience, NULL, lose_patience, d);

	/* The web server asks the reconciler, and the reconciler has it make URLs: it falls silent first and goes last. */
	web_silence(d->web);
	__atomic_store_n(&d->reconciler, NULL, __ATOMIC_RELEASE);
	reconciler_stop(r);
	web_stop(d->web);
	target_free(d->target);
	event_recorder_free(d->events);
	if (limited) {
		cancel_request(d->stopped);
		pthread_join(patience, NULL);
	}
	if (d->cancel)
		cancel_request(d->cancel);
	setup_free(d->setup);
	metrics_free(d->metrics);
	store_close(d->store);
	cancel_free(d->cancel);
	cancel_free(d->preparing);
	cancel_free(d->stopped);
}

static int run(int argc, char **argv)
{
	const char *address = getenv("SVC_ADDRESS"), *format = getenv("LOG_FORMAT"), *debug = getenv("DEBUG");
	struct run_options o = { .scratch = DEFAULT_SCRATCH, .port = 8080, .address = address && *address ? address : DEFAULT_ADDRESS };
	AUTO_ERROR struct error *err = NULL;
	struct daemon d = { 0 };
	struct limits limits = limits_read(NULL);
	char port[16], cpus[24], memory[24], streams[16];
	struct option_scan scan;
	int exit_code = EXIT_DONE, started;

	option_scan_begin(&scan, &command_run, argc, argv);
	if (parse(&scan, &o) < 0)
		return scan.exit_code;
	if (!o.streams)
		o.streams = limits.memory / STREAM_MEMORY < STREAMS ? (unsigned)(limits.memory / STREAM_MEMORY) + 1 : STREAMS;
	log_setup(o.verbose || (debug && !strcmp(debug, "true")) ? LOG_DEBUG : LOG_INFO, format && !strcmp(format, "json"));
	signals_block();
	started = start(&d, &o, &err);
	if (started < 0) {
		log_write(LOG_ERROR, "cannot start", "error", error_message(err), NULL);
		exit_code = EXIT_FAILED;
	} else if (!started) {
		snprintf(port, sizeof port, "%d", web_port(d.web));
		snprintf(cpus, sizeof cpus, "%.2f", limits.cpus);
		snprintf(memory, sizeof memory, "%" PRIu64 " MiB", limits.memory >> 20);
		snprintf(streams, sizeof streams, "%u", o.streams);
		log_write(LOG_INFO, "started", "version", VIC_VERSION, "scratch", o.scratch, "port", port, "address", o.address, "cpus",
			  cpus, "memory", memory, "streams", streams, NULL);
		signals_wait(-1);
		log_write(LOG_INFO, "stopping", NULL);
	}
	stop(&d);
	if (!exit_code)
		log_write(LOG_INFO, "stopped", NULL);
	return exit_code;
}
