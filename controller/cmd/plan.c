/* What would become of VirtualMachineImports, found out without touching anything. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "api/resources.h"
#include "base/log.h"
#include "base/size.h"
#include "cmd/cmd.h"
#include "cmd/manifests.h"
#include "cmd/signals.h"
#include "reconcile/plan.h"
#include "store/dir/dir.h"
#include "store/kube/kube.h"
#include "transfer/journal.h"
#include "json/codec.h"

#define EXIT_PROBLEMS 3

struct plan_arguments {
	struct manifests manifests;
	const char *kubeconfig, *context, *scratch;
	bool json, verbose, allow_local_urls;
};

enum { ONLY_VM = OPTION_LONG, KUBECONFIG, CONTEXT, SCRATCH, LOCAL_URLS };

static const struct cmd_option flags[] = {
	{ 'f', "filename", "FILE", "manifests (YAML or JSON, several documents); can be given again; - is standard input", VALUE_FILE, 0 },
	{ 'o', "output", "FORMAT", "table (the default) or json", VALUE_WORDS, "table json" },
	{ ONLY_VM, "vm", "NAME", "only the VirtualMachineImport of this name (NAMESPACE/NAME or NAME)", 0, 0 },
	{ KUBECONFIG, "kubeconfig", "FILE", "configuration of the cluster that the machines are for, which is asked, too", VALUE_FILE, 0 },
	{ CONTEXT, "context", "NAME", "context in it (default: the current one)", 0, 0 },
	{ SCRATCH, "scratch", "DIR", "whether the disks have room there is checked, too", VALUE_DIRECTORY, 0 },
	{ LOCAL_URLS, "allow-local-urls", NULL, "URLs of OvaSources may lead to loopback and link-local addresses", 0, 0 },
	{ 'v', "verbose", NULL, "log what is done, on standard error", 0, 0 },
	OPTION_HELP,
	{ 0 },
};

static int run(int argc, char **argv);

const struct command command_plan = {
	.name = "plan",
	.run = run,
	.summary = "say what would become of VirtualMachineImports, without touching anything",
	.arguments = "-f FILE...",
	.description =
		"Makes all the checks that an import makes before it begins, tells all the problems at once, and estimates how much there is to "
		"fetch and how long that takes, from a sample (or says why it cannot). Nothing is changed at the source or in the cluster. The files hold what kubectl would "
		"apply: Secrets, sources, VirtualMachineImports; with --kubeconfig, sources and Secrets that they lack are looked up in the cluster, "
		"and its networks, storage classes and names are checked.",
	.options = flags,
	.end = "Exit status: 0 all imports can begin, 3 one would fail, 1 the plan could not be made, 2 wrong usage, 130 interrupted.",
	.operand = VALUE_OTHER,
};

static int parse(struct option_scan *scan, struct plan_arguments *a)
{
	int id;

	while ((id = option_scan_next(scan)) > 0) {
		switch (id) {
		case 'f':
			if (!manifests_add(&a->manifests, scan->value))
				return option_scan_refuse(scan, "too many files at %s", scan->value);
			break;
		case 'o':
			if (strcmp(scan->value, "json") && strcmp(scan->value, "table"))
				return option_scan_refuse(scan, "--output is table or json, not %s", scan->value);
			a->json = !strcmp(scan->value, "json");
			break;
		case ONLY_VM:
			a->manifests.only = scan->value;
			break;
		case KUBECONFIG:
			a->kubeconfig = scan->value;
			break;
		case CONTEXT:
			a->context = scan->value;
			break;
		case SCRATCH:
			a->scratch = scan->value;
			break;
		case LOCAL_URLS:
			a->allow_local_urls = true;
			break;
		case 'v':
			a->verbose = true;
			break;
		}
	}
	if (id < 0)
		return -1;
	if (scan->operands < scan->argc)
		return option_scan_refuse(scan, "unexpected argument %s", scan->argv[scan->operands]);
	return a->manifests.count ? 0 : option_scan_refuse(scan, "name the manifests with -f FILE");
}

/* --- the table ----------------------------------------------------------------------------------------------------------- */

static void time_text(uint64_t seconds, char out[24])
{
	if (seconds < 100)
		snprintf(out, 24, "%" PRIu64 " s", seconds);
	else if (seconds < 100 * 60)
		snprintf(out, 24, "%" PRIu64 " min", (seconds + 30) / 60);
	else
		snprintf(out, 24, "%.1f h", (double)seconds / 3600);
}

static uint64_t number(const json_t *object, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(object, key));

	return n > 0 ? (uint64_t)n : 0;
}

enum { COLUMN_IMPORT, COLUMN_MACHINE, COLUMN_POWER, COLUMN_DISKS, COLUMN_SIZE, COLUMN_TIME, COLUMN_RESULT, COLUMNS };

struct row {
	char *cells[COLUMNS];
};

static void row_free(struct row *row)
{
	for (size_t c = 0; c < COLUMNS; c++)
		free(row->cells[c]);
}

static char *cell(const char *text)
{
	return strdup(text && *text ? text : "-");
}

static struct row row_of(const json_t *import)
{
	const json_t *disks = json_object_get(import, "disks"), *problems = json_object_get(import, "problems");
	const char *machine = json_path_string(import, "machine");
	char name[512], size[SIZE_TEXT] = "", time[24] = "", count[24] = "", result[40] = "ok";

	snprintf(name, sizeof name, "%s/%s", json_path_string(import, "namespace"), json_path_string(import, "name"));
	if (disks)
		snprintf(count, sizeof count, "%zu", json_array_size(disks));
	if (json_object_get(import, "bytes"))
		size_text(number(import, "bytes"), size);
	if (json_object_get(import, "seconds"))
		time_text(number(import, "seconds"), time);
	if (json_array_size(problems))
		snprintf(result, sizeof result, "%zu problem%s", json_array_size(problems), json_array_size(problems) == 1 ? "" : "s");
	return (struct row){ { cell(name), cell(machine ? machine : json_path_string(import, "virtualMachineName")),
			       cell(json_path_string(import, "power")), cell(count), cell(size), cell(time), cell(result) } };
}

/* Columns on a screen: bytes that go on a character take none. */
static size_t width(const char *text)
{
	size_t n = 0;

	for (; text && *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

static void print_rows(struct row *rows, size_t count)
{
	size_t widths[COLUMNS] = { 0 };

	for (size_t r = 0; r < count; r++)
		for (size_t c = 0; c < COLUMNS; c++)
			widths[c] = width(rows[r].cells[c]) > widths[c] ? width(rows[r].cells[c]) : widths[c];
	for (size_t r = 0; r < count; r++) {
		for (size_t c = 0; c < COLUMNS; c++) {
			const char *text = rows[r].cells[c] ? rows[r].cells[c] : "";

			printf("%s%*s", text, c + 1 < COLUMNS ? (int)(widths[c] - width(text) + 3) : 0, "");
		}
		putchar('\n');
	}
}

static void print_texts(const json_t *import)
{
	const char *notes = json_path_string(import, "notes"), *no_sample = json_path_string(import, "noSample");
	const json_t *problem;
	size_t i;

	json_array_foreach (json_object_get(import, "problems"), i, problem)
		printf("%s/%s: %s\n", json_path_string(import, "namespace"), json_path_string(import, "name"), json_string_value(problem));
	if (notes)
		printf("%s/%s, note: %s\n", json_path_string(import, "namespace"), json_path_string(import, "name"), notes);
	if (no_sample)
		printf("%s/%s, no estimate of the time: %s\n", json_path_string(import, "namespace"), json_path_string(import, "name"),
		       no_sample);
}

/* Each once, before the first import that it is of. */
static void print_certificates(const json_t *imports)
{
	AUTO_JSON json_t *said = json_object();
	const json_t *import;
	size_t i;

	json_array_foreach (imports, i, import) {
		const char *fingerprint = json_path_string(import, "firstSeenCertificate");

		if (!fingerprint || json_object_get(said, fingerprint))
			continue;
		json_object_set_new(said, fingerprint, json_true());
		printf("%s/%s, note: the certificate of its source is not verified: SHA-256 %s, accepted because it was the first one seen; put "
		       "it into the Secret's key thumbprint\n",
		       json_path_string(import, "namespace"), json_path_string(import, "name"), fingerprint);
	}
}

/* What an import does to a machine that runs is no problem, and yet to be known before it begins. */
static void print_running(const json_t *imports)
{
	const json_t *import;
	size_t i, running = 0;

	json_array_foreach (imports, i, import) {
		const char *power = json_path_string(import, "power");

		running += power && strcmp(power, "off") && strcmp(power, "unknown");
	}
	if (running)
		printf("%zu of the machines %s on: an import shuts a machine down before its disks are fetched, and it stays off at its source.\n",
		       running, running == 1 ? "is" : "are");
}

static void print_table(const json_t *plan)
{
	const json_t *imports = json_object_get(plan, "imports"), *import;
	AUTO_FREE struct row *rows = calloc(json_array_size(imports) + 1, sizeof *rows);
	char size[SIZE_TEXT];
	size_t i;

	if (!rows)
		return;
	rows[0] = (struct row){ { cell("IMPORT"), cell("MACHINE"), cell("POWER"), cell("DISKS"), cell("TO FETCH"), cell("ABOUT"),
				  cell("RESULT") } };
	json_array_foreach (imports, i, import)
		rows[i + 1] = row_of(import);
	print_rows(rows, json_array_size(imports) + 1);
	for (i = 0; i <= json_array_size(imports); i++)
		row_free(&rows[i]);
	putchar('\n');
	json_array_foreach (imports, i, import)
		print_texts(import);
	print_certificates(imports);
	size_text(number(plan, "bytes"), size);
	printf("%" PRIu64 " of %zu imports would fail; %s to fetch in all\n", number(plan, "failing"), json_array_size(imports), size);
	print_running(imports);
	if (!json_is_true(json_object_get(plan, "targetChecked")))
		printf("The target was not asked: with --kubeconfig its networks, storage classes and names are checked, too.\n");
}

/* --- making it ----------------------------------------------------------------------------------------------------------- */

/* What it takes; made in order, taken down in reverse. */
struct workshop {
	char *directory;
	struct cancel *cancel;
	struct store *store, *cluster;
	struct target *target;
	struct plan *plan;
};

static void workshop_free(struct workshop *w)
{
	plan_free(w->plan);
	target_free(w->target);
	store_close(w->store);
	store_close(w->cluster);
	cancel_free(w->cancel);
	if (w->directory)
		journal_remove(w->directory, NULL);
	free(w->directory);
}

/* An object of the cluster, put beside the manifests' unless they have it. */
static int borrow(struct workshop *w, const struct resource *resource, const char *ns, const char *name, struct error **err)
{
	AUTO_JSON json_t *have = store_get(w->store, resource, ns, name, NULL), *object = NULL, *copy = NULL;
	AUTO_ERROR struct error *failed = NULL;

	if (have)
		return 0;
	object = store_get(w->cluster, resource, ns, name, &failed);
	if (!object && failed->class == ERROR_NOT_FOUND)
		return 0; /* the plan says so */
	if (!object)
		return error_move(err, move_ptr(failed));
	copy = json_deep_copy(object);
	/* What an API server adds is not for another store. */
	json_object_del(json_object_get(copy, "metadata"), "managedFields");
	json_object_del(json_object_get(copy, "metadata"), "resourceVersion");
	json_object_del(json_object_get(copy, "metadata"), "uid");
	json_object_del(json_object_get(copy, "metadata"), "finalizers");
	return dir_store_apply(w->store, copy, err);
}

/* The sources and their Secrets that the manifests do not have. */
static int borrow_sources(struct workshop *w, const json_t *imports, struct error **err)
{
	const json_t *import;
	size_t i;

	json_array_foreach (imports, i, import) {
		const char *kind = json_path_string(import, "spec.sourceCluster.kind");
		const char *name = json_path_string(import, "spec.sourceCluster.name");
		const char *ns = json_path_string(import, "spec.sourceCluster.namespace");
		const struct resource *resource = kind ? api_source_resource(kind) : NULL;
		AUTO_JSON json_t *source = NULL;

		if (!resource || !name || !*name)
			continue;
		ns = ns && *ns ? ns : json_path_string(import, "metadata.namespace");
		if (borrow(w, resource, ns, name, err) < 0)
			return -1;
		source = store_get(w->store, resource, ns, name, NULL);
		const char *secret = json_path_string(source, "spec.credentials.name");
		const char *secret_ns = json_path_string(source, "spec.credentials.namespace");
		if (secret && *secret && borrow(w, &api_secrets, secret_ns && *secret_ns ? secret_ns : ns, secret, err) < 0)
			return -1;
	}
	return 0;
}

static int open_workshop(struct workshop *w, struct plan_arguments *a, struct error **err)
{
	const char *tmp = getenv("TMPDIR");
	struct kube_options kube = { .kubeconfig = a->kubeconfig, .context = a->context, .user_agent = "vm-import-controller" };

	if (asprintf(&w->directory, "%s/vm-import-plan.XXXXXX", tmp && *tmp ? tmp : "/tmp") < 0) {
		w->directory = NULL;
		return error_set_errno(err, ENOMEM, "cannot plan");
	}
	if (!mkdtemp(w->directory)) {
		error_set_errno(err, errno, "cannot make the directory %s", w->directory);
		free(move_ptr(w->directory));
		return -1;
	}
	if (!(w->cancel = cancel_new(NULL)))
		return error_set_errno(err, ENOMEM, "cannot plan");
	if (!(w->store = dir_store_open(w->directory, err)) || manifests_apply(&a->manifests, w->store, err) < 0)
		return -1;
	if (!a->kubeconfig && !a->context) /* so much of the mapping is checked as needs no cluster */
		return (w->target = target_local_new(w->directory, err)) ? 0 : -1;
	if (!(w->cluster = kube_store_open(&kube, w->cancel, err)) || !(w->target = target_harvester_new(w->cluster, err)))
		return error_wrap(err, "cannot ask the cluster");
	return 0;
}

/* Of two machines of one name the second finds it taken: in a cluster's namespace, or without one in a directory. taken: those of the imports
 * before it, each with the import's name. */
static int check_taken(const struct workshop *w, json_t *one, json_t *taken, struct error **err)
{
	const char *ns = json_path_string(one, "namespace"), *target = json_path_string(one, "target"), *first;
	AUTO_FREE char *place = NULL, *problem = NULL, *import = NULL;

	if (!target || !*target)
		return 0;
	if (asprintf(&place, "%s/%s", w->cluster ? ns : "", target) < 0)
		place = NULL;
	if (asprintf(&import, "%s/%s", ns, json_path_string(one, "name")) < 0)
		import = NULL;
	first = place ? json_string_value(json_object_get(taken, place)) : NULL;
	if (place && import && !first && json_object_set_new(taken, place, json_string(import)) == 0)
		return 0;
	if (first &&
	    asprintf(&problem, "its machine would be named %s, as that of the import %s; choose another spec.targetVirtualMachineName%s",
		     target, first, w->cluster ? "" : ", or import the two into directories of their own") < 0)
		problem = NULL;
	if (!problem || json_array_append_new(json_object_get(one, "problems"), json_string(problem)) < 0)
		return error_set_errno(err, ENOMEM, "cannot plan");
	return 0;
}

static int make(struct workshop *w, const struct plan_arguments *a, json_t *out, struct error **err)
{
	AUTO_JSON json_t *list = store_list(w->store, &api_vmimports, NULL, NULL, err), *taken = json_object();
	json_t *imports = json_array();
	uint64_t failing = 0, bytes = 0;
	const json_t *import;
	size_t i;

	json_object_set_new(out, "imports", imports);
	if (!list || (w->cluster && borrow_sources(w, list, err) < 0))
		return -1;
	struct plan_options options = { .store = w->store,
					.target = w->target,
					.scratch = a->scratch,
					.sources = { .allow_local_urls = a->allow_local_urls },
					.cancel = w->cancel };
	w->plan = plan_new(&options, err);
	if (!w->plan)
		return -1;
	json_array_foreach (list, i, import) {
		AUTO_JSON json_t *one = plan_import(w->plan, import, err);

		if (!one || check_taken(w, one, taken, err) < 0)
			return -1;
		failing += json_array_size(json_object_get(one, "problems")) != 0;
		if (__builtin_add_overflow(bytes, number(one, "bytes"), &bytes))
			bytes = INT64_MAX;
		json_array_append(imports, one);
	}
	json_object_set_new(out, "failing", json_integer((json_int_t)failing));
	json_object_set_new(out, "bytes", json_integer(bytes > INT64_MAX ? INT64_MAX : (json_int_t)bytes));
	json_object_set_new(out, "targetChecked", json_boolean(w->cluster != NULL));
	return 0;
}

/* The plan is made on a thread of its own: this one waits for signals. */
struct making {
	struct workshop *workshop;
	const struct plan_arguments *arguments;
	json_t *out;
	struct error *error;
	int result;
	atomic_bool done;
};

static void *make_main(void *arg)
{
	struct making *m = arg;

	m->result = make(m->workshop, m->arguments, m->out, &m->error);
	m->done = true;
	return NULL;
}

/* 1: a signal came. */
static int make_or_stop(struct workshop *w, const struct plan_arguments *a, json_t *out, struct error **err)
{
	struct making m = { .workshop = w, .arguments = a, .out = out };
	bool stopped = false;
	pthread_t thread;
	int failed = pthread_create(&thread, NULL, make_main, &m);

	if (failed)
		return error_set_errno(err, failed, "cannot plan");
	while (!m.done && !stopped)
		stopped = signals_wait(50);
	if (stopped)
		cancel_request(w->cancel);
	pthread_join(thread, NULL);
	if (stopped)
		error_free(m.error);
	else if (m.error)
		error_move(err, m.error);
	return stopped ? 1 : m.result;
}

static int run(int argc, char **argv)
{
	struct plan_arguments a = { 0 };
	struct option_scan scan;
	AUTO_ERROR struct error *err = NULL;
	CLEANUP(workshop_free) struct workshop w = { 0 };
	AUTO_JSON json_t *plan = json_object();
	const char *format = getenv("LOG_FORMAT");
	int made;

	option_scan_begin(&scan, &command_plan, argc, argv);
	if (parse(&scan, &a) < 0)
		return scan.exit_code;
	log_setup(a.verbose ? LOG_DEBUG : LOG_ERROR, format && !strcmp(format, "json"));
	signals_block();
	made = !plan || open_workshop(&w, &a, &err) < 0 ? -1 : make_or_stop(&w, &a, plan, &err);
	manifests_free(&a.manifests);
	if (made < 0) {
		fprintf(stderr, "vm-import-controller: %s\n", err ? error_message(err) : "out of memory");
		return EXIT_FAILED;
	}
	if (made)
		return EXIT_INTERRUPTED;
	if (a.json) {
		json_dumpf(plan, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
		putchar('\n');
	} else {
		print_table(plan);
	}
	return number(plan, "failing") ? EXIT_PROBLEMS : EXIT_DONE;
}
