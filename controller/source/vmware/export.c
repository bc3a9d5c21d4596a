#include "source/vmware/export.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "api/vm_model_json.h"
#include "base/clock.h"
#include "source/vmware/folder.h"
#include "source/vmware/lease.h"
#include "source/vmware/snapshot.h"
#include "json/codec.h"

#define LEASE_TRIES 3 /* to get one, where it is refused for a reason that may pass */
#define LEASE_PAUSE_MS 1000
#define STREAM_TRIES 3 /* of a disk by the lease, in a row, before the other way is tried */
#define BUSY_MS 120000 /* as long as a host says that it is busy, it is believed */
#define CAUSE_MAX 300  /* bytes of an error in the note */

/* A lease with those who stream by it. */
struct held_lease {
	struct lease *lease;
	char *ledger_id;
	unsigned users; /* guarded by the export's lock */
	bool ended;     /* freed by its last user */
};

/* One disk's way; its own thread's only. */
struct way {
	unsigned failures; /* of streams by the lease, in a row */
	uint64_t busy_since;
	bool by_folder;
};

struct vmware_export {
	struct source_export export;
	struct vmware_session *session;
	struct vm_model *model;
	char *dc_path, *snapshot; /* snapshot: what is exported instead of the machine; NULL: the machine */
	source_ledger ledger;
	void *ledger_arg;
	struct source_disk *disks;
	char **hosts; /* by which the disks began */
	struct way *ways;

	pthread_mutex_t changing; /* one thread at a time opens a lease or the folder; taken before lock; held during calls */
	pthread_mutex_t lock;     /* guards what follows */
	struct held_lease *held;  /* NULL: there is none now */
	struct folder *folder;    /* set once */
	unsigned percent;
	char *note;
	bool told; /* why a disk goes the other way; atomic */
};

static struct vmware_export *self(struct source_export *e)
{
	return (struct vmware_export *)e;
}

__attribute__((format(printf, 2, 3))) static void note(struct vmware_export *x, const char *fmt, ...)
{
	AUTO_FREE char *text = NULL;
	char *all = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	LOCK_GUARD(&x->lock);
	if (!text || asprintf(&all, "%s%s%s", x->note ? x->note : "", x->note ? "; " : "", text) < 0)
		return;
	free(x->note);
	x->note = all;
}

/* The start of an error's message, for a note. Owned. */
static char *cause_of(const struct error *e)
{
	char *text = strdup(error_message(e));

	if (text)
		soap_shorten(text, CAUSE_MAX);
	return text;
}

/* --- leases -------------------------------------------------------------------------------------------------------------- */

/* The session's key is what is needed to end a lease of a process that is no more, and it is known before there is a lease. */
static int record(struct vmware_export *x, char **id, struct error **err)
{
	AUTO_FREE char *key = vmware_session_key(x->session);

	if (!key || asprintf(id, "session[%s]%s", key, x->model->source_id) < 0) {
		*id = NULL;
		return error_set_errno(err, ENOMEM, "cannot record the export");
	}
	if (!x->ledger || x->ledger(x->ledger_arg, true, LEASE_LEDGER_KIND, *id, err) == 0)
		return 0;
	free(move_ptr(*id)); /* not written: there is nothing to take back */
	return -1;
}

static void unrecord(struct vmware_export *x, char *id)
{
	if (x->ledger && id)
		x->ledger(x->ledger_arg, false, LEASE_LEDGER_KIND, id, NULL);
	free(id);
}

static void held_free(struct held_lease *h)
{
	lease_free(h->lease);
	free(h);
}

static struct held_lease *take(struct vmware_export *x)
{
	LOCK_GUARD(&x->lock);
	if (x->held)
		x->held->users++;
	return x->held;
}

static void put(struct vmware_export *x, struct held_lease *h)
{
	bool last;

	{
		LOCK_GUARD(&x->lock);
		last = !--h->users && h->ended;
	}
	if (last)
		held_free(h);
}

/* Ends the lease at the source; streams by it end by that. x->changing is held, or no other thread is left. */
static int end_lease(struct vmware_export *x, bool ok, struct error **err)
{
	struct held_lease *h;
	int result;
	bool unused;

	{
		LOCK_GUARD(&x->lock);
		h = move_ptr(x->held);
	}
	if (!h)
		return 0;
	result = lease_close(h->lease, ok, err);
	unrecord(x, move_ptr(h->ledger_id));
	{
		LOCK_GUARD(&x->lock);
		h->ended = true;
		unused = !h->users;
	}
	if (unused)
		held_free(h);
	return result;
}

/* One lease, recorded before it is made. x->changing is held. */
static int open_lease(struct vmware_export *x, struct cancel *cancel, struct error **err)
{
	struct held_lease *h = calloc(1, sizeof *h);

	if (!h)
		return error_set_errno(err, ENOMEM, "cannot export %s", x->model->name);
	if (record(x, &h->ledger_id, err) < 0) {
		free(h);
		return -1;
	}
	h->lease = lease_open(x->session, x->model, x->snapshot, cancel, err);
	if (!h->lease) {
		unrecord(x, h->ledger_id);
		free(h);
		return -1;
	}
	LOCK_GUARD(&x->lock);
	lease_progress(h->lease, x->percent);
	x->held = h;
	return 0;
}

/* Whether an error says that this machine gets no lease, as opposed to a machine that is in use, or a source out of reach. */
static bool is_refused(const struct error *e)
{
	static const char *const others[] = { "ExportBusy",    "NotPoweredOff", "ConnectionFailed", "ConnectionLost",  "TimedOut",
					      "UnknownHost",   "HTTPStatus",    "HTTPFailed",       "TLSFailed",       "Stalled",
					      "InvalidAnswer", "InvalidLogin",  "NotAuthenticated", "DiskNotExported", "DisksChanged" };

	if (e->class != ERROR_TRANSIENT && e->class != ERROR_PERMANENT)
		return false;
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		if (!strcmp(e->reason, others[i]))
			return false;
	return true;
}

/* Tries until there is one. *refused: the last error is one of is_refused. */
static int try_lease(struct vmware_export *x, bool *refused, struct cancel *cancel, struct error **err)
{
	for (unsigned attempt = 1;; attempt++) {
		AUTO_ERROR struct error *failed = NULL;

		if (open_lease(x, cancel, &failed) == 0)
			return 0;
		*refused = is_refused(failed);
		if (!*refused || failed->class != ERROR_TRANSIENT || attempt == LEASE_TRIES ||
		    cancel_wait(cancel, attempt * LEASE_PAUSE_MS))
			return error_move(err, move_ptr(failed));
	}
}

/* A snapshot's lease in place of the machine's. */
static bool try_snapshot(struct vmware_export *x, const struct error *why, struct cancel *cancel)
{
	AUTO_FREE char *name = NULL, *cause = cause_of(why);

	x->snapshot = snapshot_of_now(x->session, x->model, &name, cancel, NULL);
	if (!x->snapshot)
		return false;
	if (open_lease(x, cancel, NULL) < 0) {
		free(move_ptr(x->snapshot));
		return false;
	}
	note(x,
	     "the disks are exported from the snapshot \"%s\", to which nothing was added since, as the machine's own export was refused (%s)",
	     name ? name : x->snapshot, cause ? cause : "");
	return true;
}

/* --- the datastore browser ----------------------------------------------------------------------------------------------- */

static int open_folder(struct vmware_export *x, struct cancel *cancel, struct error **err)
{
	struct folder *folder;

	if (x->folder) /* set with changing held, and it is */
		return 0;
	folder = folder_open(x->session, x->dc_path, x->model, cancel, err);
	if (!folder)
		return -1;
	LOCK_GUARD(&x->lock);
	x->folder = folder;
	return 0;
}

static void use_folder(struct vmware_export *x, size_t i)
{
	bool flat = folder_is_flat(x->folder, i);

	x->ways[i].by_folder = true;
	x->disks[i].format = flat ? "raw" : "vmdk";
	x->disks[i].resumable = flat;
	x->disks[i].by_place = !flat;
	x->disks[i].host = vmware_session_host(x->session);
}

/* Both ways are closed. */
static int no_way(struct error *lease, struct error *folder, struct error **err)
{
	enum error_class class = lease->class == ERROR_PERMANENT && folder->class == ERROR_PERMANENT ? ERROR_PERMANENT : ERROR_TRANSIENT;

	return error_set_code(err, folder->class == ERROR_CANCELLED ? ERROR_CANCELLED : class, lease->reason, lease->code,
			      "%s; and the datastore browser is no way either: %s", lease->message, folder->message);
}

static int fall_back(struct vmware_export *x, struct error *why, struct cancel *cancel, struct error **err)
{
	AUTO_FREE char *cause = cause_of(why);
	AUTO_ERROR struct error *failed = NULL;

	if (try_snapshot(x, why, cancel))
		return 0;
	if (open_folder(x, cancel, &failed) < 0)
		return no_way(why, failed, err);
	for (size_t i = 0; i < x->export.disk_count; i++)
		use_folder(x, i);
	note(x, "the disks are read by the datastore browser, as no export lease was to be had (%s)", cause ? cause : "");
	return 0;
}

/* --- the export ---------------------------------------------------------------------------------------------------------- */

static void export_free(struct vmware_export *x)
{
	if (!x)
		return;
	folder_free(x->folder);
	for (size_t i = 0; x->hosts && i < x->export.disk_count; i++)
		free(x->hosts[i]);
	vm_model_free(x->model);
	pthread_mutex_destroy(&x->lock);
	pthread_mutex_destroy(&x->changing);
	free(x->disks);
	free(x->hosts);
	free(x->ways);
	free(x->dc_path);
	free(x->snapshot);
	free(x->note);
	free(x);
}

static struct vmware_export *export_new(struct vmware_session *session, const struct source_ops *ops, const char *dc_path,
					const struct vm_model *model)
{
	struct vmware_export *x = calloc(1, sizeof *x);
	AUTO_JSON json_t *copy = vm_model_to_json(model); /* the caller's may go before the export does */

	if (!x)
		return NULL;
	*x = (struct vmware_export){ .session = session, .model = copy ? vm_model_from_json(copy) : NULL };
	pthread_mutex_init(&x->changing, NULL);
	pthread_mutex_init(&x->lock, NULL);
	x->dc_path = strdup(dc_path);
	x->disks = calloc(model->disk_count + 1, sizeof *x->disks);
	x->ways = calloc(model->disk_count + 1, sizeof *x->ways);
	x->hosts = calloc(model->disk_count + 1, sizeof *x->hosts);
	x->export = (struct source_export){
		.ops = ops, .disks = x->disks, .disk_count = model->disk_count, .endpoint = vmware_session_host(session)
	};
	for (size_t i = 0; x->model && x->disks && i < model->disk_count; i++)
		x->disks[i] =
			(struct source_disk){ .id = x->model->disks[i].id, .format = "vmdk-stream", .capacity = model->disks[i].capacity };
	if (x->model && x->model->name && x->model->source_id && x->disks && x->hosts && x->ways && x->dc_path)
		return x;
	export_free(x);
	return NULL;
}

/* What the first lease says of the disks. A later one may name another host, which does not matter to the limits that it is for. */
static void show_lease(struct vmware_export *x)
{
	for (size_t i = 0; x->held && i < x->export.disk_count; i++)
		x->disks[i].host = x->hosts[i] = strdup(lease_host(x->held->lease, i));
}

struct source_export *vmware_export_begin(struct vmware_session *session, const struct source_ops *ops, const char *dc_path,
					  const struct vm_model *model, source_ledger ledger, void *ledger_arg, struct cancel *cancel,
					  struct error **err)
{
	struct vmware_export *x = export_new(session, ops, dc_path, model);
	AUTO_ERROR struct error *failed = NULL;
	bool refused = false;

	if (!x) {
		error_set_errno(err, ENOMEM, "cannot export %s", model->name);
		return NULL;
	}
	x->ledger = ledger;
	x->ledger_arg = ledger_arg;
	if (try_lease(x, &refused, cancel, &failed) == 0 || (refused && fall_back(x, failed, cancel, err) == 0)) {
		show_lease(x);
		return &x->export;
	}
	if (!refused)
		error_move(err, move_ptr(failed));
	export_free(x);
	return NULL;
}

/* A lease that has died is replaced, unless another disk's thread did that: died is the one that was used, NULL when there was none. */
static int renew(struct vmware_export *x, const struct held_lease *died, struct cancel *cancel, struct error **err)
{
	LOCK_GUARD(&x->changing);
	{
		LOCK_GUARD(&x->lock);
		if (x->held != died)
			return 0;
	}
	end_lease(x, false, NULL);
	return open_lease(x, cancel, err);
}

/* A disk's stream failed by the lease: what next. The error is the one to return, its class may change. */
static void think_again(struct vmware_export *x, size_t i, struct held_lease *used, struct cancel *cancel, struct error *failed)
{
	struct way *w = &x->ways[i];
	bool busy =
		failed->class == ERROR_TRANSIENT && (failed->code == 503 || failed->code == 429) && !strcmp(failed->reason, "HTTPStatus");
	uint64_t now = clock_monotonic_ms();
	AUTO_FREE char *cause = cause_of(failed);
	AUTO_ERROR struct error *no_folder = NULL;

	if (failed->class != ERROR_TRANSIENT && failed->class != ERROR_PERMANENT)
		return;
	if (failed->class == ERROR_TRANSIENT && used && !lease_is_alive(used->lease, cancel)) {
		renew(x, used, cancel, NULL); /* when that fails, the next try begins with it */
		return;
	}
	w->busy_since = !busy ? 0 : w->busy_since ? w->busy_since : now;
	w->failures += !busy;
	if (failed->class == ERROR_TRANSIENT && (busy ? now - w->busy_since < BUSY_MS : w->failures < STREAM_TRIES))
		return;
	w->failures = 0; /* when the other way is closed, this one has as many tries again */
	w->busy_since = 0;
	{
		LOCK_GUARD(&x->changing);
		if (open_folder(x, cancel, &no_folder) < 0)
			return;
	}
	use_folder(x, i);
	failed->class = ERROR_TRANSIENT;
	/* One cause is enough: the others are mostly the same. */
	bool first = !__atomic_exchange_n(&x->told, true, __ATOMIC_RELAXED);
	note(x, "disk %zu (%s) is read by the datastore browser, as its export failed%s%s%s", i,
	     x->model->disks[i].label ? x->model->disks[i].label : "no label", first ? " (" : ", too", first && cause ? cause : "",
	     first ? ")" : "");
}

/* Tells errors of the sink from those of the stream. */
struct guarded {
	source_sink sink;
	void *arg;
	bool refused;
};

static int guard(void *arg, const void *data, size_t len, struct error **err)
{
	struct guarded *g = arg;

	g->refused = g->sink(g->arg, data, len, err) < 0;
	return g->refused ? -1 : 0;
}

/* What the storage or whoever cancels has to say is no matter of the way; a stream that makes no sense is. */
static bool is_of_the_way(const struct guarded *g, const struct error *e)
{
	return !g->refused || (e->class == ERROR_TRANSIENT && !e->code);
}

int vmware_export_stream(struct source_export *e, size_t i, source_sink sink, void *arg, struct cancel *cancel, struct error **err)
{
	struct vmware_export *x = self(e);
	struct guarded g = { .sink = sink, .arg = arg };
	struct held_lease *h;
	struct error *failed = NULL;

	if (x->ways[i].by_folder)
		return vmware_export_resume(e, i, 0, sink, arg, cancel, err);
	h = take(x);
	if (!h) {
		if (renew(x, NULL, cancel, &failed) == 0 && !(h = take(x)))
			error_set(&failed, ERROR_TRANSIENT, "ExportEnded", "the export lease of %s ended", x->model->name);
	}
	if (h && lease_stream(h->lease, i, guard, &g, cancel, &failed) == 0) {
		x->ways[i].failures = 0;
		put(x, h);
		return 0;
	}
	if (is_of_the_way(&g, failed))
		think_again(x, i, h, cancel, failed);
	if (h)
		put(x, h);
	return error_move(err, failed);
}

int vmware_export_resume(struct source_export *e, size_t i, uint64_t offset, source_sink sink, void *arg, struct cancel *cancel,
			 struct error **err)
{
	return folder_stream(self(e)->folder, i, offset, &self(e)->disks[i].spoilt, sink, arg, cancel, err);
}

struct disk_input *vmware_export_open(struct source_export *e, size_t i, const char *name, struct cancel *cancel, struct error **err)
{
	return folder_input(self(e)->folder, i, name, &self(e)->disks[i].spoilt, cancel, err);
}

char *vmware_export_note(struct source_export *e)
{
	LOCK_GUARD(&self(e)->lock);
	return self(e)->note ? strdup(self(e)->note) : NULL;
}

int vmware_export_nvram(struct source_export *e, unsigned char **data, size_t *len, struct cancel *cancel, struct error **err)
{
	struct vmware_export *x = self(e);
	struct held_lease *h = take(x);
	int result;

	*data = NULL;
	if (!h)
		return 0;
	result = lease_nvram(h->lease, data, len, cancel, err);
	put(x, h);
	return result;
}

void vmware_export_progress(struct source_export *e, unsigned percent)
{
	struct vmware_export *x = self(e);

	LOCK_GUARD(&x->lock);
	x->percent = percent;
	if (x->held)
		lease_progress(x->held->lease, percent);
}

int vmware_export_end(struct source_export *e, bool ok, struct error **err)
{
	struct vmware_export *x = self(e);
	int result = end_lease(x, ok, err);

	export_free(x);
	return result;
}
