#include "net/http.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "net/client.h"
#include "net/failure.h"

#define BODY_MAX (16u << 20)
#define REFUSAL_MAX (64u << 10) /* of a body that is for the message only */
#define HEADERS_MAX (256u << 10)
#define CONNECT_MS 15000
#define REDIRECTS_MAX 5

DEFINE_CLEANUP(CURLU, url_free_p, curl_url_cleanup)
DEFINE_CLEANUP(struct curl_slist, list_free_p, curl_slist_free_all)

static void curl_free_p(char **p)
{
	curl_free(*p);
}

/* A request on its way, over all its redirects. */
struct exchange {
	const struct http_request *request;
	struct slot *slot;
	struct driver *driver;   /* NULL: driven by the requesting thread; else the callbacks run on the driver's */
	struct driver_task task; /* with a driver */
	struct buffer body, headers;
	struct error *error;        /* of the sink, or of a limit */
	uint64_t deadline;          /* monotonic milliseconds; 0: none */
	_Atomic uint64_t last_byte; /* when something came last, for the stall limit */
	size_t sent;                /* of the body, when it is read by on_read */
	bool decided, success, to_sink;
};

static size_t on_header(char *data, size_t size, size_t count, void *arg)
{
	struct exchange *x = arg;
	size_t len = size * count;

	x->last_byte = clock_monotonic_ms();
	/* A new status line starts over: after 100 Continue, for example. */
	if (len > 5 && !strncmp(data, "HTTP/", 5)) {
		buffer_clear(&x->headers);
		x->decided = false;
		if (x->driver)
			driver_task_answered(x->driver, &x->task, data[5] == '2');
	}
	if (buffer_add(&x->headers, data, len) == 0)
		return len;
	error_set(&x->error, ERROR_PERMANENT, "AnswerTooLarge", "the answer's headers are larger than %u KiB", HEADERS_MAX >> 10);
	return 0;
}

/* Keeps what fits. */
static void add_start(struct buffer *b, const char *data, size_t len)
{
	size_t room = b->max - b->len;

	buffer_add(b, data, len < room ? len : room);
}

static int begin_body(struct exchange *x, int status)
{
	const struct http_request *q = x->request;
	struct http_response head = { .status = status, .headers = x->headers.data, .content_length = -1 };
	curl_off_t length = -1;

	curl_easy_getinfo(x->slot->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	head.content_length = length;
	return q->begin(q->sink_arg, &head, &x->error);
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
	struct exchange *x = arg;
	const struct http_request *q = x->request;
	size_t len = size * count;
	int failed = 0;

	if (!x->decided) {
		long status = 0;

		curl_easy_getinfo(x->slot->easy, CURLINFO_RESPONSE_CODE, &status);
		x->success = status >= 200 && status <= 299;
		x->to_sink = q->sink && x->success;
		x->decided = true;
		if (x->to_sink && q->begin && begin_body(x, (int)status) < 0)
			return 0;
	}
	if (x->to_sink && x->driver) {
		if (!driver_task_put(&x->task, data, len))
			failed = error_set(&x->error, ERROR_TRANSIENT, "Overrun", "the answer comes faster than it is taken in");
	} else if (x->to_sink)
		failed = q->sink(q->sink_arg, data, len, &x->error);
	else if (!x->success)
		add_start(&x->body, data, len);
	else if (buffer_add(&x->body, data, len) < 0)
		failed = error_set(&x->error, ERROR_PERMANENT, "AnswerTooLarge", "the answer is larger than the %zu bytes allowed",
				   x->body.max);
	x->last_byte = clock_monotonic_ms(); /* the sink's own time is no stall of the server */
	return failed ? 0 : len;
}

/* Called while data flows, when the loop in drive() may not come round for a while. */
static int on_progress(void *arg, curl_off_t dl_total, curl_off_t dl, curl_off_t ul_total, curl_off_t ul)
{
	(void)dl_total;
	(void)dl;
	(void)ul_total;
	(void)ul;
	return cancel_requested(((struct exchange *)arg)->request->cancel);
}

/* A body that cannot be read twice: so curl does not send the request again by itself. */
static size_t on_read(char *to, size_t size, size_t count, void *arg)
{
	struct exchange *x = arg;
	size_t left = x->request->body_len - x->sent, len = size * count < left ? size * count : left;

	if (len)
		memcpy(to, (const char *)x->request->body + x->sent, len);
	x->sent += len;
	return len;
}

#define SET(option, value)                                                                                                              \
	do {                                                                                                                            \
		if (curl_easy_setopt(easy, option, value) != CURLE_OK)                                                                  \
			return error_set(err, ERROR_PERMANENT, "InvalidRequest", "the request cannot be made: " #option " is refused"); \
	} while (0)

static int set_connection(struct exchange *x, const char *url, struct error **err)
{
	const struct http_request *q = x->request;
	CURL *easy = x->slot->easy;
	uint64_t now = clock_monotonic_ms();
	long left = 0;

	if (x->deadline && x->deadline <= now)
		return error_set(err, ERROR_TRANSIENT, "TimedOut", "the answer took longer than %u s", q->timeout_ms / 1000);
	if (x->deadline)
		left = (long)(x->deadline - now);
	SET(CURLOPT_URL, url);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L); /* no waiting for a name server that does not answer, when cancelled */
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_TCP_KEEPIDLE, 30L);
	SET(CURLOPT_TCP_KEEPINTVL, 10L);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	/* Streams that share a connection are many and thin. */
	SET(CURLOPT_BUFFERSIZE, x->driver ? 32L * 1024 : q->sink ? 512L * 1024 : 64L * 1024);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long)(q->connect_timeout_ms ? q->connect_timeout_ms : CONNECT_MS));
	SET(CURLOPT_TIMEOUT_MS, left);
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L); /* those of a proxy */
	if (x->driver && driver_prepare(x->driver, easy) != CURLE_OK)
		return error_set(err, ERROR_PERMANENT, "InvalidRequest", "the request cannot share a connection");
	return 0;
}

static int set_request(struct exchange *x, struct curl_slist *headers, bool foreign, struct error **err)
{
	const struct http_request *q = x->request;
	const char *method = q->method ? q->method : "GET";
	CURL *easy = x->slot->easy;
	bool body = q->body_len || !strcmp(method, "POST") || !strcmp(method, "PUT") || !strcmp(method, "PATCH");

	SET(CURLOPT_USERAGENT, "vm-import-controller");
	SET(CURLOPT_HTTPHEADER, headers);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, x);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, x);
	SET(CURLOPT_NOPROGRESS, x->driver ? 1L : 0L);
	SET(CURLOPT_XFERINFOFUNCTION, on_progress);
	SET(CURLOPT_XFERINFODATA, x);
	if (!strcmp(method, "HEAD")) {
		SET(CURLOPT_NOBODY, 1L);
	} else {
		if (body && q->once) {
			SET(CURLOPT_POST, 1L);
			SET(CURLOPT_READFUNCTION, on_read);
			SET(CURLOPT_READDATA, x);
			SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body_len);
		} else if (body) {
			SET(CURLOPT_POSTFIELDS, q->body ? q->body : "");
			SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body_len);
		}
		SET(CURLOPT_CUSTOMREQUEST, method);
	}
	if (q->user && !foreign) {
		SET(CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
		SET(CURLOPT_USERNAME, q->user);
		SET(CURLOPT_PASSWORD, q->password ? q->password : "");
	}
	return 0;
}

static int stalled(const struct http_request *q, struct error **err)
{
	AUTO_FREE char *shown = http_shown_url(q->url);

	return error_set(err, ERROR_TRANSIENT, "Stalled", "%s sent nothing for %.3g s", shown ? shown : "the server",
			 q->stall_timeout_ms / 1000.0);
}

/* Takes what the driver hands over until the exchange ends, is cancelled or stalls; *silent then tells for how long nothing came. */
static int take(struct exchange *x, unsigned *silent, struct error **err)
{
	const struct http_request *q = x->request;
	AUTO_BUFFER struct buffer data = { .max = DRIVER_HANDOFF_MAX };
	struct pollfd p[2] = { { .fd = x->task.news, .events = POLLIN }, { .fd = cancel_fd(q->cancel), .events = POLLIN } };

	for (;;) {
		bool last = driver_task_take(&x->task, &data);
		uint64_t idle;
		int wait = -1;

		if (data.len) {
			if (q->sink(q->sink_arg, data.data, data.len, err) < 0)
				return -1;
			buffer_clear(&data);
			x->last_byte = clock_monotonic_ms();
		}
		if (last)
			return 0;
		if (cancel_check(q->cancel, err) < 0)
			return -1;
		idle = clock_monotonic_ms() - x->last_byte;
		if (q->stall_timeout_ms && idle >= q->stall_timeout_ms) {
			*silent = (unsigned)idle;
			return stalled(q, err);
		}
		if (q->stall_timeout_ms)
			wait = (int)(q->stall_timeout_ms - idle);
		if (poll(p, q->cancel ? 2 : 1, wait) < 0 && errno != EINTR)
			return error_set_errno(err, errno, "cannot wait for the answer");
	}
}

/* As drive, over the connection of all. */
static int share(struct exchange *x, CURLcode *code, struct error **err)
{
	unsigned silent = 0;
	int result;

	if (driver_task_init(&x->task, x->slot->easy, err) < 0)
		return -1;
	x->last_byte = clock_monotonic_ms();
	driver_add(x->driver, &x->task);
	result = take(x, &silent, err);
	driver_remove(x->driver, &x->task, silent);
	*code = x->task.code;
	driver_task_free(&x->task);
	return result;
}

/* Drives the exchange until it ends, is cancelled or stalls. */
static int drive(struct exchange *x, CURLcode *code, struct error **err)
{
	const struct http_request *q = x->request;
	CURLM *multi = x->slot->multi;
	struct curl_waitfd wake = { .fd = cancel_fd(q->cancel), .events = CURL_WAIT_POLLIN };
	int running = 1;

	x->last_byte = clock_monotonic_ms();
	for (;;) {
		uint64_t idle;
		int wait = 1000;

		if (curl_multi_perform(multi, &running) != CURLM_OK)
			return error_set(err, ERROR_TRANSIENT, "HTTPFailed", "the connection cannot be driven");
		if (!running)
			break;
		if (cancel_check(q->cancel, err) < 0)
			return -1;
		idle = clock_monotonic_ms() - x->last_byte;
		if (q->stall_timeout_ms && idle >= q->stall_timeout_ms)
			return stalled(q, err);
		if (q->stall_timeout_ms && q->stall_timeout_ms - idle < 1000)
			wait = (int)(q->stall_timeout_ms - idle);
		if (curl_multi_poll(multi, &wake, q->cancel ? 1 : 0, wait, NULL) != CURLM_OK)
			return error_set(err, ERROR_TRANSIENT, "HTTPFailed", "the connection cannot be waited for");
	}
	*code = CURLE_OK;
	for (CURLMsg *m; (m = curl_multi_info_read(multi, &running));)
		if (m->msg == CURLMSG_DONE)
			*code = m->data.result;
	return 0;
}

/* Headers that a host may have which the user did not name: a token has many names, so what is not known to be harmless stays here. */
static bool harmless(const char *header)
{
	static const char *const names[] = { "Accept:", "Accept-Encoding:", "If-Range:", "Range:", "User-Agent:" };

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strncasecmp(header, names[i], strlen(names[i])))
			return true;
	return false;
}

static int header_list(const struct http_request *q, bool foreign, struct curl_slist **list, struct error **err)
{
	CLEANUP(list_free_p) struct curl_slist *all = curl_slist_append(NULL, "Expect:"); /* no 100-continue dance */

	for (const char *const *h = q->headers; all && h && *h; h++) {
		struct curl_slist *longer;

		if (strpbrk(*h, "\r\n"))
			return error_set(err, ERROR_PERMANENT, "InvalidRequest", "the header %.*s has a line break in its value",
					 (int)strcspn(*h, ":\r\n"), *h);
		if (foreign && !harmless(*h))
			continue;
		longer = curl_slist_append(all, *h);
		if (!longer)
			return error_set_errno(err, ENOMEM, "cannot make the request");
		all = longer;
	}
	if (!all)
		return error_set_errno(err, ENOMEM, "cannot make the request");
	*list = move_ptr(all);
	return 0;
}

/* curl's own text for it is that it could not; the system knows why. */
static void say_cause(CURL *easy, char detail[CURL_ERROR_SIZE])
{
	char text[128];
	long cause = 0;

	if (curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &cause) == CURLE_OK && cause)
		snprintf(detail, CURL_ERROR_SIZE, "%s", strerror_r((int)cause, text, sizeof text));
}

/* Tells the certificate's check whom it is to be of: the URL's host, without the brackets of IPv6. */
static void set_host(struct trust_view *view, const char *url)
{
	CLEANUP(url_free_p) CURLU *u = curl_url();
	char *host = NULL;
	size_t len;

	*view->host = 0;
	if (!u || curl_url_set(u, CURLUPART_URL, url, 0) || curl_url_get(u, CURLUPART_HOST, &host, 0))
		return;
	len = strlen(host);
	if (len > 2 && *host == '[' && host[len - 1] == ']')
		snprintf(view->host, sizeof view->host, "%.*s", (int)len - 2, host + 1);
	else
		snprintf(view->host, sizeof view->host, "%s", host);
	curl_free(host);
}

/* Whether the server took the connection and then let the handshake wait. */
static bool waits_for_tls(const struct slot *s)
{
	curl_off_t done = 0;

	curl_easy_getinfo(s->easy, CURLINFO_APPCONNECT_TIME_T, &done);
	return s->trust.begun && !*s->trust.seen && !done;
}

/* One request and its answer, without following where that points. */
static int exchange_once(struct http_client *c, struct exchange *x, const char *url, struct curl_slist *connect_to, bool foreign,
			 struct error **err)
{
	CURL *easy = x->slot->easy;
	char detail[CURL_ERROR_SIZE] = "";
	CLEANUP(list_free_p) struct curl_slist *headers = NULL;
	CURLcode code = CURLE_OK;
	int result;

	buffer_clear(&x->body);
	buffer_clear(&x->headers);
	x->decided = x->success = x->to_sink = false;
	x->sent = 0;
	*x->slot->trust.why = *x->slot->trust.seen = 0;
	x->slot->trust.begun = false;
	set_host(&x->slot->trust, url);
	curl_easy_reset(easy);
	if (cancel_check(x->request->cancel, err) < 0 || header_list(x->request, foreign, &headers, err) < 0 ||
	    set_connection(x, url, err) < 0 || set_request(x, headers, foreign, err) < 0 || http_slot_set_trust(c, x->slot, err) < 0)
		return -1;
	SET(CURLOPT_CONNECT_TO, connect_to);
	SET(CURLOPT_ERRORBUFFER, detail);
	if (x->driver) {
		result = share(x, &code, err);
	} else {
		curl_multi_add_handle(x->slot->multi, easy);
		result = drive(x, &code, err);
		/* One cut off in the middle loses its connection here. */
		curl_multi_remove_handle(x->slot->multi, easy);
	}
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, NULL);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, NULL);
	x->slot->failed = x->slot->failed || result < 0 || code != CURLE_OK;
	if (result < 0 || code == CURLE_OK)
		return result;
	if (x->error)
		return error_move(err, move_ptr(x->error));
	if (cancel_check(x->request->cancel, err) < 0)
		return -1;
	if (*x->slot->refused)
		return http_explain_refusal(url, x->slot->refused, err);
	if (code == CURLE_COULDNT_CONNECT)
		say_cause(easy, detail);
	if (code == CURLE_OPERATION_TIMEDOUT && !x->driver && waits_for_tls(x->slot))
		return http_explain_no_tls(url, err);
	return http_explain(url, code, detail, x->driver ? &x->task.trust : &x->slot->trust, err);
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

/* The URL to begin with. With a name of our own, the URL's host gives way to it, and curl is told where that host is. */
static int first_url(const struct http_client *c, const struct http_request *q, char **url, struct curl_slist **connect_to,
		     struct error **err)
{
	CLEANUP(url_free_p) CURLU *u = curl_url();
	CLEANUP(curl_free_p) char *host = NULL;
	CLEANUP(curl_free_p) char *port = NULL;
	CLEANUP(curl_free_p) char *text = NULL;
	AUTO_FREE char *rule = NULL;

	if (!c->server_name) {
		*url = strdup(q->url);
		return *url ? 0 : error_set_errno(err, ENOMEM, "cannot make the request");
	}
	if (!u || curl_url_set(u, CURLUPART_URL, q->url, 0) || curl_url_get(u, CURLUPART_HOST, &host, 0) ||
	    curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) || curl_url_set(u, CURLUPART_HOST, c->server_name, 0) ||
	    curl_url_get(u, CURLUPART_URL, &text, 0))
		return error_set(err, ERROR_PERMANENT, "InvalidURL", "no http or https URL, or no host name: \"%s\"", c->server_name);
	if (asprintf(&rule, "%s:%s:%s:%s", c->server_name, port, host, port) < 0)
		rule = NULL;
	*url = strdup(text);
	*connect_to = rule ? curl_slist_append(NULL, rule) : NULL;
	return *url && *connect_to ? 0 : error_set_errno(err, ENOMEM, "cannot make the request");
}

static bool same_part(CURLU *a, CURLU *b, CURLUPart part)
{
	CLEANUP(curl_free_p) char *x = NULL;
	CLEANUP(curl_free_p) char *y = NULL;

	return !curl_url_get(a, part, &x, CURLU_DEFAULT_PORT) && !curl_url_get(b, part, &y, CURLU_DEFAULT_PORT) && !strcasecmp(x, y);
}

static bool same_origin(const char *a, const char *b)
{
	CLEANUP(url_free_p) CURLU *u = curl_url();
	CLEANUP(url_free_p) CURLU *v = curl_url();

	return u && v && !curl_url_set(u, CURLUPART_URL, a, 0) && !curl_url_set(v, CURLUPART_URL, b, 0) &&
	       same_part(u, v, CURLUPART_SCHEME) && same_part(u, v, CURLUPART_HOST) && same_part(u, v, CURLUPART_PORT);
}

/* Where the answer points, if the request wants to follow. Borrowed from the handle. */
static const char *redirect_of(const struct exchange *x)
{
	const struct http_request *q = x->request;
	char *next = NULL;

	if (!q->follow_redirects || (q->method && strcmp(q->method, "GET") && strcmp(q->method, "HEAD")))
		return NULL;
	curl_easy_getinfo(x->slot->easy, CURLINFO_REDIRECT_URL, &next);
	return next;
}

static int follow(struct http_client *c, struct exchange *x, struct http_response *response, struct error **err)
{
	CLEANUP(list_free_p) struct curl_slist *connect_to = NULL;
	AUTO_FREE char *url = NULL;
	bool foreign = false;

	if (first_url(c, x->request, &url, &connect_to, err) < 0)
		return -1;
	for (unsigned hops = 0;; hops++) {
		const char *next;
		char *copy;

		if (exchange_once(c, x, url, connect_to, foreign, err) < 0)
			return -1;
		next = redirect_of(x);
		if (!next)
			return fill(x, response, err);
		if (hops == REDIRECTS_MAX)
			return error_set(err, ERROR_PERMANENT, "TooManyRedirects", "more than %u redirects follow one another",
					 REDIRECTS_MAX);
		foreign = foreign || !same_origin(url, next);
		copy = strdup(next);
		if (!copy)
			return error_set_errno(err, ENOMEM, "cannot follow the redirect");
		free(url);
		url = copy;
	}
}

int http_perform(struct http_client *c, const struct http_request *q, struct http_response *response, struct error **err)
{
	struct exchange x = { .request = q,
			      .slot = http_slot_take(c),
			      .driver = c->driver,
			      .deadline = q->timeout_ms ? clock_monotonic_ms() + q->timeout_ms : 0 };
	int result;

	if (!x.slot)
		return error_set_errno(err, ENOMEM, "cannot make the request");
	buffer_init(&x.body, q->sink ? REFUSAL_MAX : q->max_body ? q->max_body : BODY_MAX);
	buffer_init(&x.headers, HEADERS_MAX);
	result = follow(c, &x, response, err);
	if (result == 0 && http_check_scheme(response->effective_url, response, err) < 0) {
		http_response_free(response);
		result = -1;
	}
	error_free(x.error);
	buffer_free(&x.body);
	buffer_free(&x.headers);
	http_slot_give(c, x.slot);
	return result;
}

static int set_probe(struct http_client *c, struct slot *s, const char *url, struct error **err)
{
	struct http_request q = { .url = url };
	struct exchange x = { .request = &q, .slot = s, .driver = c->driver };
	CURL *easy = s->easy;
	AUTO_FREE char *first = NULL;

	if (first_url(c, &q, &first, &c->probe_connect_to, err) < 0 || set_connection(&x, first, err) < 0 ||
	    http_slot_set_trust(c, s, err) < 0)
		return -1;
	SET(CURLOPT_CONNECT_TO, c->probe_connect_to);
	SET(CURLOPT_USERAGENT, "vm-import-controller");
	return 0;
}

int http_client_share(struct http_client *c, const char *probe_url, struct error **err)
{
	struct slot s = { 0 };

	if (c->refuse_local || c->first_use || c->driver)
		return error_set(err, ERROR_PERMANENT, "InvalidRequest", "the connections of this client cannot be shared");
	c->shared_trust = (struct trust_view){ .pin_sha1 = c->pin_sha1, .pin_sha256 = c->pin_sha256 };
	c->driver = driver_start(&c->shared_trust, NULL, err);
	if (!c->driver)
		return -1;
	if (!probe_url)
		return 0;
	s.easy = curl_easy_init();
	if (!s.easy)
		return error_set_errno(err, ENOMEM, "cannot make an HTTP client");
	if (set_probe(c, &s, probe_url, err) < 0) {
		curl_easy_cleanup(s.easy);
		return -1;
	}
	driver_set_probe(c->driver, s.easy);
	return 0;
}

unsigned http_client_connections(const struct http_client *c)
{
	return c->driver ? driver_connections(c->driver) : 0;
}

int http_fetch(struct http_client *c, const struct http_request *q, struct http_response *response, struct error **err)
{
	AUTO_RESPONSE struct http_response r = { 0 };

	if (http_perform(c, q, &r, err) < 0)
		return -1;
	if (r.status < 200 || r.status > 299) {
		if (!q->follow_redirects) { /* then it is the one that was asked for, perhaps by another name of the host */
			free(r.effective_url);
			r.effective_url = NULL;
		}
		return http_refuse(q->method ? q->method : "GET", q->url, &r, err);
	}
	*response = r;
	r = (struct http_response){ 0 };
	return 0;
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
