#include <string.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/daemon.h"
#include "cmd/numbers.h"
#include "cmd/options.h"
#include "cmd/signals.h"

#define DEFAULT_ADDRESS "harvester-vm-import-controller.harvester-system.svc"
#define STREAMS 16
#define STREAM_MEMORY (32u << 20) /* of the limit, a stream; what it takes is less */
#define DEFAULT_LEASE "vm-import-controller"
#define DEFAULT_SCRATCH "/tmp/vm-import-controller"

struct run_options {
	struct daemon_options daemon;
	bool verbose;
};

enum {
	KUBECONFIG = OPTION_LONG,
	CONTEXT,
	SCRATCH,
	PORT,
	ADDRESS,
	TLS_CERTIFICATE,
	TLS_KEY,
	WORKERS,
	STREAMS_AT_ONCE,
	HOST_STREAMS,
	ENDPOINT_STREAMS,
	LOCAL_URLS,
	ELECT,
	LEASE,
	DEADLINE,
	RETRY,
	LEASE_NAME,
	LEASE_NAMESPACE
};

static const struct cmd_option flags[] = {
	{ KUBECONFIG, "kubeconfig", "FILE",
	  "configuration of the cluster (default: $KUBECONFIG, the pod's service account, ~/.kube/config)", VALUE_FILE, 0 },
	{ CONTEXT, "context", "NAME", "context in it (default: the current one)", 0, 0 },
	{ SCRATCH, "scratch", "DIR", "where disks are kept until the cluster has them (default: " DEFAULT_SCRATCH ")", VALUE_DIRECTORY, 0 },
	{ PORT, "port", "N", "port of the image server (default: 8080)", 0, 0 },
	{ ADDRESS, "address", "HOST", "host that image URLs name (default: $SVC_ADDRESS, else " DEFAULT_ADDRESS ")", 0, 0 },
	{ TLS_CERTIFICATE, "tls-certificate", "FILE",
	  "certificate of the image server, PEM, with its chain: it speaks HTTPS then, and the cluster's storage has to trust it; read again "
	  "when it changes",
	  VALUE_FILE, 0 },
	{ TLS_KEY, "tls-key", "FILE", "its key, PEM", VALUE_FILE, 0 },
	{ WORKERS, "workers", "N", "reconcile workers (default: 4)", 0, 0 },
	{ STREAMS_AT_ONCE, "streams", "N", "disks fetched at once (default: 16, fewer where memory is limited to less than 512 MiB)", 0,
	  0 },
	{ HOST_STREAMS, "streams-per-host", "N", "of these from one host, as an ESXi host; fewer while it has trouble (default: 4)", 0, 0 },
	{ ENDPOINT_STREAMS, "streams-per-endpoint", "N", "of these from all hosts of one vCenter (default: 32)", 0, 0 },
	{ LOCAL_URLS, "allow-local-urls", NULL, "URLs of OvaSources may lead to loopback and link-local addresses", 0, 0 },
	{ ELECT, "leader-elect", "[WHEN]",
	  "several replicas choose one that works, by a Lease: true (meant without a value), false (the default), or auto: where the cluster "
	  "allows it",
	  VALUE_WORDS, "true false auto" },
	{ LEASE, "leader-elect-lease-duration", "SECONDS", "how long the others wait for a leader that is silent (default: 15)", 0, 0 },
	{ DEADLINE, "leader-elect-renew-deadline", "SECONDS", "how long a leader tries to renew before it stops (default: 10)", 0, 0 },
	{ RETRY, "leader-elect-retry-period", "SECONDS", "how often the Lease is renewed, or looked at (default: 2)", 0, 0 },
	{ LEASE_NAME, "leader-elect-resource-name", "NAME", "name of the Lease (default: " DEFAULT_LEASE ")", 0, 0 },
	{ LEASE_NAMESPACE, "leader-elect-resource-namespace", "NAMESPACE",
	  "namespace of the Lease (default: $POD_NAMESPACE, else the configuration's)", 0, 0 },
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

/* A number of seconds, also as "15s", in which Kubernetes's own programs take it. */
static bool seconds(const char *text, unsigned *out)
{
	size_t len = strlen(text);
	AUTO_FREE char *copy = strndup(text, len && text[len - 1] == 's' ? len - 1 : len);

	return copy && numbers_unsigned(copy, 1, 3600, out);
}

static bool elect(const char *text, enum daemon_elect *out)
{
	static const char *const words[] = { [ELECT_NO] = "false", [ELECT_YES] = "true", [ELECT_AUTO] = "auto" };

	for (size_t i = 0; text && i < sizeof words / sizeof *words; i++) {
		if (!strcmp(text, words[i])) {
			*out = (enum daemon_elect)i;
			return true;
		}
	}
	*out = ELECT_YES;
	return !text;
}

static int parse(struct option_scan *scan, struct run_options *run_options)
{
	struct daemon_options *o = &run_options->daemon;
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
		case TLS_CERTIFICATE:
			o->certificate = scan->value;
			break;
		case TLS_KEY:
			o->key = scan->value;
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
		case ELECT:
			if (!elect(scan->value, &o->elect))
				return option_scan_refuse(scan, "--leader-elect is true, false or auto, not \"%s\"", scan->value);
			break;
		case LEASE:
			good = seconds(scan->value, &o->lease_s);
			break;
		case DEADLINE:
			good = seconds(scan->value, &o->deadline_s);
			break;
		case RETRY:
			good = seconds(scan->value, &o->retry_s);
			break;
		case LEASE_NAME:
			o->lease_name = scan->value;
			break;
		case LEASE_NAMESPACE:
			o->lease_namespace = scan->value;
			break;
		case 'v':
			run_options->verbose = true;
			break;
		}
		if (!good)
			return option_scan_refuse(scan, "\"%s\" is no number in the option's range", scan->value);
	}
	if (!id && scan->operands < scan->argc)
		return option_scan_refuse(scan, "unexpected argument \"%s\"", scan->argv[scan->operands]);
	if (!id && !o->certificate != !o->key)
		return option_scan_refuse(scan, "--tls-certificate and --tls-key go together");
	return id;
}

static int run(int argc, char **argv)
{
	const char *address = getenv("SVC_ADDRESS"), *format = getenv("LOG_FORMAT"), *debug = getenv("DEBUG");
	struct run_options o = {
		.daemon = { .scratch = DEFAULT_SCRATCH,
			    .port = 8080,
			    .address = address && *address ? address : DEFAULT_ADDRESS,
			    .lease_name = DEFAULT_LEASE },
	};
	uint64_t streams = limits_read(NULL).memory / STREAM_MEMORY;
	struct option_scan scan;

	option_scan_begin(&scan, &command_run, argc, argv);
	if (parse(&scan, &o) < 0)
		return scan.exit_code;
	if (!o.daemon.streams)
		o.daemon.streams = streams < STREAMS ? (unsigned)streams + 1 : STREAMS;
	log_setup(o.verbose || (debug && !strcmp(debug, "true")) ? LOG_DEBUG : LOG_INFO, format && !strcmp(format, "json"));
	signals_block();
	return daemon_run(&o.daemon);
}
