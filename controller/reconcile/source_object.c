/* Sources: log in, look, say what is found; again when the object or its Secret changes, and every few minutes. */
#include <errno.h>
#include <string.h>

#include "api/conditions.h"
#include "api/resources.h"
#include "base/backoff.h"
#include "base/log.h"
#include "reconcile/context.h"

static struct informer *informer_of(struct reconciler *r, const char *plural)
{
	for (size_t i = 0; i < SOURCE_KINDS; i++)
		if (r->sources[i] && !strcmp(informer_resource(r->sources[i])->plural, plural))
			return r->sources[i];
	return NULL;
}

/* Keeps in the status what the endpoint was recognised by; an endpoint that another one takes the place of is forgotten. */
static void keep_certificate(struct source *source, const json_t *object, struct api_certificate *kept)
{
	const char *endpoint = json_path_string(object, "spec.endpoint");
	char *fingerprint = source->ops->certificate ? source->ops->certificate(source) : NULL;

	free(kept->endpoint);
	free(kept->fingerprint);
	kept->endpoint = fingerprint && endpoint ? strdup(endpoint) : NULL;
	kept->fingerprint = fingerprint;
}

/* Before it is read, so that no change is missed. */
static void use_secret(struct reconciler *r, const char *key, const json_t *object)
{
	const char *ns = json_path_string(object, "spec.credentials.namespace"), *name = json_path_string(object, "spec.credentials.name");

	if (!ns || !*ns)
		ns = json_path_string(object, "metadata.namespace");
	secrets_use(r->secrets, key, ns, name && *name ? name : NULL);
}

/* note: what is odd about the Secret of a source that works; owned by the caller, NULL: nothing. */
static int verify(struct reconciler *r, const json_t *object, struct source_status *status, char **note, struct error **err)
{
	AUTO_SESSION struct session *session = NULL;

	if (session_get(r->sessions, object, &session, err) < 0)
		return -1;
	struct source *source = session_source(session);
	if (source->ops->verify(source, r->cancel, err) < 0) {
		session_add_note(*err, session_secret_note(session));
		return -1;
	}
	*note = session_secret_note(session) ? strdup(session_secret_note(session)) : NULL;
	keep_certificate(source, object, &status->certificate);
	return 0;
}

static void set(struct source_status *st, const char *type, bool value, const char *reason, const char *message, bool times)
{
	condition_set(&st->conditions, &st->condition_count, type, value ? "True" : "False", reason, message, times);
}

static void describe(struct source_status *st, const struct error *failed, const char *note, int64_t generation)
{
	AUTO_FREE char *noted = NULL;
	const char *reason = failed ? failed->reason : "Verified", *message = failed ? failed->message : "";
	bool permanent = failed && failed->class != ERROR_TRANSIENT;

	free(st->status);
	free(st->message);
	st->status = strdup(failed ? "clusterNotReady" : "clusterReady");
	if (!note || asprintf(&noted, "Verified; %s", note) < 0)
		noted = NULL;
	st->message = strdup(failed ? message : noted ? noted : "Verified");
	set(st, "ClusterReady", !failed, reason, message, true);
	set(st, "ClusterError", failed, reason, message, true);
	set(st, "Ready", !failed, reason, failed ? message : "Verified", false);
	set(st, "Reconciling", failed && !permanent, failed && !permanent ? "Retrying" : "Settled", failed && !permanent ? message : "",
	    false);
	set(st, "Stalled", permanent, permanent ? reason : "Settled", permanent ? message : "", false);
	for (size_t i = 0; i < st->condition_count; i++)
		st->conditions[i].observed_generation = generation;
	st->observed_generation = generation;
}

static const struct json_type *status_type(const struct resource *resource)
{
	return resource == &api_vmware_sources ? &api_vmware_source_status_type : &api_source_status_type;
}

static int patch(struct reconciler *r, const struct resource *resource, const json_t *object, const struct source_status *old,
		 const struct source_status *new, struct error **err)
{
	AUTO_JSON json_t *from = json_encode(status_type(resource), old), *to = json_encode(status_type(resource), new);
	AUTO_JSON json_t *diff = from && to ? json_merge_diff(from, to) : NULL;
	AUTO_JSON json_t *body = NULL, *done = NULL;

	if (!diff)
		return error_set_errno(err, ENOMEM, "cannot write the status");
	if (!json_object_size(diff))
		return 0;
	body = json_pack("{s:{s:O}, s:O}", "metadata", "resourceVersion", json_path(object, "metadata.resourceVersion"), "status", diff);
	if (!body)
		return error_set_errno(err, ENOMEM, "cannot write the status");
	done = store_patch(r->options.store, resource, json_path_string(object, "metadata.namespace"),
			   json_path_string(object, "metadata.name"), "status", body, err);
	return done ? 0 : -1;
}

static void free_status_p(struct source_status *status)
{
	json_type_free(&api_vmware_source_status_type, status); /* the one with all fields */
}

int reconcile_source(struct reconciler *r, const char *key, const char *plural, const char *ns, const char *name, struct error **err)
{
	struct informer *informer = informer_of(r, plural);
	AUTO_JSON json_t *object = informer ? informer_get(informer, ns, name) : NULL;
	CLEANUP(free_status_p) struct source_status old = { 0 };
	CLEANUP(free_status_p) struct source_status new = { 0 };
	AUTO_ERROR struct error *failed = NULL;
	AUTO_FREE char *note = NULL;

	if (!object || json_path(object, "metadata.deletionTimestamp")) {
		secrets_use(r->secrets, key, NULL, NULL);
		return 0;
	}
	if (json_decode(&api_vmware_source_status_type, json_object_get(object, "status"), &old, err) < 0 ||
	    json_decode(&api_vmware_source_status_type, json_object_get(object, "status"), &new, err) < 0)
		return error_wrap(err, "cannot read the object");
	use_secret(r, key, object);
	if (verify(r, object, &new, &note, &failed) < 0 && (failed->class == ERROR_CANCELLED || !strcmp(failed->reason, SESSION_BUSY)))
		return error_move(err, move_ptr(failed));
	describe(&new, failed, note, json_integer_value(json_path(object, "metadata.generation")));
	if (patch(r, informer_resource(informer), object, &old, &new, err) < 0)
		return -1;
	if (strcmp(old.status ? old.status : "", new.status) || strcmp(old.message ? old.message : "", new.message)) {
		event_record(r->options.events, object, failed ? "Warning" : "Normal", failed ? failed->reason : "ClusterReady",
			     new.message);
		log_write(failed ? LOG_WARNING : LOG_INFO, failed ? "source not ready" : "source ready", "message", new.message, NULL);
	}
	if (failed)
		return error_move(err, move_ptr(failed)); /* again, with back-off: the endpoint or the Secret may be mended */
	queue_add_after(r->queue, key, r->options.reverify_s * 1000 + backoff_random(r->options.reverify_s * 100));
	return 0;
}
