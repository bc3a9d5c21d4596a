#include "source/vmware/lease.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

#define READY_MS 300000       /* how long a lease may take to be ready */
#define POLL_MS 150
#define STALL_MS 120000       /* a stream that gives no byte for so long is broken off */
#define KEEPALIVE_MAX_S 30

struct lease {
	struct source_export export;
	struct vmware_session *session;
	char *ref, *ledger_id, *vm;
	source_ledger ledger;
	void *ledger_arg;
	struct source_disk *disks;
	char **urls, **thumbprints;
	size_t count;
	unsigned keepalive_s;

	pthread_mutex_t lock; /* guards percent and ending */
	pthread_cond_t woken;
	unsigned percent;
	bool ending, beating;
	pthread_t heart;
};

static struct lease *self(struct source_export *e)
{
	return (struct lease *)e;
}

static struct vmware_ref lease_ref(const struct lease *l)
{
	return (struct vmware_ref){ "HttpNfcLease", l->ref };
}

/* Tells the lease that we live: without, it ends after its time limit. */
static void *beat(void *arg)
{
	struct lease *l = arg;

	pthread_mutex_lock(&l->lock);
	while (!l->ending) {
		struct timespec until;
		char argument[64];

		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += l->keepalive_s;
		while (!l->ending && pthread_cond_timedwait(&l->woken, &l->lock, &until) != ETIMEDOUT)
			;
		if (l->ending)
			break;
		snprintf(argument, sizeof argument, "<percent>%u</percent>", l->percent);
		pthread_mutex_unlock(&l->lock);
		{
			xmlNode *result;
			/* A failure shows in the streams, which know better what to say. */
			AUTO_XML xmlDoc *doc = vmware_call(l->session, "HttpNfcLeaseProgress", lease_ref(l), argument, &result, NULL, NULL);

			(void)doc;
		}
		pthread_mutex_lock(&l->lock);
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

static int start_heart(struct lease *l, struct error **err)
{
	int failed = pthread_create(&l->heart, NULL, beat, l);

	if (failed)
		return error_set_errno(err, failed, "cannot keep the export lease alive");
	l->beating = true;
	return 0;
}

static void stop_heart(struct lease *l)
{
	if (!l->beating)
		return;
	pthread_mutex_lock(&l->lock);
	l->ending = true;
	pthread_cond_signal(&l->woken);
	pthread_mutex_unlock(&l->lock);
	pthread_join(l->heart, NULL);
	l->beating = false;
}

static void lease_free(struct lease *l)
{
	if (!l)
		return;
	stop_heart(l);
	for (size_t i = 0; i < l->count; i++) {
		free(l->urls[i]);
		free(l->thumbprints[i]);
		free((void *)l->disks[i].id);
	}
	free(l->urls);
	free(l->thumbprints);
	free(l->disks);
	free(l->ref);
	free(l->ledger_id);
	free(l->vm);
	pthread_cond_destroy(&l->woken);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

/* "https://" followed by a star stands for the host we talk to. */
static char *real_url(const char *url, const char *host)
{
	const char *star = strstr(url, "://*");
	char *out = NULL;

	if (!star)
		return strdup(url);
	/* The port, if any, is in what follows the star. */
	size_t len = star[4] == ':' ? strcspn(host, ":") : strlen(host);
	return asprintf(&out, "%.*s://%.*s%s", (int)(star - url), url, (int)len, host, star + 4) < 0 ? NULL : out;
}

/* The part of a disk's id that a lease's keys end with: "ParaVirtualSCSIController0:0". */
static const char *place_of(const struct vm_disk *disk)
{
	const char *space = disk->id ? strchr(disk->id, ' ') : NULL;

	return space ? space + 1 : "";
}

static bool names_disk(const xmlNode *url, const struct vm_disk *disk)
{
	AUTO_FREE char *key = xml_path_text(url, "key");
	const char *slash = key ? strrchr(key, '/') : NULL, *place = place_of(disk);

	return *place && key && !strcmp(slash ? slash + 1 : key, place);
}

/* The n-th disk of the lease in its own order. */
static const xmlNode *nth_disk(const xmlNode *info, size_t n)
{
	for (const xmlNode *u = xml_child(info, "deviceUrl"); u; u = xml_next(u, "deviceUrl"))
		if (xml_path_is(u, "disk", "true") && n-- == 0)
			return u;
	return NULL;
}

static const xmlNode *url_of(const xmlNode *info, const struct vm_model *model, size_t i)
{
	bool any = false;

	for (const xmlNode *u = xml_child(info, "deviceUrl"); u; u = xml_next(u, "deviceUrl")) {
		if (!xml_path_is(u, "disk", "true"))
			continue;
		if (names_disk(u, &model->disks[i]))
			return u;
		for (size_t k = 0; k < model->disk_count; k++)
			any = any || names_disk(u, &model->disks[k]);
	}
	/* Keys of a form that we do not know: the order has to tell. Never when some of them do tell. */
	return any ? NULL : nth_disk(info, i);
}

static int read_info(struct lease *l, const xmlNode *info, const struct vm_model *model, struct error **err)
{
	int64_t timeout = xml_path_number(info, "leaseTimeout", 300);

	l->keepalive_s = timeout / 3 < KEEPALIVE_MAX_S ? (timeout / 3 < 1 ? 1 : (unsigned)(timeout / 3)) : KEEPALIVE_MAX_S;
	l->disks = calloc(model->disk_count + 1, sizeof *l->disks);
	l->urls = calloc(model->disk_count + 1, sizeof *l->urls);
	l->thumbprints = calloc(model->disk_count + 1, sizeof *l->thumbprints);
	if (!l->disks || !l->urls || !l->thumbprints)
		return error_set_errno(err, ENOMEM, "cannot read the export lease");
	for (size_t i = 0; i < model->disk_count; i++) {
		const struct vm_disk *disk = &model->disks[i];
		const xmlNode *device = url_of(info, model, i);
		AUTO_FREE char *url = xml_path_text(device, "url");

		if (!url)
			return error_set(err, ERROR_PERMANENT, "DiskNotExported", "the export of %s does not offer %s (%s)", model->name,
					 disk->label ? disk->label : "a disk", place_of(disk));
		l->urls[i] = real_url(url, vmware_endpoint_host(l->session));
		l->thumbprints[i] = xml_path_text(device, "sslThumbprint");
		l->disks[i] = (struct source_disk){ .id = strdup(disk->id),
						    .format = "vmdk-stream",
						    .capacity = disk->capacity,
						    .stream_size = (uint64_t)xml_path_number(device, "fileSize", 0) };
		l->count++;
	}
	l->export.disks = l->disks;
	l->export.disk_count = l->count;
	return 0;
}

static int wait_ready(struct lease *l, const struct vm_model *model, struct cancel *cancel, struct error **err)
{
	static const char *const paths[] = { "state", "error", "info", NULL };
	uint64_t begun = clock_monotonic_ms();

	for (;;) {
		xmlNode *o = NULL;
		AUTO_XML xmlDoc *doc = vmware_properties(l->session, lease_ref(l), paths, &o, cancel, err);
		AUTO_FREE char *state = xml_text(vmware_property(o, "state"));

		if (!doc)
			return -1;
		if (state && !strcmp(state, "ready"))
			return read_info(l, vmware_property(o, "info"), model, err);
		if (state && !strcmp(state, "error")) {
			AUTO_FREE char *text = xml_path_text(vmware_property(o, "error"), "localizedMessage");

			return error_set(err, ERROR_TRANSIENT, "ExportFailed", "the export of %s failed at the source: %s", model->name,
					 text && *text ? text : "no reason given");
		}
		if (clock_monotonic_ms() - begun > READY_MS)
			return error_set(err, ERROR_TRANSIENT, "ExportTimedOut", "the export of %s was not ready after %d s", model->name, READY_MS / 1000);
		if (cancel_wait(cancel, POLL_MS))
			return cancel_check(cancel, err);
	}
}

static int acquire(struct lease *l, const struct vm_model *model, struct cancel *cancel, struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;
	xmlNode *result = NULL;
	AUTO_XML xmlDoc *doc =
		vmware_call(l->session, "ExportVm", (struct vmware_ref){ "VirtualMachine", model->source_id }, "", &result, cancel, &failed);

	if (!doc && !strcmp(failed->reason, "TaskInProgress"))
		return error_set(err, ERROR_TRANSIENT, "ExportBusy",
				 "another task holds %s at the source, perhaps an export that was left behind; it ends by itself when its lease times out "
				 "(5 minutes by default)",
				 model->name);
	if (!doc && !strcmp(failed->reason, "InvalidPowerState"))
		return error_set(err, ERROR_TRANSIENT, "NotPoweredOff", "%s is not off any more: %s", model->name, failed->message);
	if (!doc) {
		error_wrap(&failed, "cannot export %s", model->name);
		return error_move(err, move_ptr(failed));
	}
	l->ref = xml_path_text(result, "returnval");
	return l->ref ? 0 : error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "ExportVm returned no lease");
}

/* The lease dies with its session: so the session's key is what is needed to end it, and that is known before there is a lease. */
static int record(struct lease *l, const struct vm_model *model, struct error **err)
{
	AUTO_FREE char *key = vmware_session_key(l->session);

	if (asprintf(&l->ledger_id, "session[%s]%s", key ? key : "", model->source_id) < 0) {
		l->ledger_id = NULL;
		return error_set_errno(err, ENOMEM, "cannot record the export");
	}
	return l->ledger ? l->ledger(l->ledger_arg, true, LEASE_LEDGER_KIND, l->ledger_id, err) : 0;
}

struct source_export *lease_begin(struct vmware_session *session, const struct source_ops *ops, const struct vm_model *model, source_ledger ledger,
				  void *ledger_arg, struct cancel *cancel, struct error **err)
{
	struct lease *l = calloc(1, sizeof *l);
	pthread_condattr_t attr;

	if (!l) {
		error_set_errno(err, ENOMEM, "cannot export %s", model->name);
		return NULL;
	}
	*l = (struct lease){ .export.ops = ops, .session = session, .ledger = ledger, .ledger_arg = ledger_arg };
	pthread_mutex_init(&l->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&l->woken, &attr);
	pthread_condattr_destroy(&attr);
	l->vm = strdup(model->name);
	if (record(l, model, err) < 0) {
		lease_free(l);
		return NULL;
	}
	if (acquire(l, model, cancel, err) < 0 || wait_ready(l, model, cancel, err) < 0 || start_heart(l, err) < 0) {
		lease_end(&l->export, false, NULL);
		return NULL;
	}
	return &l->export;
}

int lease_stream(struct source_export *e, size_t i, source_sink sink, void *arg, struct cancel *cancel, struct error **err)
{
	struct lease *l = self(e);
	struct http_trust trust = { .pin_sha1 = l->thumbprints[i] && *l->thumbprints[i] ? l->thumbprints[i] : NULL };
	/* A client of its own for each stream: another host, another certificate. */
	struct http_client *http = http_client_new(&trust, err);
	struct http_request request = { .url = l->urls[i], .stall_timeout_ms = STALL_MS, .sink = sink, .sink_arg = arg, .cancel = cancel };
	AUTO_RESPONSE struct http_response response = { 0 };
	int result;

	if (!http)
		return -1;
	result = http_fetch(http, &request, &response, err);
	http_client_free(http);
	if (result < 0 && err && *err && (*err)->class == ERROR_NOT_FOUND)
		(*err)->class = ERROR_TRANSIENT; /* a lease that has ended answers so: a new one will serve */
	return result < 0 ? error_wrap(err, "cannot read the disk from the host") : 0;
}

void lease_progress(struct source_export *e, unsigned percent)
{
	struct lease *l = self(e);

	LOCK_GUARD(&l->lock);
	l->percent = percent > 100 ? 100 : percent;
}

int lease_end(struct source_export *e, bool ok, struct error **err)
{
	struct lease *l = self(e);
	int result = 0;

	stop_heart(l);
	if (l->ref) {
		xmlNode *node;
		AUTO_XML xmlDoc *doc = NULL;

		if (ok) /* vCenter wants to hear of the whole before it completes */
			xmlFreeDoc(vmware_call(l->session, "HttpNfcLeaseProgress", lease_ref(l), "<percent>100</percent>", &node, NULL, NULL));
		doc = vmware_call(l->session, ok ? "HttpNfcLeaseComplete" : "HttpNfcLeaseAbort", lease_ref(l), "", &node, NULL, err);
		if (!doc)
			result = error_wrap(err, "cannot end the export of %s", l->vm);
	}
	if (l->ledger && l->ledger_id)
		l->ledger(l->ledger_arg, false, LEASE_LEDGER_KIND, l->ledger_id, NULL);
	lease_free(l);
	return result;
}

int lease_cleanup(struct vmware_session *session, const char *id, struct cancel *cancel, struct error **err)
{
	const char *end = strchr(id, ']');
	AUTO_FREE char *own = vmware_session_key(session), *key = NULL;
	AUTO_ERROR struct error *failed = NULL;
	CLEANUP(buffer_free) struct buffer arguments = { 0 };
	xmlNode *result;
	AUTO_XML xmlDoc *doc = NULL;

	if (strncmp(id, "session[", 8) || !end)
		return 0; /* not a form that we ever wrote */
	key = strndup(id + 8, (size_t)(end - id - 8));
	/* Our own session lives, and so did its process: it has ended its lease itself. */
	if (!key || !*key || (own && !strcmp(own, key)))
		return 0;
	buffer_init(&arguments, 4096);
	xml_add(&arguments, "sessionId", key);
	doc = vmware_call(session, "TerminateSession", (struct vmware_ref){ "SessionManager", vmware_session_manager(session) }, arguments.data, &result,
			  cancel, &failed);
	if (doc || failed->class == ERROR_NOT_FOUND)
		return 0;
	/* Without the right to end sessions the lease ends by its time limit; the export is tried until then. */
	if (!strcmp(failed->reason, "NoPermission"))
		return 0;
	return error_move(err, move_ptr(failed));
}
