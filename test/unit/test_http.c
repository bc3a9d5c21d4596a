// links: net base
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/http.h"

static char directory[] = "/tmp/test_http.XXXXXX";
static FILE *server_in;
static pid_t server;
static int port, tls_port;
static char sha1[128], sha256[128];

static void first_line(const char *command, char *out, size_t size)
{
	FILE *f = popen(command, "re");

	assert_non_null(f);
	assert_non_null(fgets(out, (int)size, f));
	out[strcspn(out, "\n")] = 0;
	pclose(f);
}

/* openssl prints "sha1 Fingerprint=AA:BB" */
static void fingerprint(const char *kind, char *out, size_t size)
{
	char command[512], line[256];

	snprintf(command, sizeof command, "openssl x509 -in %s/crt -noout -fingerprint -%s", directory, kind);
	first_line(command, line, sizeof line);
	snprintf(out, size, "%.100s", strchr(line, '=') + 1);
}

static int setup(void **state)
{
	char command[512], line[64];
	int to[2], from[2];

	(void)state;
	if (!mkdtemp(directory))
		return -1;
	snprintf(command, sizeof command,
		 "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=peer -addext subjectAltName=DNS:peer.test -keyout %s/key -out %s/crt 2>/dev/null",
		 directory, directory);
	if (system(command) || pipe(to) || pipe(from))
		return -1;
	server = fork();
	if (!server) {
		char crt[128], key[128];

		dup2(to[0], 0);
		dup2(from[1], 1);
		close(to[0]);
		close(to[1]);
		close(from[0]);
		close(from[1]);
		snprintf(crt, sizeof crt, "%s/crt", directory);
		snprintf(key, sizeof key, "%s/key", directory);
		execlp("python3", "python3", SOURCE_DIR "/test/unit/http_server.py", crt, key, NULL);
		_exit(127);
	}
	close(to[0]);
	close(from[1]);
	server_in = fdopen(to[1], "w");
	FILE *out = fdopen(from[0], "r");
	if (!fgets(line, sizeof line, out) || sscanf(line, "%d %d", &port, &tls_port) != 2)
		return -1;
	fclose(out);
	fingerprint("sha1", sha1, sizeof sha1);
	fingerprint("sha256", sha256, sizeof sha256);
	return 0;
}

static int teardown(void **state)
{
	char command[512];

	(void)state;
	fclose(server_in);
	snprintf(command, sizeof command, "rm -r %s", directory);
	return system(command);
}

struct result {
	int failed;
	struct http_response response;
	struct error *error;
};

static void result_clear(struct result *r)
{
	http_response_free(&r->response);
	error_free(r->error);
}

#define AUTO_RESULT CLEANUP(result_clear)

/* Runs the request against the path of the plain or the TLS server. */
static struct result fetch(const struct http_trust *trust, bool tls, const char *path, struct http_request request)
{
	struct result r = { 0 };
	char url[256];
	struct http_client *client = http_client_new(trust, &r.error);

	snprintf(url, sizeof url, "%s://127.0.0.1:%d%s", tls ? "https" : "http", tls ? tls_port : port, path);
	request.url = url;
	r.failed = client ? http_fetch(client, &request, &r.response, &r.error) : -1;
	http_client_free(client);
	return r;
}

static void test_methods_headers_and_bodies(void **state)
{
	const char *headers[] = { "X-Test: 7", NULL };
	AUTO_RESULT struct result post = fetch(NULL, false, "/echo",
					       (struct http_request){ .method = "POST", .body = "hi", .body_len = 2, .headers = headers, .user = "u", .password = "p" });
	AUTO_RESULT struct result patch = fetch(NULL, false, "/echo", (struct http_request){ .method = "PATCH", .body = "{}", .body_len = 2 });
	AUTO_RESULT struct result head = fetch(NULL, false, "/big", (struct http_request){ .method = "HEAD" });
	AUTO_RESULT struct result chunked = fetch(NULL, false, "/chunked", (struct http_request){ 0 });
	AUTO_FREE char *header = http_response_header(&post.response, "x-ANSWER");

	(void)state;
	assert_int_equal(post.failed, 0);
	assert_string_equal(post.response.body, "POST hi auth=Basic dTpw x=7");
	assert_string_equal(header, "yes");
	assert_null(http_response_header(&post.response, "X-Ans"));
	assert_string_equal(patch.response.body, "PATCH {} auth=None x=None");
	assert_int_equal(head.response.content_length, 3000000);
	assert_int_equal(head.response.body_len, 0);
	assert_string_equal(chunked.response.body, "hello world");
}

static void expect(struct result r, enum error_class class, const char *reason, const char *part)
{
	assert_int_equal(r.failed, -1);
	if (r.error->class != class || strcmp(r.error->reason, reason) || !strstr(r.error->message, part))
		fail_msg("expected %s %s \"%s\", got %s %s: %s", error_class_name(class), reason, part, error_class_name(r.error->class), r.error->reason,
			 r.error->message);
	result_clear(&r);
}

static void test_statuses_have_classes(void **state)
{
	static const struct {
		const char *path;
		enum error_class class;
	} cases[] = { { "/status/404", ERROR_NOT_FOUND }, { "/status/409", ERROR_CONFLICT },  { "/status/410", ERROR_GONE },
		      { "/status/429", ERROR_TRANSIENT }, { "/status/503", ERROR_TRANSIENT }, { "/status/403", ERROR_PERMANENT } };

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		expect(fetch(NULL, false, cases[i].path, (struct http_request){ 0 }), cases[i].class, "HTTPStatus", "<p>it went wrong</p>");
}

static void test_broken_answers(void **state)
{
	(void)state;
	expect(fetch(NULL, false, "/cut", (struct http_request){ 0 }), ERROR_TRANSIENT, "ConnectionLost", "was lost");
	expect(fetch(NULL, false, "/cut-chunk", (struct http_request){ 0 }), ERROR_TRANSIENT, "ConnectionLost", "was lost");
	expect(fetch(NULL, false, "/big", (struct http_request){ .max_body = 1000000 }), ERROR_PERMANENT, "AnswerTooLarge", "1000000 bytes");
	expect(fetch(NULL, false, "/stall", (struct http_request){ .stall_timeout_ms = 300 }), ERROR_TRANSIENT, "Stalled", "sent nothing");
	expect(fetch(NULL, false, "/stall", (struct http_request){ .timeout_ms = 300 }), ERROR_TRANSIENT, "TimedOut", "did not answer in time");
	struct http_client *client = http_client_new(NULL, NULL);
	struct result r = { 0 };
	r.failed = http_fetch(client, &(struct http_request){ .url = "http://127.0.0.1:1/" }, &r.response, &r.error);
	expect(r, ERROR_TRANSIENT, "ConnectionFailed", "cannot connect to 127.0.0.1:1");
	r = (struct result){ 0 };
	r.failed = http_fetch(client, &(struct http_request){ .url = "file:///etc/passwd" }, &r.response, &r.error);
	expect(r, ERROR_PERMANENT, "InvalidURL", "no http or https URL");
	http_client_free(client);
}

static void test_redirects_stay_within_bounds(void **state)
{
	struct http_request follow = { .follow_redirects = true, .user = "u", .password = "secret" };
	AUTO_RESULT struct result away = fetch(NULL, false, "/away", follow);

	(void)state;
	assert_int_equal(away.failed, 0);
	assert_string_equal(away.response.body, "GET  auth=None x=None"); /* the credentials stayed at home */
	expect(fetch(NULL, false, "/away", (struct http_request){ 0 }), ERROR_PERMANENT, "HTTPStatus", "302");
	expect(fetch(NULL, false, "/loop", follow), ERROR_PERMANENT, "TooManyRedirects", "too often");
	expect(fetch(NULL, false, "/file", follow), ERROR_PERMANENT, "InvalidURL", "no http or https URL");
}

static int count(void *arg, const void *data, size_t len, struct error **err)
{
	size_t *left = arg;

	(void)data;
	if (len > *left)
		return error_set(err, ERROR_PERMANENT, "Full", "no more, thank you");
	*left -= len;
	return 0;
}

static void test_sinks(void **state)
{
	size_t left = 3000000;
	AUTO_RESULT struct result all = fetch(NULL, false, "/big", (struct http_request){ .sink = count, .sink_arg = &left });

	(void)state;
	assert_int_equal(all.failed, 0);
	assert_int_equal(left, 0);
	assert_int_equal(all.response.body_len, 0);
	left = 1000000;
	expect(fetch(NULL, false, "/big", (struct http_request){ .sink = count, .sink_arg = &left }), ERROR_PERMANENT, "Full", "no more, thank you");
	left = 0; /* the body of a failure is no data */
	expect(fetch(NULL, false, "/status/503", (struct http_request){ .sink = count, .sink_arg = &left }), ERROR_TRANSIENT, "HTTPStatus", "it went wrong");
}

static void *cancel_later(void *cancel)
{
	cancel_wait(NULL, 200);
	cancel_request(cancel);
	return NULL;
}

static void test_cancel_wakes_at_once(void **state)
{
	struct cancel *cancel = cancel_new(NULL);
	uint64_t begun = clock_monotonic_ms();
	pthread_t thread;

	(void)state;
	pthread_create(&thread, NULL, cancel_later, cancel);
	expect(fetch(NULL, false, "/stall", (struct http_request){ .cancel = cancel }), ERROR_CANCELLED, "Cancelled", "stopped");
	assert_true(clock_monotonic_ms() - begun < 1500);
	pthread_join(thread, NULL);
	cancel_free(cancel);
}

static void test_certificates(void **state)
{
	char path[128], pem[8192] = "", wrong[128];
	struct http_request get = { 0 };

	(void)state;
	snprintf(path, sizeof path, "%s/crt", directory);
	FILE *f = fopen(path, "re");
	assert_true(fread(pem, 1, sizeof pem - 1, f) > 0);
	fclose(f);
	snprintf(wrong, sizeof wrong, "%s", sha1);
	wrong[0] = wrong[0] == '0' ? '1' : '0';

	expect(fetch(NULL, true, "/echo", get), ERROR_PERMANENT, "TLSFailed", sha256);
	/* trusted, but for another name */
	expect(fetch(&(struct http_trust){ .ca_pem = pem }, true, "/echo", get), ERROR_PERMANENT, "TLSFailed", "not trusted");
	expect(fetch(&(struct http_trust){ .pin_sha1 = wrong }, true, "/echo", get), ERROR_PERMANENT, "TLSFailed", sha1);
	expect(fetch(&(struct http_trust){ .pin_sha1 = "AA:BB" }, true, "/echo", get), ERROR_PERMANENT, "InvalidFingerprint", "AA:BB");
	const struct http_trust good[] = { { .ca_pem = pem, .server_name = "peer.test" }, { .pin_sha1 = sha1 }, { .pin_sha256 = sha256 }, { .insecure = true } };
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		AUTO_RESULT struct result r = fetch(&good[i], true, "/echo", get);

		if (r.failed)
			fail_msg("trust %zu: %s", i, error_message(r.error));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_methods_headers_and_bodies), cmocka_unit_test(test_statuses_have_classes),
		cmocka_unit_test(test_broken_answers),		   cmocka_unit_test(test_redirects_stay_within_bounds),
		cmocka_unit_test(test_sinks),			   cmocka_unit_test(test_cancel_wakes_at_once),
		cmocka_unit_test(test_certificates),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
