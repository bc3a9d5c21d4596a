/* State sourceReady: the machine is stopped, then its disks are fetched. */
#include <errno.h>
#include <string.h>

#include "api/conditions.h"
#include "api/resources.h"
#include "base/clock.h"
#include "base/size.h"
#include "reconcile/context.h"
#include "target/vmspec.h"
#include "transfer/claim.h"
#include "transfer/journal.h"

#define POLL_MS 1000
#define WATCH_MAX_SECONDS 3600
#define WATCH_SECONDS 5 /* so often the message tells how long it still may take */
#define DEFAULT_GRACE_SECONDS 60
#define EXPORT_TRIES 5
#define EXPORT_DAMAGE_TRIES 2 /* each has fetched the disk several times by itself */
#define EXPORT_BUSY_TRIES 20  /* with the queue's back-off some ten minutes: a lease that was left behind lasts five */
/* Of the whole import's progress, the transfer is so much. */
#define TRANSFER_PERCENT 80

static bool is_true(const struct step *s, const char *type)
{
	return condition_is_true(s->status->import_conditions, s->status->import_condition_count, type);
}

static void set(struct step *s, const char *type, const char *status, const char *reason, const char *message)
{
	condition_set(&s->status->import_conditions, &s->status->import_condition_count, type, status, reason, message, true);
}

static int hard_off(struct step *s, struct source *source, const struct vm_model *model, const char *why, struct error **err)
{
	if (!is_true(s, "VMPoweringOff")) {
		/* Written down before it is done, as a patch that fails would forget why. */
		set(s, "VMPoweringOff", "True", "PowerOff", why);
		step_say(s, "%s", why);
		s->again_ms = 1;
		return 0;
	}
	if (source->ops->power_off(source, model, s->r->cancel, err) < 0)
		return error_wrap(err, "cannot power off %s", model->name);
	step_say(s, "%s; waiting until %s is off", why, model->name);
	s->again_ms = 1;
	return 0;
}

static void wake(void *queue, const char *key)
{
	queue_add(queue, key);
}

/* When to look at a machine that is about to stop: soon, unless the source tells when it has. */
static unsigned next_look_ms(struct step *s, struct source *source, const struct vm_model *model, int64_t left_s)
{
	unsigned left_ms = left_s < WATCH_MAX_SECONDS ? (unsigned)left_s * 1000 : WATCH_MAX_SECONDS * 1000;

	if (!source->ops->watch_power || !source->ops->watch_power(source, model, left_ms, wake, s->r->queue, s->key))
		return POLL_MS;
	return left_ms < WATCH_SECONDS * 1000 ? left_ms : WATCH_SECONDS * 1000;
}

/* Brings a machine that is on to off, a piece at each call; 1 once it is off. */
static int stop_machine(struct step *s, struct source *source, const struct vm_model *model, struct error **err)
{
	const struct vmimport_spec *spec = &s->import->spec;
	int64_t grace = spec->graceful_shutdown_timeout_seconds > 0 ? spec->graceful_shutdown_timeout_seconds : DEFAULT_GRACE_SECONDS;
	const struct api_condition *asked;
	int64_t waited;

	if (model->power == VM_POWER_OFF) {
		if (!is_true(s, "VMPoweredOff"))
			set(s, "VMPoweredOff", "True", "PoweredOff", "the virtual machine is off");
		return 1;
	}
	if (!ledger_has(s->status, LEDGER_POWER)) {
		/* Written down before it is done: the patch of this status comes first, the deed in the next run. */
		ledger_add(s->status, LEDGER_POWER, vm_power_name(model->power));
		step_say(s, "%s is %s and will be shut down", model->name, vm_power_name(model->power));
		s->again_ms = 1;
		return 0;
	}
	if (spec->force_power_off || model->power == VM_POWER_SUSPENDED)
		return hard_off(s, source, model, "Powering off at once, as spec.forcePowerOff says", err);
	asked = condition_find(s->status->import_conditions, s->status->import_condition_count, "VMShutdownGuest");
	if (!asked || strcmp(asked->status ? asked->status : "", "True")) {
		AUTO_ERROR struct error *failed = NULL;

		if (source->ops->shutdown_guest(source, model, s->r->cancel, &failed) < 0 && strcmp(failed->reason, "InvalidPowerState"))
			return error_move(err, move_ptr(failed));
		set(s, "VMShutdownGuest", "True", "ShutdownRequested", "the guest was asked to shut down");
		step_say(s, "Asked the guest of %s to shut down; it has %lld s before it is powered off", model->name, (long long)grace);
		s->again_ms = next_look_ms(s, source, model, grace);
		return 0;
	}
	waited = clock_unix() - clock_parse_rfc3339(asked->last_transition_time);
	if (waited >= grace)
		return hard_off(s, source, model, "The guest did not shut down in time and is powered off", err);
	step_say(s, "Waiting for the guest of %s to shut down; it is powered off in %lld s", model->name, (long long)(grace - waited));
	/* The message is worth a patch only now and then. */
	if (s->import->status.message && waited % WATCH_SECONDS)
		step_say(s, "%s", s->import->status.message);
	s->again_ms = next_look_ms(s, source, model, grace - waited);
	return 0;
}

/* The status entry of each disk, made once the model is known. */
static int list_disks(struct step *s, const struct vm_model *model, struct error **err)
{
	struct vmimport_status *status = s->status;
	AUTO_FREE char *directory = step_directory(s);
	const char *fallback = s->import->spec.default_disk_bus_type;

	if (status->disk_count == model->disk_count) {
		/* A disk may have grown since an earlier try. */
		for (size_t i = 0; i < model->disk_count; i++)
			status->disks[i].disk_size = (int64_t)model->disks[i].capacity;
		return 0;
	}
	if (status->disk_count)
		return error_set(err, ERROR_PERMANENT, "DisksChanged",
				 "%s has %zu disks now and had %zu when the import began; start the import anew", model->name,
				 model->disk_count, status->disk_count);
	status->disks = calloc(model->disk_count + 1, sizeof *status->disks);
	if (!status->disks || !directory)
		return error_set_errno(err, ENOMEM, "cannot list the disks");
	for (size_t i = 0; i < model->disk_count; i++) {
		struct vmimport_disk *disk = &status->disks[i];
		char name[JOURNAL_DISK_NAME_SIZE];

		journal_disk_name(i, name);
		disk->disk_name = strdup(name);
		disk->disk_size = (int64_t)model->disks[i].capacity;
		disk->bytes_total = disk->disk_size;
		disk->disk_local_path = strdup(directory);
		if (asprintf(&disk->disk_route, "%s/%s", s->uid, name) < 0)
			disk->disk_route = NULL;
		disk->bus_type = strdup(vmspec_disk_bus(model->disks[i].bus, fallback && *fallback ? fallback : "virtio"));
		status->disk_count++;
	}
	return 0;
}

static const char *kib_text(uint64_t kib, char out[SIZE_TEXT])
{
	return size_text(kib > UINT64_MAX / 1024 ? UINT64_MAX : kib * 1024, out);
}

/* A transfer may run whose disks the status does not list: what was to be written with its start met another write, as the ledger's. */
static void list_disks_again(struct step *s)
{
	AUTO_FREE char *directory = step_directory(s);
	AUTO_VM_MODEL struct vm_model *model = !s->status->disk_count && directory ? journal_load_model(directory) : NULL;
	AUTO_ERROR struct error *ignored = NULL; /* they are listed when they are here, at the latest */

	if (model)
		list_disks(s, model, &ignored);
}

/* Copies what the engine tells into the status. */
static void show_transfer(struct step *s, const struct transfer_status *t)
{
	uint64_t passed = 0, total = 0; /* KiB: bytes could overflow */
	char passed_text[SIZE_TEXT], total_text[SIZE_TEXT];
	size_t done = 0;

	for (size_t i = 0; i < t->disk_count && i < s->status->disk_count; i++) {
		struct vmimport_disk *disk = &s->status->disks[i];

		disk->bytes_transferred = (int64_t)t->disks[i].transferred;
		disk->bytes_total = (int64_t)t->disks[i].total;
		passed += t->disks[i].transferred / 1024;
		total += t->disks[i].total / 1024;
		if (t->disks[i].done) {
			done++;
			free(disk->digest);
			disk->digest = strdup(t->disks[i].digest);
		}
	}
	if (total)
		step_progress(s, (int64_t)(passed * TRANSFER_PERCENT / total));
	if (t->state != TRANSFER_RUNNING)
		return;
	step_say(s, "Fetching the disks: %s of %s passed, %zu of %zu disks done%s%s%s%s", kib_text(passed, passed_text),
		 kib_text(total, total_text), done, t->disk_count, t->again ? "; " : "", t->again ? t->again : "", t->note ? "; " : "",
		 t->note ? t->note : "");
	if (t->again && (!s->import->status.message || !strstr(s->import->status.message, t->again)))
		event_record(s->r->options.events, s->object, "Warning", "DiskFetchedAgain", t->again);
}

/* What a job of the engine holds until it ends. */
struct holding {
	struct session *session;
	struct vm_model *model;
	struct ledger_writer ledger;
};

static void holding_free(void *arg)
{
	struct holding *h = arg;

	if (!h)
		return;
	if (h->session)
		session_release(h->session);
	vm_model_free(h->model);
	free(h->ledger.ns);
	free(h->ledger.name);
	free(h->ledger.uid);
	free(h);
}

static int start_transfer(struct step *s, struct session *session, struct vm_model **model, const char *again, struct error **err)
{
	struct holding *h = calloc(1, sizeof *h);
	AUTO_FREE char *directory = step_directory(s);

	if (!h || !directory) {
		free(h);
		return error_set_errno(err, ENOMEM, "cannot start the transfer");
	}
	h->session = session_ref(session);
	h->model = move_ptr(*model);
	h->ledger = (struct ledger_writer){ s->r->options.store, strdup(s->ns), strdup(s->name), strdup(s->uid) };
	struct transfer_job_options options = {
		.key = s->key,
		.directory = directory,
		.source = session_source(session),
		.release = holding_free,
		.release_arg = h,
		.model = h->model,
		.ledger = ledger_write,
		.ledger_arg = &h->ledger,
		.again = again,
	};
	return transfer_start(s->r->transfers, &options, err);
}

/* How often another held the machine is counted apart. */
static char *busy_key(const struct step *s)
{
	char *key = NULL;

	return asprintf(&key, "%s busy", s->key) < 0 ? NULL : key;
}

/* The export came to its end, well or not: the next one is tried as often again. */
static void forget_tries(struct step *s)
{
	AUTO_FREE char *busy = busy_key(s);

	attempts_reset(s->r->attempts, s->key);
	if (busy)
		attempts_reset(s->r->attempts, busy);
}

/* All disks are here. */
static int exported(struct step *s, struct error **err)
{
	AUTO_FREE char *directory = step_directory(s), *note = directory ? journal_load_note(directory) : NULL;
	AUTO_VM_MODEL struct vm_model *model = directory ? journal_load_model(directory) : NULL;

	if (!model || list_disks(s, model, err) < 0)
		return err && *err ? -1
				   : error_set(err, ERROR_TRANSIENT, "DisksMissing", "the disks in %s were not found",
					       directory ? directory : "");
	for (size_t i = 0; i < model->disk_count; i++) {
		struct vmimport_disk *disk = &s->status->disks[i];
		struct disk_result result;

		if (!journal_find(directory, i, model, &result))
			return error_set(err, ERROR_TRANSIENT, "DisksMissing", "disk %zu in %s was not found", i, directory);
		disk->bytes_transferred = disk->bytes_total = (int64_t)result.capacity;
		free(disk->digest);
		disk->digest = strdup(result.digest);
	}
	set(s, "VMExported", "True", "Exported", note ? note : "all disks were fetched");
	step_progress(s, TRANSFER_PERCENT);
	step_go(s, STATE_DISKS_EXPORTED, "DisksExported", "All %zu disks were fetched%s%s", model->disk_count, note ? "; " : "",
		note ? note : "");
	forget_tries(s);
	return 0;
}

/* Room may come at any time, by somebody or when other imports are done; what is here already stays good. A command (keep_disks) rather
 * ends. The source is not to be asked for the disks again and again meanwhile. */
static int wait_for_room(struct step *s, struct error *failed)
{
	s->again_ms = attempts_hold(s->r->attempts, s->key);
	step_say(s, "Waiting for room, looked for again in %u s: %s", s->again_ms / 1000, failed->message);
	error_free(failed);
	return 0;
}

/* The source does not answer, as a vCenter that restarts: nobody is to blame, and it is asked again until it does. */
static bool is_away(const struct error *e)
{
	static const char *const reasons[] = { "ConnectionFailed", "ConnectionLost", "TimedOut", "UnknownHost", "HTTPStatus", "TLSFailed" };

	for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
		if (!strcmp(e->reason, reasons[i]))
			return e->class == ERROR_TRANSIENT;
	return false;
}

static int export_failed(struct step *s, struct error *failed, struct error **err)
{
	AUTO_FREE char *busy = !strcmp(failed->reason, "ExportBusy") ? busy_key(s) : NULL;
	bool damaged = !strcmp(failed->reason, "CorruptGrain"); /* whole, but not what it should be: the transport is hardly to blame */
	unsigned tries, limit = busy ? EXPORT_BUSY_TRIES : damaged ? EXPORT_DAMAGE_TRIES : EXPORT_TRIES;
	bool full = failed->code == ENOSPC;

	if (failed->class == ERROR_CANCELLED && cancel_requested(s->r->cancel))
		return error_move(err, failed);
	if (full && !s->r->options.keep_disks)
		return wait_for_room(s, failed);
	tries = attempts_add(s->r->attempts, busy ? busy : s->key);
	if (failed->class == ERROR_TRANSIENT && !full && tries < limit) {
		error_wrap(&failed, "the export failed (try %u of %u) and is tried again", tries, limit);
		return error_move(err, failed);
	}
	set(s, "VMExportFailed", "True", failed->reason, failed->message);
	step_fail(s, STATE_FAILED, failed->reason, "The export failed: %s", failed->message);
	forget_tries(s);
	if (full) /* this status may not fit there either, which is no reason to fetch the disks again at once */
		attempts_hold(s->r->attempts, s->key);
	error_free(failed);
	return 0;
}

/* What stays in a directory that a person named (keep_disks) is believed only where it is this import's, of this machine. */
static int claim_directory(struct step *s, const char *directory, struct error **err)
{
	const struct vmimport_spec *spec = &s->import->spec;
	const struct api_object_ref *ref = &spec->source_cluster;
	const struct resource *resource = api_source_resource(ref->kind);
	const char *ns = ref->namespace_ && *ref->namespace_ ? ref->namespace_ : s->ns;
	AUTO_JSON json_t *source = NULL, *of = NULL;
	AUTO_FREE char *import = NULL;

	if (!s->r->options.keep_disks)
		return 0;
	if (resource && ref->name)
		source = store_get(s->r->options.store, resource, ns, ref->name, NULL);
	of = json_pack("{s:s*, s:s, s:s*, s:s*, s:s*, s:s*, s:s*, s:s*, s:s*}", "kind", ref->kind, "namespace", ns, "source", ref->name,
		       "endpoint", json_path_string(source, "spec.endpoint"), "dc", json_path_string(source, "spec.dc"), "region",
		       json_path_string(source, "spec.region"), "url", json_path_string(source, "spec.url"), "virtualMachineName",
		       spec->virtual_machine_name, "folder", spec->folder);
	if (!of || asprintf(&import, "%s/%s", s->ns, s->name) < 0) {
		import = NULL;
		return error_set_errno(err, ENOMEM, "cannot claim %s", directory);
	}
	return claim_take(directory, import, of, err);
}

#define OTHER_BEGUN "every disk" TRANSFER_AGAIN ": what is at the source is not what was begun with"

/* *waits: the source cannot be reached or refuses us, which its own status tells; the import goes on when that is mended. */
static int begin(struct step *s, bool *waits, struct error **err)
{
	struct source_vm_name name = { s->import->spec.virtual_machine_name, s->import->spec.folder };
	AUTO_FREE char *directory = step_directory(s);
	AUTO_VM_MODEL struct vm_model *model = NULL, *begun = NULL;
	AUTO_SESSION struct session *session = NULL;
	AUTO_ERROR struct error *left = NULL;
	bool noted, other;
	int off;

	if (!directory)
		return error_set_errno(err, ENOMEM, "cannot name the directory");
	if (claim_directory(s, directory, err) < 0)
		return -1;
	begun = journal_load_model(directory);
	/* Fetched by a process that is no more: the source is not needed. */
	if (begun && journal_complete(directory, begun))
		return exported(s, err);
	if (step_session(s, &session, err) < 0) {
		*waits = true;
		return -1;
	}
	/* A lease that a killed process left would hold the machine. What the source does not let go of is none. */
	if (ledger_clean(s, &left) < 0) {
		if (!ledger_is_busy(left))
			return error_move(err, move_ptr(left));
		AUTO_FREE char *text = ledger_tell(s->status, left, 0);

		event_record(s->r->options.events, s->object, "Warning", "SourceNotCleaned", text ? text : left->message);
	}
	noted = ledger_note_session(s, session);
	struct source *source = session_source(session);
	model = source->ops->describe(source, &name, s->r->cancel, err);
	if (!model)
		return -1;
	other = begun && strcmp(begun->source_id, model->source_id);
	if (model->power != VM_POWER_OFF || other)
		journal_doubt(directory); /* it writes to the disks that an earlier try fetched; or they are not its own */
	if (other && noted)               /* the transfer begins in the next run, which knows no more of it */
		event_record(s->r->options.events, s->object, "Warning", "SourceChanged", OTHER_BEGUN);
	off = stop_machine(s, source, model, err);
	if (off <= 0)
		return off;
	if (list_disks(s, model, err) < 0)
		return -1;
	if (noted) { /* written down before the export begins, in the next run */
		step_say(s, "%s is off, its export comes next", model->name);
		s->again_ms = 1;
		return 0;
	}
	step_say(s, "Exporting %zu disks of %s", model->disk_count, model->name);
	return start_transfer(s, session, &model, other ? OTHER_BEGUN : NULL, err);
}

int step_source_ready(struct step *s, struct error **err)
{
	struct transfer_status t;
	bool waits = false;
	int result = 0;

	transfer_status(s->r->transfers, s->key, &t);
	switch (t.state) {
	case TRANSFER_NONE:
		s->again_ms = attempts_held(s->r->attempts, s->key);
		if (s->again_ms)
			break;
		result = begin(s, &waits, err);
		if (result < 0 && !waits && (*err)->class != ERROR_CONFLICT && !is_away(*err))
			result = export_failed(s, move_ptr(*err), err);
		break;
	case TRANSFER_RUNNING:
		list_disks_again(s);
		show_transfer(s, &t);
		break;
	case TRANSFER_DONE:
		show_transfer(s, &t);
		result = exported(s, err);
		if (result == 0)
			transfer_end(s->r->transfers, s->key);
		break;
	case TRANSFER_FAILED:
		show_transfer(s, &t);
		transfer_end(s->r->transfers, s->key);
		result = export_failed(s, move_ptr(t.error), err);
		break;
	}
	transfer_status_clear(&t);
	return result;
}
