#include "source/vmware/lease.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "source/vmware/device_url.h"
#include "source/vmware/property.h"

#define ACQUIRE_MS 30000 /* ExportVm itself, which is not cancelled */
#define READY_MS 300000  /* how long a lease may take to be ready */
#define POLL_MS 150
#define STALL_MS 120000 /* a stream that gives no byte for so long is broken off */
#define END_MS 10000    /* for each call that ends a lease */
#define END_TRIES 3
#define KEEPALIVE_MAX_S 30
#define NVRAM_MS 30000
#define NVRAM_MAX (4u << 20) /* it is some 8 KiB to 264 KiB */
#define SHA1_TEXT_MAX 60     /* 40 digits and 19 colons */

/* A file that is offered. */
struct lease_file {
	char *url, *thumbprint, *host;
};

struct lease {
	struct vmware_session *session;
	char *ref, *vm;
	struct lease_file *disks, nvram;
	size_t count;
	unsigned keepalive_ms;

	struct cancel *ending; /* wakes the heart, and ends its call */
	pthread_t heart;
	bool beating;
	_Atomic unsigned percent;
};

static struct vmware_ref lease_ref(const struct lease *l)
{
	return (struct vmware_ref){ "HttpNfcLease", l->ref };
}

static int tell_progress(struct lease *l, unsigned percent, struct cancel *cancel, struct error **err)
{
	char argument[64];
	xmlNode *result;
	AUTO_XML xmlDoc *doc = NULL;

	snprintf(argument, sizeof argument, "<percent>%u</percent>", percent);
	doc = vmware_call_within(l->session, END_MS, "HttpNfcLeaseProgress", lease_ref(l), argument, &result, cancel, err);
	return doc ? 0 : -1;
}

/* Tells the lease that we live. A failure shows in the streams, which know better what to say; a short one does not matter, as there are
 * two more before the lease ends. */
static void *beat(void *arg)
{
	struct lease *l = arg;

	while (!cancel_wait(l->ending, l->keepalive_ms))
		tell_progress(l, l->percent, l->ending, NULL);
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
	cancel_request(l->ending);
	pthread_join(l->heart, NULL);
	l->beating = false;
}

static void file_free(struct lease_file *f)
{
	free(f->url);
	free(f->thumbprint);
	free(f->host);
}

void lease_free(struct lease *l)
{
	if (!l)
		return;
	stop_heart(l);
	for (size_t i = 0; i < l->count; i++)
		file_free(&l->disks[i]);
	file_free(&l->nvram);
	free(l->disks);
	free(l->ref);
	free(l->vm);
	cancel_free(l->ending);
	free(l);
}

/* "name:port" of a URL, owned. */
static char *host_of(const char *url)
{
	const char *host = strstr(url, "://"), *at;
	size_t len;

	if (!host)
		return strdup("");
	host += 3;
	len = strcspn(host, "/?#");
	at = memrchr(host, '@', len);
	return at ? strndup(at + 1, len - (size_t)(at + 1 - host)) : strndup(host, len);
}

static int read_file(const struct lease *l, struct lease_file *f, const xmlNode *node, struct error **err)
{
	AUTO_FREE char *url = xml_path_text(node, "url");

	f->url = url && *url ? device_url_resolve(url, vmware_session_host(l->session)) : NULL;
	f->thumbprint = xml_path_text(node, "sslThumbprint");
	f->host = f->url ? host_of(f->url) : NULL;
	return f->host ? 0 : error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the export of %s has no URL for a file", l->vm);
}

static int read_info(struct lease *l, const xmlNode *info, const struct vm_model *model, struct error **err)
{
	int64_t timeout = xml_path_number(info, "leaseTimeout", 300);
	AUTO_FREE const xmlNode **nodes = calloc(model->disk_count + 1, sizeof *nodes);
	const xmlNode *nvram = device_url_nvram(info);

	l->keepalive_ms = timeout / 3 < KEEPALIVE_MAX_S ? (timeout < 1 ? 1 : (unsigned)timeout) * 1000 / 3 : KEEPALIVE_MAX_S * 1000;
	l->disks = calloc(model->disk_count + 1, sizeof *l->disks);
	if (!nodes || !l->disks)
		return error_set_errno(err, ENOMEM, "cannot read the export lease");
	if (device_urls_match(info, model, nodes, err) < 0)
		return -1;
	for (size_t i = 0; i < model->disk_count; i++) {
		l->count++;
		if (read_file(l, &l->disks[i], nodes[i], err) < 0)
			return -1;
	}
	return nvram ? read_file(l, &l->nvram, nvram, err) : 0;
}

static int state_error(const xmlNode *fault, const struct vm_model *model, struct error **err)
{
	AUTO_FREE char *text = xml_path_text(fault, "localizedMessage"), *type = xml_type(xml_child(fault, "fault"));

	if (text)
		soap_shorten(text, 600);
	/* It is there now, and what it was refused for may be its files' locks: only what cannot change is permanent. */
	return error_set(err, type && !strcmp(type, "NotSupported") ? ERROR_PERMANENT : ERROR_TRANSIENT,
			 soap_fault_reason(type, "ExportFailed"), "the export of %s failed at the source: %s (%s)", model->name,
			 text && *text ? text : "no reason given", soap_fault_reason(type, "ExportFailed"));
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
			return error_wrap(err, "the export lease of %s cannot be read", model->name);
		if (state && !strcmp(state, "ready"))
			return read_info(l, vmware_property(o, "info"), model, err);
		if (state && !strcmp(state, "error"))
			return state_error(vmware_property(o, "error"), model, err);
		if (clock_monotonic_ms() - begun > READY_MS)
			return error_set(err, ERROR_TRANSIENT, "ExportTimedOut", "the export of %s was not ready after %d s", model->name,
					 READY_MS / 1000);
		if (cancel_wait(cancel, POLL_MS))
			return cancel_check(cancel, err);
	}
}

static int acquire(struct lease *l, const struct vm_model *model, const char *snapshot, struct cancel *cancel, struct error **err)
{
	const char *method = snapshot ? "ExportSnapshot" : "ExportVm";
	struct vmware_ref object = { snapshot ? "VirtualMachineSnapshot" : "VirtualMachine", snapshot ? snapshot : model->source_id };
	AUTO_ERROR struct error *failed = NULL;
	xmlNode *result = NULL;
	AUTO_XML xmlDoc *doc = NULL;

	if (cancel_check(cancel, err) < 0)
		return -1;
	/* Not cancelled: a lease whose name never came back would hold the machine until its time limit. */
	doc = vmware_call_within(l->session, ACQUIRE_MS, method, object, "", &result, NULL, &failed);
	if (!doc && !strcmp(failed->reason, "TaskInProgress"))
		return error_set(
			err, ERROR_TRANSIENT, "ExportBusy",
			"another task holds %s at the source, perhaps an export that was left behind; that ends by itself when its lease times out, "
			"after 5 minutes by default (%s)",
			model->name, failed->message);
	if (!doc && !strcmp(failed->reason, "InvalidPowerState"))
		return error_set(err, ERROR_TRANSIENT, "NotPoweredOff", "%s is not off any more: %s", model->name, failed->message);
	if (!doc) {
		error_wrap(&failed, "cannot export %s", model->name);
		return error_move(err, move_ptr(failed));
	}
	l->ref = xml_path_text(result, "returnval");
	return l->ref ? 0 : error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "%s returned no lease", method);
}

struct lease *lease_open(struct vmware_session *session, const struct vm_model *model, const char *snapshot, struct cancel *cancel,
			 struct error **err)
{
	struct lease *l = calloc(1, sizeof *l);

	if (!l) {
		error_set_errno(err, ENOMEM, "cannot export %s", model->name);
		return NULL;
	}
	l->session = session;
	l->vm = strdup(model->name);
	l->ending = cancel_new(NULL);
	if (!l->vm || !l->ending)
		error_set_errno(err, ENOMEM, "cannot export %s", model->name);
	else if (acquire(l, model, snapshot, cancel, err) == 0 && wait_ready(l, model, cancel, err) == 0 && start_heart(l, err) == 0)
		return l;
	lease_close(l, false, NULL);
	lease_free(l);
	return NULL;
}

const char *lease_host(const struct lease *l, size_t i)
{
	return l->disks[i].host;
}

/* A file's content, as the request wants it; its URL and trust are set here. */
static int fetch(struct lease *l, const struct lease_file *f, struct http_request *request, struct http_response *response,
		 struct error **err)
{
	const char *pin = f->thumbprint && *f->thumbprint ? f->thumbprint : NULL;
	struct http_trust trust = { .pin_sha1 = pin && strlen(pin) <= SHA1_TEXT_MAX ? pin : NULL,
				    .pin_sha256 = pin && strlen(pin) > SHA1_TEXT_MAX ? pin : NULL };
	/* The disks' host has another certificate, which the lease names; where it does not, the endpoint itself serves them. */
	struct http_client *own = pin ? http_client_new(&trust, err) : NULL;
	AUTO_ERROR struct error *failed = NULL;
	int result;

	if (pin && !own)
		return error_wrap(err, "the export lease of %s names a wrong thumbprint", l->vm);
	request->url = f->url;
	result = http_fetch(own ? own : vmware_session_http(l->session), request, response, &failed);
	http_client_free(own);
	if (result == 0)
		return 0;
	if (failed->class == ERROR_NOT_FOUND)
		failed->class = ERROR_TRANSIENT; /* a lease that has ended answers so: a new one will serve */
	if (!strcmp(failed->reason, "TLSFailed") && failed->class == ERROR_PERMANENT && pin)
		error_wrap(&failed, "the export lease of %s says that its host has the certificate %s", l->vm, pin);
	else if (!strcmp(failed->reason, "HTTPStatus") || !strcmp(failed->reason, "TLSFailed") ||
		 !strcmp(failed->reason, "ConnectionFailed"))
		error_wrap(&failed, "cannot read a disk of %s from the host", l->vm);
	return error_move(err, move_ptr(failed));
}

int lease_stream(struct lease *l, size_t i, source_sink sink, void *arg, struct cancel *cancel, struct error **err)
{
	struct http_request request = { .stall_timeout_ms = STALL_MS, .sink = sink, .sink_arg = arg, .cancel = cancel };
	AUTO_RESPONSE struct http_response response = { 0 };

	return fetch(l, &l->disks[i], &request, &response, err);
}

int lease_nvram(struct lease *l, unsigned char **data, size_t *len, struct cancel *cancel, struct error **err)
{
	struct http_request request = { .timeout_ms = NVRAM_MS, .max_body = NVRAM_MAX, .cancel = cancel };
	AUTO_RESPONSE struct http_response response = { 0 };

	*data = NULL;
	if (!l->nvram.url)
		return 0;
	if (fetch(l, &l->nvram, &request, &response, err) < 0)
		return -1;
	*len = response.body_len;
	*data = (unsigned char *)move_ptr(response.body);
	return 0;
}

void lease_progress(struct lease *l, unsigned percent)
{
	l->percent = percent > 100 ? 100 : percent;
}

bool lease_is_alive(struct lease *l, struct cancel *cancel)
{
	static const char *const paths[] = { "state", NULL };
	AUTO_ERROR struct error *failed = NULL;
	xmlNode *o = NULL;
	AUTO_XML xmlDoc *doc = vmware_properties(l->session, lease_ref(l), paths, &o, cancel, &failed);
	AUTO_FREE char *state = xml_text(vmware_property(o, "state"));

	if (!doc)
		return failed->class != ERROR_NOT_FOUND;
	return state && !strcmp(state, "ready");
}

/* A lease that is not there, or not open any more. */
static bool is_over(const struct error *e)
{
	return e->class == ERROR_NOT_FOUND || !strcmp(e->reason, "InvalidState") || !strcmp(e->reason, "Timedout");
}

static int end_at_source(struct lease *l, bool ok, struct error **err)
{
	const char *method = ok ? "HttpNfcLeaseComplete" : "HttpNfcLeaseAbort";

	if (ok)
		tell_progress(l, 100, NULL, NULL); /* shown beside the task, and what else would come last */
	for (unsigned attempt = 1;; attempt++) {
		AUTO_ERROR struct error *failed = NULL;
		xmlNode *result;
		AUTO_XML xmlDoc *doc = vmware_call_within(l->session, END_MS, method, lease_ref(l), "", &result, NULL, &failed);

		if (doc || (!ok && is_over(failed)))
			return 0;
		if (failed->class == ERROR_TRANSIENT && !is_over(failed) && attempt < END_TRIES) {
			cancel_wait(NULL, 500);
			continue;
		}
		error_wrap(&failed, "cannot end the export of %s", l->vm);
		return error_move(err, move_ptr(failed));
	}
}

int lease_close(struct lease *l, bool ok, struct error **err)
{
	stop_heart(l);
	if (!l->ref || end_at_source(l, ok, err) == 0)
		return 0;
	if (ok) /* it must not hold the machine until its time is up */
		end_at_source(l, false, NULL);
	return -1;
}

/* Whether a task that exports the machine is to be seen. What cannot be read is not there. */
static bool is_exported(struct vmware_session *s, const char *vm, struct cancel *cancel)
{
	static const char *const vm_paths[] = { "recentTask", NULL }, *const task_paths[] = { "info.descriptionId", "info.name",
											      "info.state", NULL };
	xmlNode *o = NULL;
	AUTO_XML xmlDoc *doc = vmware_properties(s, (struct vmware_ref){ "VirtualMachine", vm }, vm_paths, &o, cancel, NULL);

	for (const xmlNode *t = xml_first(vmware_property(doc ? o : NULL, "recentTask")); t; t = xml_next(t, NULL)) {
		AUTO_FREE char *ref = xml_text(t), *description = NULL, *name = NULL, *state = NULL;
		xmlNode *task = NULL;
		AUTO_XML xmlDoc *read =
			vmware_properties(s, (struct vmware_ref){ "Task", ref ? ref : "" }, task_paths, &task, cancel, NULL);

		if (!read)
			continue;
		description = xml_text(vmware_property(task, "info.descriptionId"));
		name = xml_text(vmware_property(task, "info.name"));
		state = xml_text(vmware_property(task, "info.state"));
		if (state && (!strcmp(state, "running") || !strcmp(state, "queued")) &&
		    ((description && strcasestr(description, "export")) || (name && strcasestr(name, "export"))))
			return true;
	}
	return false;
}

int lease_end_session(struct vmware_session *session, const char *key, struct cancel *cancel, struct error **err)
{
	AUTO_FREE char *own = vmware_session_key(session);
	AUTO_ERROR struct error *failed = NULL;
	CLEANUP(buffer_free) struct buffer arguments;
	xmlNode *result;
	AUTO_XML xmlDoc *doc = NULL;
	struct vmware_ref manager = { "SessionManager", vmware_session_content(session)->session_manager };

	buffer_init(&arguments, 4096);
	/* Our own session lives, and so did its process: it has ended its lease itself. */
	if (!*key || (own && !strcmp(own, key)))
		return 1;
	xml_add(&arguments, "sessionId", key);
	if (arguments.failed)
		return 1; /* so long is no key */
	doc = vmware_call(session, "TerminateSession", manager, arguments.data, &result, cancel, &failed);
	if (doc || failed->class == ERROR_NOT_FOUND)
		return 1;
	return strcmp(failed->reason, "NoPermission") ? error_move(err, move_ptr(failed)) : 0;
}

int lease_cleanup(struct vmware_session *session, const char *id, struct cancel *cancel, struct error **err)
{
	const char *end = strchr(id, ']');
	AUTO_FREE char *key = NULL;
	int ended;

	if (strncmp(id, "session[", 8) || !end)
		return 0; /* not a form that we ever wrote */
	key = strndup(id + 8, (size_t)(end - id - 8));
	if (!key)
		return error_set_errno(err, ENOMEM, "cannot end an export");
	ended = lease_end_session(session, key, cancel, err);
	if (ended)
		return ended < 0 ? -1 : 0;
	if (!is_exported(session, end + 1, cancel))
		return 0;
	return error_set(
		err, ERROR_TRANSIENT, "ExportBusy",
		"the export of %s that an earlier process began is still open, and this user lacks the privilege Sessions.TerminateSession to end it; "
		"it ends by itself when its lease times out, after 5 minutes by default",
		end + 1);
}
