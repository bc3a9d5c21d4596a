/* Speaks to a vSphere endpoint through the VMware source for test_vmware_source.sh. Logs in as VSPHERE_URL, VSPHERE_DC, and SECRET (a JSON
 * object) say, and VSPHERE_PIN, the fingerprint that the source's status would keep; then takes a command a line from standard input, its words separated by tabs, and answers each with lines of its own and a
 * last one, "ok" or "error CLASS REASON MESSAGE":
 *
 *   verify | certificate | describe NAME [FOLDER] | preflight NAME | vmspec NAME FOLDER SPEC | state NAME | ask NAME (to shut down) | shutdown NAME (and wait) | watch NAME MS [leave] | off NAME | on NAME | cleanup ID
 *   export NAME DIRECTORY [cancel]   the disks as DIRECTORY/0.raw ...; with cancel it is stopped after the first byte, and aborted
 *   hold NAME                        begins an export and keeps it until "release" or "abort" */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/vm_model_json.h"
#include "base/clock.h"
#include "disk/pipeline.h"
#include "source/source.h"
#include "target/target.h"
#include "target/vmspec.h"
#include "json/codec.h"

#define WAKES 8 /* watches that a test may ask for */

struct probe {
	const struct source_ops *ops;
	struct source *source;
	struct disk_workers *workers;
	struct source_export *held;
	struct cancel *wakes[WAKES];
	size_t wake_count;
};

static int ledger(void *arg, bool made, const char *kind, const char *id, struct error **err)
{
	(void)arg;
	(void)err;
	printf("ledger %c %s %s\n", made ? '+' : '-', kind, id);
	return 0;
}

static struct vm_model *find(struct probe *p, const char *name, const char *folder, struct error **err)
{
	struct source_vm_name wanted = { name, folder };

	return p->ops->describe(p->source, &wanted, NULL, err);
}

static int describe(struct probe *p, char **words, struct error **err)
{
	AUTO_VM_MODEL struct vm_model *model = find(p, words[1], words[2], err);
	AUTO_JSON json_t *json = model ? vm_model_to_json(model) : NULL;
	AUTO_FREE char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

	return text && puts(text) >= 0 ? 0 : -1;
}

/* The KubeVirt object for an import with this spec (JSON), as the target without a cluster makes it, and what preflight says. */
static int vmspec(struct probe *p, char **words, struct error **err)
{
	AUTO_VM_MODEL struct vm_model *model = find(p, words[1], words[2], err);
	AUTO_JSON json_t *spec = words[3] ? json_loads(words[3], 0, NULL) : json_object(), *object = NULL, *problems = json_array(),
			 *answer = NULL;
	struct vmimport import = { 0 };
	struct target_import t = { .import = &import, .vm_name = "vm" };
	struct target_disk disks[64] = { 0 };
	struct target *target = target_local_new("/nonexistent", err);
	char names[64][32];
	const char *fallback;
	int result = -1;

	object = json_pack("{s:{s:s, s:s, s:s}, s:O?}", "metadata", "name", "vm", "namespace", "default", "uid", "u", "spec", spec);
	if (model && target && json_decode(&api_vmimport_type, object, &import, err) == 0 && model->disk_count <= 64 &&
	    p->ops->preflight(p->source, model, problems, NULL, err) == 0 && p->ops->networks(p->source, model, NULL, err) == 0 &&
	    (t.object = object, target->ops->preflight(target, &t, model, problems, err)) == 0) {
		fallback = import.spec.default_disk_bus_type && *import.spec.default_disk_bus_type ? import.spec.default_disk_bus_type
												   : "virtio";
		for (size_t i = 0; i < model->disk_count; i++) {
			snprintf(names[i], sizeof names[i], "image-%zu", i);
			disks[i] = (struct target_disk){ .name = names[i],
							 .image = names[i],
							 .capacity = model->disks[i].capacity,
							 .bus = vmspec_disk_bus(model->disks[i].bus, fallback) };
		}
		answer = json_pack("{s:o?, s:O, s:s?, s:o}", "vm", vmspec_build(&t, model, disks, model->disk_count, false, err),
				   "problems", problems, "notes", model->notes, "model", vm_model_to_json(model));
		AUTO_FREE char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
		result = text && puts(text) >= 0 ? 0 : -1;
	}
	json_type_free(&api_vmimport_type, &import);
	target_free(target);
	return result;
}

static int preflight(struct probe *p, char **words, struct error **err)
{
	AUTO_VM_MODEL struct vm_model *model = find(p, words[1], NULL, err);
	AUTO_JSON json_t *problems = json_array();
	const json_t *problem;
	size_t i;

	if (!model || p->ops->preflight(p->source, model, problems, NULL, err) < 0)
		return -1;
	json_array_foreach (problems, i, problem)
		printf("problem %s\n", json_string_value(problem));
	return 0;
}

static int power(struct probe *p, char **words, struct error **err)
{
	AUTO_VM_MODEL struct vm_model *model = find(p, words[1], NULL, err);
	uint64_t begun = clock_monotonic_ms();
	enum vm_power state;

	if (!model)
		return -1;
	if (!strcmp(words[0], "off"))
		return p->ops->power_off(p->source, model, NULL, err);
	if (!strcmp(words[0], "on"))
		return p->ops->power_on(p->source, model, NULL, err);
	if (!strcmp(words[0], "shutdown") && p->ops->shutdown_guest(p->source, model, NULL, err) < 0)
		return -1;
	if (!strcmp(words[0], "ask"))
		return p->ops->shutdown_guest(p->source, model, NULL, err);
	do {
		if (p->ops->power_state(p->source, model, &state, NULL, err) < 0)
			return -1;
	} while (!strcmp(words[0], "shutdown") && state != VM_POWER_OFF && clock_monotonic_ms() - begun < 30000 && !cancel_wait(NULL, 100));
	printf("state %s\n", vm_power_name(state));
	return 0;
}

static void woken(void *arg, const char *key)
{
	(void)key;
	cancel_request(arg);
}

/* Waits until the source says that the machine has stopped, or that its patience is at an end; with leave it is not waited for. */
static int watch(struct probe *p, char **words, struct error **err)
{
	struct cancel *wake = cancel_new(NULL);
	AUTO_VM_MODEL struct vm_model *model = find(p, words[1], NULL, err);
	enum vm_power state;

	if (p->wake_count == WAKES)
		abort();
	p->wakes[p->wake_count++] = wake; /* may be used until the source is closed */
	if (!model || !p->ops->watch_power(p->source, model, (unsigned)atoi(words[2]), woken, wake, words[1]))
		return -1;
	while (!words[3] && !cancel_wait(wake, 1000))
		;
	if (p->ops->power_state(p->source, model, &state, NULL, err) < 0)
		return -1;
	printf("state %s\n", vm_power_name(state));
	return 0;
}

struct stream {
	struct probe *probe;
	struct source_export *export;
	size_t index;
	const char *directory;
	struct cancel *cancel, *cancel_at_first_byte;
	struct disk_pipeline *pipeline;
	uint64_t bytes;
	struct error *error;
	pthread_t thread;
};

static int push(void *arg, const void *data, size_t len, struct error **err)
{
	struct stream *s = arg;

	s->bytes += len;
	if (s->cancel_at_first_byte)
		cancel_request(s->cancel_at_first_byte);
	return disk_pipeline_push(s->pipeline, data, len, err);
}

static void *stream(void *arg)
{
	struct stream *s = arg;
	AUTO_FREE char *path = NULL;
	struct disk_result result;

	if (asprintf(&path, "%s/%zu.raw", s->directory, s->index) < 0)
		abort();
	struct disk_pipeline_options options = { .format = s->export->disks[s->index].format,
						 .path = path,
						 .capacity = s->export->disks[s->index].capacity,
						 .workers = s->probe->workers,
						 .no_sync = true };
	s->pipeline = disk_pipeline_new(&options, &s->error);
	if (s->pipeline && s->probe->ops->export_stream(s->export, s->index, push, s, s->cancel, &s->error) == 0)
		disk_pipeline_finish(s->pipeline, &result, &s->error);
	disk_pipeline_free(s->pipeline);
	return NULL;
}

static int export(struct probe *p, char **words, struct error **err)
{
	AUTO_VM_MODEL struct vm_model *model = find(p, words[1], NULL, err);
	struct cancel *cancel = cancel_new(NULL);
	bool aborted = words[3] && !strcmp(words[3], "cancel");
	struct source_export *e = model ? p->ops->export_begin(p->source, model, ledger, NULL, cancel, err) : NULL;
	AUTO_FREE struct stream *streams = e ? calloc(e->disk_count + 1, sizeof *streams) : NULL;
	uint64_t cancelled = 0;
	int result = 0;

	if (!streams) {
		cancel_free(cancel);
		return -1;
	}
	for (size_t i = 0; i < e->disk_count; i++) {
		streams[i] = (struct stream){ .probe = p, .export = e, .index = i, .directory = words[2], .cancel = cancel };
		streams[i].cancel_at_first_byte = aborted ? cancel : NULL;
		if (pthread_create(&streams[i].thread, NULL, stream, &streams[i]))
			abort();
	}
	p->ops->export_progress(e, 42);
	while (aborted && !cancel_wait(cancel, 1000))
		;
	cancelled = clock_monotonic_ms();
	for (size_t i = 0; i < e->disk_count; i++) {
		pthread_join(streams[i].thread, NULL);
		printf("disk %s %llu%s%s\n", e->disks[i].id, (unsigned long long)streams[i].bytes, streams[i].error ? " " : "",
		       error_message(streams[i].error));
		if (streams[i].error && !result)
			result = error_move(err, move_ptr(streams[i].error));
		error_free(streams[i].error);
	}
	if (aborted)
		printf("stopped after %s\n", clock_monotonic_ms() - cancelled <= 10000 ? "less than 10 s" : "too long");
	if (p->ops->export_end(e, result == 0, result ? NULL : err) < 0)
		result = -1;
	cancel_free(cancel);
	return result;
}

static int hold(struct probe *p, char **words, struct error **err)
{
	AUTO_VM_MODEL struct vm_model *model = find(p, words[1], NULL, err);

	p->held = model ? p->ops->export_begin(p->source, model, ledger, NULL, NULL, err) : NULL;
	return p->held ? 0 : -1;
}

static int run(struct probe *p, char **words, struct error **err)
{
	const char *verb = words[0];

	if (!strcmp(verb, "verify"))
		return p->ops->verify(p->source, NULL, err);
	if (!strcmp(verb, "certificate")) {
		AUTO_FREE char *pin = p->ops->certificate(p->source);

		printf("certificate %s\n", pin ? pin : "none");
		return 0;
	}
	if (!strcmp(verb, "describe") && words[1])
		return describe(p, words, err);
	if (!strcmp(verb, "vmspec") && words[1])
		return vmspec(p, words, err);
	if (!strcmp(verb, "preflight") && words[1])
		return preflight(p, words, err);
	if ((!strcmp(verb, "state") || !strcmp(verb, "ask") || !strcmp(verb, "shutdown") || !strcmp(verb, "off") || !strcmp(verb, "on")) &&
	    words[1])
		return power(p, words, err);
	if (!strcmp(verb, "watch") && words[2])
		return watch(p, words, err);
	if (!strcmp(verb, "cleanup") && words[1])
		return p->ops->cleanup(p->source, "ExportLease", words[1], NULL, err);
	if (!strcmp(verb, "export") && words[1] && words[2])
		return export(p, words, err);
	if (!strcmp(verb, "hold") && words[1])
		return hold(p, words, err);
	if ((!strcmp(verb, "release") || !strcmp(verb, "abort")) && p->held)
		return p->ops->export_end(move_ptr(p->held), !strcmp(verb, "release"), err);
	return error_set(err, ERROR_PERMANENT, "Usage", "see the head of vmware_probe.c");
}

static void answer(const struct error *err)
{
	if (err)
		printf("error %s %s %s\n", error_class_name(err->class), err->reason, err->message);
	else
		printf("ok\n");
	fflush(stdout);
}

int main(void)
{
	struct probe p = { .ops = source_ops_of("vmwaresource"), .workers = disk_workers_new(2, NULL) };
	AUTO_JSON json_t *object =
		json_pack("{s:{s:s, s:s}, s:{s:{s:s, s:s*}}}", "spec", "endpoint", getenv("VSPHERE_URL"), "dc", getenv("VSPHERE_DC"),
			  "status", "certificate", "endpoint", getenv("VSPHERE_URL"), "fingerprint", getenv("VSPHERE_PIN"));
	AUTO_JSON json_t *secret = json_loads(getenv("SECRET"), 0, NULL);
	AUTO_FREE char *line = NULL;
	size_t size = 0;
	ssize_t len;
	struct error *failed = NULL;

	p.source = p.ops->open(object, secret, &(struct source_options){ 0 }, NULL, &failed);
	answer(failed);
	error_free(failed);
	while (p.source && (len = getline(&line, &size, stdin)) > 0) {
		AUTO_ERROR struct error *err = NULL;
		char *words[5] = { NULL }, *rest = line;

		line[strcspn(line, "\n")] = 0;
		for (size_t i = 0; i < 4 && rest; i++)
			words[i] = strsep(&rest, "\t");
		if (run(&p, words, &err) < 0 && !err)
			error_set_errno(&err, ENOMEM, "no reason given");
		answer(err);
	}
	if (p.held)
		p.ops->export_end(p.held, false, NULL);
	if (p.source)
		p.ops->close(p.source);
	for (size_t i = 0; i < p.wake_count; i++)
		cancel_free(p.wakes[i]);
	disk_workers_free(p.workers);
	return p.source ? 0 : 1;
}
