// links: store/kube store net json base PkgConfig::jansson PkgConfig::ssl PkgConfig::crypto
/* Who we are to an API server: exec plugins (shell scripts here), what expires, what is refused, certificates that rotate. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "http_server.h"
#include "scratch.h"
#include "store/kube/client.h"
#include "store/kube/exec.h"
#include "json/codec.h"

#define V1 "client.authentication.k8s.io/v1"
#define OBJECT "{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"5\"}}"

static void write_file(const char *name, const char *text)
{
	AUTO_FREE char *path = file(name), *fresh = file(".new");
	FILE *f = fopen(fresh, "w");

	assert_non_null(f);
	fputs(text, f);
	fchmod(fileno(f), 0755);
	fclose(f);
	assert_int_equal(rename(fresh, path), 0);
}

static char *read_file(const char *name)
{
	AUTO_FREE char *path = file(name);
	char *text = calloc(1, 8192);
	FILE *f = fopen(path, "r");

	if (f) {
		text[fread(text, 1, 8191, f)] = 0;
		fclose(f);
	}
	return text;
}

/* A plugin of that script; what the configuration holds lives as long as the test's process. */
static struct kube_config plugin(const char *script)
{
	AUTO_FREE char *text = NULL;

	assert_true(asprintf(&text, "#!/bin/sh\ncd %s\n%s\n", directory, script) > 0);
	write_file("plugin", text);
	return (struct kube_config){ .server = (char *)"https://h:6443",
				     .namespace_ = (char *)"default",
				     .exec = { .api_version = (char *)V1, .command = file("plugin"), .interactive = EXEC_NEVER } };
}

static void expect_failure(struct kube_config c, unsigned timeout_ms, enum error_class class, const char *reason, const char *part)
{
	struct exec_credential got = { 0 };
	AUTO_ERROR struct error *err = NULL;

	assert_int_equal(exec_credential_fetch(&c, NULL, timeout_ms, &got, &err), -1);
	assert_null(got.token);
	if (err->class != class || strcmp(err->reason, reason) || !strstr(err->message, part))
		fail_msg("%s %s: %s", error_class_name(err->class), err->reason, err->message);
	free(c.exec.command);
}

#define PRINT(status) "echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"" V1 "\",\"status\":{" status "}}'"

static void test_a_plugin_is_told_and_tells(void **state)
{
	static char *args[] = { (char *)"a b", (char *)"c", NULL }, *env[] = { (char *)"PLUGIN=yes", (char *)"HOME=/there", NULL };
	struct kube_config c =
		plugin("echo \"$1,$2,$PLUGIN,$HOME\" >seen; echo \"$KUBERNETES_EXEC_INFO\" >info; cat >stdin; echo noise >&2\n" PRINT(
			"\"token\":\"t1\",\"expirationTimestamp\":\"2030-01-02T03:04:05Z\""));
	AUTO_EXEC_CREDENTIAL struct exec_credential got = { 0 };
	AUTO_FREE char *command = c.exec.command;
	AUTO_JSON json_t *info = NULL;

	(void)state;
	c.exec.args = args;
	c.exec.env = env;
	c.exec.wants_cluster = true;
	c.exec.cluster_config = (char *)"{\"x\":1}";
	c.ca_pem = (char *)"a CA";
	c.server_name = (char *)"kube";
	assert_int_equal(exec_credential_fetch(&c, NULL, 20000, &got, NULL), 0);
	assert_string_equal(got.token, "t1");
	assert_null(got.cert_pem);
	assert_int_equal(got.expires, 1893553445);
	AUTO_FREE char *seen = read_file("seen"), *text = read_file("info"), *in = read_file("stdin");
	assert_string_equal(seen, "a b,c,yes,/there\n");
	assert_string_equal(in, "");
	info = json_loads(text, 0, NULL);
	assert_string_equal(json_path_string(info, "apiVersion"), V1);
	assert_string_equal(json_path_string(info, "kind"), "ExecCredential");
	assert_true(json_is_false(json_path(info, "spec.interactive")));
	assert_string_equal(json_path_string(info, "spec.cluster.server"), "https://h:6443");
	assert_string_equal(json_path_string(info, "spec.cluster.tls-server-name"), "kube");
	assert_string_equal(json_path_string(info, "spec.cluster.certificate-authority-data"), "YSBDQQ==");
	assert_int_equal(json_integer_value(json_path(info, "spec.cluster.config.x")), 1);
}

static void test_plugins_that_fail(void **state)
{
	struct kube_config c = plugin("");
	uint64_t start;

	(void)state;
	expect_failure(plugin("echo 'log in\nfirst' >&2; exit 3"), 20000, ERROR_TRANSIENT, "ExecPluginFailed",
		       "it failed with status 3: log in first");
	expect_failure(plugin("kill -9 $$"), 20000, ERROR_TRANSIENT, "ExecPluginFailed", "signal 9");
	expect_failure(plugin("echo nonsense"), 20000, ERROR_TRANSIENT, "InvalidCredential", "it is no JSON");
	expect_failure(plugin(PRINT("")), 20000, ERROR_TRANSIENT, "InvalidCredential", "neither a token nor");
	expect_failure(plugin(PRINT("\"token\":1")), 20000, ERROR_TRANSIENT, "InvalidCredential", "status.token: expected a string");
	expect_failure(plugin(PRINT("\"token\":\"a\\u000ab\"")), 20000, ERROR_TRANSIENT, "InvalidCredential", "characters that no token");
	expect_failure(plugin(PRINT("\"clientKeyData\":\"k\"")), 20000, ERROR_TRANSIENT, "InvalidCredential", "only one of");
	expect_failure(plugin(PRINT("\"token\":\"t\",\"expirationTimestamp\":\"soon\"")), 20000, ERROR_TRANSIENT, "InvalidCredential",
		       "no RFC 3339 time");
	expect_failure(plugin("echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/v1beta1\",\"status\":{}}'"),
		       20000, ERROR_TRANSIENT, "InvalidCredential", "but the kubeconfig asks for " V1);
	expect_failure(plugin("while :; do echo 0123456789012345678901234567890123456789012345678901234567890123456789; done"), 60000,
		       ERROR_TRANSIENT, "InvalidCredential", "more than 1024 KiB");
	/* What it leaves behind is killed with it. */
	start = clock_monotonic_ms();
	expect_failure(plugin("sleep 60 & echo $! >child; wait"), 300, ERROR_TRANSIENT, "ExecPluginTimedOut", "did not end in time");
	assert_in_range(clock_monotonic_ms() - start, 300, 30000);
	AUTO_FREE char *child = read_file("child");
	for (int i = 0; i < 500 && kill(atoi(child), 0) == 0; i++)
		usleep(10000);
	assert_int_equal(kill(atoi(child), 0), -1);
	free(c.exec.command);
	c.exec.command = strdup("no-such-plugin");
	c.exec.install_hint = (char *)"Get it at the market";
	expect_failure(c, 20000, ERROR_PERMANENT, "ExecPluginMissing",
		       "the exec plugin no-such-plugin: it cannot be started: No such file or directory. Get it at the market");
}

static void test_a_plugin_that_must_ask(void **state)
{
	struct kube_config c = plugin(PRINT("\"token\":\"t\""));
	int saved = dup(0), null = open("/dev/null", O_RDONLY);

	(void)state;
	dup2(null, 0);
	c.exec.interactive = EXEC_ALWAYS;
	expect_failure(c, 20000, ERROR_PERMANENT, "ExecPluginNeedsTerminal", "there is no terminal");
	dup2(saved, 0);
	close(saved);
	close(null);
}

/* --- against a server --------------------------------------------------------------------------------------------------- */

/* Accepts one token, or (TLS) whoever the handshake let in. */
struct gate {
	pthread_mutex_t lock;
	char accepted[64];
	atomic_uint good, bad;
};

static bool guard(struct conn *c, const struct server_request *r, void *arg)
{
	struct gate *g = arg;
	char line[128];
	bool good;

	LOCK_GUARD(&g->lock);
	snprintf(line, sizeof line, "Authorization: Bearer %s\r\n", g->accepted);
	good = !*g->accepted || strstr(r->headers, line);
	g->good += good;
	g->bad += !good;
	return good ? conn_answer(c, 200, "", OBJECT, strlen(OBJECT)) : conn_answer(c, 401, "", "{}", 2);
}

static void accept_token(struct gate *g, const char *token)
{
	LOCK_GUARD(&g->lock);
	snprintf(g->accepted, sizeof g->accepted, "%s", token);
}

static int get(struct kube_client *c, const char *method, struct error **err)
{
	static const struct resource configmaps = { "", "v1", "ConfigMap", "configmaps", true, false };
	struct kube_call call = { .verb = "test", .method = method, .res = &configmaps, .ns = "ns", .name = "a" };
	AUTO_JSON json_t *object = kube_client_call(c, &call, err);

	return object ? 0 : -1;
}

static unsigned runs(void)
{
	AUTO_FREE char *text = read_file("runs");

	return (unsigned)strlen(text);
}

static void test_a_token_of_a_plugin(void **state)
{
	struct gate g = { .lock = PTHREAD_MUTEX_INITIALIZER, .accepted = "one" };
	struct server *s = server_start(NULL, guard, &g);
	struct kube_config config = plugin("printf . >>runs\ncat credential");
	AUTO_ERROR struct error *err = NULL;
	char url[64], text[300], when[CLOCK_RFC3339_SIZE];
	struct kube_client *c;
	time_t expires;

	(void)state;
	snprintf(url, sizeof url, "http://127.0.0.1:%u", s->port);
	config.server = url;
	c = kube_client_new(&config, NULL, NULL, NULL);
	assert_int_equal(runs(), 0); /* nothing runs before the first request */
	write_file("credential", "{\"kind\":\"ExecCredential\",\"apiVersion\":\"" V1 "\",\"status\":{\"token\":\"one\"}}");
	for (int i = 0; i < 3; i++)
		assert_int_equal(get(c, "GET", NULL), 0);
	assert_int_equal(runs(), 1);
	/* Refused: it runs again, and the same request succeeds, a write too. */
	accept_token(&g, "two");
	expires = time(NULL) + 3;
	strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime(&expires));
	snprintf(text, sizeof text,
		 "{\"kind\":\"ExecCredential\",\"apiVersion\":\"" V1 "\",\"status\":{\"token\":\"two\",\"expirationTimestamp\":\"%s\"}}",
		 when);
	write_file("credential", text);
	assert_int_equal(get(c, "POST", NULL), 0);
	assert_int_equal(runs(), 2);
	assert_int_equal(g.bad, 1);
	/* Expired: it runs again before a request is sent. */
	write_file("credential", "{\"kind\":\"ExecCredential\",\"apiVersion\":\"" V1 "\",\"status\":{\"token\":\"three\"}}");
	accept_token(&g, "three");
	while (time(NULL) <= expires)
		usleep(100000);
	assert_int_equal(get(c, "GET", NULL), 0);
	assert_int_equal(runs(), 3);
	assert_int_equal(g.bad, 1);
	/* It fails: that is what the request says. */
	accept_token(&g, "four");
	write_file("credential", "");
	assert_int_equal(get(c, "POST", &err), -1);
	assert_true(!strcmp(err->reason, "InvalidCredential") || !strcmp(err->reason, "Unauthorized"));
	kube_client_free(c);
	server_stop(s);
	free(config.exec.command);
}

/* Nobody is asked without a token while there is to be one: not even when it was found missing a moment ago. */
static void test_without_its_token_nothing_is_sent(void **state)
{
	struct gate g = { .lock = PTHREAD_MUTEX_INITIALIZER, .accepted = "one" };
	struct server *s = server_start(NULL, guard, &g);
	AUTO_FREE char *token_file = file("token");
	char url[64];
	struct kube_config config = { .server = url, .namespace_ = (char *)"default", .token_file = token_file };
	struct kube_client *c;

	(void)state;
	snprintf(url, sizeof url, "http://127.0.0.1:%u", s->port);
	c = kube_client_new(&config, NULL, NULL, NULL);
	for (int i = 0; i < 3; i++) {
		AUTO_ERROR struct error *err = NULL;

		assert_int_equal(get(c, i ? "POST" : "GET", &err), -1);
		assert_string_equal(err->reason, "NoToken");
		assert_int_equal(err->class, ERROR_TRANSIENT);
	}
	assert_int_equal(s->requests, 0);
	write_file("token", "one\n");
	assert_int_equal(get(c, "POST", NULL), 0);
	kube_client_free(c);
	server_stop(s);
}

static void *get_once(void *arg)
{
	return (void *)(intptr_t)get(arg, "GET", NULL);
}

static void test_threads_run_a_plugin_once(void **state)
{
	struct gate g = { .lock = PTHREAD_MUTEX_INITIALIZER, .accepted = "one" };
	struct server *s = server_start(NULL, guard, &g);
	struct kube_config config = plugin("printf . >>runs\nsleep 0.3\n" PRINT("\"token\":\"one\""));
	struct kube_client *c;
	pthread_t threads[8];
	char url[64];

	(void)state;
	snprintf(url, sizeof url, "http://127.0.0.1:%u", s->port);
	config.server = url;
	c = kube_client_new(&config, NULL, NULL, NULL);
	for (size_t i = 0; i < 8; i++)
		pthread_create(&threads[i], NULL, get_once, c);
	for (size_t i = 0; i < 8; i++) {
		void *result;

		pthread_join(threads[i], &result);
		assert_null(result);
	}
	assert_int_equal(runs(), 1);
	assert_int_equal(g.bad, 0);
	kube_client_free(c);
	server_stop(s);
	free(config.exec.command);
}

/* A server that wants a certificate of this CA. */
static struct server *tls_gate(const struct identity *id, const struct identity *clients, struct gate *g)
{
	SSL_CTX *tls = identity_server(id);

	X509_STORE_add_cert(SSL_CTX_get_cert_store(tls), clients->cert);
	SSL_CTX_set_verify(tls, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	return server_start(tls, guard, g);
}

static void write_pair(const struct identity *id)
{
	AUTO_FREE char *cert = identity_cert_pem(id), *key = identity_key_pem(id);

	write_file("cert", cert);
	write_file("key", key);
}

static void test_certificates_rotate(void **state)
{
	struct gate g = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct identity ca = identity_new("CA", NULL, NULL, 10), old_ca = identity_new("Old", NULL, NULL, 10);
	struct identity id = identity_new("server", "IP:127.0.0.1", &ca, 10), before = identity_new("me", NULL, &old_ca, 10),
			after = identity_new("me", NULL, &ca, 10);
	struct server *s = tls_gate(&id, &ca, &g);
	AUTO_FREE char *ca_pem = identity_cert_pem(&ca), *old_ca_pem = identity_cert_pem(&old_ca), *cert_file = file("cert"),
		       *key_file = file("key"), *ca_file = file("ca"), *cert = identity_cert_pem(&before), *key = identity_key_pem(&before);
	AUTO_ERROR struct error *err = NULL;
	char url[64];
	struct kube_config config = { .server = url,
				      .namespace_ = (char *)"default",
				      .ca_pem = old_ca_pem,
				      .ca_file = ca_file,
				      .cert_pem = cert,
				      .cert_file = cert_file,
				      .key_pem = key,
				      .key_file = key_file };
	struct kube_client *c;
	int result = -1;

	(void)state;
	snprintf(url, sizeof url, "https://127.0.0.1:%u", s->port);
	write_file("ca", old_ca_pem);
	write_pair(&before);
	c = kube_client_new(&config, NULL, NULL, NULL);
	/* Neither trusts the other. */
	assert_int_equal(get(c, "POST", &err), -1);
	assert_string_equal(err->reason, "TLSFailed");
	/* Both get new certificates while we run: what was refused is read again, also when it was read a moment ago. */
	write_file("ca", ca_pem);
	write_pair(&after);
	for (int i = 0; i < 50 && result < 0; i++) {
		result = get(c, "POST", NULL);
		if (result < 0)
			usleep(100000);
	}
	assert_int_equal(result, 0);
	/* A pair that does not fit, as in the middle of a rotation, is not taken. */
	write_file("cert", cert);
	assert_int_equal(get(c, "GET", NULL), 0);
	kube_client_free(c);
	server_stop(s);
	identity_free(&ca);
	identity_free(&old_ca);
	identity_free(&id);
	identity_free(&before);
	identity_free(&after);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_make, scratch_remove)
	const struct CMUnitTest tests[] = {
		TEST(test_a_plugin_is_told_and_tells),
		TEST(test_plugins_that_fail),
		TEST(test_a_plugin_that_must_ask),
		TEST(test_a_token_of_a_plugin),
		TEST(test_without_its_token_nothing_is_sent),
		TEST(test_threads_run_a_plugin_once),
		TEST(test_certificates_rotate),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
