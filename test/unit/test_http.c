// links: net base PkgConfig::ssl PkgConfig::crypto
/* The HTTP client against a server of our own: answers that are whole, cut, endless, silent or elsewhere; whom TLS trusts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "http_server.h"
#include "net/http.h"

#define PASSWORD "s3cret-pass"
#define STREAM_BYTES (8u << 20)

static const char refusal[] = "not\n\t so \xff\x01 schön \xe2\x82";
static struct server *plain, *other;
static char other_url[64];

static bool echo(struct conn *c, const struct server_request *r)
{
	char text[4096];
	int len = snprintf(text, sizeof text, "%s\n%s", r->headers, r->body);

	return conn_answer(c, 200, "X-Test:  two words \r\n", text, (size_t)len);
}

static bool stream(struct conn *c)
{
	char block[4096];

	memset(block, 'x', sizeof block);
	conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n", STREAM_BYTES);
	for (size_t i = 0; i < STREAM_BYTES / sizeof block; i++)
		if (!conn_write(c, block, sizeof block))
			return false;
	return true;
}

static bool handle(struct conn *c, const struct server_request *r, void *arg)
{
	const char *p = r->path;

	(void)arg;
	if (!strcmp(r->method, "HEAD"))
		return conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nX-Test: head\r\n\r\n");
	if (!strcmp(p, "/hello"))
		return conn_answer(c, 200, "", "hello", 5);
	if (!strncmp(p, "/echo", 5))
		return echo(c, r);
	if (!strcmp(p, "/stream"))
		return stream(c);
	if (!strcmp(p, "/chunked"))
		return conn_printf(
			c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5;x=y\r\ndefgh\r\n0\r\nTrailer: t\r\n\r\n");
	if (!strcmp(p, "/chunked-cut"))
		conn_printf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
	if (!strcmp(p, "/cut"))
		conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nten bytes.");
	if (!strcmp(p, "/garbage"))
		conn_printf(c, "this is not HTTP\r\n\r\n");
	if (!strcmp(p, "/stall")) {
		conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nten bytes.");
		conn_hang(c);
	}
	if (!strcmp(p, "/silent"))
		conn_hang(c);
	if (!strcmp(p, "/drip"))
		for (int i = 0; i < 100 && conn_printf(c, i ? "." : "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"); i++)
			usleep(50000);
	if (!strcmp(p, "/headers")) {
		conn_printf(c, "HTTP/1.1 200 OK\r\n");
		for (int i = 0; i < 20000 && conn_printf(c, "X-Header-%d: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", i); i++)
			;
	}
	if (!strncmp(p, "/status/", 8))
		return conn_answer(c, atoi(p + 8), "", refusal, sizeof refusal - 1);
	if (!strcmp(p, "/big-refusal")) {
		AUTO_FREE char *body = malloc(200000);

		memset(body, 'e', 200000);
		return conn_answer(c, 400, "", body, 200000);
	}
	if (!strncmp(p, "/to?", 4)) {
		char header[1200];

		snprintf(header, sizeof header, "Location: %s\r\n", p + 4);
		return conn_answer(c, 302, header, "elsewhere", 9);
	}
	if (!strcmp(p, "/loop"))
		return conn_answer(c, 301, "Location: /loop\r\n", "", 0);
	return false;
}

static char *url_of(const struct server *s, const char *path)
{
	char *url = NULL;

	assert_true(asprintf(&url, "%s://127.0.0.1:%u%s", s->tls ? "https" : "http", s->port, path) > 0);
	return url;
}

struct collected {
	size_t len, stop_at;
	char start[64];
};

static int collect(void *arg, const void *data, size_t len, struct error **err)
{
	struct collected *c = arg;

	for (size_t i = 0; i < len && c->len + i < sizeof c->start - 1; i++)
		c->start[c->len + i] = ((const char *)data)[i];
	c->len += len;
	if (c->stop_at && c->len >= c->stop_at)
		return error_set(err, ERROR_PERMANENT, "SinkFull", "the sink is full");
	return 0;
}

static bool sharing; /* the second round: the clients have a thread and a connection of their own for all requests */

static struct http_client *client_of(const struct http_trust *trust)
{
	struct error *err = NULL;
	struct http_client *client = http_client_new(trust, &err);

	if (!client || (sharing && !(trust && (trust->refuse_local || trust->first_use)) && http_client_share(client, NULL, &err) < 0))
		fail_msg("%s", err->message);
	return client;
}

/* One request by a new client; the error's text is checked for the parts. */
static void expect_failure(struct http_request q, const struct server *s, const char *path, enum error_class class, const char *reason,
			   const char *part)
{
	struct http_client *client = client_of(NULL);
	AUTO_FREE char *url = url_of(s, path);
	AUTO_ERROR struct error *err = NULL;
	AUTO_RESPONSE struct http_response r = { 0 };

	q.url = url;
	assert_int_equal(http_fetch(client, &q, &r, &err), -1);
	assert_non_null(err);
	if (strcmp(err->reason, reason) || err->class != class || !strstr(err->message, part))
		fail_msg("%s: got %s %s: %s", path, error_class_name(err->class), err->reason, err->message);
	assert_null(r.body);
	http_client_free(client);
}

static void test_get_reuses_the_connection(void **state)
{
	struct http_client *client = client_of(NULL);
	AUTO_FREE char *url = url_of(plain, "/hello");
	unsigned before = plain->accepted;

	(void)state;
	for (int i = 0; i < 5; i++) {
		AUTO_RESPONSE struct http_response r = { 0 };

		assert_int_equal(http_perform(client, &(struct http_request){ .url = url }, &r, NULL), 0);
		assert_int_equal(r.status, 200);
		assert_string_equal(r.body, "hello");
		assert_int_equal(r.body_len, 5);
		assert_int_equal(r.content_length, 5);
		assert_string_equal(r.effective_url, url);
	}
	assert_int_equal(plain->accepted - before, 1);
	http_client_free(client);
}

static void test_methods_headers_bodies(void **state)
{
	static const char *const headers[] = { "X-One: 1", "Content-Type: text/xml", NULL };
	static const char *const bodies[] = { "POST", "PUT", "PATCH", "DELETE" };
	struct http_client *client = client_of(NULL);
	AUTO_FREE char *url = url_of(plain, "/echo?a=b");

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct http_request q = { .method = bodies[i],
					  .url = url,
					  .headers = headers,
					  .body = "data",
					  .body_len = 4,
					  .user = "me",
					  .password = PASSWORD };
		AUTO_RESPONSE struct http_response r = { 0 };
		AUTO_FREE char *test = NULL;

		assert_int_equal(http_fetch(client, &q, &r, NULL), 0);
		assert_true(!strncmp(r.body, bodies[i], strlen(bodies[i])));
		assert_non_null(strstr(r.body, " /echo?a=b HTTP/1.1"));
		assert_non_null(strstr(r.body, "\r\nX-One: 1\r\n"));
		assert_non_null(strstr(r.body, "\r\nAuthorization: Basic bWU6czNjcmV0LXBhc3M="));
		assert_null(strcasestr(r.body, "Expect"));
		assert_non_null(strstr(r.body, "\ndata"));
		test = http_response_header(&r, "x-test");
		assert_string_equal(test, "two words");
		assert_null(http_response_header(&r, "x-tes"));
	}
	/* Nothing of the last request stays in the handle. */
	struct http_request q = { .url = url };
	AUTO_RESPONSE struct http_response r = { 0 }, head = { 0 };
	assert_int_equal(http_fetch(client, &q, &r, NULL), 0);
	assert_null(strstr(r.body, "Authorization"));
	assert_null(strstr(r.body, "X-One"));
	assert_true(!strncmp(r.body, "GET", 3));
	q.method = "HEAD";
	assert_int_equal(http_fetch(client, &q, &head, NULL), 0);
	assert_int_equal(head.content_length, 1234);
	assert_int_equal(head.body_len, 0);
	http_client_free(client);
}

/* curl sends a request again by itself when a kept connection turns out to be closed. That a server has seen it before, it cannot know. */
static void test_what_must_be_sent_once(void **state)
{
	AUTO_FREE char *hello = url_of(plain, "/hello"), *nothing = url_of(plain, "/nothing");

	(void)state;
	for (int once = 0; once < 2; once++) {
		struct http_client *client = client_of(NULL);
		struct http_request q = { .method = "POST", .url = nothing, .body = "data", .body_len = 4, .once = once };
		AUTO_RESPONSE struct http_response r = { 0 }, none = { 0 };
		AUTO_ERROR struct error *err = NULL;
		unsigned before;

		assert_int_equal(http_fetch(client, &(struct http_request){ .url = hello }, &r, NULL), 0);
		before = plain->requests;
		assert_int_equal(http_fetch(client, &q, &none, &err), -1);
		assert_string_equal(err->reason, "ConnectionLost");
		assert_int_equal(plain->requests - before, once ? 1 : 2);
		http_client_free(client);
	}
}

static int collect_slowly(void *arg, const void *data, size_t len, struct error **err)
{
	usleep(10000);
	return collect(arg, data, len, err);
}

static void test_a_slow_sink_holds_the_stream_up(void **state)
{
	struct http_client *client = client_of(NULL);
	AUTO_FREE char *url = url_of(plain, "/stream");
	struct collected c = { 0 };
	AUTO_RESPONSE struct http_response r = { 0 };

	(void)state;
	assert_int_equal(http_fetch(client, &(struct http_request){ .url = url, .sink = collect_slowly, .sink_arg = &c }, &r, NULL), 0);
	assert_int_equal(c.len, STREAM_BYTES);
	http_client_free(client);
}

static void test_a_header_cannot_smuggle_another(void **state)
{
	static const char *const headers[] = { "X-Token: abc\r\nX-Evil: 1", NULL };

	(void)state;
	expect_failure((struct http_request){ .headers = headers }, plain, "/hello", ERROR_PERMANENT, "InvalidRequest", "X-Token");
}

static void test_stream(void **state)
{
	struct http_client *client = client_of(NULL);
	static const struct {
		const char *path;
		size_t len;
		const char *start;
	} cases[] = { { "/stream", STREAM_BYTES, "xxx" }, { "/chunked", 8, "abcdefgh" } };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		AUTO_FREE char *url = url_of(plain, cases[i].path);
		struct collected c = { 0 };
		AUTO_RESPONSE struct http_response r = { 0 };

		assert_int_equal(http_fetch(client, &(struct http_request){ .url = url, .sink = collect, .sink_arg = &c }, &r, NULL), 0);
		assert_int_equal(c.len, cases[i].len);
		assert_true(!strncmp(c.start, cases[i].start, strlen(cases[i].start)));
		assert_string_equal(r.body, "");
	}
	http_client_free(client);
}

static void test_a_sink_ends_the_transfer_with_its_error(void **state)
{
	struct collected c = { .stop_at = 1 << 20 };

	(void)state;
	expect_failure((struct http_request){ .sink = collect, .sink_arg = &c }, plain, "/stream", ERROR_PERMANENT, "SinkFull",
		       "the sink is full");
	assert_true(c.len < STREAM_BYTES);
}

static void test_statuses(void **state)
{
	static const struct {
		const char *path;
		enum error_class class;
	} cases[] = { { "/status/400", ERROR_PERMANENT }, { "/status/401", ERROR_PERMANENT }, { "/status/404", ERROR_NOT_FOUND },
		      { "/status/408", ERROR_TRANSIENT }, { "/status/409", ERROR_CONFLICT },  { "/status/410", ERROR_GONE },
		      { "/status/429", ERROR_TRANSIENT }, { "/status/500", ERROR_TRANSIENT }, { "/status/503", ERROR_TRANSIENT },
		      { "/status/302", ERROR_PERMANENT } };
	struct collected c = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		expect_failure((struct http_request){ .sink = collect, .sink_arg = &c }, plain, cases[i].path, cases[i].class, "HTTPStatus",
			       ": not so ? schön ??");
	/* What is no success never reaches the sink, however much of it there is. */
	expect_failure((struct http_request){ .sink = collect, .sink_arg = &c }, plain, "/big-refusal", ERROR_PERMANENT, "HTTPStatus",
		       "400: eeee");
	expect_failure((struct http_request){ .max_body = 100 }, plain, "/big-refusal", ERROR_PERMANENT, "HTTPStatus", "400: eeee");
	assert_int_equal(c.len, 0);
}

static void test_messages_hide_secrets(void **state)
{
	struct http_client *client = client_of(NULL);
	char url[128];
	AUTO_ERROR struct error *err = NULL;
	AUTO_RESPONSE struct http_response r = { 0 };

	(void)state;
	snprintf(url, sizeof url, "http://me:" PASSWORD "@127.0.0.1:%u/status/403?token=" PASSWORD "#x", plain->port);
	assert_int_equal(http_fetch(client, &(struct http_request){ .url = url }, &r, &err), -1);
	assert_int_equal(err->code, 403);
	assert_null(strstr(err->message, PASSWORD));
	assert_non_null(strstr(err->message, "/status/403 answered"));
	http_client_free(client);
}

static void test_a_cut_body_is_no_success(void **state)
{
	struct collected c = { 0 };

	(void)state;
	expect_failure((struct http_request){ .sink = collect, .sink_arg = &c }, plain, "/cut", ERROR_TRANSIENT, "ConnectionLost",
		       "127.0.0.1");
	assert_int_equal(c.len, 10);
	expect_failure((struct http_request){ 0 }, plain, "/cut", ERROR_TRANSIENT, "ConnectionLost", "127.0.0.1");
	expect_failure((struct http_request){ .sink = collect, .sink_arg = &c }, plain, "/chunked-cut", ERROR_TRANSIENT, "ConnectionLost",
		       "127.0.0.1");
	expect_failure((struct http_request){ 0 }, plain, "/nothing", ERROR_TRANSIENT, "ConnectionLost", "127.0.0.1");
	expect_failure((struct http_request){ 0 }, plain, "/garbage", ERROR_TRANSIENT, "InvalidAnswer", "127.0.0.1");
}

static void test_limits(void **state)
{
	(void)state;
	expect_failure((struct http_request){ .max_body = 1000 }, plain, "/stream", ERROR_PERMANENT, "AnswerTooLarge", "1000 bytes");
	expect_failure((struct http_request){ 0 }, plain, "/headers", ERROR_PERMANENT, "AnswerTooLarge", "headers");
}

static void test_time_limits(void **state)
{
	static const struct {
		const char *path, *reason;
		unsigned stall_ms, timeout_ms;
	} cases[] = { { "/stall", "Stalled", 300, 0 },
		      { "/silent", "Stalled", 300, 0 },
		      { "/silent", "TimedOut", 0, 300 },
		      { "/drip", "TimedOut", 200, 500 },
		      { "/stall", "TimedOut", 0, 300 } };

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint64_t begun = clock_monotonic_ms(), took;

		expect_failure((struct http_request){ .stall_timeout_ms = cases[i].stall_ms, .timeout_ms = cases[i].timeout_ms }, plain,
			       cases[i].path, ERROR_TRANSIENT, cases[i].reason, "127.0.0.1");
		took = clock_monotonic_ms() - begun;
		assert_in_range(took, 250, 1500);
	}
}

struct canceller {
	struct cancel *cancel;
	uint64_t at;
};

static void *request_cancel(void *arg)
{
	struct canceller *c = arg;

	usleep(300000);
	c->at = clock_monotonic_ms();
	cancel_request(c->cancel);
	return NULL;
}

static void test_cancel_wakes_at_once(void **state)
{
	static const char *const paths[] = { "/stall", "/silent", "/drip" };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct canceller c = { .cancel = cancel_new(NULL) };
		struct collected got = { 0 };
		pthread_t thread;
		uint64_t now;

		assert_int_equal(pthread_create(&thread, NULL, request_cancel, &c), 0);
		expect_failure((struct http_request){ .cancel = c.cancel, .sink = collect, .sink_arg = &got }, plain, paths[i],
			       ERROR_CANCELLED, "Cancelled", "");
		now = clock_monotonic_ms();
		pthread_join(thread, NULL);
		assert_in_range(now - c.at, 0, 200);
		/* And one that was cancelled before it began sends nothing. */
		unsigned requests = plain->requests;
		expect_failure((struct http_request){ .cancel = c.cancel }, plain, "/hello", ERROR_CANCELLED, "Cancelled", "");
		assert_int_equal(plain->requests, requests);
		cancel_free(c.cancel);
	}
}

static char *echo_after(const struct server *from, const char *path, bool *authorized, bool *token)
{
	static const char *const headers[] = { "X-Auth-Token: " PASSWORD, "Range: bytes=0-9", NULL };
	struct http_client *client = client_of(NULL);
	AUTO_FREE char *url = url_of(from, path);
	struct http_request q = { .url = url, .headers = headers, .user = "me", .password = PASSWORD, .follow_redirects = true };
	struct http_response r = { 0 };
	AUTO_ERROR struct error *err = NULL;

	if (http_fetch(client, &q, &r, &err) < 0)
		fail_msg("%s", err->message);
	*authorized = strstr(r.body, "Authorization: Basic");
	*token = strstr(r.body, PASSWORD);
	assert_non_null(strstr(r.body, "Range: bytes=0-9"));
	char *effective = move_ptr(r.effective_url);
	http_response_free(&r);
	http_client_free(client);
	return effective;
}

static void test_redirects_keep_secrets_at_home(void **state)
{
	AUTO_FREE char *same = NULL, *elsewhere = NULL, *back = NULL, *path = NULL;
	bool authorized, token;

	(void)state;
	same = echo_after(plain, "/to?/to?/echo", &authorized, &token);
	assert_true(authorized && token);
	assert_non_null(strstr(same, "/echo"));
	assert_true(asprintf(&path, "/to?%s/echo", other_url) > 0);
	elsewhere = echo_after(plain, path, &authorized, &token);
	assert_false(authorized || token);
	assert_true(!strncmp(elsewhere, other_url, strlen(other_url)));
	/* Whoever was sent away does not get them back by a detour over a stranger. */
	free(move_ptr(path));
	assert_true(asprintf(&path, "/to?%s/to?http://127.0.0.1:%u/echo", other_url, plain->port) > 0);
	back = echo_after(plain, path, &authorized, &token);
	assert_false(authorized || token);
}

static void test_redirects_have_limits(void **state)
{
	struct http_client *client = client_of(NULL);
	AUTO_FREE char *url = url_of(plain, "/to?/hello");
	AUTO_RESPONSE struct http_response r = { 0 }, posted = { 0 };

	(void)state;
	expect_failure((struct http_request){ .follow_redirects = true }, plain, "/loop", ERROR_PERMANENT, "TooManyRedirects",
		       "more than 5");
	expect_failure((struct http_request){ .follow_redirects = true }, plain, "/to?file:///etc/passwd", ERROR_PERMANENT, "InvalidURL",
		       "http");
	assert_int_equal(http_perform(client, &(struct http_request){ .url = url }, &r, NULL), 0);
	assert_int_equal(r.status, 302);
	assert_int_equal(
		http_perform(client, &(struct http_request){ .method = "POST", .url = url, .follow_redirects = true }, &posted, NULL), 0);
	assert_int_equal(posted.status, 302);
	http_client_free(client);
}

/* A request that fails before it is sent leaves nothing behind for the next one of its client. */
static void test_failures_leave_nothing_behind(void **state)
{
	static const char *const bad[] = { "/to?file:///etc/passwd", "/to?gopher://x/" };
	struct http_client *client = client_of(NULL);
	AUTO_FREE char *good = url_of(plain, "/hello");

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		AUTO_FREE char *url = url_of(plain, bad[i]);
		AUTO_RESPONSE struct http_response r = { 0 }, after = { 0 };
		AUTO_ERROR struct error *err = NULL;

		assert_int_equal(http_perform(client, &(struct http_request){ .url = url, .follow_redirects = true }, &r, NULL), -1);
		if (http_perform(client, &(struct http_request){ .url = good }, &after, &err) < 0)
			fail_msg("%s", err->message);
		assert_int_equal(after.status, 200);
	}
	http_client_free(client);
}

static void test_nobody_there(void **state)
{
	struct server *gone = server_start(NULL, handle, NULL);
	struct server there = *gone;
	char port[16];

	(void)state;
	server_stop(gone);
	snprintf(port, sizeof port, ":%u", there.port);
	there.tls = NULL;
	expect_failure((struct http_request){ 0 }, &there, "/hello", ERROR_TRANSIENT, "ConnectionFailed", port);
	expect_failure((struct http_request){ 0 }, &there, "/hello", ERROR_TRANSIENT, "ConnectionFailed", ": Connection refused");
	struct http_client *client = client_of(NULL);
	AUTO_ERROR struct error *err = NULL;
	AUTO_RESPONSE struct http_response r = { 0 };
	assert_int_equal(http_perform(client, &(struct http_request){ .url = "ftp://me:" PASSWORD "@host/x" }, &r, &err), -1);
	assert_string_equal(err->reason, "InvalidURL");
	assert_null(strstr(err->message, PASSWORD));
	http_client_free(client);
}

/* A handler that answers http at a port of https, as servers do. */
static bool says_https(struct conn *c, const struct server_request *r, void *arg)
{
	(void)r;
	(void)arg;
	return conn_answer(c, 400, "", "<html><center>The plain HTTP request was sent to HTTPS port</center></html>", 75);
}

/* Bytes of TLS instead of an answer: an alert. */
static bool alerts(struct conn *c, const struct server_request *r, void *arg)
{
	(void)r;
	(void)arg;
	conn_write(c, "\x15\x03\x01\x00\x02\x02\x46", 7);
	return false;
}

/* The wrong scheme for a port is told for what it is, as far as that can be known. */
static void test_http_and_https_mixed_up(void **state)
{
	struct identity id = identity_new("one", "IP:127.0.0.1", NULL, 10);
	struct server *tls = server_start(identity_server(&id), handle, NULL), *port = server_start(NULL, says_https, NULL),
		      *alert = server_start(NULL, alerts, NULL), as_tls = { .port = plain->port }, as_plain = { .port = tls->port };
	struct http_client *client = client_of(NULL), *careless = client_of(&(struct http_trust){ .insecure = true });
	AUTO_ERROR struct error *err = NULL;
	AUTO_RESPONSE struct http_response r = { 0 };
	AUTO_FREE char *url = url_of(port, "/x?token=" PASSWORD), *silent = url_of(tls, "/silent"), *mute = NULL;

	(void)state;
	/* A server of plain http waits for the end of a line that never comes. Of a connection that is shared it cannot be told. */
	as_tls.tls = tls->tls;
	mute = url_of(&as_tls, "/");
	expect_failure((struct http_request){ .timeout_ms = 1500 }, &as_tls, "/", ERROR_TRANSIENT, "TimedOut",
		       sharing ? "in time" : "accepted the connection but did not begin TLS in time: if it speaks plain http");
	expect_failure((struct http_request){ .connect_timeout_ms = 1500 }, &as_tls, "/", ERROR_TRANSIENT, "TimedOut",
		       sharing ? "in time" : "did not begin TLS");
	assert_int_equal(http_perform(careless, &(struct http_request){ .url = mute, .timeout_ms = 1500 }, &r, &err), -1);
	assert_non_null(strstr(err->message, sharing ? "in time" : "did not begin TLS"));
	error_free(move_ptr(err));
	/* That it does not answer once TLS is there is something else. */
	assert_int_equal(http_perform(careless, &(struct http_request){ .url = silent, .timeout_ms = 3000 }, &r, &err), -1);
	assert_non_null(strstr(err->message, "did not answer in time"));
	error_free(move_ptr(err));
	expect_failure((struct http_request){ 0 }, &as_plain, "/", ERROR_TRANSIENT, "ConnectionLost", "write https://");
	expect_failure((struct http_request){ 0 }, alert, "/", ERROR_TRANSIENT, "InvalidAnswer", "write https:// if it speaks that there");
	assert_int_equal(http_perform(client, &(struct http_request){ .url = url }, &r, &err), -1);
	assert_null(r.body);
	assert_int_equal(err->code, 400);
	assert_non_null(strstr(err->message, "the port is one of https: write https:// in the URL"));
	assert_null(strstr(err->message, PASSWORD));
	server_stop(tls);
	server_stop(port);
	server_stop(alert);
	identity_free(&id);
	http_client_free(careless);
	http_client_free(client);
}

static void test_local_addresses_are_refused_by_any_name(void **state)
{
	static const char *const hosts[] = { "127.0.0.1", "localhost", "0.0.0.0", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]" };
	struct http_trust trust = { .refuse_local = true };
	struct http_client *client = client_of(&trust);
	unsigned before = plain->accepted;

	(void)state;
	for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
		AUTO_ERROR struct error *err = NULL;
		AUTO_RESPONSE struct http_response r = { 0 };
		char url[128];

		snprintf(url, sizeof url, "http://%s:%u/hello", hosts[i], plain->port);
		assert_int_equal(http_perform(client, &(struct http_request){ .url = url }, &r, &err), -1);
		assert_string_equal(err->reason, "AddressRefused");
		assert_int_equal(err->class, ERROR_PERMANENT);
		assert_non_null(strstr(err->message, " is "));
	}
	assert_int_equal(plain->accepted, before);
	http_client_free(client);
}

static void test_the_environments_proxy_is_not_used(void **state)
{
	struct http_client *client = client_of(NULL);
	AUTO_FREE char *url = url_of(plain, "/hello");
	AUTO_RESPONSE struct http_response r = { 0 };

	(void)state;
	setenv("http_proxy", "http://127.0.0.1:1", 1);
	setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
	assert_int_equal(http_perform(client, &(struct http_request){ .url = url }, &r, NULL), 0);
	unsetenv("http_proxy");
	unsetenv("ALL_PROXY");
	http_client_free(client);
	/* One that was asked for is: the server sees the whole URL. */
	AUTO_FREE char *proxy = url_of(plain, "");
	AUTO_ERROR struct error *err = NULL;
	client = client_of(&(struct http_trust){ .proxy_url = proxy });
	assert_int_equal(http_perform(client, &(struct http_request){ .url = "http://somewhere.invalid/" }, &r, &err), -1);
	assert_string_equal(err->reason, "ConnectionLost");
	http_client_free(client);
}

static void *many(void *arg)
{
	AUTO_FREE char *url = url_of(plain, "/echo");
	long bad = 0;

	for (int i = 0; i < 40; i++) {
		AUTO_RESPONSE struct http_response r = { 0 };

		bad += http_fetch(arg, &(struct http_request){ .url = url }, &r, NULL) != 0;
	}
	return (void *)bad;
}

static void test_threads_share_a_client(void **state)
{
	struct http_client *client = client_of(NULL);
	pthread_t threads[6];
	unsigned before = plain->accepted;

	(void)state;
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, many, client), 0);
	for (size_t i = 0; i < 6; i++) {
		void *bad;

		pthread_join(threads[i], &bad);
		assert_null(bad);
	}
	/* Connections are used again. One that is just being given back is not free yet, and one of the test before may be accepted only now: so
	 * there can be some more than threads, but not one for each of the 240 requests. */
	assert_in_range(plain->accepted - before, 1, 60);
	http_client_free(client);
}

/* --- TLS --------------------------------------------------------------------------------------------------------------- */

static bool greet(struct conn *c, const struct server_request *r, void *arg)
{
	(void)r;
	(void)arg;
	return conn_answer(c, 200, "", "hello", 5);
}

/* What a client of this trust gets from the server: NULL on success, else the message. */
static char *tls_try(struct server *s, const struct http_trust *trust, const char *host)
{
	struct error *err = NULL;
	struct http_client *client = http_client_new(trust, &err);
	struct http_response r = { 0 };
	char url[128], *message = NULL;

	snprintf(url, sizeof url, "https://%s:%u/", host, s->port);
	if (client && sharing && !(trust && trust->first_use))
		http_client_share(client, NULL, &err);
	if (client && http_perform(client, &(struct http_request){ .url = url, .timeout_ms = 20000 }, &r, &err) == 0)
		assert_string_equal(r.body, "hello");
	if (err)
		assert_true(asprintf(&message, "%s %s %s", error_class_name(err->class), err->reason, err->message) > 0);
	http_response_free(&r);
	error_free(err);
	http_client_free(client);
	return message;
}

static void tls_expect(struct server *s, const struct http_trust *trust, const char *host, const char *const parts[])
{
	AUTO_FREE char *message = tls_try(s, trust, host);

	if (!parts) {
		if (message)
			fail_msg("refused: %s", message);
		return;
	}
	if (!message)
		fail_msg("accepted, although wanted: %s", parts[0]);
	for (; *parts; parts++)
		if (!strstr(message, *parts))
			fail_msg("\"%s\" is not in \"%s\"", *parts, message);
}
#define REFUSED(...) ((const char *const[]){ "Permanent TLSFailed", __VA_ARGS__, NULL })

static void test_tls_trust(void **state)
{
	struct identity ca = identity_new("Test CA", NULL, NULL, 10), stranger = identity_new("Other CA", NULL, NULL, 10);
	struct identity id = identity_new("vcenter Münster", "DNS:vcenter.test,IP:127.0.0.1", &ca, 10);
	AUTO_FREE char *ca_pem = identity_cert_pem(&ca), *stranger_pem = identity_cert_pem(&stranger), *two = NULL;
	struct server *s = server_start(identity_server(&id), greet, NULL);
	char sha1[200], sha256[200], wrong[200];

	(void)state;
	identity_fingerprint(&id, EVP_sha1(), sha1);
	identity_fingerprint(&id, EVP_sha256(), sha256);
	identity_fingerprint(&ca, EVP_sha1(), wrong);
	assert_true(asprintf(&two, "%s\n# and\n%s", stranger_pem, ca_pem) > 0);
	tls_expect(s, NULL, "127.0.0.1", REFUSED("127.0.0.1", "vcenter Münster", "Test CA", sha1, sha256, "unable to get local issuer"));
	tls_expect(s, &(struct http_trust){ .ca_pem = stranger_pem }, "127.0.0.1", REFUSED("vcenter", "Test CA", sha256));
	tls_expect(s, &(struct http_trust){ .ca_pem = ca_pem }, "127.0.0.1", NULL);
	tls_expect(s, &(struct http_trust){ .ca_pem = two }, "127.0.0.1", NULL);
	tls_expect(s, &(struct http_trust){ .ca_pem = ca_pem }, "localhost", REFUSED("localhost", "DNS:vcenter.test", sha1));
	tls_expect(s, &(struct http_trust){ .ca_pem = ca_pem, .server_name = "vcenter.test" }, "localhost", NULL);
	tls_expect(s, &(struct http_trust){ .ca_pem = ca_pem, .server_name = "esx.test" }, "127.0.0.1", REFUSED("DNS:vcenter.test"));
	tls_expect(s, &(struct http_trust){ .insecure = true }, "localhost", NULL);
	/* Pins count alone: neither issuer nor name, and not the user's carelessness. */
	tls_expect(s, &(struct http_trust){ .pin_sha1 = sha1 }, "localhost", NULL);
	tls_expect(s, &(struct http_trust){ .pin_sha256 = sha256 }, "localhost", NULL);
	tls_expect(s, &(struct http_trust){ .pin_sha1 = sha1, .pin_sha256 = sha256 }, "localhost", NULL);
	tls_expect(s, &(struct http_trust){ .pin_sha1 = wrong }, "127.0.0.1", REFUSED("fingerprint", sha1, sha256));
	tls_expect(s, &(struct http_trust){ .pin_sha1 = wrong, .insecure = true }, "127.0.0.1", REFUSED("fingerprint"));
	tls_expect(s, &(struct http_trust){ .pin_sha1 = wrong, .ca_pem = ca_pem }, "127.0.0.1", REFUSED("fingerprint"));
	tls_expect(s, &(struct http_trust){ .pin_sha1 = wrong, .pin_sha256 = sha256 }, "127.0.0.1", REFUSED("fingerprint"));
	server_stop(s);
	identity_free(&ca);
	identity_free(&stranger);
	identity_free(&id);
}

static char *first_use_try(struct http_client *client, struct server *s)
{
	AUTO_ERROR struct error *err = NULL;
	AUTO_RESPONSE struct http_response response = { 0 };
	AUTO_FREE char *url = url_of(s, "/");
	struct http_request request = { .url = url };
	char *text = NULL;

	if (http_fetch(client, &request, &response, &err) == 0)
		return NULL;
	assert_true(asprintf(&text, "%s %s %s", error_class_name(err->class), err->reason, err->message) > 0);
	return text;
}

/* The first certificate is pinned, any other one refused, with both told; a client that knows the pin from before does so at once. */
static void test_tls_first_use(void **state)
{
	struct identity one = identity_new("one", "IP:127.0.0.1", NULL, 10), two = identity_new("two", "IP:127.0.0.1", NULL, 10);
	struct server *first = server_start(identity_server(&one), greet, NULL), *second = server_start(identity_server(&two), greet, NULL);
	struct http_client *client = http_client_new(&(struct http_trust){ .first_use = true }, NULL), *later;
	char pin_one[200], pin_two[200];

	(void)state;
	identity_fingerprint(&one, EVP_sha256(), pin_one);
	identity_fingerprint(&two, EVP_sha256(), pin_two);
	assert_null(http_client_first_use(client));
	assert_null(first_use_try(client, first));
	AUTO_FREE char *seen = http_client_first_use(client);
	assert_string_equal(seen, pin_one);
	AUTO_FREE char *refused = first_use_try(client, second);
	assert_non_null(refused);
	assert_non_null(strstr(refused, "Permanent TLSFailed"));
	assert_non_null(strstr(refused, pin_one));
	assert_non_null(strstr(refused, pin_two));
	assert_null(first_use_try(client, first));
	http_client_free(client);

	later = http_client_new(&(struct http_trust){ .first_use = true, .pin_sha256 = pin_one }, NULL);
	AUTO_FREE char *known = http_client_first_use(later);
	assert_string_equal(known, pin_one);
	AUTO_FREE char *again = first_use_try(later, second);
	assert_non_null(again);
	assert_non_null(strstr(again, pin_one));
	assert_null(first_use_try(later, first));
	http_client_free(later);
	server_stop(first);
	server_stop(second);
	identity_free(&one);
	identity_free(&two);
}

static void test_tls_expired(void **state)
{
	struct identity ca = identity_new("Test CA", NULL, NULL, 10), id = identity_new("old", "IP:127.0.0.1", &ca, -1);
	AUTO_FREE char *ca_pem = identity_cert_pem(&ca);
	struct server *s = server_start(identity_server(&id), greet, NULL);

	(void)state;
	tls_expect(s, &(struct http_trust){ .ca_pem = ca_pem }, "127.0.0.1", REFUSED("certificate has expired", "valid from"));
	server_stop(s);
	identity_free(&ca);
	identity_free(&id);
}

static void test_tls_client_certificate(void **state)
{
	struct identity ca = identity_new("Test CA", NULL, NULL, 10), id = identity_new("server", "IP:127.0.0.1", &ca, 10),
			me = identity_new("me", NULL, &ca, 10);
	AUTO_FREE char *ca_pem = identity_cert_pem(&ca), *cert = identity_cert_pem(&me), *key = identity_key_pem(&me),
		       *other_key = identity_key_pem(&id);
	SSL_CTX *tls = identity_server(&id);
	struct server *s;

	(void)state;
	SSL_CTX_set_verify(tls, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	X509_STORE_add_cert(SSL_CTX_get_cert_store(tls), ca.cert);
	s = server_start(tls, greet, NULL);
	tls_expect(s, &(struct http_trust){ .ca_pem = ca_pem, .client_cert_pem = cert, .client_key_pem = key }, "127.0.0.1", NULL);
	AUTO_FREE char *without = tls_try(s, &(struct http_trust){ .ca_pem = ca_pem }, "127.0.0.1");
	assert_non_null(without);
	AUTO_FREE char *mismatch =
		tls_try(s, &(struct http_trust){ .ca_pem = ca_pem, .client_cert_pem = cert, .client_key_pem = other_key }, "127.0.0.1");
	assert_non_null(strstr(mismatch, "Permanent InvalidCertificate"));
	server_stop(s);
	identity_free(&ca);
	identity_free(&id);
	identity_free(&me);
}

static void test_what_is_no_trust(void **state)
{
	static const struct {
		struct http_trust trust;
		const char *reason, *part;
	} cases[] = {
		{ { .ca_pem = "not a certificate" }, "InvalidCertificate", "PEM" },
		{ { .ca_pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" }, "InvalidCertificate", "PEM" },
		{ { .pin_sha1 = "AA:BB" }, "InvalidFingerprint", "\"AA:BB\" is no SHA-1" },
		{ { .pin_sha1 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }, "InvalidFingerprint", "SHA-1" },
		{ { .pin_sha256 = "0123456789abcdef0123456789abcdef01234567" }, "InvalidFingerprint", "SHA-256" },
		{ { .pin_sha1 = "0123456789abcdef0123456789abcdef0123456z" }, "InvalidFingerprint", "SHA-1" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		AUTO_ERROR struct error *err = NULL;

		assert_null(http_client_new(&cases[i].trust, &err));
		assert_string_equal(err->reason, cases[i].reason);
		assert_non_null(strstr(err->message, cases[i].part));
	}
}

static int start(void **state)
{
	(void)state;
	plain = server_start(NULL, handle, NULL);
	other = server_start(NULL, handle, NULL);
	snprintf(other_url, sizeof other_url, "http://127.0.0.1:%u", other->port);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	server_stop(plain);
	server_stop(other);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_get_reuses_the_connection),
		cmocka_unit_test(test_methods_headers_bodies),
		cmocka_unit_test(test_a_header_cannot_smuggle_another),
		cmocka_unit_test(test_what_must_be_sent_once),
		cmocka_unit_test(test_stream),
		cmocka_unit_test(test_a_slow_sink_holds_the_stream_up),
		cmocka_unit_test(test_a_sink_ends_the_transfer_with_its_error),
		cmocka_unit_test(test_statuses),
		cmocka_unit_test(test_messages_hide_secrets),
		cmocka_unit_test(test_a_cut_body_is_no_success),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_time_limits),
		cmocka_unit_test(test_cancel_wakes_at_once),
		cmocka_unit_test(test_redirects_keep_secrets_at_home),
		cmocka_unit_test(test_redirects_have_limits),
		cmocka_unit_test(test_failures_leave_nothing_behind),
		cmocka_unit_test(test_nobody_there),
		cmocka_unit_test(test_http_and_https_mixed_up),
		cmocka_unit_test(test_local_addresses_are_refused_by_any_name),
		cmocka_unit_test(test_the_environments_proxy_is_not_used),
		cmocka_unit_test(test_threads_share_a_client),
		cmocka_unit_test(test_tls_trust),
		cmocka_unit_test(test_tls_first_use),
		cmocka_unit_test(test_tls_expired),
		cmocka_unit_test(test_tls_client_certificate),
		cmocka_unit_test(test_what_is_no_trust),
	};

	int failed = cmocka_run_group_tests(tests, start, stop);

	sharing = true;
	return cmocka_run_group_tests_name("shared", tests, start, stop) + failed;
}
