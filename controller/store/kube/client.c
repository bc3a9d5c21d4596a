#include "store/kube/client.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/backoff.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "store/kube/status.h"
#include "json/codec.h"

#define TOKEN_FRESH_MS 60000
#define CONNECT_MS 10000
#define BODY_MAX (128u << 20)  /* a page of a list: at most 500 objects */
#define STREAM_STALL_MS 150000 /* a watch has a bookmark every minute: one that is silent for so long is dead, whatever TCP says */
#define TRIES_MAX 4
/* An API server that has just started refuses what it will allow in a moment, as its caches of roles and accounts are still empty. So a
 * refusal this soon after it was away is no final answer. */
#define SETTLING_MS 30000

struct kube_client {
	struct http_client *http;
	struct cancel *cancel;
	unsigned deadline_ms; /* of a call with all its tries */
	char *server, *user_agent, *token_file;
	char **impersonation; /* header lines, NULL-ended */
	size_t impersonation_count;
	pthread_mutex_t lock; /* guards the token and its age; not held while the file is read */
	char *token;
	uint64_t token_read;
	struct request_stats *stats;
	_Atomic uint64_t away; /* when the server was last found to be away or unwell; 0: never */
};

static int set_impersonation(struct kube_client *c, const struct kube_config *config)
{
	size_t groups = 0;

	if (!config->as_user)
		return 0;
	while (config->as_groups && config->as_groups[groups])
		groups++;
	c->impersonation = calloc(groups + 2, sizeof *c->impersonation);
	if (!c->impersonation || asprintf(&c->impersonation[0], "Impersonate-User: %s", config->as_user) < 0)
		return -1;
	c->impersonation_count = 1;
	for (size_t i = 0; i < groups; i++, c->impersonation_count++)
		if (asprintf(&c->impersonation[i + 1], "Impersonate-Group: %s", config->as_groups[i]) < 0)
			return -1;
	return 0;
}

/* /version is for everybody, and small. */
static int share(struct kube_client *c, struct error **err)
{
	AUTO_FREE char *probe = NULL;

	if (asprintf(&probe, "%s/version", c->server) < 0) {
		probe = NULL;
		return error_set_errno(err, ENOMEM, "cannot make a client of the cluster");
	}
	return http_client_share(c->http, probe, err);
}

struct kube_client *kube_client_new(const struct kube_config *config, const char *user_agent, struct cancel *cancel, struct error **err)
{
	struct http_trust trust = {
		.ca_pem = config->ca_pem,
		.insecure = config->insecure,
		.client_cert_pem = config->cert_pem,
		.client_key_pem = config->key_pem,
		.server_name = config->server_name,
		.proxy_url = config->proxy_url,
	};
	struct kube_client *c = calloc(1, sizeof *c);

	if (!c) {
		error_set_errno(err, ENOMEM, "cannot make a client of the cluster");
		return NULL;
	}
	pthread_mutex_init(&c->lock, NULL);
	c->cancel = cancel;
	c->deadline_ms = CLIENT_DEADLINE_MS;
	c->server = strdup(config->server);
	c->token_file = config->token_file ? strdup(config->token_file) : NULL;
	c->token = config->token ? strdup(config->token) : NULL;
	if (asprintf(&c->user_agent, "User-Agent: %s", user_agent ? user_agent : "vm-import-controller") < 0)
		c->user_agent = NULL;
	c->stats = request_stats_new(config->server);
	if (!c->server || !c->user_agent || !c->stats || (config->token && !c->token) || (config->token_file && !c->token_file) ||
	    set_impersonation(c, config) < 0)
		error_set_errno(err, ENOMEM, "cannot make a client of the cluster");
	else if ((c->http = http_client_new(&trust, err)) && share(c, err) == 0)
		return c;
	kube_client_free(c);
	return NULL;
}

void kube_client_free(struct kube_client *c)
{
	if (!c)
		return;
	http_client_free(c->http);
	for (size_t i = 0; i < c->impersonation_count; i++)
		free(c->impersonation[i]);
	free(c->impersonation);
	pthread_mutex_destroy(&c->lock);
	request_stats_free(c->stats);
	free(c->server);
	free(c->user_agent);
	free(c->token_file);
	free(c->token);
	free(c);
}

/* The header line with the token, owned; *out NULL when there is no token. A token file is read again when it may have changed; while
 * it cannot be read the last token serves. */
static int authorization(struct kube_client *c, bool refresh, char **out, struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;
	AUTO_FREE char *fresh = NULL;
	uint64_t now = clock_monotonic_ms();
	bool stale;

	pthread_mutex_lock(&c->lock);
	stale = c->token_file && (refresh || !c->token_read || now - c->token_read >= TOKEN_FRESH_MS);
	pthread_mutex_unlock(&c->lock);
	if (stale)
		fresh = kube_token_read(c->token_file, &failed);
	LOCK_GUARD(&c->lock);
	if (fresh) {
		free(c->token);
		c->token = move_ptr(fresh);
		c->token_read = now;
	}
	if (failed && !c->token)
		return error_set(err, ERROR_TRANSIENT, "NoToken", "%s", error_message(failed));
	if (c->token && asprintf(out, "Authorization: Bearer %s", c->token) < 0) {
		*out = NULL;
		return error_set_errno(err, ENOMEM, "cannot make the request");
	}
	return 0;
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

/* Remembers how the server fares, from an exchange that failed or an answer. */
static void observe(struct kube_client *c, const struct error *failed, int status)
{
	if (failed ? failed->class == ERROR_TRANSIENT : status >= 500)
		c->away = clock_monotonic_ms();
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

/* Sends the request; once more when it was not authenticated and there may be a newer token. */
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
	for (bool again = false;; again = true) {
		AUTO_FREE char *token = NULL;
		uint64_t start;
		int result;

		if (authorization(c, again, &token, err) < 0)
			return -1;
		headers[n] = token;
		start = clock_monotonic_ms();
		result = http_perform(c->http, q, r, err);
		request_stats_count(c->stats, q->method, result < 0 ? 0 : r->status,
				    q->sink ? -1 : (double)(clock_monotonic_ms() - start) / 1000);
		headers[n] = NULL;
		if (result < 0 || r->status != 401 || !c->token_file || again)
			return result;
		http_response_free(r);
	}
}

static unsigned header_seconds_ms(const struct http_response *r)
{
	AUTO_FREE char *text = http_response_header(r, "Retry-After");
	char *end = NULL;
	unsigned long seconds = text ? strtoul(text, &end, 10) : 0;

	return text && end != text && !*end && seconds <= 3600 ? (unsigned)seconds * 1000 : 0; /* a date is not used by API servers */
}

/* How long to wait before the next try; 0: there is none. What may have been carried out is not asked for twice, only what was
 * certainly turned away (429), and reads. */
static unsigned retry_wait(const struct kube_call *call, const struct error *failed, const struct http_response *r, struct backoff *backoff)
{
	bool read = !strcmp(call->method, "GET");
	unsigned told;

	if (backoff->attempt + 1 >= TRIES_MAX)
		return 0;
	if (failed)
		return read && failed->class == ERROR_TRANSIENT ? backoff_next(backoff) : 0;
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

		observe(c, failed, r.status);
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

int kube_client_stream(struct kube_client *c, const struct kube_call *call, unsigned timeout_ms, http_sink sink, void *sink_arg,
		       struct error **err)
{
	AUTO_FREE char *url = make_url(c, call, err);
	AUTO_RESPONSE struct http_response r = { 0 };
	struct http_request q = { .method = "GET",
				  .url = url,
				  .timeout_ms = timeout_ms,
				  .stall_timeout_ms = STREAM_STALL_MS,
				  .sink = sink,
				  .sink_arg = sink_arg };
	AUTO_ERROR struct error *failed = NULL;

	if (!url)
		return -1;
	if (perform(c, call, &q, &r, &failed) < 0) {
		observe(c, failed, 0);
		error_move(err, move_ptr(failed));
		return attempted(call, err);
	}
	observe(c, NULL, r.status);
	if (r.status < 200 || r.status > 299)
		return refused(c, call, &r, err);
	return 0;
}

struct request_stats *kube_client_stats(struct kube_client *c)
{
	return c->stats;
}

unsigned kube_client_connections(struct kube_client *c)
{
	return http_client_connections(c->http);
}

void kube_client_set_deadline(struct kube_client *c, unsigned ms)
{
	c->deadline_ms = ms;
}
