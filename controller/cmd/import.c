/* The job without a cluster: the same reconcilers over a directory of manifests. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/conditions.h"
#include "api/resources.h"
#include "base/clock.h"
#include "base/log.h"
#include "cmd/anew.h"
#include "cmd/cmd.h"
#include "cmd/manifests.h"
#include "cmd/notes.h"
#include "cmd/numbers.h"
#include "cmd/options.h"
#include "cmd/progress.h"
#include "cmd/signals.h"
#include "reconcile/reconciler.h"
#include "store/dir/dir.h"

/* How long a source may be unreachable before the command gives up. */
#define SOURCE_PATIENCE_MS 60000
/* How long what an import made at the source may take to be undone, once it has ended. */
#define CLEANUP_PATIENCE_MS 60000

struct import_options {
	struct manifests manifests;
	const char *directory;
	unsigned streams, host_streams, endpoint_streams;
	bool quiet, verbose, allow_local_urls, no_verify;
};

enum { ONLY_VM = OPTION_LONG, STREAMS, HOST_STREAMS, ENDPOINT_STREAMS, LOCAL_URLS, NO_VERIFY };

static const struct cmd_option flags[] = {
	{ 'f', "filename", "FILE", "manifests (YAML or JSON, several documents); can be given again; - is standard input", VALUE_FILE, 0 },
	{ 'o', "output", "DIR", "where to put things; created", VALUE_DIRECTORY, 0 },
	{ ONLY_VM, "vm", "NAME", "only the VirtualMachineImport of this name (NAMESPACE/NAME or NAME)", 0, 0 },
	{ STREAMS, "streams", "N", "disks fetched at once (default: 16)", 0, 0 },
	{ HOST_STREAMS, "streams-per-host", "N", "of these from one host, as an ESXi host; fewer while it has trouble (default: 4)", 0, 0 },
	{ ENDPOINT_STREAMS, "streams-per-endpoint", "N", "of these from all hosts of one vCenter (default: 32)", 0, 0 },
	{ NO_VERIFY, "no-verify", NULL, "do not read the disks again to see whether the storage has what was written", 0, 0 },
	{ LOCAL_URLS, "allow-local-urls", NULL, "URLs of OvaSources may lead to loopback and link-local addresses", 0, 0 },
	{ 'q', "quiet", NULL, "no progress", 0, 0 },
	{ 'v', "verbose", NULL, "log what is done, on standard error", 0, 0 },
	OPTION_HELP,
	{ 0 },
};

static int run(int argc, char **argv);

const struct command command_import = {
	.name = "import",
	.run = run,
	.summary = "carry out VirtualMachineImports from manifest files, without a cluster",
	.arguments = "-f FILE... -o DIR",
	.description =
		"Carries out the VirtualMachineImports of manifest files on this machine, without a cluster. The files hold what kubectl would "
		"apply: Secrets, sources, VirtualMachineImports. Leaves for each import\n"
		"  DIR/NAME/disk-0.raw ...          the disks, sparse\n"
		"  DIR/NAME/virtualmachine.yaml     the KubeVirt VirtualMachine\n"
		"and in DIR/objects the objects with their status. Run again after an interruption, it goes on where it was. What DIR/objects holds of "
		"imports that the files do not name stays as it is.",
	.options = flags,
	.end = "Exit status: 0 all imports are done, 1 one failed (the reason is on standard error), 2 wrong usage, 130 interrupted.",
	.operand = VALUE_OTHER,
};

static int parse(struct option_scan *scan, struct import_options *o)
{
	int id;

	while ((id = option_scan_next(scan)) > 0) {
		switch (id) {
		case 'f':
			if (!manifests_add(&o->manifests, scan->value))
				return option_scan_refuse(scan, "too many files at %s", scan->value);
			break;
		case 'o':
			o->directory = scan->value;
			break;
		case ONLY_VM:
			o->manifests.only = scan->value;
			break;
		case STREAMS:
			if (!numbers_unsigned(scan->value, 1, 1024, &o->streams))
				return option_scan_refuse(scan, "--streams takes a number from 1 to 1024, not %s", scan->value);
			break;
		case HOST_STREAMS:
		case ENDPOINT_STREAMS:
			if (!numbers_unsigned(scan->value, 1, 1024, id == HOST_STREAMS ? &o->host_streams : &o->endpoint_streams))
				return option_scan_refuse(scan, "a number of streams is from 1 to 1024, not %s", scan->value);
			break;
		case NO_VERIFY:
			o->no_verify = true;
			break;
		case LOCAL_URLS:
			o->allow_local_urls = true;
			break;
		case 'q':
			o->quiet = true;
			break;
		case 'v':
			o->verbose = true;
			break;
		}
	}
	if (id < 0)
		return -1;
	if (scan->operands < scan->argc)
		return option_scan_refuse(scan, "unexpected argument %s", scan->argv[scan->operands]);
	if (!o->manifests.count)
		return option_scan_refuse(scan, "name the manifests with -f FILE");
	if (!o->directory || !*o->directory)
		return option_scan_refuse(scan, "name the output directory with -o DIR");
	return 0;
}

/* Takes the patch. */
static int patch_import(struct store *store, const json_t *import, const char *subresource, json_t *patch, struct error **err)
{
	AUTO_JSON json_t *owned = patch, *done = NULL;

	done = store_patch(store, &api_vmimports, json_path_string(import, "metadata.namespace"), json_path_string(import, "metadata.name"),
			   subresource, owned, err);
	return done ? 0 : -1;
}

/* What an import of an earlier run waited for, or met last, need not be so any more: it is not told again before it is seen again. A failed
 * one is tried anew: that is what a second call is for. */
static int go_on(struct store *store, const struct manifests *manifests, struct error **err)
{
	AUTO_JSON json_t *list = store_list(store, &api_vmimports, NULL, NULL, err);
	const json_t *import;
	size_t i;

	if (!list)
		return -1;
	json_array_foreach (list, i, import) {
		const char *state = json_path_string(import, "status.importStatus");

		if (!manifests_want(manifests, import))
			continue;
		if (json_path(import, "status.message") && (!state || strcmp(state, STATE_RUNNING)) &&
		    patch_import(store, import, "status", json_pack("{s:{s:n}}", "status", "message"), err) < 0)
			return -1;
		if (state && (!strcmp(state, STATE_FAILED) || !strcmp(state, STATE_INVALID)) &&
		    patch_import(store, import, NULL, json_pack("{s:{s:{s:s}}}", "metadata", "annotations", API_ANNOTATION_RETRY, "true"),
				 err) < 0)
			return -1;
	}
	return 0;
}

/* What an earlier run found wrong with a source may be mended: it is looked at again before it is believed. */
static int doubt_sources(struct store *store, const struct manifests *manifests, struct error **err)
{
	static const struct resource *const kinds[] = { &api_vmware_sources, &api_openstack_sources, &api_ova_sources, &api_kvm_sources };

	for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
		AUTO_JSON json_t *list = store_list(store, kinds[k], NULL, NULL, err);
		const json_t *source;
		size_t i;

		if (!list)
			return -1;
		json_array_foreach (list, i, source) {
			const char *status = json_path_string(source, "status.status"), *name = json_path_string(source, "metadata.name");
			const char *ns = json_path_string(source, "metadata.namespace");
			AUTO_JSON json_t *patch = NULL, *done = NULL;

			if (!manifests_concern(manifests, kinds[k]->plural, ns, name) || !status || strcmp(status, "clusterNotReady"))
				continue;
			patch = json_pack("{s:{s:n, s:n, s:n}}", "status", "status", "conditions", "message");
			done = store_patch(store, kinds[k], ns, name, "status", patch, err);
			if (!done)
				return -1;
		}
	}
	return 0;
}

static int apply(struct store *store, struct import_options *o, struct error **err)
{
	if (manifests_apply(&o->manifests, store, err) < 0)
		return -1;
	if (anew_begin(store, &o->manifests, o->directory, err) < 0)
		return -1;
	return doubt_sources(store, &o->manifests, err) < 0 || go_on(store, &o->manifests, err) < 0 ? -1 : 0;
}

static char *key_of(const json_t *import)
{
	const char *ns = json_path_string(import, "metadata.namespace"), *name = json_path_string(import, "metadata.name");
	char *key = NULL;

	return asprintf(&key, "%s/%s", ns ? ns : "", name ? name : "") < 0 ? NULL : key;
}

/* What stops an import that waits for its source, here where nobody mends things meanwhile: an owned text, or NULL. */
static char *source_problem(struct store *store, const json_t *import, bool patient)
{
	const char *kind = json_path_string(import, "spec.sourceCluster.kind"), *name = json_path_string(import, "spec.sourceCluster.name");
	const char *ns = json_path_string(import, "spec.sourceCluster.namespace");
	const struct resource *resource = api_source_resource(kind);
	AUTO_JSON json_t *source = NULL;
	const json_t *condition;
	bool stalled = false;
	char *text = NULL;
	size_t i;

	if (!ns || !*ns)
		ns = json_path_string(import, "metadata.namespace");
	if (!resource || !name || json_path_string(import, "status.importStatus"))
		return NULL;
	source = store_get(store, resource, ns, name, NULL);
	if (!source) {
		if (asprintf(&text, "the manifests hold no %s %s/%s, which spec.sourceCluster names", resource->kind, ns, name) < 0)
			return NULL;
		return text;
	}
	json_array_foreach (json_path(source, "status.conditions"), i, condition) {
		const char *type = json_path_string(condition, "type"), *status = json_path_string(condition, "status");
		const char *reason = json_path_string(condition, "reason");

		if (type && status && !strcmp(type, "Stalled") && !strcmp(status, "True"))
			stalled = true;
		/* A Secret that is in no file will not come. */
		if (type && status && reason && !strcmp(type, "ClusterError") && !strcmp(status, "True") &&
		    !strcmp(reason, "SecretNotFound"))
			stalled = true;
	}
	const char *status = json_path_string(source, "status.status"), *message = json_path_string(source, "status.message");
	if (!status || !strcmp(status, "clusterReady") || (!stalled && patient))
		return NULL;
	if (asprintf(&text, "%s %s/%s is not ready: %s", resource->kind, ns, name, message ? message : "no reason given") < 0)
		return NULL;
	return text;
}

/* The versions of all imports before they are seen to, "NAMESPACE/NAME" -> resourceVersion; NULL when memory is out. */
static json_t *versions(struct store *store, struct error **err)
{
	AUTO_JSON json_t *list = store_list(store, &api_vmimports, NULL, NULL, err), *all = json_object();
	const json_t *import;
	size_t i;

	if (!list)
		return NULL;
	json_array_foreach (list, i, import) {
		AUTO_FREE char *key = key_of(import);

		if (!key || json_object_set(all, key, json_path(import, "metadata.resourceVersion")) < 0) {
			error_set_errno(err, ENOMEM, "cannot start");
			return NULL;
		}
	}
	return move_ptr(all);
}

/* Whether the status is of this run: one that has begun and is as it was found tells of the last. Done is done. */
static bool is_of_this_run(const json_t *found, const json_t *import)
{
	const char *state = json_path_string(import, "status.importStatus");
	AUTO_FREE char *key = key_of(import);
	const json_t *version = key ? json_object_get(found, key) : NULL;

	return (state && !strcmp(state, STATE_RUNNING)) || !json_equal(version, json_path(import, "metadata.resourceVersion"));
}

enum outcome { GOING, DONE, FAILED };

static enum outcome outcome_of(struct store *store, const json_t *import, bool patient, char **why)
{
	const char *state = json_path_string(import, "status.importStatus"), *message = json_path_string(import, "status.message");
	bool retry = json_object_get(json_path(import, "metadata.annotations"), API_ANNOTATION_RETRY) != NULL;

	*why = NULL;
	if (state && !strcmp(state, STATE_RUNNING))
		return DONE;
	if (state && !retry && (!strcmp(state, STATE_FAILED) || !strcmp(state, STATE_INVALID))) {
		*why = strdup(message ? message : "the import failed");
		return FAILED;
	}
	*why = source_problem(store, import, patient);
	/* The source is ready, but the machine cannot be read, again and again. */
	if (!*why && !patient && !state && message)
		*why = strdup(message);
	return *why ? FAILED : GOING;
}

/* Whether an import that has ended has nothing to undo any more. */
static bool is_settled(const json_t *import)
{
	const json_t *condition;
	size_t i;

	json_array_foreach (json_path(import, "status.conditions"), i, condition) {
		const char *type = json_path_string(condition, "type"), *status = json_path_string(condition, "status");

		if (type && status && (!strcmp(type, "Ready") || !strcmp(type, "Stalled")) && !strcmp(status, "True"))
			return true;
	}
	return !json_path_string(import, "status.importStatus"); /* it waits for its source, and has not begun */
}

/* An import that waits for what may come yet. */
static void tell_waiting(struct store *store, const json_t *import, struct notes *notes, uint64_t waited)
{
	AUTO_FREE char *why = NULL;

	if (outcome_of(store, import, false, &why) == FAILED && waited < SOURCE_PATIENCE_MS)
		notes_waiting(notes, import, why, SOURCE_PATIENCE_MS - waited);
}

static void tell_left(const json_t *list, const struct import_options *o, struct notes *notes)
{
	const json_t *import;
	size_t i;

	json_array_foreach (list, i, import)
		if (manifests_want(&o->manifests, import) && !is_settled(import))
			notes_left(notes, import);
}

/* Waits until every import has ended. found: their versions before that. */
static int follow(struct store *store, const struct import_options *o, const json_t *found, struct progress *progress, struct notes *notes)
{
	uint64_t started = clock_monotonic_ms(), ended = 0;
	size_t fresh_before = 0;

	for (;;) {
		AUTO_JSON json_t *list = store_list(store, &api_vmimports, NULL, NULL, NULL);
		size_t going = 0, failed = 0, unsettled = 0, fresh = 0, i;
		const json_t *import;

		json_array_foreach (list, i, import) {
			AUTO_FREE char *why = NULL;
			enum outcome outcome;

			if (!manifests_want(&o->manifests, import))
				continue;
			uint64_t waited = clock_monotonic_ms() - started;
			outcome = outcome_of(store, import, waited < SOURCE_PATIENCE_MS, &why);
			bool seen = is_of_this_run(found, import);
			if (outcome == GOING && seen) {
				tell_waiting(store, import, notes, waited);
				notes_again(notes, import);
			}
			going += outcome == GOING;
			fresh += !json_path_string(import, "status.importStatus");
			failed += outcome == FAILED;
			unsettled += outcome != GOING && !is_settled(import);
			if (outcome == FAILED)
				progress_failed(progress, import, why);
			else if (seen)
				progress_show(progress, import);
		}
		notes_look(notes);
		if (fresh != fresh_before) /* one more got its turn: the others' will come */
			started = clock_monotonic_ms();
		fresh_before = fresh;
		ended = going ? 0 : ended ? ended : clock_monotonic_ms();
		if (ended && (!unsettled || clock_monotonic_ms() - ended > CLEANUP_PATIENCE_MS)) {
			tell_left(list, o, notes);
			return failed ? EXIT_FAILED : EXIT_DONE;
		}
		if (signals_wait(200))
			return EXIT_INTERRUPTED;
	}
}

static void print_results(struct store *store, const struct import_options *o)
{
	AUTO_JSON json_t *list = store_list(store, &api_vmimports, NULL, NULL, NULL);
	const json_t *import, *disk;
	size_t i, k;

	json_array_foreach (list, i, import) {
		const char *state = json_path_string(import, "status.importStatus"),
			   *name = json_path_string(import, "status.newVirtualMachine");

		if (!manifests_want(&o->manifests, import) || !state || !name || strcmp(state, STATE_RUNNING))
			continue;
		json_array_foreach (json_path(import, "status.diskImportStatus"), k, disk) {
			const char *file = json_path_string(disk, "diskName"), *digest = json_path_string(disk, "digest");

			printf("%s/%s/%s  %" JSON_INTEGER_FORMAT " bytes  %s\n", o->directory, name, file ? file : "",
			       json_integer_value(json_object_get(disk, "diskSize")), digest ? digest : "");
		}
		printf("%s/%s/virtualmachine.yaml\n", o->directory, name);
	}
}

/* One process works in a directory at a time: the descriptor that holds it until it is closed, or -1. */
static int lock_directory(const char *directory, struct error **err)
{
	AUTO_FREE char *path = NULL;
	char holder[32] = "";
	AUTO_FD int fd = -1;
	int given;

	if (asprintf(&path, "%s/.import.lock", directory) < 0) {
		path = NULL;
		return error_set_errno(err, ENOMEM, "cannot start");
	}
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return error_set_errno(err, errno, "cannot open %s", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return error_set_errno(err, errno, "cannot lock %s", path);
		if (read(fd, holder, sizeof holder - 1) < 0)
			*holder = 0;
		return error_set(err, ERROR_PERMANENT, "DirectoryTaken",
				 "another import, process %.*s, works in %s; wait for its end or choose another -o",
				 (int)strspn(holder, "0123456789"), holder, directory);
	}
	/* The process is for people: a full file system keeps nobody from going on. */
	if (ftruncate(fd, 0) == 0)
		dprintf(fd, "%ld\n", (long)getpid());
	given = fd;
	fd = -1;
	return given;
}

static bool concerns(void *arg, const char *plural, const char *ns, const char *name)
{
	return manifests_concern(arg, plural, ns, name);
}

static int carry_out(struct import_options *o, struct error **err)
{
	AUTO_FREE char *objects = NULL;
	struct store *store = NULL;
	struct target *target = NULL;
	struct event_recorder *events = NULL;
	struct reconciler *reconciler = NULL;
	struct progress *progress = NULL;
	struct notes *notes = NULL;
	AUTO_JSON json_t *found = NULL;
	AUTO_FD int lock = -1;
	int code = EXIT_FAILED;

	if (mkdir(o->directory, 0755) < 0 && errno != EEXIST) {
		error_set_errno(err, errno, "cannot create the output directory %s%s", o->directory,
				errno == ENOENT ? " (make the one above it first)" : "");
		return EXIT_FAILED;
	}
	lock = lock_directory(o->directory, err);
	if (lock < 0)
		return EXIT_FAILED;
	if (asprintf(&objects, "%s/objects", o->directory) < 0) {
		objects = NULL;
		error_set_errno(err, ENOMEM, "cannot start");
		return EXIT_FAILED;
	}
	store = dir_store_open(objects, err);
	if (!store || apply(store, o, err) < 0)
		goto out;
	target = target_local_new(o->directory, err);
	events = target ? event_recorder_new(store, "vm-import-controller", err) : NULL;
	if (!events)
		goto out;
	progress = progress_new(o->quiet);
	struct reconciler_options options = {
		.store = store,
		.target = target,
		.events = events,
		.scratch = o->directory,
		.keep_disks = true,
		.verify_disks = !o->no_verify,
		.max_streams = o->streams,
		.max_host_streams = o->host_streams,
		.max_endpoint_streams = o->endpoint_streams,
		.sources = { .allow_local_urls = o->allow_local_urls },
		.concerns = concerns,
		.concerns_arg = &o->manifests,
		.progress_ms = 250,
	};
	found = versions(store, err);
	reconciler = found ? reconciler_start(&options, err) : NULL;
	if (!reconciler)
		goto out;
	notes = notes_new(store, progress, o->quiet);
	code = follow(store, o, found, progress, notes);
	progress_end(progress);
	progress = NULL;
	if (code == EXIT_INTERRUPTED)
		fputs("vm-import-controller: interrupted; the same command goes on where it was\n", stderr);
out:
	notes_free(notes);
	progress_end(progress);
	reconciler_stop(reconciler);
	if (code != EXIT_INTERRUPTED && store)
		print_results(store, o);
	event_recorder_free(events);
	target_free(target);
	store_close(store);
	return code;
}

static int run(int argc, char **argv)
{
	struct import_options o = { 0 };
	AUTO_ERROR struct error *err = NULL;
	const char *format = getenv("LOG_FORMAT");
	struct option_scan scan;
	int code;

	option_scan_begin(&scan, &command_import, argc, argv);
	if (parse(&scan, &o) < 0 || !o.directory)
		return scan.exit_code;
	log_setup(o.verbose ? LOG_DEBUG : LOG_ERROR, format && !strcmp(format, "json"));
	signals_block();
	code = carry_out(&o, &err);
	manifests_free(&o.manifests);
	if (err)
		fprintf(stderr, "vm-import-controller: %s\n", error_message(err));
	return code;
}
