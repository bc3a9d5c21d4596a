#include "reconcile/metrics.h"

#include <ctype.h>
#include <string.h>
#include <sys/statvfs.h>

#include "reconcile/context.h"

static void count_states(const struct reconciler *r)
{
	for (size_t i = 0; tally_states[i]; i++)
		series_set(metric_with(r->numbers.imports, tally_states[i], NULL), (double)tally_count(r->tally, i));
}

static void show_host(void *arg, const char *host, unsigned running, unsigned waiting, unsigned allowed)
{
	struct metric *hosts = arg;

	series_set(metric_with(hosts, host, "running", NULL), running);
	series_set(metric_with(hosts, host, "waiting", NULL), waiting);
	series_set(metric_with(hosts, host, "allowed", NULL), allowed);
}

static void collect(void *arg)
{
	struct reconciler *r = arg;
	struct reconcile_metrics *n = &r->numbers;
	struct transfer_totals transfers;
	struct statvfs fs;

	count_states(r);
	series_set(n->sessions, (double)sessions_count(r->sessions));
	transfer_totals(r->transfers, &transfers);
	transfer_hosts(r->transfers, show_host, n->hosts);
	series_set(n->transfers, transfers.active);
	series_set(n->reserved, (double)transfers.reserved);
	if (statvfs(r->scratch, &fs) == 0) {
		series_set(n->used, (double)(fs.f_blocks - fs.f_bfree) * (double)fs.f_frsize);
		series_set(n->available, (double)fs.f_bavail * (double)fs.f_frsize);
	}
}

static void add_controller(struct controller_metrics *c, struct metrics *m, const char *name, unsigned workers)
{
	struct metric *total = metrics_add(m, METRIC_COUNTER, "controller_runtime_reconcile_total", "controller,result",
					   "Runs of a reconciler by what came out");

	c->success = metric_with(total, name, "success", NULL);
	c->error = metric_with(total, name, "error", NULL);
	c->again = metric_with(total, name, "requeue", NULL);
	c->errors = metric_with(metrics_add(m, METRIC_COUNTER, "controller_runtime_reconcile_errors_total", "controller",
					    "Runs of a reconciler that failed and are tried again"),
				name, NULL);
	c->seconds = metric_with(metrics_add(m, METRIC_HISTOGRAM, "controller_runtime_reconcile_time_seconds", "controller",
					     "How long the runs of a reconciler took"),
				 name, NULL);
	c->active = metric_with(
		metrics_add(m, METRIC_GAUGE, "controller_runtime_active_workers", "controller", "Workers that run a reconciler"), name,
		NULL);
	series_set(metric_with(metrics_add(m, METRIC_GAUGE, "controller_runtime_max_concurrent_reconciles", "controller",
					   "Workers that may run a reconciler at a time"),
			       name, NULL),
		   workers);
}

static struct series *plain(struct metrics *m, const char *name, const char *help)
{
	return metric_with(metrics_add(m, METRIC_GAUGE, name, NULL, help), NULL);
}

int reconcile_metrics_begin(struct reconciler *r, const char *const *classes, unsigned workers)
{
	struct metrics *m = r->options.metrics;
	struct reconcile_metrics *n = &r->numbers;
	size_t count = 0;

	while (classes[count])
		count++;
	n->controllers = calloc(count + 1, sizeof *n->controllers);
	if (!n->controllers)
		return -1;
	for (size_t i = 0; i < count; i++)
		add_controller(&n->controllers[i], m, classes[i], i || workers < 2 ? (workers > 1 ? workers - 1 : workers) : workers);
	n->imports = metrics_add(m, METRIC_GAUGE, "vm_import_imports", "state", "VirtualMachineImports by status.importStatus");
	n->failures = metrics_add(m, METRIC_COUNTER, "vm_import_failures_total", "reason",
				  "Imports that failed or were found invalid, by the reason in their conditions");
	n->hosts = metrics_add(m, METRIC_GAUGE, "vm_import_host_streams", "host,state",
			       "Disks that a host sends (running), that wait for their turn (waiting), and may be sent at once (allowed)");
	n->sessions = plain(m, "vm_import_source_sessions", "Open sessions with sources");
	n->transfers = plain(m, "vm_import_transfers_active", "Imports whose disks are being fetched");
	n->used = plain(m, "vm_import_scratch_bytes_used", "Bytes in use on the file system of the scratch directory");
	n->reserved = plain(m, "vm_import_scratch_bytes_reserved", "Bytes that running transfers will still write to it");
	n->available = plain(m, "vm_import_scratch_bytes_available", "Bytes that are free on it");
	metrics_ask(m, collect, r);
	return 0;
}

void reconcile_metrics_end(struct reconciler *r)
{
	struct reconcile_metrics *n = &r->numbers;
	struct series *const gauges[] = { n->sessions, n->transfers, n->used, n->reserved, n->available };

	metrics_ignore(r->options.metrics, r);
	/* The registry lives on, perhaps with another leader elsewhere: what was is no more. */
	metric_clear(n->imports);
	metric_clear(n->hosts);
	for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++)
		series_set(gauges[i], 0);
	free(r->numbers.controllers);
	r->numbers.controllers = NULL;
}

void reconcile_metrics_failure(struct reconciler *r, const char *reason)
{
	size_t len = 0;

	while (isalnum((unsigned char)reason[len]))
		len++;
	series_add(metric_with(r->numbers.failures, len && !reason[len] ? reason : "Other", NULL), 1);
}
