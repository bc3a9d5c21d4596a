#include "source/ova/remote.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "json/codec.h"

#define DEFAULT_TIMEOUT_S 600
#define TIMEOUT_MAX_S (24 * 3600)
#define PROBE_MAX_MS 60000
#define SAMPLE_BYTES (16u << 20)
#define SAMPLE_MS 1000
#define SAMPLE_PATIENCE_MS 5000

struct remote {
	struct http_client *http;
	char *url, *user, *password;
	char *secret;        /* "the Secret default/x", or NULL: spec.credentials names none */
	bool own_ca;         /* which says whom to trust */
	unsigned timeout_ms; /* 0: none */
};

void remote_version_clear(struct remote_version *v)
{
	free(v->etag);
	free(v->modified);
	*v = (struct remote_version){ 0 };
}

void remote_free(struct remote *r)
{
	if (!r)
		return;
	http_client_free(r->http);
	if (r->password)
		explicit_bzero(r->password, strlen(r->password));
	free(r->url);
	free(r->user);
	free(r->password);
	free(r->secret);
	free(r);
}

DEFINE_CLEANUP(struct remote, remote_free_p, remote_free)
DEFINE_CLEANUP(CURLU, url_free_p, curl_url_cleanup)

static void curl_free_p(char **p)
{
	curl_free(*p);
}

static char *copy(const char *text)
{
	return text && *text ? strdup(text) : NULL;
}

static int check_url(const char *url, struct error **err)
{
	CLEANUP(url_free_p) CURLU *u = curl_url();
	CLEANUP(curl_free_p) char *scheme = NULL;
	CLEANUP(curl_free_p) char *host = NULL;

	if (!url || !*url)
		return error_set(err, ERROR_PERMANENT, "InvalidURL",
				 "spec.url is empty; name the OVA file, as in https://files.example.com/vm.ova");
	/* The message does not quote it: it may hold a password. */
	if (!u || curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) || curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) ||
	    (strcasecmp(scheme, "http") && strcasecmp(scheme, "https")) || curl_url_get(u, CURLUPART_HOST, &host, 0) || !*host)
		return error_set(err, ERROR_PERMANENT, "InvalidURL",
				 "spec.url is no http or https URL, such as https://files.example.com/vm.ova");
	return 0;
}

static char *secret_of(const json_t *object)
{
	const char *ns = json_path_string(object, "spec.credentials.namespace"), *name = json_path_string(object, "spec.credentials.name");
	char *text = NULL;

	if (!ns || !*ns)
		ns = json_path_string(object, "metadata.namespace");
	return name && *name && asprintf(&text, "the Secret %s/%s", ns ? ns : "", name) >= 0 ? text : NULL;
}

struct remote *remote_new(const json_t *object, const json_t *secret, const struct source_options *options, struct error **err)
{
	CLEANUP(remote_free_p) struct remote *r = calloc(1, sizeof *r);
	const char *url = json_path_string(object, "spec.url");
	const json_t *timeout = json_path(object, "spec.httpTimeoutSeconds");
	json_int_t seconds = json_is_integer(timeout) ? json_integer_value(timeout) : DEFAULT_TIMEOUT_S;
	const char *ca = json_string_value(json_object_get(secret, "ca.crt"));

	if (!r) {
		error_set_errno(err, ENOMEM, "cannot open the source");
		return NULL;
	}
	if (check_url(url, err) < 0)
		return NULL;
	r->url = copy(url);
	r->user = copy(json_string_value(json_object_get(secret, "username")));
	r->password = copy(json_string_value(json_object_get(secret, "password")));
	r->secret = secret_of(object);
	r->own_ca = ca && *ca;
	r->timeout_ms = seconds <= 0 ? 0 : (unsigned)(seconds < TIMEOUT_MAX_S ? seconds : TIMEOUT_MAX_S) * 1000;
	struct http_trust trust = { .ca_pem = ca && *ca ? ca : NULL, .refuse_local = !options->allow_local_urls };
	r->http = http_client_new(&trust, err);
	if (!r->http) {
		if (trust.ca_pem)
			error_wrap(err, "the key ca.crt of the Secret");
		return NULL;
	}
	if (!r->url) {
		error_set_errno(err, ENOMEM, "cannot open the source");
		return NULL;
	}
	return move_ptr(r);
}

const char *remote_url(const struct remote *r)
{
	return r->url;
}

char *remote_shown_url(const char *url)
{
	CLEANUP(url_free_p) CURLU *u = curl_url();
	CLEANUP(curl_free_p) char *text = NULL;

	if (!u || curl_url_set(u, CURLUPART_URL, url, 0))
		return strdup("the URL");
	curl_url_set(u, CURLUPART_USER, NULL, 0);
	curl_url_set(u, CURLUPART_PASSWORD, NULL, 0);
	curl_url_set(u, CURLUPART_QUERY, NULL, 0);
	curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0);
	return strdup(curl_url_get(u, CURLUPART_URL, &text, 0) ? "the URL" : text);
}

/* What may not stand in a URL's path as it is; a % that begins an escape stays. Owned. */
static char *escaped(const char *name)
{
	static const char plain[] = "-._~!$&'()*+,;=:@/";
	char *out = malloc(3 * strlen(name) + 1), *to = out;

	for (const char *p = name; out && *p; p++) {
		bool escape = *p == '%' && isxdigit((unsigned char)p[1]) && isxdigit((unsigned char)p[2]);

		if (escape || isalnum((unsigned char)*p) || strchr(plain, *p))
			*to++ = *p;
		else
			to += sprintf(to, "%%%02X", (unsigned char)*p);
	}
	if (out)
		*to = 0;
	return out;
}

char *remote_url_beside(const struct remote *r, const char *relative)
{
	CLEANUP(url_free_p) CURLU *u = curl_url();
	CLEANUP(curl_free_p) char *path = NULL;
	CLEANUP(curl_free_p) char *text = NULL;
	AUTO_FREE char *name = escaped(relative), *all = NULL;
	const char *slash;

	/* The query stays: it may be what lets us in. */
	if (!u || !name || curl_url_set(u, CURLUPART_URL, r->url, 0) || curl_url_get(u, CURLUPART_PATH, &path, 0))
		return NULL;
	slash = strrchr(path, '/');
	if (asprintf(&all, "%.*s%s", slash ? (int)(slash + 1 - path) : 0, path, name) < 0)
		all = NULL;
	if (!all || curl_url_set(u, CURLUPART_PATH, all, 0) || curl_url_get(u, CURLUPART_URL, &text, 0))
		return NULL;
	return strdup(text);
}

/* --- requests ---------------------------------------------------------------------------------------------------------- */

struct fetch {
	uint64_t from, len, passed;
	const struct remote_version *expected;
	struct remote_version *got;
	source_sink sink;
	void *sink_arg;
	bool whole; /* the server sends all of the file */
};

/* "bytes 0-99/1234" */
static bool parse_content_range(const char *text, uint64_t *from, uint64_t *total)
{
	uint64_t to;

	*total = 0;
	return text && (sscanf(text, "bytes %" SCNu64 "-%" SCNu64 "/%" SCNu64, from, &to, total) == 3 ||
			sscanf(text, "bytes %" SCNu64 "-%" SCNu64 "/*", from, &to) == 2);
}

int remote_version_check(const struct remote_version *old, const struct remote_version *new, struct error **err)
{
	bool same = true;

	if (old->etag && new->etag)
		same = !strcmp(old->etag, new->etag);
	else if (old->modified && new->modified)
		same = !strcmp(old->modified, new->modified);
	if (old->size && new->size)
		same = same && old->size == new->size;
	return same ? 0 : error_set(err, ERROR_TRANSIENT, "SourceChanged", "the file was replaced at the server while it was read");
}

static int on_begin(void *arg, const struct http_response *head, struct error **err)
{
	struct fetch *f = arg;
	AUTO_FREE char *range = http_response_header(head, "Content-Range");
	struct remote_version v = { .etag = http_response_header(head, "ETag"), .modified = http_response_header(head, "Last-Modified") };
	uint64_t from = 0;
	int result;

	if (head->status == 206 && (!parse_content_range(range, &from, &v.size) || from != f->from)) {
		remote_version_clear(&v);
		return error_set(err, ERROR_PERMANENT, NO_RANGES, "the server answered a request for byte %llu with the range \"%.80s\"",
				 (unsigned long long)f->from, range ? range : "");
	}
	v.ranges = head->status == 206;
	if (!v.ranges && head->content_length > 0)
		v.size = (uint64_t)head->content_length;
	f->whole = !v.ranges;
	result = f->expected ? remote_version_check(f->expected, &v, err) : 0;
	if (!result && !v.ranges && f->from)
		result = error_set(err, ERROR_PERMANENT, NO_RANGES, "the server does not send parts of a file (range requests)");
	if (!result && f->got) {
		remote_version_clear(f->got);
		*f->got = v;
	} else {
		remote_version_clear(&v);
	}
	return result;
}

static int on_data(void *arg, const void *data, size_t len, struct error **err)
{
	struct fetch *f = arg;

	/* A server that sends more than it was asked for. */
	if (f->len && !f->whole && len > f->len - f->passed)
		len = (size_t)(f->len - f->passed);
	f->passed += len;
	return len ? f->sink(f->sink_arg, data, len, err) : 0;
}

static struct http_request request_of(const struct remote *r, const char *url, struct cancel *cancel)
{
	return (struct http_request){ .url = url,
				      .user = r->user,
				      .password = r->password,
				      .follow_redirects = true,
				      .stall_timeout_ms = r->timeout_ms,
				      .connect_timeout_ms = 30000,
				      .cancel = cancel };
}

/* The certificate is not trusted: what by, and what the user can do about it. */
static void advise(const struct remote *r, struct error *e)
{
	static const char *const issuers[] = { "issuer", "self-signed", "self signed", "first certificate" };
	const char *secret = r->secret ? r->secret : "a Secret that spec.credentials names";
	bool issuer = false;
	char *message = NULL;
	int n;

	if (!e || strcmp(e->reason, "TLSFailed") != 0 || e->class != ERROR_PERMANENT)
		return;
	for (size_t i = 0; i < sizeof issuers / sizeof *issuers; i++)
		issuer = issuer || strstr(e->message, issuers[i]);
	if (!issuer) /* it expired, or is of another host */
		n = asprintf(&message, "%s; mend the certificate there, or correct the host in spec.url", e->message);
	else if (r->own_ca)
		n = asprintf(&message, "%s; it was not signed by the CA that %s gives in ca.crt: put the right one there", e->message,
			     secret);
	else
		n = asprintf(&message, "%s; it was signed by none of the system's CAs: put its CA's certificate into the key ca.crt of %s",
			     e->message, secret);
	if (n < 0)
		return;
	free(e->message);
	e->message = message;
}

/* patience_ms: how long no byte may come; 0: as spec.httpTimeoutSeconds says. */
static int fetch_range(const struct remote *r, const char *url, uint64_t from, uint64_t len, const struct remote_version *version,
		       struct remote_version *got, source_sink sink, void *sink_arg, unsigned patience_ms, struct cancel *cancel,
		       struct error **err)
{
	AUTO_RESPONSE struct http_response response = { 0 };
	AUTO_ERROR struct error *failed = NULL;
	struct fetch f = { .from = from, .len = len, .expected = version, .got = got, .sink = sink, .sink_arg = sink_arg };
	struct http_request q = request_of(r, url, cancel);
	char range[80];
	const char *headers[] = { "Accept-Encoding: identity", range, NULL };

	if (len)
		snprintf(range, sizeof range, "Range: bytes=%llu-%llu", (unsigned long long)from, (unsigned long long)(from + len - 1));
	else
		snprintf(range, sizeof range, "Range: bytes=%llu-", (unsigned long long)from);
	if (patience_ms)
		q.stall_timeout_ms = patience_ms;
	q.headers = headers;
	q.begin = on_begin;
	q.sink = on_data;
	q.sink_arg = &f;
	if (http_fetch(r->http, &q, &response, &failed) < 0) {
		advise(r, failed);
		return error_move(err, move_ptr(failed));
	}
	if (!f.passed && response.status == 200) /* on_begin was not called */
		return error_set(err, ERROR_PERMANENT, "InvalidArchive", "the file is empty; put it on the server again");
	if (len && !f.whole && f.passed < len)
		return error_set(err, ERROR_TRANSIENT, "ConnectionLost", "the server sent %llu of %llu bytes", (unsigned long long)f.passed,
				 (unsigned long long)len);
	return 0;
}

int remote_fetch(const struct remote *r, const char *url, uint64_t from, uint64_t len, const struct remote_version *version,
		 struct remote_version *got, source_sink sink, void *sink_arg, struct cancel *cancel, struct error **err)
{
	return fetch_range(r, url, from, len, version, got, sink, sink_arg, 0, cancel, err);
}

/* What a sample has read. */
struct sample {
	uint64_t begun, bytes; /* since the first of them, monotonic milliseconds */
};

static int count(void *arg, const void *data, size_t len, struct error **err)
{
	struct sample *s = arg;

	(void)data;
	s->begun = s->begun ? s->begun : clock_monotonic_ms();
	s->bytes += len;
	return s->bytes >= SAMPLE_BYTES || clock_monotonic_ms() - s->begun >= SAMPLE_MS
		       ? error_set(err, ERROR_CANCELLED, "Enough", "enough was read")
		       : 0;
}

int remote_sample(const struct remote *r, const char *url, uint64_t from, uint64_t len, uint64_t *rate, struct cancel *cancel,
		  struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;
	struct sample s = { 0 };
	uint64_t took;

	if (fetch_range(r, url, from, len && len < SAMPLE_BYTES ? len : SAMPLE_BYTES, NULL, NULL, count, &s, SAMPLE_PATIENCE_MS, cancel,
			&failed) < 0 &&
	    (!s.bytes || cancel_requested(cancel))) /* what came of a file that is shorter is a sample, too */
		return error_move(err, move_ptr(failed));
	took = s.begun ? clock_monotonic_ms() - s.begun : 0;
	*rate = s.bytes * 1000 / (took ? took : 1);
	return *rate ? 0 : error_set(err, ERROR_PERMANENT, "NoSample", "the server sent nothing of the disk");
}

/* Ends the body of a server that sends all of it. */
static int enough(void *arg, const void *data, size_t len, struct error **err)
{
	(void)data;
	(void)len;
	*(bool *)arg = true;
	return error_set(err, ERROR_CANCELLED, "Enough", "one byte is enough");
}

/* What 401 and 403 mean, in the light of what was sent. */
static void explain_refusal(const struct remote *r, const struct http_response *answer, struct error **failed)
{
	bool redirected = http_was_redirected(r->url, answer), sent = r->user && r->password;
	AUTO_FREE char *asked = remote_shown_url(r->url);
	size_t host = asked ? (size_t)(strstr(asked, "://") + 3 - asked) : 0;

	host += asked ? strcspn(asked + host, "/") : 0;
	if ((*failed)->code == 401 && redirected && asked && strncmp(asked, answer->effective_url, host + 1) != 0)
		error_wrap(failed,
			   "what spec.url redirects to wants credentials, which go to the host of spec.url only; name that URL there");
	else if ((*failed)->code == 401 && sent)
		error_wrap(failed, "the user name and password of spec.credentials (%s) are refused", r->secret ? r->secret : "no Secret");
	else if ((*failed)->code == 401 && r->secret)
		error_wrap(failed, "the server wants credentials, and %s lacks the key %s", r->secret,
			   r->user       ? "password"
			   : r->password ? "username"
					 : "username, and password");
	else if ((*failed)->code == 401)
		error_wrap(failed, "the server wants credentials, and no Secret is named; name one with username and password in "
				   "spec.credentials");
	else if ((*failed)->code == 403 && (sent || redirected))
		error_wrap(failed, "access is refused; let %s read the file",
			   redirected ? "everybody who has the URL that was redirected to" : "that user");
	else if ((*failed)->code == 403)
		error_wrap(failed,
			   "access is refused; correct spec.url (one that is signed may have expired), or name a Secret with username "
			   "and password in spec.credentials if the server wants them");
}

int remote_probe(const struct remote *r, struct cancel *cancel, struct error **err)
{
	AUTO_RESPONSE struct http_response response = { 0 };
	AUTO_ERROR struct error *failed = NULL;
	struct http_request q = request_of(r, r->url, cancel);
	bool came = false;

	q.method = "HEAD";
	q.timeout_ms = r->timeout_ms && r->timeout_ms < PROBE_MAX_MS ? r->timeout_ms : PROBE_MAX_MS;
	if (http_perform(r->http, &q, &response, &failed) < 0) {
		advise(r, failed);
		return error_move(err, move_ptr(failed));
	}
	if (response.status >= 200 && response.status <= 299)
		return 0;
	/* URLs that are signed for GET, servers that know no HEAD: what counts is whether the file can be read. */
	if (remote_fetch(r, r->url, 0, 1, NULL, NULL, enough, &came, cancel, &failed) < 0 && !came) {
		explain_refusal(r, &response, &failed);
		if (failed->class == ERROR_NOT_FOUND)
			error_wrap(&failed, "there is no file at spec.url; correct it, or put the file there");
		return error_move(err, move_ptr(failed));
	}
	return 0;
}
