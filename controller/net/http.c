#include "net/http.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "net/trust.h"

#define IDLE_MAX 32 /* handles, with their connections, that a client keeps for the next request */
#define BODY_MAX (16u << 20)
#define HEADERS_MAX (256u << 10)
#define CONNECT_MS 15000

/* An easy handle and the multi handle that drives it; connections live in the latter. The trust view must live as long as they do. */
struct slot {
	CURLM *multi;
	CURL *easy;
	struct trust_view trust;
	struct slot *next;
};

struct http_client {
	char *ca_pem, *pin_sha1, *pin_sha256, *cert_pem, *key_pem, *server_name, *proxy_url;
	bool insecure;
	pthread_mutex_t lock; /* guards idle */
	struct slot *idle;
	size_t idle_count;
};

static void init_curl(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

static int copy(char **to, const char *from)
{
	if (!from)
		return 0;
	*to = strdup(from);
	return *to ? 0 : -1;
}

struct http_client *http_client_new(const struct http_trust *t, struct error **err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	static const struct http_trust defaults;
	struct http_client *c = calloc(1, sizeof *c);

	pthread_once(&once, init_curl);
	t = t ? t : &defaults;
	if (!c)
		goto memory;
	pthread_mutex_init(&c->lock, NULL);
	c->insecure = t->insecure;
	if (t->pin_sha1 && !(c->pin_sha1 = trust_fingerprint(t->pin_sha1)))
		goto pin;
	if (t->pin_sha256 && !(c->pin_sha256 = trust_fingerprint(t->pin_sha256)))
		goto pin;
	if (copy(&c->ca_pem, t->ca_pem) || copy(&c->cert_pem, t->client_cert_pem) || copy(&c->key_pem, t->client_key_pem) ||
	    copy(&c->server_name, t->server_name) || copy(&c->proxy_url, t->proxy_url))
		goto memory;
	return c;
pin:
	http_client_free(c);
	error_set(err, ERROR_PERMANENT, "InvalidFingerprint", "\"%s\" is no SHA-1 or SHA-256 fingerprint of a certificate",
		  t->pin_sha1 ? t->pin_sha1 : t->pin_sha256);
	return NULL;
memory:
	http_client_free(c);
	error_set_errno(err, ENOMEM, "cannot make an HTTP client");
	return NULL;
}

static void slot_free(struct slot *s)
{
	if (!s)
		return;
	if (s->easy)
		curl_easy_cleanup(s->easy);
	if (s->multi)
		curl_multi_cleanup(s->multi);
	free(s);
}

void http_client_free(struct http_client *c)
{
	if (!c)
		return;
	while (c->idle) {
		struct slot *s = c->idle;

		c->idle = s->next;
		slot_free(s);
	}
	pthread_mutex_destroy(&c->lock);
	free(c->ca_pem);
	free(c->pin_sha1);
	free(c->pin_sha256);
	free(c->cert_pem);
	free(c->key_pem);
	free(c->server_name);
	free(c->proxy_url);
	free(c);
}

static struct slot *take_slot(struct http_client *c)
{
	struct slot *s;

	pthread_mutex_lock(&c->lock);
	s = c->idle;
	if (s) {
		c->idle = s->next;
		c->idle_count--;
	}
	pthread_mutex_unlock(&c->lock);
	if (s)
		return s;
	s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->multi = curl_multi_init();
	s->easy = curl_easy_init();
	s->trust.pin_sha1 = c->pin_sha1;
	s->trust.pin_sha256 = c->pin_sha256;
	if (!s->multi || !s->easy) {
		slot_free(s);
		return NULL;
	}
	return s;
}

static void give_slot(struct http_client *c, struct slot *s)
{
	pthread_mutex_lock(&c->lock);
	if (c->idle_count < IDLE_MAX) {
		s->next = c->idle;
		c->idle = s;
		c->idle_count++;
		s = NULL;
	}
	pthread_mutex_unlock(&c->lock);
	slot_free(s);
}

/* One exchange in flight. */
struct exchange {
	const struct http_request *request;
	struct slot *slot;
	struct buffer body, headers;
	struct error *error; /* of the sink, or of a limit */
	uint64_t last_byte;  /* when something came last, for the stall limit */
	bool to_sink, decided;
};

static size_t on_header(char *data, size_t size, size_t count, void *arg)
{
	struct exchange *x = arg;
	size_t len = size * count;

	x->last_byte = clock_monotonic_ms();
	/* A new status line starts over: 100 Continue, a redirect, the answer of a proxy. */
	if (len > 5 && !strncmp(data, "HTTP/", 5)) {
		buffer_clear(&x->headers);
		x->decided = false;
	}
	if (buffer_add(&x->headers, data, len) == 0)
		return len;
	error_set(&x->error, ERROR_PERMANENT, "AnswerTooLarge", "the answer's headers are larger than %u KiB", HEADERS_MAX >> 10);
	return 0;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
	struct exchange *x = arg;
	const struct http_request *q = x->request;
	size_t len = size * count;

	if (!x->decided) {
		long status = 0;

		curl_easy_getinfo(x->slot->easy, CURLINFO_RESPONSE_CODE, &status);
		x->to_sink = q->sink && status >= 200 && status <= 299;
		x->decided = true;
	}
	if (x->to_sink) {
		int failed = q->sink(q->sink_arg, data, len, &x->error);

		x->last_byte = clock_monotonic_ms(); /* the sink's own time is no stall of the server */
		return failed ? 0 : len;
	}
	x->last_byte = clock_monotonic_ms();
	if (buffer_add(&x->body, data, len) == 0)
		return len;
	/* The body of a failure is for the message only: its start will do. */
	if (q->sink)
		return len;
	error_set(&x->error, ERROR_PERMANENT, "AnswerTooLarge", "the answer is larger than the %zu bytes allowed", x->body.max);
	return 0;
}

static int on_upload_progress(void *arg, curl_off_t dl_total, curl_off_t dl, curl_off_t ul_total, curl_off_t ul)
{
	(void)dl_total;
	(void)dl;
	(void)ul_total;
	(void)ul;
	return cancel_requested(((struct exchange *)arg)->request->cancel);
}

#define SET(option, value)                                                       \
	do {                                                                     \
		if (curl_easy_setopt(easy, option, value) != CURLE_OK)           \
			return error_set(err, ERROR_PERMANENT, "InvalidRequest", \
					 "cannot set " #option " for %s", q->url); \
	} while (0)

static int set_blob(CURL *easy, CURLoption option, const char *pem)
{
	struct curl_blob blob = { .data = (void *)pem, .len = strlen(pem), .flags = CURL_BLOB_COPY };

	return curl_easy_setopt(easy, option, &blob) == CURLE_OK ? 0 : -1;
}

static int set_trust(const struct http_client *c, struct slot *s, const struct http_request *q, struct error **err)
{
	CURL *easy = s->easy;
	bool pinned = c->pin_sha1 || c->pin_sha256;

	SET(CURLOPT_SSL_VERIFYPEER, c->insecure && !pinned ? 0L : 1L);
	/* A pinned certificate may bear any name; a name of our own is checked through the connection's host. */
	SET(CURLOPT_SSL_VERIFYHOST, c->insecure || pinned ? 0L : 2L);
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if ((!c->insecure || pinned) && trust_install(easy, &s->trust) != CURLE_OK)
		return error_set(err, ERROR_PERMANENT, "InvalidRequest", "cannot check certificates");
	if ((c->ca_pem && set_blob(easy, CURLOPT_CAINFO_BLOB, c->ca_pem) < 0) || (c->cert_pem && set_blob(easy, CURLOPT_SSLCERT_BLOB, c->cert_pem) < 0) ||
	    (c->key_pem && set_blob(easy, CURLOPT_SSLKEY_BLOB, c->key_pem) < 0))
		return error_set(err, ERROR_PERMANENT, "InvalidCertificate", "cannot use the certificates or keys given for %s", q->url);
	SET(CURLOPT_PROXY, c->proxy_url ? c->proxy_url : "");
	return 0;
}

static int set_request(struct exchange *x, struct curl_slist *headers, struct error **err)
{
	const struct http_request *q = x->request;
	const char *method = q->method ? q->method : "GET";
	CURL *easy = x->slot->easy;
	bool body = q->body_len || !strcmp(method, "POST") || !strcmp(method, "PUT") || !strcmp(method, "PATCH");

	SET(CURLOPT_URL, q->url);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_TCP_KEEPIDLE, 30L);
	SET(CURLOPT_TCP_KEEPINTVL, 10L);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	SET(CURLOPT_BUFFERSIZE, q->sink ? 512L * 1024 : 64L * 1024);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long)(q->connect_timeout_ms ? q->connect_timeout_ms : CONNECT_MS));
	SET(CURLOPT_TIMEOUT_MS, (long)q->timeout_ms);
	SET(CURLOPT_HTTPHEADER, headers);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, x);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, x);
	SET(CURLOPT_NOPROGRESS, 0L);
	SET(CURLOPT_XFERINFOFUNCTION, on_upload_progress);
	SET(CURLOPT_XFERINFODATA, x);
	if (!strcmp(method, "HEAD")) {
		SET(CURLOPT_NOBODY, 1L);
	} else if (body) {
		SET(CURLOPT_POSTFIELDS, q->body ? q->body : "");
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body_len);
		SET(CURLOPT_CUSTOMREQUEST, method);
	} else {
		SET(CURLOPT_CUSTOMREQUEST, method);
	}
	if (q->user) {
		SET(CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
		SET(CURLOPT_USERNAME, q->user);
		SET(CURLOPT_PASSWORD, q->password ? q->password : "");
	}
	if (q->follow_redirects) {
		SET(CURLOPT_FOLLOWLOCATION, 1L);
		SET(CURLOPT_MAXREDIRS, 5L);
	}
	return 0;
}

/* Drives the exchange until it ends, is cancelled or stalls. */
static int drive(struct exchange *x, CURLcode *code, struct error **err)
{
	const struct http_request *q = x->request;
	CURLM *multi = x->slot->multi;
	struct curl_waitfd wake = { .fd = cancel_fd(q->cancel), .events = CURL_WAIT_POLLIN };
	int running = 1;

	x->last_byte = clock_monotonic_ms();
	while (running) {
		uint64_t idle;
		int wait = 1000;

		if (curl_multi_perform(multi, &running) != CURLM_OK)
			return error_set(err, ERROR_TRANSIENT, "ConnectionFailed", "cannot drive the connection to %s", q->url);
		if (!running)
			break;
		if (cancel_requested(q->cancel))
			return cancel_check(q->cancel, err);
		idle = clock_monotonic_ms() - x->last_byte;
		if (q->stall_timeout_ms && idle >= q->stall_timeout_ms)
			return error_set(err, ERROR_TRANSIENT, "Stalled", "%s sent nothing for %u s", q->url, q->stall_timeout_ms / 1000);
		if (q->stall_timeout_ms && q->stall_timeout_ms - idle < 1000)
			wait = (int)(q->stall_timeout_ms - idle);
		curl_multi_poll(multi, &wake, q->cancel ? 1 : 0, wait, NULL);
	}
	*code = CURLE_OK;
	for (CURLMsg *m; (m = curl_multi_info_read(multi, &running));)
		if (m->msg == CURLMSG_DONE)
			*code = m->data.result;
	return 0;
}

static const char *host_of(const struct http_request *q)
{
	const char *p = strstr(q->url, "://");

	return p ? p + 3 : q->url;
}

static int explain(struct exchange *x, CURLcode code, const char *detail, struct error **err)
{
	const struct http_request *q = x->request;
	const char *host = host_of(q), *text = *detail ? detail : curl_easy_strerror(code);
	int len = (int)strcspn(host, "/?");

	if (x->error)
		return error_move(err, move_ptr(x->error));
	switch (code) {
	case CURLE_ABORTED_BY_CALLBACK:
		return error_set(err, ERROR_CANCELLED, "Cancelled", "stopped on request");
	case CURLE_PEER_FAILED_VERIFICATION:
		return error_set(err, ERROR_PERMANENT, "TLSFailed", "the certificate of %.*s is not trusted: %s", len, host,
				 *x->slot->trust.refused ? x->slot->trust.refused : text);
	case CURLE_SSL_CONNECT_ERROR:
		if (*x->slot->trust.refused)
			return error_set(err, ERROR_PERMANENT, "TLSFailed", "the certificate of %.*s is not trusted: %s", len, host, x->slot->trust.refused);
		return error_set(err, ERROR_TRANSIENT, "TLSFailed", "no TLS connection with %.*s: %s", len, host, text);
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
		return error_set(err, ERROR_PERMANENT, "InvalidCertificate", "the certificates given for %.*s cannot be used: %s", len, host, text);
	case CURLE_OPERATION_TIMEDOUT:
		return error_set(err, ERROR_TRANSIENT, "TimedOut", "%.*s did not answer in time: %s", len, host, text);
	case CURLE_COULDNT_RESOLVE_HOST:
		return error_set(err, ERROR_TRANSIENT, "UnknownHost", "the name of the host %.*s cannot be resolved", len, host);
	case CURLE_COULDNT_CONNECT:
		return error_set(err, ERROR_TRANSIENT, "ConnectionFailed", "cannot connect to %.*s: %s", len, host, text);
	case CURLE_PARTIAL_FILE:
	case CURLE_RECV_ERROR:
	case CURLE_GOT_NOTHING:
	case CURLE_HTTP2_STREAM:
	case CURLE_HTTP2:
	case CURLE_SEND_ERROR:
		return error_set(err, ERROR_TRANSIENT, "ConnectionLost", "the connection to %.*s was lost: %s", len, host, text);
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
		return error_set(err, ERROR_PERMANENT, "InvalidURL", "\"%s\" is no http or https URL: %s", q->url, text);
	case CURLE_TOO_MANY_REDIRECTS:
		return error_set(err, ERROR_PERMANENT, "TooManyRedirects", "%.*s redirects too often", len, host);
	default:
		return error_set(err, ERROR_TRANSIENT, "HTTPFailed", "the request to %.*s failed: %s", len, host, text);
	}
}

static void free_list_p(struct curl_slist **list)
{
	curl_slist_free_all(*list);
}

static int header_list(const struct http_request *q, struct curl_slist **list, struct error **err)
{
	struct curl_slist *more = curl_slist_append(NULL, "Expect:"); /* no 100-continue dance */

	for (const char *const *h = q->headers; more && h && *h; h++) {
		struct curl_slist *longer = curl_slist_append(more, *h);

		if (!longer)
			curl_slist_free_all(more);
		more = longer;
	}
	if (!more)
		return error_set_errno(err, ENOMEM, "cannot make the request");
	*list = more;
	return 0;
}

static int fill(struct exchange *x, struct http_response *out, struct error **err)
{
	CURL *easy = x->slot->easy;
	char *url = NULL;
	long status = 0;
	curl_off_t length = -1;

	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	curl_easy_getinfo(easy, CURLINFO_EFFECTIVE_URL, &url);
	x->body.failed = false; /* a failure's body that was cut */
	struct http_response r = { .status = (int)status, .content_length = length, .body_len = x->body.len };
	r.body = buffer_steal(&x->body);
	r.headers = buffer_steal(&x->headers);
	r.effective_url = strdup(url ? url : "");
	if (!r.body || !r.headers || !r.effective_url) {
		http_response_free(&r);
		return error_set_errno(err, ENOMEM, "cannot keep the answer");
	}
	*out = r;
	return 0;
}

/* With a name of our own, the URL's host gives way to it, and curl is told where that host is. */
static int set_server_name(struct http_client *c, CURL *easy, const struct http_request *q, char **url, struct curl_slist **connect_to,
			   struct error **err)
{
	const char *host = host_of(q), *slash = host + strcspn(host, "/?#"), *colon = slash;
	AUTO_FREE char *rule = NULL;

	for (const char *p = host; p < slash; p++) {
		if (*p == ']')
			colon = slash;
		else if (*p == ':')
			colon = p;
	}
	if (*host == '[' && colon < slash && memchr(colon, ']', (size_t)(slash - colon)))
		colon = slash;
	int port = colon < slash ? (int)(slash - colon) : 0;
	if (asprintf(url, "%.*s%s%.*s%s", (int)(host - q->url), q->url, c->server_name, port, colon, slash) < 0 ||
	    asprintf(&rule, "%s:%.*s:%.*s:", c->server_name, port ? port - 1 : 0, port ? colon + 1 : "", (int)(colon - host), host) < 0)
		return error_set_errno(err, ENOMEM, "cannot make the request");
	*connect_to = curl_slist_append(NULL, rule);
	SET(CURLOPT_CONNECT_TO, *connect_to);
	SET(CURLOPT_URL, *url);
	return 0;
}

int http_perform(struct http_client *c, const struct http_request *q, struct http_response *response, struct error **err)
{
	struct slot *slot = take_slot(c);
	struct exchange x = { .request = q, .slot = slot };
	char detail[CURL_ERROR_SIZE] = "";
	CLEANUP(free_list_p) struct curl_slist *headers = NULL;
	CLEANUP(free_list_p) struct curl_slist *connect_to = NULL;
	AUTO_FREE char *url = NULL;
	CURLcode code = CURLE_OK;
	int result = -1;

	if (!slot)
		return error_set_errno(err, ENOMEM, "cannot make the request");
	buffer_init(&x.body, q->max_body ? q->max_body : q->sink ? 64u << 10 : BODY_MAX);
	buffer_init(&x.headers, HEADERS_MAX);
	slot->trust.refused[0] = 0;
	curl_easy_reset(slot->easy);
	curl_easy_setopt(slot->easy, CURLOPT_ERRORBUFFER, detail);
	if (cancel_check(q->cancel, err) == 0 && header_list(q, &headers, err) == 0 && set_request(&x, headers, err) == 0 &&
	    set_trust(c, slot, q, err) == 0 && (!c->server_name || set_server_name(c, slot->easy, q, &url, &connect_to, err) == 0)) {
		curl_multi_add_handle(slot->multi, slot->easy);
		result = drive(&x, &code, err);
		curl_multi_remove_handle(slot->multi, slot->easy);
		if (result == 0)
			result = code == CURLE_OK ? fill(&x, response, err) : explain(&x, code, detail, err);
	}
	error_free(x.error);
	buffer_free(&x.body);
	buffer_free(&x.headers);
	curl_easy_setopt(slot->easy, CURLOPT_ERRORBUFFER, NULL);
	/* A connection cut off in the middle is closed by removing the handle; the slot itself is good for the next request. */
	give_slot(c, slot);
	return result;
}

static enum error_class class_of_status(int status)
{
	switch (status) {
	case 404:
		return ERROR_NOT_FOUND;
	case 409:
		return ERROR_CONFLICT;
	case 410:
		return ERROR_GONE;
	case 408:
	case 425:
	case 429:
		return ERROR_TRANSIENT;
	default:
		return status >= 500 ? ERROR_TRANSIENT : ERROR_PERMANENT;
	}
}

/* The start of a body on one line. */
static void excerpt(const char *body, char out[200])
{
	size_t n = 0;

	for (; *body && n < 190; body++) {
		if (isspace((unsigned char)*body)) {
			if (n && out[n - 1] != ' ')
				out[n++] = ' ';
		} else if ((unsigned char)*body >= 0x20) {
			out[n++] = *body;
		}
	}
	while (n && ((unsigned char)out[n - 1] & 0x80)) /* no half character at the end */
		n--;
	out[n] = 0;
}

int http_fetch(struct http_client *c, const struct http_request *q, struct http_response *response, struct error **err)
{
	struct http_response r = { 0 };
	char text[200];

	if (http_perform(c, q, &r, err) < 0)
		return -1;
	if (r.status >= 200 && r.status <= 299) {
		*response = r;
		return 0;
	}
	excerpt(r.body, text);
	error_set_code(err, class_of_status(r.status), "HTTPStatus", r.status, "%s %s answered with status %d%s%s", q->method ? q->method : "GET", q->url,
		       r.status, *text ? ": " : "", text);
	http_response_free(&r);
	return -1;
}

char *http_response_header(const struct http_response *r, const char *name)
{
	size_t len = strlen(name);

	for (const char *line = r->headers; line && *line;) {
		const char *end = strchr(line, '\n');

		if (!strncasecmp(line, name, len) && line[len] == ':') {
			const char *from = line + len + 1, *to = end ? end : line + strlen(line);

			while (*from == ' ' || *from == '\t')
				from++;
			while (to > from && isspace((unsigned char)to[-1]))
				to--;
			return strndup(from, (size_t)(to - from));
		}
		line = end ? end + 1 : NULL;
	}
	return NULL;
}

void http_response_free(struct http_response *r)
{
	free(r->body);
	free(r->headers);
	free(r->effective_url);
	*r = (struct http_response){ 0 };
}
