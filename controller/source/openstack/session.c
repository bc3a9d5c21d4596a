#include "source/openstack/session.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/backoff.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "source/openstack/answer.h"
#include "source/openstack/version.h"
#include "json/codec.h"

#define CALL_MS 60000
#define STALL_MS 60000
#define ANSWER_MAX (32u << 20)
#define GET_TRIES 7 /* with the back-off's pauses some 15 s: what a service that is started anew needs */
#define PAUSE_BASE_MS 400
#define PAUSE_CAP_MS 5000
#define RETRY_AFTER_MAX_S 30
#define PAGE 500
#define ITEMS_MAX 200000
#define DEFAULT_RETRY_COUNT 30
#define DEFAULT_RETRY_DELAY_S 10
#define RETRY_MAX 1000000
/* The newest microversions we know. */
#define COMPUTE_MINOR 79
#define VOLUME_MINOR 59

struct openstack_session {
	struct http_client *http;
	char *keystone, *who, *region, *interface;
	json_t *request; /* for a token; holds the secret */
	unsigned pause_ms;
	uint64_t patience_ms;
	bool own_ca; /* the Secret says whom to trust */
	unsigned minor[OPENSTACK_SERVICES];
	pthread_mutex_t login; /* one login at a time; taken before lock; held over its exchange, for all others wait for the same token */
	pthread_mutex_t lock;  /* guards all below */
	struct keystone_grant grant;
	char *token;
	uint64_t issued; /* monotonic ms */
	unsigned logins;
};

DEFINE_CLEANUP(struct openstack_session, session_free_p, openstack_session_close)

static void wipe(char *text)
{
	if (text)
		explicit_bzero(text, strlen(text));
	free(text);
}
DEFINE_CLEANUP(char, wipe_p, wipe)
#define AUTO_SECRET CLEANUP(wipe_p)

/* --- the token ------------------------------------------------------------------------------------------------------------- */

/* The certificate of the endpoint is not trusted: what the user can do about it. */
static void advise(const struct openstack_session *s, struct error **err)
{
	char *message = NULL;

	if (!err || !*err || strcmp((*err)->reason, "TLSFailed") || (*err)->class != ERROR_PERMANENT)
		return;
	if (asprintf(&message,
		     "%s; it was checked by %s: put the CA's certificate into the key ca_cert of the Secret that spec.credentials names",
		     (*err)->message, s->own_ca ? "what the Secret gives in ca_cert" : "the system's CAs") < 0)
		return;
	free((*err)->message);
	(*err)->message = message;
}

/* What the service says is wrong: {"badRequest": {"message": …}}, {"NeutronError": {"message": …}}, {"error": {"message": …}}. */
static const char *complaint(const json_t *answer)
{
	void *at = json_object_iter((json_t *)answer);
	const json_t *first = at ? json_object_iter_value(at) : NULL;
	const char *text = answer_text(first, "message");

	return text ? text : answer_text(answer, "message");
}

/* Whether a 413 means too many requests in a while, as services of old and gateways say it (their others say 429), and not too many things: that
 * is 413, too, in Cinder, with a Retry-After of 0. */
static bool is_rate_limit(const struct http_response *r, const char *text)
{
	AUTO_FREE char *after = http_response_header(r, "Retry-After");

	if (text && strcasestr(text, "rate") && strcasestr(text, "limit"))
		return true;
	return after && *after && strcmp(after, "0") && !(text && (strcasestr(text, "quota") || strcasestr(text, "exceed")));
}

static int refuse(const char *method, const char *url, const struct http_response *r, struct error **err)
{
	AUTO_JSON json_t *answer = json_loadb(r->body, r->body_len, 0, NULL);
	const char *text = complaint(answer), *reason = "HTTPStatus", *path = strstr(url, "://");
	enum error_class class = r->status >= 500 || r->status == 408 || r->status == 429 ? ERROR_TRANSIENT : ERROR_PERMANENT;
	AUTO_FREE char *plain = text ? NULL : strndup(r->body, strcspn(r->body, "\r\n<"));
	int code = r->status;
	AUTO_FREE char *elsewhere = r->status >= 300 && r->status < 400 ? http_response_header(r, "Location") : NULL;

	/* The token goes where the catalogue says, and nowhere else. */
	if (elsewhere)
		return error_set_code(
			err, class, "Redirected", r->status,
			"%s %s is redirected to %s (status %d); the cloud's catalogue, or spec.endpoint for Keystone, must have that URL",
			method, answer_shown(path ? path + 3 : "").text, answer_shown(elsewhere).text, r->status);
	switch (r->status) {
	case 400:
		reason = "BadRequest";
		/* So Cinder says that Glance does not answer it. */
		if (text && (strcasestr(text, "unable to establish connection") || strcasestr(text, "connection to glance failed"))) {
			reason = "ServiceUnavailable";
			class = ERROR_TRANSIENT;
		}
		break;
	case 401: /* to a token just given: the service cannot tell, or Keystone forgot it */
		reason = "Unauthorized";
		class = ERROR_TRANSIENT;
		break;
	case 403:
		reason = text && strcasestr(text, "quota") ? "QuotaExceeded" : "Forbidden";
		break;
	case 404:
		reason = "NotFound";
		class = ERROR_NOT_FOUND;
		break;
	case 409:
		reason = "InvalidState";
		class = ERROR_TRANSIENT;
		break;
	case 413:
		if (is_rate_limit(r, text)) {
			class = ERROR_TRANSIENT;
			code = 429;
		} else {
			reason = "QuotaExceeded";
		}
		break;
	}
	return error_set_code(err, class, reason, code, "%s %s answered with status %d%s%s", method,
			      answer_shown(path ? path + 3 : "").text, r->status, text || (plain && *plain) ? ": " : "",
			      answer_shown(text ? text : plain).text);
}

static int log_in(struct openstack_session *s, struct cancel *cancel, struct error **err)
{
	AUTO_SECRET char *body = json_dumps(s->request, JSON_COMPACT);
	AUTO_SECRET char *token = NULL;
	AUTO_RESPONSE struct http_response response = { 0 };
	AUTO_JSON json_t *answer = NULL;
	AUTO_FREE char *url = NULL;
	struct keystone_grant grant = { 0 };
	const char *headers[] = { "Content-Type: application/json", "Accept: application/json", NULL };
	uint64_t now = clock_monotonic_ms();

	if (!body || asprintf(&url, "%s/auth/tokens", s->keystone) < 0) {
		url = NULL;
		return error_set_errno(err, ENOMEM, "cannot log in");
	}
	struct http_request q = { .method = "POST",
				  .url = url,
				  .headers = headers,
				  .body = body,
				  .body_len = strlen(body),
				  .timeout_ms = CALL_MS,
				  .max_body = ANSWER_MAX,
				  .cancel = cancel };
	if (http_perform(s->http, &q, &response, err) < 0) {
		advise(s, err);
		return -1;
	}
	if (response.status == 401)
		return error_set_code(err, ERROR_PERMANENT, "InvalidLogin", 401,
				      "Keystone at %s refused the login of %s; correct the Secret that spec.credentials names", s->keystone,
				      s->who);
	if (response.status < 200 || response.status > 299) {
		refuse("POST", url, &response, err);
		if (response.status < 400 || response.status == 404 || response.status == 405)
			error_wrap(err, "spec.endpoint must be the URL of Keystone, version 3, as https://keystone.example.com:5000/v3");
		if (err && *err && (*err)->class == ERROR_NOT_FOUND)
			(*err)->class = ERROR_PERMANENT;
		return -1;
	}
	answer = json_loadb(response.body, response.body_len, 0, NULL);
	token = http_response_header(&response, "X-Subject-Token");
	if (!answer || !token || !*token || strpbrk(token, " \r\n"))
		return error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "Keystone at %s answered the login with no token", s->keystone);
	if (keystone_parse(answer, s->region, s->interface, &grant, err) < 0)
		return -1;
	LOCK_GUARD(&s->lock);
	keystone_grant_clear(&s->grant);
	s->grant = grant;
	wipe(s->token);
	s->token = move_ptr(token);
	s->issued = now;
	s->logins++;
	return 0;
}

/* How much of the token's life must be left: the rest is for the request's way and for clocks that differ. A lasting deed wants most of it. */
static bool token_good(const struct openstack_session *s, bool lasting)
{
	uint64_t age = clock_monotonic_ms() - s->issued, life = s->grant.life_ms;
	uint64_t margin = life / 4 < 60000 ? life / 4 : 60000;

	if (!s->token)
		return false;
	return lasting ? age < life / 4 : age + margin < life;
}

int openstack_session_renew(struct openstack_session *s, struct cancel *cancel, struct error **err)
{
	LOCK_GUARD(&s->login);
	return log_in(s, cancel, err);
}

struct ticket {
	char *header; /* "X-Auth-Token: …" */
	char *url;
	unsigned logins; /* by which it is known whether somebody has logged in since */
};

static void ticket_clear(struct ticket *t)
{
	wipe(t->header);
	free(t->url);
	*t = (struct ticket){ 0 };
}

static int ticket_fill(struct openstack_session *s, enum openstack_service service, const char *path, struct ticket *t, struct error **err)
{
	LOCK_GUARD(&s->lock);
	t->logins = s->logins;
	if (asprintf(&t->header, "X-Auth-Token: %s", s->token ? s->token : "") < 0)
		t->header = NULL;
	if (asprintf(&t->url, "%s%s", s->grant.urls[service], path) < 0)
		t->url = NULL;
	return t->header && t->url ? 0 : error_set_errno(err, ENOMEM, "cannot make the request");
}

/* A token that is good, and the URL. refused: the logins of the ticket that a service refused; 0: none. */
static int ticket_get(struct openstack_session *s, enum openstack_service service, const char *path, bool lasting, unsigned refused,
		      struct ticket *t, struct cancel *cancel, struct error **err)
{
	bool good;

	{
		LOCK_GUARD(&s->lock);
		good = token_good(s, lasting) && s->logins != refused;
	}
	if (!good) {
		LOCK_GUARD(&s->login);
		{
			LOCK_GUARD(&s->lock); /* somebody else may have done it meanwhile */
			good = token_good(s, lasting) && s->logins != refused;
		}
		if (!good && log_in(s, cancel, err) < 0)
			return -1;
	}
	return ticket_fill(s, service, path, t, err);
}

/* --- requests -------------------------------------------------------------------------------------------------------------- */

struct call {
	enum openstack_service service;
	const char *method, *path, *content_type, *range;
	const char *body;
	bool lasting;
	http_begin begin;
	http_sink sink;
	void *sink_arg;
	struct cancel *cancel;
};

/* One request, and a second one where the token was refused. A status outside 200..299 is an error. *sent: it may have reached the service. */
static int call_once(struct openstack_session *s, const struct call *c, struct http_response *response, bool *sent, struct error **err)
{
	static const char *const names[OPENSTACK_SERVICES] = { [OPENSTACK_COMPUTE] = "compute", [OPENSTACK_VOLUME] = "volume" };
	char version[64] = "", old_version[64] = "", type[128];
	unsigned refused = 0;

	if (names[c->service] && s->minor[c->service]) {
		unsigned major = c->service == OPENSTACK_COMPUTE ? 2 : 3;

		snprintf(version, sizeof version, "OpenStack-API-Version: %s %u.%u", names[c->service], major, s->minor[c->service]);
		if (c->service == OPENSTACK_COMPUTE) /* so before 2.27 */
			snprintf(old_version, sizeof old_version, "X-OpenStack-Nova-API-Version: 2.%u", s->minor[c->service]);
	}
	snprintf(type, sizeof type, "Content-Type: %s", c->content_type ? c->content_type : "application/json");
	for (unsigned attempt = 0;; attempt++) {
		CLEANUP(ticket_clear) struct ticket t = { 0 };
		const char *headers[8], **h = headers;
		int result;

		*sent = false;
		if (ticket_get(s, c->service, c->path, c->lasting, refused, &t, c->cancel, err) < 0)
			return -1;
		*h++ = t.header;
		*h++ = c->sink ? "Accept: */*" : "Accept: application/json";
		if (c->body)
			*h++ = type;
		if (*version)
			*h++ = version;
		if (*old_version)
			*h++ = old_version;
		if (c->range)
			*h++ = c->range;
		*h = NULL;
		struct http_request q = { .method = c->method,
					  .url = t.url,
					  .headers = headers,
					  .body = c->body,
					  .body_len = c->body ? strlen(c->body) : 0,
					  .timeout_ms = c->sink ? 0 : CALL_MS,
					  .stall_timeout_ms = c->sink ? STALL_MS : 0,
					  .max_body = ANSWER_MAX,
					  .begin = c->begin,
					  .sink = c->sink,
					  .sink_arg = c->sink_arg,
					  .once = !strcmp(c->method, "POST"), /* a second one could make a second object */
					  .cancel = c->cancel };
		AUTO_ERROR struct error *failed = NULL;
		result = http_perform(s->http, &q, response, &failed);
		if (result < 0) {
			*sent = strcmp(failed->reason, "ConnectionFailed") && strcmp(failed->reason, "UnknownHost") &&
				strcmp(failed->reason, "TLSFailed");
			advise(s, &failed);
			return error_move(err, move_ptr(failed));
		}
		if (response->status == 401 && !attempt) {
			http_response_free(response);
			*response = (struct http_response){ 0 };
			refused = t.logins;
			continue;
		}
		*sent = true;
		if (response->status >= 200 && response->status <= 299)
			return 0;
		return refuse(c->method, t.url, response, err);
	}
}

static unsigned pause_of(const struct http_response *response, struct backoff *backoff)
{
	AUTO_FREE char *after = response->headers ? http_response_header(response, "Retry-After") : NULL;
	long seconds = after ? strtol(after, NULL, 10) : 0;
	unsigned pause = backoff_next(backoff);

	if (seconds > RETRY_AFTER_MAX_S)
		seconds = RETRY_AFTER_MAX_S;
	return seconds > 0 && (unsigned)seconds * 1000 > pause ? (unsigned)seconds * 1000 : pause;
}

/* A request that may be made any number of times. */
static int call_often(struct openstack_session *s, const struct call *c, struct http_response *response, struct error **err)
{
	struct backoff backoff = { .base_ms = PAUSE_BASE_MS, .cap_ms = PAUSE_CAP_MS };

	for (unsigned attempt = 1;; attempt++) {
		AUTO_ERROR struct error *failed = NULL;
		unsigned pause;
		bool sent;

		if (call_once(s, c, response, &sent, &failed) == 0)
			return 0;
		pause = pause_of(response, &backoff);
		http_response_free(response);
		*response = (struct http_response){ 0 };
		if (failed->class != ERROR_TRANSIENT || failed->code == 409 || attempt == GET_TRIES || cancel_wait(c->cancel, pause))
			return error_move(err, move_ptr(failed));
	}
}

static json_t *parse(const struct call *c, const struct http_response *response, struct error **err)
{
	json_t *answer = json_loadb(response->body, response->body_len, 0, NULL);

	if (!answer || !json_is_object(answer)) {
		json_decref(answer);
		error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the answer to %s %s is no JSON object", c->method, c->path);
		return NULL;
	}
	return answer;
}

static json_t *get(struct openstack_session *s, enum openstack_service service, const char *path, struct cancel *cancel, struct error **err)
{
	struct call c = { .service = service, .method = "GET", .path = path, .cancel = cancel };
	AUTO_RESPONSE struct http_response response = { 0 };

	return call_often(s, &c, &response, err) < 0 ? NULL : parse(&c, &response, err);
}

json_t *openstack_get(struct openstack_session *s, enum openstack_service service, struct cancel *cancel, struct error **err,
		      const char *format, ...)
{
	AUTO_FREE char *path = NULL;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&path, format, ap) < 0)
		path = NULL;
	va_end(ap);
	if (!path) {
		error_set_errno(err, ENOMEM, "cannot make the request");
		return NULL;
	}
	return get(s, service, path, cancel, err);
}

/* Whether the answer says that there is more: a link "next" in "<key>_links", or (Image) a member "next". */
static bool has_next(const json_t *answer, const char *key)
{
	char links[64];
	const json_t *link;
	size_t i;

	if (answer_text(answer, "next"))
		return true;
	snprintf(links, sizeof links, "%s_links", key);
	json_array_foreach (json_object_get(answer, links), i, link) {
		const char *rel = answer_text(link, "rel");

		if (rel && !strcmp(rel, "next"))
			return true;
	}
	return false;
}

json_t *openstack_list(struct openstack_session *s, enum openstack_service service, const char *path, const char *key,
		       struct cancel *cancel, struct error **err)
{
	AUTO_JSON json_t *all = json_array();
	AUTO_FREE char *marker = NULL;

	/* The next page is asked for by the last element's id: the links' own URLs are those that a proxy hides. */
	for (;;) {
		AUTO_JSON json_t *answer = NULL;
		AUTO_FREE char *page = NULL;
		const json_t *items;
		const char *last;

		if (asprintf(&page, "%s%climit=%d%s%s", path, strchr(path, '?') ? '&' : '?', PAGE, marker ? "&marker=" : "",
			     marker ? marker : "") < 0)
			page = NULL;
		if (!page || !all) {
			error_set_errno(err, ENOMEM, "cannot make the request");
			return NULL;
		}
		answer = get(s, service, page, cancel, err);
		if (!answer)
			return NULL;
		items = json_object_get(answer, key);
		if (!json_is_array(items)) {
			error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the answer to GET %s has no list \"%s\"", path, key);
			return NULL;
		}
		json_array_extend(all, (json_t *)items);
		last = answer_id(json_array_get(items, json_array_size(items) - 1), "id");
		if (!json_array_size(items) || !has_next(answer, key))
			return move_ptr(all);
		if (!last || (marker && !strcmp(marker, last)) || json_array_size(all) > ITEMS_MAX) {
			error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the list GET %s does not end", path);
			return NULL;
		}
		free(marker);
		marker = strdup(last);
		if (!marker) {
			error_set_errno(err, ENOMEM, "cannot make the request");
			return NULL;
		}
	}
}

int openstack_do(struct openstack_session *s, const struct openstack_deed *deed, json_t **answer, bool *unknown, struct error **err)
{
	AUTO_SECRET char *body = deed->body ? json_dumps(deed->body, JSON_COMPACT) : NULL;
	struct backoff backoff = { .base_ms = PAUSE_BASE_MS, .cap_ms = PAUSE_CAP_MS };
	struct call c = { .service = deed->service,
			  .method = deed->method,
			  .path = deed->path,
			  .content_type = deed->content_type,
			  .body = body,
			  .lasting = deed->lasting };

	*unknown = false;
	if (deed->body && !body)
		return error_set_errno(err, ENOMEM, "cannot make the request");
	for (unsigned attempt = 1;; attempt++) {
		AUTO_RESPONSE struct http_response response = { 0 };
		AUTO_ERROR struct error *failed = NULL;
		bool sent = false;

		if (call_once(s, &c, &response, &sent, &failed) == 0) {
			if (answer && !(*answer = json_loadb(response.body, response.body_len, 0, NULL)))
				*answer = json_null();
			if (deed->location)
				*deed->location = http_response_header(&response, "Location");
			return 0;
		}
		/* An answer of 5xx may come from a proxy whose service did it all the same. */
		*unknown = sent && failed->class == ERROR_TRANSIENT && failed->code != 409 && failed->code != 429 && failed->code != 401;
		if (failed->class == ERROR_TRANSIENT && (!sent || failed->code == 429 || failed->code == 401) && attempt < GET_TRIES) {
			cancel_wait(NULL, pause_of(&response, &backoff));
			continue;
		}
		return error_move(err, move_ptr(failed));
	}
}

int openstack_delete(struct openstack_session *s, enum openstack_service service, const char *path, struct error **err)
{
	struct call c = { .service = service, .method = "DELETE", .path = path };
	AUTO_RESPONSE struct http_response response = { 0 };
	AUTO_ERROR struct error *failed = NULL;

	if (call_often(s, &c, &response, &failed) == 0 || failed->class == ERROR_NOT_FOUND || failed->code == 410)
		return 0;
	return error_move(err, move_ptr(failed));
}

int openstack_stream(struct openstack_session *s, enum openstack_service service, const char *path, uint64_t from, uint64_t len,
		     http_begin begin, http_sink sink, void *arg, struct cancel *cancel, struct error **err)
{
	char range[80];
	struct call c = { .service = service,
			  .method = "GET",
			  .path = path,
			  .range = from || len ? range : NULL,
			  .begin = begin,
			  .sink = sink,
			  .sink_arg = arg,
			  .cancel = cancel };
	AUTO_RESPONSE struct http_response response = { 0 };
	bool sent;

	if (len)
		snprintf(range, sizeof range, "Range: bytes=%llu-%llu", (unsigned long long)from, (unsigned long long)(from + len - 1));
	else
		snprintf(range, sizeof range, "Range: bytes=%llu-", (unsigned long long)from);
	return call_once(s, &c, &response, &sent, err);
}

char *openstack_host(struct openstack_session *s, enum openstack_service service)
{
	LOCK_GUARD(&s->lock);
	const char *host = strstr(s->grant.urls[service], "://") + 3;

	return strndup(host, strcspn(host, "/?#"));
}

/* --- beginning and end ----------------------------------------------------------------------------------------------------- */

/* Asks a service which microversions it has. One that does not say is used without. */
static int ask_version(struct openstack_session *s, enum openstack_service service, const char *version, unsigned major, unsigned known,
		       struct cancel *cancel, struct error **err)
{
	AUTO_FREE char *url = NULL;
	AUTO_RESPONSE struct http_response response = { 0 };
	AUTO_JSON json_t *document = NULL;
	AUTO_ERROR struct error *failed = NULL;
	CLEANUP(ticket_clear) struct ticket t = { 0 };
	struct backoff backoff = { .base_ms = PAUSE_BASE_MS, .cap_ms = PAUSE_CAP_MS };
	char *at;

	if (ticket_get(s, service, "/", false, 0, &t, cancel, err) < 0)
		return -1;
	at = openstack_version_end(t.url, version);
	if (!at)
		return 0;
	*at = 0;
	if (asprintf(&url, "%s/", t.url) < 0) {
		url = NULL;
		return error_set_errno(err, ENOMEM, "cannot make the request");
	}
	const char *headers[] = { t.header, "Accept: application/json", NULL };
	struct http_request q = { .url = url, .headers = headers, .timeout_ms = CALL_MS, .cancel = cancel };
	for (unsigned attempt = 1; http_perform(s->http, &q, &response, &failed) < 0 || response.status >= 500; attempt++) {
		if ((failed && failed->class != ERROR_TRANSIENT) || attempt == GET_TRIES || cancel_wait(cancel, backoff_next(&backoff))) {
			advise(s, &failed);
			return failed ? error_move(err, move_ptr(failed)) : refuse("GET", url, &response, err);
		}
		error_free(move_ptr(failed));
		http_response_free(&response);
		response = (struct http_response){ 0 };
	}
	document = json_loadb(response.body, response.body_len, 0, NULL);
	s->minor[service] = openstack_negotiate(document, major, known);
	return 0;
}

unsigned openstack_pause_ms(const struct openstack_session *s)
{
	return s->pause_ms;
}

uint64_t openstack_patience_ms(const struct openstack_session *s)
{
	return s->patience_ms;
}

unsigned openstack_minor(const struct openstack_session *s, enum openstack_service service)
{
	return s->minor[service];
}

static unsigned number_or(const json_t *object, const char *path, unsigned fallback)
{
	uint64_t n = 0;

	if (!answer_number_of(json_path(object, path), &n) || !n)
		return fallback;
	return (unsigned)(n < RETRY_MAX ? n : RETRY_MAX);
}

static char *copy(const char *text)
{
	return strdup(text ? text : "");
}

struct openstack_session *openstack_session_open(const json_t *object, const json_t *secret, struct cancel *cancel, struct error **err)
{
	CLEANUP(session_free_p) struct openstack_session *s = calloc(1, sizeof *s);
	const char *ca = answer_text(secret, "ca_cert"), *interface = json_path_string(object, "spec.interface");
	unsigned delay_s = number_or(object, "spec.uploadImageRetryDelay", DEFAULT_RETRY_DELAY_S);
	unsigned count = number_or(object, "spec.uploadImageRetryCount", DEFAULT_RETRY_COUNT);
	struct http_trust trust = { .ca_pem = ca };

	if (!s)
		goto memory;
	pthread_mutex_init(&s->login, NULL);
	pthread_mutex_init(&s->lock, NULL);
	if (delay_s > 3600)
		delay_s = 3600;
	s->own_ca = ca != NULL;
	s->pause_ms = delay_s * 1000;
	s->patience_ms = (uint64_t)count * s->pause_ms;
	s->region = copy(json_path_string(object, "spec.region"));
	s->interface = copy(interface && *interface ? interface : "public");
	if (!s->region || !s->interface)
		goto memory;
	s->keystone = keystone_url(json_path_string(object, "spec.endpoint"), err);
	s->request = s->keystone ? keystone_request(secret, &s->who, err) : NULL;
	if (!s->request)
		return NULL;
	s->http = http_client_new(&trust, err);
	if (!s->http) {
		error_wrap(err, "key ca_cert of the Secret that spec.credentials names");
		return NULL;
	}
	if (openstack_session_renew(s, cancel, err) < 0 || ask_version(s, OPENSTACK_COMPUTE, "/v2.1", 2, COMPUTE_MINOR, cancel, err) < 0 ||
	    ask_version(s, OPENSTACK_VOLUME, "/v3", 3, VOLUME_MINOR, cancel, err) < 0)
		return NULL;
	return move_ptr(s);
memory:
	error_set_errno(err, ENOMEM, "cannot open the source");
	return NULL;
}

void openstack_session_close(struct openstack_session *s)
{
	if (!s)
		return;
	http_client_free(s->http);
	json_decref(s->request);
	keystone_grant_clear(&s->grant);
	wipe(s->token);
	free(s->keystone);
	free(s->who);
	free(s->region);
	free(s->interface);
	pthread_mutex_destroy(&s->login);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
