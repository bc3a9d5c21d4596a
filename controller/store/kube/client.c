#include "store/kube/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/backoff.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "store/kube/identity.h"
#include "store/kube/limiter.h"
#include "store/kube/status.h"
#include "json/codec.h"

#define CONNECT_MS 10000
#define BODY_MAX (128u << 20)  /* a page of a list: at most 500 objects */
#define STREAM_STALL_MS 150000 /* a watch has a bookmark every minute: one that is silent for so long is dead, whatever TCP says */
#define TRIES_MAX 4
/* An API server that has just started refuses what it will allow in a moment, as its caches of roles and accounts are still empty. So a
 * refusal this soon after it was away is no final answer. */
#define SETTLING_MS 30000
#define RATE_PER_S 100.0 /* the server has a limit of its own (API priority and fairness); this one is for our mistakes */
#define RATE_BURST 200

struct kube_client {
	struct identity *identity;
	struct limiter *limiter;
	struct cancel *cancel;
	unsigned deadline_ms; /* of a call with all its tries */
	char *server, *user_agent;
	char **impersonation; /* header lines, NULL-ended */
	size_t impersonation_count;
	struct request_stats *stats;
	_Atomic uint64_t away;  /* when the server was last found to be away or unwell; 0: never */
	_Atomic uint64_t pause; /* until when it asked us to wait (Retry-After); 0: never */
};

/* Takes the line over. */
static int add_header(struct kube_client *c, const char *name, const char *value)
{
	char **longer = realloc(c->impersonation, (c->impersonation_count + 2) * sizeof *longer), *line = NULL;

	if (!longer)
		return -1;
	c->impersonation = longer;
	longer[c->impersonation_count] = NULL;
	if (asprintf(&line, "%s%s%s", name ? name : "", name ? ": " : "", value) < 0)
		return -1;
	longer[c->impersonation_count++] = line;
	longer[c->impersonation_count] = NULL;
	return 0;
}

/* "User impersonation", Kubernetes documentation. */
static int set_impersonation(struct kube_client *c, const struct kube_config *config)
{
	if (!config->as_user)
		return 0;
	if (add_header(c, "Impersonate-User", config->as_user) < 0 ||
	    (config->as_uid && add_header(c, "Impersonate-Uid", config->as_uid) < 0))
		return -1;
	for (char **g = config->as_groups; g && *g; g++)
		if (add_header(c, "Impersonate-Group", *g) < 0)
			return -1;
	for (char **x = config->as_extra; x && *x; x++)
		if (add_header(c, NULL, *x) < 0)
			return -1;
	return 0;
}

struct kube_client *kube_client_new(const struct kube_config *config, const char *user_agent, struct cancel *cancel, struct error **err)
{
	struct kube_client *c = calloc(1, sizeof *c);

	if (!c) {
		error_set_errno(err, ENOMEM, "cannot make a client of the cluster");
		return NULL;
	}
	c->cancel = cancel;
	c->deadline_ms = CLIENT_DEADLINE_MS;
	c->server = strdup(config->server);
	if (asprintf(&c->user_agent, "User-Agent: %s", user_agent ? user_agent : "vm-import-controller") < 0)
		c->user_agent = NULL;
	c->stats = request_stats_new(config->server);
	c->limiter = limiter_new(RATE_PER_S, RATE_BURST);
	if (!c->server || !c->user_agent || !c->stats || !c->limiter || set_impersonation(c, config) < 0)
		error_set_errno(err, ENOMEM, "cannot make a client of the cluster");
	else if ((c->identity = identity_new(config, err)))
		return c;
	kube_client_free(c);
	return NULL;
}

void kube_client_free(struct kube_client *c)
{
	if (!c)
		return;
	identity_free(c->identity);
	limiter_free(c->limiter);
	kube_string_list_free(c->impersonation);
	request_stats_free(c->stats);
	free(c->server);
	free(c->user_agent);
	free(c);
}

/* "cannot patch virtualmachineimports.migration.harvesterhci.io/status default/a", for messages. */
static int attempted(const struct kube_call *call, struct error **err)
{
	const struct resource *res = call->res;
	AUTO_BUFFER struct buffer b = { 0 };

	buffer_init(&b, 4096);
	buffer_addf(&b, "cannot %s %s%s%s", call->verb, res->plural, *res->group ? "." : "", res->group);
	if (call->subresource)
		buffer_addf(&b, "/%s", call->subresource);
	if (call->name)
		buffer_addf(&b, " %s%s%s", call->ns ? call->ns : "", call->ns ? "/" : "", call->name);
	else if (call->ns)
		buffer_addf(&b, " in namespace %s", call->ns);
	return error_wrap(err, "%s", b.len ? b.data : "the request failed");
}

static unsigned header_seconds_ms(const struct http_response *r)
{
	AUTO_FREE char *text = http_response_header(r, "Retry-After");
	char *end = NULL;
	unsigned long seconds = text ? strtoul(text, &end, 10) : 0;

	return text && end != text && !*end && seconds <= 3600 ? (unsigned)seconds * 1000 : 0; /* a date is not used by API servers */
}

/* Remembers how the server fares, from an exchange that failed or an answer. */
static void observe(struct kube_client *c, const struct error *failed, const struct http_response *r)
{
	unsigned told = failed || (r->status != 429 && r->status != 503) ? 0 : header_seconds_ms(r);

	if (failed ? failed->class == ERROR_TRANSIENT : r->status >= 500)
		c->away = clock_monotonic_ms();
	if (told)
		c->pause = clock_monotonic_ms() + told;
}

static bool is_settling(const struct kube_client *c)
{
	uint64_t away = c->away;

	return away && clock_monotonic_ms() - away < SETTLING_MS;
}

/* The error that an answer which is no success stands for. */
static int refused(struct kube_client *c, const struct kube_call *call, const struct http_response *r, struct error **err)
{
	AUTO_JSON json_t *status = json_loadb(r->body, r->body_len, JSON_ALLOW_NUL, NULL);
	AUTO_FREE char *audit = r->status >= 500 ? http_response_header(r, "Audit-Id") : NULL;
	AUTO_ERROR struct error *told = NULL;

	status_to_error(status, r->status, &told);
	if (told && (r->status == 401 || r->status == 403) && is_settling(c))
		told->class = ERROR_TRANSIENT;
	if (told && audit) /* with it the server's own log tells more */
		error_set_code(err, told->class, told->reason, told->code, "%s (audit id %s)", told->message, audit);
	else
		error_move(err, move_ptr(told));
	return attempted(call, err);
}

/* What must not wait behind the rest: the lease that lets us work, and what users look at. */
static enum limiter_class class_of(const struct kube_call *call)
{
	if ((call->subresource && !strcmp(call->subresource, "status")) || !strcmp(call->res->plural, "leases"))
		return LIMITER_URGENT;
	return !strcmp(call->verb, "list") || !strcmp(call->verb, "watch") ? LIMITER_LATER : LIMITER_NORMAL;
}

static int wait_turn(struct kube_client *c, const struct kube_call *call, struct cancel *cancel, struct error **err)
{
	uint64_t start = clock_monotonic_ms();
	int result = limiter_wait(c->limiter, class_of(call), start + c->deadline_ms, cancel, err);

	request_stats_wait(c->stats, call->method, (double)(clock_monotonic_ms() - start) / 1000);
	return result;
}

static int perform_as(struct kube_client *c, struct http_request *q, const char **headers, const struct identity_use *use,
		      struct http_response *r, struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;
	uint64_t start = clock_monotonic_ms();
	int result;

	*headers = use->authorization;
	result = http_perform(use->http, q, r, &failed);
	*headers = NULL;
	request_stats_count(c->stats, q->method, result < 0 ? 0 : r->status, q->sink ? -1 : (double)(clock_monotonic_ms() - start) / 1000);
	if (failed && (!strcmp(failed->reason, "TLSFailed") || !strcmp(failed->reason, "InvalidCertificate")))
		identity_doubt(c->identity);
	return result < 0 ? error_move(err, move_ptr(failed)) : 0;
}

/* Sends the request; once more when it was not authenticated and there may be newer credentials. */
static int perform(struct kube_client *c, const struct kube_call *call, struct http_request *q, struct http_response *r, struct error **err)
{
	size_t n = 0;
	AUTO_FREE char *content_type = NULL;
	AUTO_FREE const char **headers = calloc(c->impersonation_count + 5, sizeof *headers);

	if (!headers || (call->content_type && asprintf(&content_type, "Content-Type: %s", call->content_type) < 0)) {
		content_type = NULL;
		return error_set_errno(err, ENOMEM, "cannot make the request");
	}
	headers[n++] = "Accept: application/json";
	headers[n++] = c->user_agent;
	for (size_t i = 0; i < c->impersonation_count; i++)
		headers[n++] = c->impersonation[i];
	if (content_type)
		headers[n++] = content_type;
	q->headers = headers;
	q->connect_timeout_ms = CONNECT_MS;
	q->max_body = q->sink ? 0 : BODY_MAX;
	q->cancel = call->cancel ? call->cancel : c->cancel;
	q->once = !strcmp(call->method, "POST"); /* a second one could make a second object */
	if (wait_turn(c, call, q->cancel, err) < 0)
		return -1;
	for (unsigned refused = 0;;) {
		struct identity_use use = { 0 };
		unsigned generation;
		int result;

		if (identity_use(c->identity, refused, q->cancel, &use, err) < 0)
			return -1;
		result = perform_as(c, q, headers + n, &use, r, err);
		generation = use.generation;
		identity_release(c->identity, &use);
		if (result < 0 || r->status != 401 || refused || !identity_renews(c->identity))
			return result;
		refused = generation;
		http_response_free(r);
	}
}

/* Nothing was sent. */
static bool is_unsent(const struct error *failed)
{
	static const char *const reasons[] = { "ConnectionFailed", "UnknownHost", "TLSFailed" };

	for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
		if (!strcmp(failed->reason, reasons[i]))
			return true;
	return false;
}

/* How long to wait before the next try; 0: there is none. What may have been carried out is not asked for twice, only what was
 * certainly not (there was no connection, 429), and reads. */
static unsigned retry_wait(const struct kube_call *call, const struct error *failed, const struct http_response *r, struct backoff *backoff)
{
	bool read = !strcmp(call->method, "GET");
	unsigned told;

	if (backoff->attempt + 1 >= TRIES_MAX)
		return 0;
	if (failed)
		return failed->class == ERROR_TRANSIENT && (read || is_unsent(failed)) ? backoff_next(backoff) : 0;
	told = header_seconds_ms(r);
	if (r->status == 429)
		return told + backoff_next(backoff);
	if (r->status == 503 && told && strcmp(call->method, "POST"))
		return told + backoff_next(backoff);
	return read && r->status >= 500 ? backoff_next(backoff) : 0;
}

static char *make_url(const struct kube_client *c, const struct kube_call *call, struct error **err)
{
	AUTO_FREE char *path = kube_path(call, err);
	char *url = NULL;

	if (!path)
		return NULL;
	if (asprintf(&url, "%s%s%s%s", c->server, path, call->query ? "?" : "", call->query ? call->query : "") >= 0)
		return url;
	error_set_errno(err, ENOMEM, "cannot make the request");
	return NULL;
}

static json_t *decode(const struct http_response *r, struct error **err)
{
	json_error_t why;
	json_t *object = json_loadb(r->body, r->body_len, JSON_ALLOW_NUL, &why);

	if (json_is_object(object))
		return object;
	json_decref(object);
	error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the API server's answer is no object: %s", object ? "not a mapping" : why.text);
	return NULL;
}

/* All tries of a call within its deadline. */
static json_t *run(struct kube_client *c, const struct kube_call *call, const char *url, struct error **err)
{
	AUTO_FREE char *body = call->body ? json_dumps(call->body, JSON_COMPACT) : NULL;
	uint64_t deadline = clock_monotonic_ms() + c->deadline_ms, now;
	struct backoff backoff = { .base_ms = 200, .cap_ms = 5000 };

	if (call->body && !body) {
		error_set(err, ERROR_PERMANENT, "InvalidObject", "the object is no valid JSON");
		return NULL;
	}
	while ((now = clock_monotonic_ms()) < deadline) {
		AUTO_RESPONSE struct http_response r = { 0 };
		AUTO_ERROR struct error *failed = NULL;
		struct http_request q = { .method = call->method,
					  .url = url,
					  .body = body,
					  .body_len = body ? strlen(body) : 0,
					  .timeout_ms = (unsigned)(deadline - now) };
		int result = perform(c, call, &q, &r, &failed);
		unsigned wait;

		observe(c, failed, &r);
		if (result == 0 && r.status >= 200 && r.status <= 299)
			return decode(&r, err);
		wait = retry_wait(call, result < 0 ? failed : NULL, &r, &backoff);
		if (!wait || clock_monotonic_ms() + wait >= deadline || cancel_wait(q.cancel, wait)) {
			if (result < 0) {
				error_move(err, move_ptr(failed));
				attempted(call, err);
			} else {
				refused(c, call, &r, err);
			}
			return NULL;
		}
		request_stats_retry(c->stats);
	}
	error_set(err, ERROR_TRANSIENT, "TimedOut", "the API server did not answer within %u s", c->deadline_ms / 1000);
	attempted(call, err);
	return NULL;
}

json_t *kube_client_call(struct kube_client *c, const struct kube_call *call, struct error **err)
{
	AUTO_FREE char *url = make_url(c, call, err);

	return url ? run(c, call, url, err) : NULL;
}

json_t *kube_client_get_path(struct kube_client *c, const char *path, struct error **err)
{
	/* Errors name the path in the resource's place. */
	struct resource res = { .group = "", .version = "", .kind = "", .plural = path };
	struct kube_call call = { .verb = "get", .method = "GET", .res = &res };
	AUTO_FREE char *url = NULL;

	if (asprintf(&url, "%s%s", c->server, path) < 0) {
		url = NULL;
		error_set_errno(err, ENOMEM, "cannot make the request");
		return NULL;
	}
	return run(c, &call, url, err);
}

static int stream(struct kube_client *c, const struct kube_call *call, const char *url, unsigned timeout_ms, http_sink sink, void *sink_arg,
		  struct error **err)
{
	AUTO_RESPONSE struct http_response r = { 0 };
	struct http_request q = { .method = "GET",
				  .url = url,
				  .timeout_ms = timeout_ms,
				  .stall_timeout_ms = STREAM_STALL_MS,
				  .sink = sink,
				  .sink_arg = sink_arg };
	AUTO_ERROR struct error *failed = NULL;

	if (perform(c, call, &q, &r, &failed) < 0) {
		observe(c, failed, &r);
		error_move(err, move_ptr(failed));
		return attempted(call, err);
	}
	observe(c, NULL, &r);
	if (r.status < 200 || r.status > 299)
		return refused(c, call, &r, err);
	return 0;
}

int kube_client_stream(struct kube_client *c, const struct kube_call *call, unsigned timeout_ms, http_sink sink, void *sink_arg,
		       struct error **err)
{
	AUTO_FREE char *url = make_url(c, call, err);

	return url ? stream(c, call, url, timeout_ms, sink, sink_arg, err) : -1;
}

int kube_client_read_path(struct kube_client *c, const char *path, unsigned timeout_ms, http_sink sink, void *sink_arg, struct error **err)
{
	struct resource res = { .group = "", .version = "", .kind = "", .plural = path };
	struct kube_call call = { .verb = "get", .method = "GET", .res = &res };
	AUTO_FREE char *url = NULL;

	if (asprintf(&url, "%s%s", c->server, path) < 0) {
		url = NULL;
		return error_set_errno(err, ENOMEM, "cannot make the request");
	}
	return stream(c, &call, url, timeout_ms, sink, sink_arg, err);
}

struct request_stats *kube_client_stats(struct kube_client *c)
{
	return c->stats;
}

unsigned kube_client_pause_ms(const struct kube_client *c)
{
	uint64_t until = c->pause, now = clock_monotonic_ms();

	return until > now ? (unsigned)(until - now) : 0;
}

unsigned kube_client_connections(struct kube_client *c)
{
	return identity_connections(c->identity);
}

void kube_client_set_deadline(struct kube_client *c, unsigned ms)
{
	c->deadline_ms = ms;
}
