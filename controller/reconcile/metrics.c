/* The text of /metrics, in the exposition format of Prometheus. */
#include <inttypes.h>
#include <string.h>

#include "base/buffer.h"
#include "reconcile/context.h"

static const char *const states[] = { STATE_VALID,           STATE_INVALID,      STATE_SOURCE_READY, STATE_DISKS_EXPORTED,
				      STATE_IMAGE_SUBMITTED, STATE_IMAGE_FAILED, STATE_IMAGES_READY, STATE_VM_CREATED,
				      STATE_RUNNING,         STATE_FAILED };

#define STATE_COUNT (sizeof states / sizeof *states)

static void head(struct buffer *b, const char *name, const char *type, const char *help)
{
	buffer_addf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

char *reconciler_metrics(struct reconciler *r)
{
	AUTO_JSON json_t *imports = informer_list(r->imports, NULL);
	size_t counts[STATE_COUNT] = { 0 }, fresh = 0, i;
	const json_t *import;
	struct buffer b;

	json_array_foreach (imports, i, import) {
		const char *state = json_path_string(import, "status.importStatus");

		if (!state)
			fresh++;
		for (size_t k = 0; state && k < STATE_COUNT; k++)
			counts[k] += !strcmp(states[k], state);
	}
	buffer_init(&b, 1 << 20);
	head(&b, "vm_import_imports", "gauge", "VirtualMachineImports by status.importStatus");
	buffer_addf(&b, "vm_import_imports{state=\"\"} %zu\n", fresh);
	for (size_t k = 0; k < STATE_COUNT; k++)
		buffer_addf(&b, "vm_import_imports{state=\"%s\"} %zu\n", states[k], counts[k]);
	head(&b, "vm_import_source_sessions", "gauge", "Open sessions with sources");
	buffer_addf(&b, "vm_import_source_sessions %zu\n", sessions_count(r->sessions));
	head(&b, "workqueue_depth", "gauge", "Keys that wait for a reconcile worker");
	buffer_addf(&b, "workqueue_depth %zu\n", queue_length(r->queue));
	head(&b, "vm_import_reconciles_total", "counter", "Runs of the reconcilers");
	buffer_addf(&b, "vm_import_reconciles_total %" PRIu64 "\n", (uint64_t)r->reconciles);
	head(&b, "vm_import_reconcile_errors_total", "counter", "Runs of the reconcilers that failed and are tried again");
	buffer_addf(&b, "vm_import_reconcile_errors_total %" PRIu64 "\n", (uint64_t)r->reconcile_errors);
	return buffer_steal(&b);
}
