/* Takes the disks of an import to a cluster through target/harvester.c and web/ for test_target.sh, step by step:
 *
 *   target_probe NAMESPACE/IMPORT VM SCRATCH PORT DISK... -- STEP...
 *
 * A DISK is a file of SCRATCH/<uid of the import>. Steps, each of which prints a line or more:
 *   preflight  the problems         submit  the images' names         state  READY|PENDING|FAILED PERCENT MESSAGE of each disk, now
 *   wait       as state, when no disk is PENDING any more             delete the images
 *   create     the claims and the machine                             vm     waits until the machine is as asked for
 *   release    the images                                         find   as submit, without a word
 *
 * The first error ends it: "error CLASS REASON MESSAGE" and exit code 1. What was submitted is found by the images' labels in a next run. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "api/resources.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/kube/kube.h"
#include "target/target.h"
#include "web/web.h"

#define DISKS_MAX 8
#define WAIT_SECONDS 300

struct probe {
	struct store *store;
	struct web *web;
	struct target *target;
	json_t *object;
	struct vmimport import;
	struct target_import t;
	struct target_disk disks[DISKS_MAX];
	char *images[DISKS_MAX], *urls[DISKS_MAX], *paths[DISKS_MAX];
	size_t count;
};

/* As odd as a machine may be; the networks are those of the script. */
static struct vm_model model(void)
{
	static struct vm_nic nics[] = {
		{ .network = (char *)"VM Network", .mac = (char *)"00:50:56:aa:00:01", .model = (char *)"vmxnet3" },
		{ .network = (char *)"unmapped", .mac = (char *)"00:50:56:aa:00:02", .model = (char *)"e1000" },
		{ .network = (char *)"dvs", .mac = (char *)"00:50:56:aa:00:03", .model = (char *)"pcnet32" },
		{ .network = (char *)"dvs", .mac = (char *)"bad", .model = NULL },
	};

	return (struct vm_model){ .name = (char *)"Probe",
				  .description = (char *)"Zeile eins\n\"two\" \xc3\xbc \xff",
				  .vcpus = 6,
				  .cores_per_socket = 3,
				  .memory = (UINT64_C(1500) << 20) + 1,
				  .efi = true,
				  .secure_boot = true,
				  .tpm = true,
				  .power = VM_POWER_OFF,
				  .nics = nics,
				  .nic_count = sizeof nics / sizeof *nics };
}

static int add_disk(struct probe *p, const char *scratch, const char *name, struct error **err)
{
	const char *uid = json_path_string(p->object, "metadata.uid");
	AUTO_FREE char *below = NULL;
	size_t i = p->count++;
	struct stat st;

	if (asprintf(&below, "%s/%s", uid, name) < 0 || asprintf(&p->paths[i], "%s/%s", scratch, below) < 0)
		return error_set(err, ERROR_TRANSIENT, NULL, "no memory");
	if (stat(p->paths[i], &st) < 0)
		st.st_size = 1 << 20; /* the script took it away */
	p->urls[i] = web_url(p->web, below, err);
	p->images[i] = strdup("");
	p->disks[i] = (struct target_disk){ .name = name,
					    .path = p->paths[i],
					    .url = p->urls[i],
					    .capacity = (uint64_t)st.st_size,
					    .image = p->images[i],
					    .bus = i ? "virtio" : "sata" };
	return p->urls[i] ? 0 : -1;
}

static int submit(struct probe *p, bool quiet, struct error **err)
{
	for (size_t i = 0; i < p->count; i++) {
		char *image = NULL;

		if (p->target->ops->submit_disk(p->target, &p->t, &p->disks[i], &image, err) < 0)
			return -1;
		free(p->images[i]);
		p->disks[i].image = p->images[i] = image;
		if (!quiet)
			printf("%s %s\n", p->disks[i].name, image);
	}
	return 0;
}

/* True when no disk is pending. */
static int states(struct probe *p, bool print, bool *settled, struct error **err)
{
	static const char *const names[] = { "PENDING", "READY", "FAILED" };

	*settled = true;
	for (size_t i = 0; i < p->count; i++) {
		struct target_progress progress = { .state = TARGET_PENDING };

		if (p->target->ops->disk_state(p->target, &p->t, &p->disks[i], &progress, err) < 0)
			return -1;
		*settled = *settled && progress.state != TARGET_PENDING;
		if (print)
			printf("%s %u %s\n", names[progress.state], progress.percent, progress.message ? progress.message : "");
		free(progress.message);
	}
	return 0;
}

static int wait_disks(struct probe *p, struct error **err)
{
	uint64_t end = clock_monotonic_ms() + WAIT_SECONDS * 1000;
	bool settled = false;

	while (!settled && clock_monotonic_ms() < end) {
		if (states(p, false, &settled, err) < 0)
			return -1;
		if (!settled)
			usleep(200000);
	}
	return states(p, true, &settled, err);
}

static int wait_vm(struct probe *p, struct error **err)
{
	uint64_t end = clock_monotonic_ms() + WAIT_SECONDS * 1000;
	struct target_progress progress = { .state = TARGET_PENDING };

	for (;;) {
		free(progress.message);
		progress.message = NULL;
		if (p->target->ops->vm_state(p->target, &p->t, &progress, err) < 0)
			return -1;
		if (progress.state != TARGET_PENDING || clock_monotonic_ms() >= end)
			break;
		usleep(200000);
	}
	printf("%s %s\n",
	       progress.state == TARGET_READY    ? "READY"
	       : progress.state == TARGET_FAILED ? "FAILED"
						 : "PENDING",
	       progress.message ? progress.message : "");
	free(progress.message);
	return 0;
}

static int preflight(struct probe *p, struct error **err)
{
	AUTO_JSON json_t *problems = json_array();
	struct vm_model vm = model();
	const json_t *problem;
	size_t i;

	if (p->target->ops->preflight(p->target, &p->t, &vm, problems, err) < 0)
		return -1;
	json_array_foreach (problems, i, problem)
		printf("problem: %s\n", json_string_value(problem));
	printf("problems: %zu\n", i);
	return 0;
}

static int step(struct probe *p, const char *name, struct error **err)
{
	struct vm_model vm = model();
	bool settled;

	if (!strcmp(name, "preflight"))
		return preflight(p, err);
	if (!strcmp(name, "submit"))
		return submit(p, false, err);
	if (!strcmp(name, "find"))
		return submit(p, true, err);
	if (!strcmp(name, "state"))
		return states(p, true, &settled, err);
	if (!strcmp(name, "wait"))
		return wait_disks(p, err);
	if (!strcmp(name, "create"))
		return p->target->ops->create_vm(p->target, &p->t, &vm, p->disks, p->count, err);
	if (!strcmp(name, "vm"))
		return wait_vm(p, err);
	if (!strcmp(name, "release"))
		return p->target->ops->release(p->target, &p->t, err);
	if (!strcmp(name, "delete")) {
		for (size_t i = 0; i < p->count; i++)
			if (p->target->ops->delete_disk(p->target, &p->t, &p->disks[i], err) < 0)
				return -1;
		return 0;
	}
	return error_set(err, ERROR_PERMANENT, NULL, "there is no step %s", name);
}

static int run(struct probe *p, char **argv, struct error **err)
{
	struct kube_options kube = { .user_agent = "target_probe" };
	struct web_options web = { .bind = "127.0.0.1", .root = argv[3], .port = atoi(argv[4]), .advertise = "127.0.0.1" };
	char **arg = argv + 5, *slash = strchr(argv[1], '/');

	if (!slash || !(p->store = kube_store_open(&kube, NULL, err)) || !(p->web = web_start(&web, err)))
		return -1;
	*slash = 0;
	p->target = target_harvester_new(p->store, err);
	p->object = store_get(p->store, &api_vmimports, argv[1], slash + 1, err);
	if (!p->target || !p->object || json_decode(&api_vmimport_type, p->object, &p->import, err) < 0)
		return -1;
	p->t = (struct target_import){ .object = p->object, .import = &p->import, .vm_name = argv[2] };
	for (; *arg && strcmp(*arg, "--") && p->count < DISKS_MAX; arg++)
		if (add_disk(p, argv[3], *arg, err) < 0)
			return -1;
	for (arg += *arg != NULL; *arg; arg++) {
		if (step(p, *arg, err) < 0)
			return -1;
		fflush(stdout);
	}
	return 0;
}

int main(int argc, char **argv)
{
	AUTO_ERROR struct error *err = NULL;
	struct probe p = { 0 };
	int code;

	if (argc < 6)
		return 2;
	log_setup(LOG_WARNING, false);
	code = run(&p, argv, &err) < 0;
	if (err)
		printf("error %s %s %s\n", error_class_name(err->class), err->reason, error_message(err));
	for (size_t i = 0; i < p.count; i++) {
		free(p.images[i]);
		free(p.urls[i]);
		free(p.paths[i]);
	}
	web_stop(p.web);
	target_free(p.target);
	json_type_free(&api_vmimport_type, &p.import);
	json_decref(p.object);
	store_close(p.store);
	return code;
}
