#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "store/kube/kube.h"
#include "support/bundle.h"

#define DEFAULT_NAMESPACE "harvester-system"

enum { KUBECONFIG = OPTION_LONG, CONTEXT, METRICS };

static const struct cmd_option flags[] = {
	{ 'o', "output", "FILE", "the archive; - is standard output (default: vm-import-support-DATE.tar.gz)", VALUE_FILE, 0 },
	{ 'n', "namespace", "NAME", "where the controller runs (default: $POD_NAMESPACE, else " DEFAULT_NAMESPACE ")", 0, 0 },
	{ KUBECONFIG, "kubeconfig", "FILE",
	  "configuration of the cluster (default: $KUBECONFIG, the pod's service account, ~/.kube/config)", VALUE_FILE, 0 },
	{ CONTEXT, "context", "NAME", "context in it (default: the current one)", 0, 0 },
	{ METRICS, "metrics-url", "URL",
	  "where the metrics are, as behind kubectl port-forward (default: each pod's, through the API server)", 0, 0 },
	OPTION_HELP,
	{ 0 },
};

static int run(int argc, char **argv);

const struct command command_support_bundle = {
	.name = "support-bundle",
	.run = run,
	.summary = "collect what helps to find out what is wrong, without secrets",
	.arguments = "",
	.description =
		"Collects from a cluster, in a .tar.gz: sources and imports, what was made of them, their events, the controller's pods with their "
		"logs and metrics, and versions. Secrets, passwords, tokens, keys and signed URLs are replaced by REDACTED, also where a log "
		"should have them; what could not be read is listed in errors.txt. Look at it before you give it away all the same.",
	.options = flags,
	.end = "It reads with the rights of whom the configuration names, and changes nothing. Exit status: 0 the archive is there, 1 it is not.",
	.operand = VALUE_OTHER,
};

static int run(int argc, char **argv)
{
	const char *ns = getenv("POD_NAMESPACE");
	struct kube_options kube = { .user_agent = "vm-import-controller/" VIC_VERSION };
	struct bundle_options options = { .ns = ns && *ns ? ns : DEFAULT_NAMESPACE, .version = VIC_VERSION };
	AUTO_ERROR struct error *err = NULL;
	struct bundle_result result = { 0 };
	char name[64], now[CLOCK_RFC3339_SIZE];
	struct option_scan scan;
	int id;

	clock_rfc3339(now);
	snprintf(name, sizeof name, "vm-import-support-%.10s.tar.gz", now);
	options.path = name;
	option_scan_begin(&scan, &command_support_bundle, argc, argv);
	while ((id = option_scan_next(&scan)) > 0) {
		if (id == 'o')
			options.path = scan.value;
		else if (id == 'n')
			options.ns = scan.value;
		else if (id == KUBECONFIG)
			kube.kubeconfig = scan.value;
		else if (id == CONTEXT)
			kube.context = scan.value;
		else if (id == METRICS)
			options.metrics = scan.value;
	}
	if (!id && scan.operands < argc)
		id = option_scan_refuse(&scan, "unexpected argument %s", argv[scan.operands]);
	if (!id && (!*options.ns || strspn(options.ns, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(options.ns)))
		id = option_scan_refuse(&scan, "%s is no name of a namespace", options.ns);
	if (id < 0)
		return scan.exit_code;
	log_setup(LOG_ERROR, false);
	options.store = kube_store_open(&kube, NULL, &err);
	if (options.store)
		bundle_write(&options, &result, &err);
	store_close(options.store);
	if (err) {
		fprintf(stderr, "vm-import-controller: %s\n", error_message(err));
		return EXIT_FAILED;
	}
	fprintf(stderr, "%s: %zu files%s", strcmp(options.path, "-") ? options.path : "standard output", result.files,
		result.missing ? "" : "; look at them before you give them away\n");
	if (result.missing)
		fprintf(stderr, ", and %zu things could not be read (errors.txt); look at them before you give them away\n",
			result.missing);
	return EXIT_DONE;
}
