// links: store/kube store json base PkgConfig::jansson PkgConfig::ssl PkgConfig::crypto
/* The client of the API server, lists and watches against a server of our own that answers by a script. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "http_server.h"
#include "store/kube/client.h"
#include "store/kube/list.h"
#include "store/kube/watch.h"
#include "json/codec.h"

static const struct resource configmaps = { "", "v1", "ConfigMap", "configmaps", true, false };
static const struct resource things = { "example.com", "v1", "Thing", "things", true, true };

/* One answer after the other; the last one stays. A status of 0 breaks the connection off, -1 sends the body as a stream that stays open. */
struct answer {
	int status;
	const char *headers, *body;
};

struct script {
	pthread_mutex_t lock;
	struct answer answers[16];
	size_t next;
	struct {
		char line[1200], headers[2048], body[2048]; /* line: "METHOD path" */
	} seen[64];
	size_t seen_count;
};

static struct script script = { .lock = PTHREAD_MUTEX_INITIALIZER };
static struct server *server;
static char url[64];

static bool handle(struct conn *c, const struct server_request *r, void *arg)
{
	struct script *s = arg;
	struct answer a;

	pthread_mutex_lock(&s->lock);
	if (s->seen_count < 64) {
		snprintf(s->seen[s->seen_count].line, sizeof s->seen[0].line, "%s %s", r->method, r->path);
		snprintf(s->seen[s->seen_count].headers, sizeof s->seen[0].headers, "%s", r->headers);
		snprintf(s->seen[s->seen_count++].body, sizeof s->seen[0].body, "%s", r->body);
	}
	a = s->answers[s->next];
	if (s->answers[s->next + 1].body)
		s->next++;
	pthread_mutex_unlock(&s->lock);
	if (a.status == -1) {
		conn_printf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
		if (*a.body)
			conn_printf(c, "%zx\r\n%s\r\n", strlen(a.body), a.body);
		conn_hang(c);
		return false;
	}
	if (!a.status)
		return false;
	return conn_answer(c, a.status, a.headers ? a.headers : "", a.body, strlen(a.body));
}

static void play(const struct answer *answers)
{
	LOCK_GUARD(&script.lock);
	memset(script.answers, 0, sizeof script.answers);
	for (size_t i = 0; answers[i].body; i++)
		script.answers[i] = answers[i];
	script.next = script.seen_count = 0;
}

/* The answers end with an all-zero one. */
#define PLAY(...) play((const struct answer[]){ __VA_ARGS__, { 0, NULL, NULL } })

static size_t seen_count(void)
{
	LOCK_GUARD(&script.lock);
	return script.seen_count;
}

static void assert_seen(size_t i, const char *line)
{
	LOCK_GUARD(&script.lock);
	assert_true(i < script.seen_count);
	assert_string_equal(script.seen[i].line, line);
}

static bool header_seen(size_t i, const char *line)
{
	LOCK_GUARD(&script.lock);
	return i < script.seen_count && strstr(script.seen[i].headers, line);
}

static int set_up(void **state)
{
	(void)state;
	server = server_start(NULL, handle, &script);
	snprintf(url, sizeof url, "http://127.0.0.1:%d/prefix", server->port);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	server_stop(server);
	return 0;
}

static struct kube_client *client_of(struct kube_config config)
{
	AUTO_ERROR struct error *err = NULL;
	struct kube_client *c;

	config.server = url;
	config.namespace_ = (char *)"default";
	c = kube_client_new(&config, "tester/1", NULL, &err);
	assert_string_equal(error_message(err), "");
	return c;
}

static json_t *call(struct kube_client *c, const char *method, const char *name, const json_t *body, struct error **err)
{
	struct kube_call k = { .verb = "test",
			       .method = method,
			       .res = &configmaps,
			       .ns = "ns",
			       .name = name,
			       .body = body,
			       .content_type = body ? "application/x" : NULL };

	return kube_client_call(c, &k, err);
}

#define OBJECT "{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"5\"}}"
#define STATUS(reason, code) "{\"kind\":\"Status\",\"reason\":\"" reason "\",\"message\":\"the message\",\"code\":" #code "}"

static void test_what_a_request_says(void **state)
{
	char *groups[] = { (char *)"g1", (char *)"g2", NULL };
	struct kube_client *c = client_of((struct kube_config){ .token = (char *)"tok", .as_user = (char *)"jane", .as_groups = groups });
	AUTO_JSON json_t *body = json_pack("{s:s}", "k", "v"), *object = NULL, *status = NULL;
	struct kube_call k = {
		.verb = "test", .method = "PATCH", .res = &things, .ns = "n s", .name = "a:b", .subresource = "status", .query = "x=1"
	};

	(void)state;
	PLAY({ 201, NULL, OBJECT });
	object = call(c, "POST", NULL, body, NULL);
	assert_string_equal(json_path_string(object, "metadata.name"), "a");
	assert_seen(0, "POST /prefix/api/v1/namespaces/ns/configmaps");
	assert_true(header_seen(0, "\r\nAuthorization: Bearer tok\r\n"));
	assert_true(header_seen(0, "\r\nUser-Agent: tester/1\r\n"));
	assert_true(header_seen(0, "\r\nAccept: application/json\r\n"));
	assert_true(header_seen(0, "\r\nContent-Type: application/x\r\n"));
	assert_true(header_seen(0, "\r\nImpersonate-User: jane\r\n"));
	assert_true(header_seen(0, "\r\nImpersonate-Group: g1\r\n"));
	assert_true(header_seen(0, "\r\nImpersonate-Group: g2\r\n"));
	assert_string_equal(script.seen[0].body, "{\"k\":\"v\"}");
	status = kube_client_call(c, &k, NULL);
	assert_seen(1, "PATCH /prefix/apis/example.com/v1/namespaces/n%20s/things/a%3Ab/status?x=1");
	kube_client_free(c);
}

static void test_errors(void **state)
{
	static const struct {
		struct answer answer;
		enum error_class class;
		const char *reason, *message;
	} cases[] = {
		{ { 404, NULL, STATUS("NotFound", 404) }, ERROR_NOT_FOUND, "NotFound", "cannot test configmaps ns/a: the message" },
		{ { 409, NULL, STATUS("AlreadyExists", 409) }, ERROR_CONFLICT, "AlreadyExists", "the message" },
		{ { 409, NULL, STATUS("Conflict", 409) }, ERROR_CONFLICT, "Conflict", "the message" },
		{ { 410, NULL, STATUS("Expired", 410) }, ERROR_GONE, "Expired", "the message" },
		{ { 401, NULL, STATUS("Unauthorized", 401) }, ERROR_PERMANENT, "Unauthorized", "cannot test configmaps ns/a" },
		{ { 403, NULL, STATUS("Forbidden", 403) }, ERROR_PERMANENT, "Forbidden", "cannot test configmaps ns/a" },
		{ { 403, NULL,
		    "{\"reason\":\"Forbidden\",\"message\":\"m\",\"details\":{\"causes\":[{\"reason\":\"NamespaceTerminating\"}]}}" },
		  ERROR_PERMANENT,
		  "NamespaceTerminating",
		  "m" },
		{ { 422, NULL, STATUS("Invalid", 422) }, ERROR_PERMANENT, "Invalid", "the message" },
		{ { 400, NULL, "no JSON" }, ERROR_PERMANENT, "BadRequest", "status 400" },
		{ { 502, NULL, "<html>" }, ERROR_TRANSIENT, "InternalError", "status 502" },
		{ { 500, "Audit-Id: au-1\r\n", STATUS("InternalError", 500) },
		  ERROR_TRANSIENT,
		  "InternalError",
		  "the message (audit id au-1)" },
		{ { 200, NULL, "no JSON" }, ERROR_TRANSIENT, "InvalidAnswer", "no object" },
		{ { 200, NULL, "[]" }, ERROR_TRANSIENT, "InvalidAnswer", "no object" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct kube_client *c = client_of((struct kube_config){ 0 });
		AUTO_ERROR struct error *err = NULL;
		AUTO_JSON json_t *object = NULL;

		play((const struct answer[]){ cases[i].answer, { 0, NULL, NULL } });
		object = call(c, "DELETE", "a", NULL, &err);
		assert_null(object);
		assert_int_equal(err->class, cases[i].class);
		assert_string_equal(err->reason, cases[i].reason);
		assert_non_null(strstr(err->message, cases[i].message));
		kube_client_free(c);
	}
}

/* How many requests a call of this method makes when the first answer is this one and the second is fine. */
static size_t tries(const char *method, struct answer first, bool *good)
{
	struct kube_client *c = client_of((struct kube_config){ 0 });
	AUTO_JSON json_t *object = NULL;
	size_t n;

	PLAY(first, { 200, NULL, OBJECT });
	object = call(c, method, "a", NULL, NULL);
	*good = object != NULL;
	n = seen_count();
	kube_client_free(c);
	return n;
}

static void test_only_what_is_safe_is_tried_again(void **state)
{
	static const char *const writes[] = { "POST", "PATCH", "DELETE" };
	const char *again = "Retry-After: 0\r\n", *later = "Retry-After: 1\r\n";
	bool good;

	(void)state;
	assert_int_equal(tries("GET", (struct answer){ 500, NULL, "" }, &good), 2);
	assert_true(good);
	assert_int_equal(tries("GET", (struct answer){ 503, again, "" }, &good), 2);
	assert_int_equal(tries("GET", (struct answer){ 0, NULL, "" }, &good), 2); /* cut off */
	assert_int_equal(tries("GET", (struct answer){ 403, NULL, "" }, &good), 1);
	assert_false(good);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(tries(writes[i], (struct answer){ 429, again, "" }, &good), 2); /* certainly not carried out */
		assert_true(good);
		assert_int_equal(tries(writes[i], (struct answer){ 500, NULL, "" }, &good), 1);
		assert_int_equal(tries(writes[i], (struct answer){ 0, NULL, "" }, &good), 1);
		assert_false(good);
	}
	assert_int_equal(tries("POST", (struct answer){ 503, later, "" }, &good), 1);
	assert_int_equal(tries("PATCH", (struct answer){ 503, later, "" }, &good), 2);
}

static void test_retry_after_is_honoured(void **state)
{
	struct kube_client *c = client_of((struct kube_config){ 0 });
	uint64_t start = clock_monotonic_ms();
	AUTO_JSON json_t *object = NULL, *none = NULL;
	AUTO_ERROR struct error *err = NULL;

	(void)state;
	PLAY({ 429, "Retry-After: 1\r\n", "" }, { 200, NULL, OBJECT });
	object = call(c, "POST", "a", NULL, NULL);
	assert_non_null(object);
	assert_in_range(clock_monotonic_ms() - start, 1000, 3000);
	/* Longer than the call may take: no use in waiting. */
	PLAY({ 429, "Retry-After: 60\r\n", STATUS("TooManyRequests", 429) });
	start = clock_monotonic_ms();
	none = call(c, "GET", "a", NULL, &err);
	assert_null(none);
	assert_int_equal(err->class, ERROR_TRANSIENT);
	assert_in_range(clock_monotonic_ms() - start, 0, 500);
	kube_client_free(c);
}

static void test_tries_end(void **state)
{
	struct kube_client *c = client_of((struct kube_config){ 0 });
	AUTO_JSON json_t *none = NULL;
	AUTO_ERROR struct error *err = NULL;

	(void)state;
	PLAY({ 500, NULL, STATUS("InternalError", 500) });
	none = call(c, "GET", "a", NULL, &err);
	assert_null(none);
	assert_string_equal(err->reason, "InternalError");
	assert_int_equal(seen_count(), 4);
	kube_client_free(c);
}

static void test_a_refusal_after_trouble_is_not_final(void **state)
{
	struct kube_client *c = client_of((struct kube_config){ 0 });
	AUTO_JSON json_t *object = NULL, *none = NULL;
	AUTO_ERROR struct error *err = NULL;

	(void)state;
	PLAY({ 503, NULL, "" }, { 403, NULL, STATUS("Forbidden", 403) });
	object = call(c, "POST", "a", NULL, NULL);
	assert_null(object);
	none = call(c, "POST", "a", NULL, &err);
	assert_null(none);
	assert_int_equal(err->class, ERROR_TRANSIENT);
	assert_string_equal(err->reason, "Forbidden");
	kube_client_free(c);
}

static void write_token(const char *path, const char *token)
{
	FILE *f = fopen(path, "w");

	fputs(token, f);
	fclose(f);
}

static void test_a_token_that_is_refused_is_read_again(void **state)
{
	char path[] = "/tmp/test_kube_client.XXXXXX";
	int fd = mkstemp(path);
	struct kube_client *c = client_of((struct kube_config){ .token_file = path, .token = (char *)"inline" });
	AUTO_JSON json_t *first = NULL, *second = NULL, *third = NULL;
	AUTO_ERROR struct error *err = NULL;

	(void)state;
	close(fd);
	write_token(path, "old\n");
	PLAY({ 200, NULL, OBJECT }, { 401, NULL, STATUS("Unauthorized", 401) }, { 200, NULL, OBJECT },
	     { 401, NULL, STATUS("Unauthorized", 401) });
	first = call(c, "GET", "a", NULL, NULL);
	assert_true(header_seen(0, "Bearer old\r\n")); /* the file wins */
	write_token(path, "new\n");
	second = call(c, "POST", "a", NULL, NULL);
	assert_non_null(second);
	assert_true(header_seen(1, "Bearer old\r\n"));
	assert_true(header_seen(2, "Bearer new\r\n"));
	third = call(c, "GET", "a", NULL, &err);
	assert_null(third);
	assert_string_equal(err->reason, "Unauthorized");
	assert_int_equal(err->class, ERROR_PERMANENT);
	assert_int_equal(seen_count(), 5); /* once more, not for ever */
	unlink(path);
	kube_client_free(c);
}

static void test_bad_names_make_no_request(void **state)
{
	struct kube_client *c = client_of((struct kube_config){ 0 });
	static const char *const bad[] = { "", ".", "..", "a/b", "a%2fb", "../secrets/x" };

	(void)state;
	PLAY({ 200, NULL, OBJECT });
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		AUTO_ERROR struct error *err = NULL;
		AUTO_JSON json_t *object = call(c, "GET", bad[i], NULL, &err);

		assert_null(object);
		assert_string_equal(err->reason, "InvalidName");
	}
	assert_int_equal(seen_count(), 0);
	kube_client_free(c);
}

#define PAGE(items, more) "{\"metadata\":{\"resourceVersion\":\"9\"" more "},\"items\":[" items "]}"
#define ITEM(name, version) "{\"metadata\":{\"name\":\"" name "\",\"namespace\":\"ns\",\"resourceVersion\":\"" version "\"}}"

static void test_a_list_in_pages(void **state)
{
	struct kube_client *c = client_of((struct kube_config){ 0 });
	AUTO_FREE char *version = NULL, *selection = kube_selection(NULL, "k=v,l"), *both = kube_selection("n", "k");
	AUTO_JSON json_t *all = NULL;

	(void)state;
	assert_string_equal(both, "&fieldSelector=metadata.name%3Dn&labelSelector=k");
	PLAY({ 200, NULL, PAGE(ITEM("a", "1") "," ITEM("b", "2"), ",\"continue\":\"x=/1\"") }, { 200, NULL, PAGE(ITEM("c", "3"), "") });
	all = kube_list(c, &things, "ns", selection, NULL, &version, NULL);
	assert_int_equal(json_array_size(all), 3);
	assert_string_equal(json_path_string(json_array_get(all, 2), "metadata.name"), "c");
	assert_string_equal(json_path_string(json_array_get(all, 0), "apiVersion"), "example.com/v1");
	assert_string_equal(json_path_string(json_array_get(all, 0), "kind"), "Thing");
	assert_string_equal(version, "9");
	assert_seen(0, "GET /prefix/apis/example.com/v1/namespaces/ns/things?limit=500&labelSelector=k%3Dv%2Cl");
	assert_seen(1, "GET /prefix/apis/example.com/v1/namespaces/ns/things?limit=500&labelSelector=k%3Dv%2Cl&continue=x%3D%2F1");
	kube_client_free(c);
}

static void test_a_list_that_expires_starts_over(void **state)
{
	struct kube_client *c = client_of((struct kube_config){ 0 });
	AUTO_JSON json_t *all = NULL, *none = NULL;
	AUTO_ERROR struct error *err = NULL;

	(void)state;
	PLAY({ 200, NULL, PAGE(ITEM("old", "1"), ",\"continue\":\"t\"") }, { 410, NULL, STATUS("Expired", 410) },
	     { 200, NULL, PAGE(ITEM("new", "2"), ",\"continue\":\"t\"") }, { 200, NULL, PAGE(ITEM("last", "3"), "") });
	all = kube_list(c, &things, NULL, NULL, NULL, NULL, NULL);
	assert_int_equal(json_array_size(all), 2);
	assert_string_equal(json_path_string(json_array_get(all, 0), "metadata.name"), "new");
	PLAY({ 200, NULL, "{\"items\":{}}" });
	none = kube_list(c, &things, NULL, NULL, NULL, NULL, &err);
	assert_null(none);
	assert_string_equal(err->reason, "InvalidAnswer");
	kube_client_free(c);
}

/* --- watches --- */

struct told {
	pthread_mutex_t lock;
	char text[1024];
};

static void on_change(void *arg, enum store_event event, const json_t *old, const json_t *object)
{
	struct told *t = arg;
	size_t n;

	(void)old;
	LOCK_GUARD(&t->lock);
	n = strlen(t->text);
	snprintf(t->text + n, sizeof t->text - n, "%c%s@%s;", "AMD"[event], json_path_string(object, "metadata.name"),
		 json_path_string(object, "metadata.resourceVersion"));
}

static void assert_told(struct told *t, const char *expected)
{
	for (int i = 0; i < 500; i++) {
		bool same;

		pthread_mutex_lock(&t->lock);
		same = !strcmp(t->text, expected);
		pthread_mutex_unlock(&t->lock);
		if (same)
			return;
		cancel_wait(NULL, 10);
	}
	pthread_mutex_lock(&t->lock);
	assert_string_equal(t->text, expected);
}

#define WATCHED(type, name, version) "{\"type\":\"" type "\",\"object\":" ITEM(name, version) "}\n"
#define BOOKMARK(version) "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"" version "\"}}}\n"

static void assert_watched_from(size_t i, const char *version)
{
	char wanted[128];

	LOCK_GUARD(&script.lock);
	snprintf(wanted, sizeof wanted, "watch=1&allowWatchBookmarks=true&resourceVersion=%s&timeoutSeconds=", version);
	assert_true(i < script.seen_count);
	if (!strstr(script.seen[i].line, wanted))
		fail_msg("request %zu is \"%s\", wanted \"%s\"", i, script.seen[i].line, wanted);
}

static void wait_seen(size_t count)
{
	for (int i = 0; i < 500 && seen_count() < count; i++)
		cancel_wait(NULL, 10);
	assert_true(seen_count() >= count);
}

static void stop_quickly(struct informer *i)
{
	uint64_t start = clock_monotonic_ms();

	informer_free(i);
	assert_in_range(clock_monotonic_ms() - start, 0, 200);
}

#define END(version)                                                                      \
	"{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"" version \
	"\",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}}}}\n"
/* What a server says that cannot stream lists: then they come in pages. */
#define NO_STREAM { 422, NULL, STATUS("Invalid", 422) }

static void test_a_list_as_a_stream(void **state)
{
	struct kube_client *c = client_of((struct kube_config){ 0 });
	struct told t = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct informer *i;

	(void)state;
	/* Broken off in the middle, it tells nothing of what is missing and is begun anew; a bookmark of another kind is no end. */
	PLAY({ 200, NULL, WATCHED("ADDED", "b", "7") BOOKMARK("8") "{\"type\":\"ADDED\",\"obj\n" },
	     { 200, NULL, WATCHED("ADDED", "a", "5") WATCHED("MODIFIED", "c", "30") END("20") WATCHED("ADDED", "d", "40") "nonsense\n" },
	     { 200, NULL, WATCHED("ADDED", "c", "31") END("50") }, { -1, NULL, WATCHED("DELETED", "c", "51") });
	i = kube_watch_start(c, &things, NULL, NULL, "k=v", NULL, on_change, &t, NULL);
	assert_told(&t, "Ab@7;Aa@5;Ac@30;Db@7;Ad@40;Mc@31;Da@5;Dd@40;Dc@51;");
	assert_true(informer_synced(i));
	pthread_mutex_lock(&script.lock);
	for (size_t n = 0; n < 3; n++) {
		assert_non_null(strstr(script.seen[n].line, "watch=1&allowWatchBookmarks=true&sendInitialEvents=true&"
							    "resourceVersionMatch=NotOlderThan&timeoutSeconds="));
		assert_non_null(strstr(script.seen[n].line, "&labelSelector=k%3Dv"));
		assert_null(strstr(script.seen[n].line, "resourceVersion="));
	}
	pthread_mutex_unlock(&script.lock);
	assert_watched_from(3, "50");
	stop_quickly(i);
	kube_client_free(c);
}

/* One that ignores what it does not know ends the stream without the mark. */
static void test_a_stream_without_an_end_is_no_list(void **state)
{
	struct kube_client *c = client_of((struct kube_config){ 0 });
	struct told t = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct informer *i;

	(void)state;
	PLAY({ 200, NULL, WATCHED("ADDED", "a", "5") }, { 200, NULL, PAGE(ITEM("b", "6"), "") }, { -1, NULL, "" });
	i = kube_watch_start(c, &things, NULL, NULL, NULL, NULL, on_change, &t, NULL);
	assert_true(informer_wait(i, NULL));
	assert_told(&t, "Aa@5;Ab@6;Da@5;");
	wait_seen(3);
	assert_watched_from(2, "9");
	stop_quickly(i);
	kube_client_free(c);
}

static void test_a_watch_goes_on_where_it_was(void **state)
{
	struct kube_client *c = client_of((struct kube_config){ 0 });
	struct told t = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct informer *i;

	(void)state;
	PLAY(NO_STREAM, { 200, NULL, PAGE(ITEM("a", "1"), "") }, { 200, NULL, WATCHED("ADDED", "b", "10") WATCHED("MODIFIED", "a", "11") },
	     { 200, NULL, BOOKMARK("20") "{\"type\":\"ADDED\",\"obj" }, { -1, NULL, WATCHED("DELETED", "b", "21") });
	i = kube_watch_start(c, &things, NULL, NULL, NULL, NULL, on_change, &t, NULL);
	assert_true(informer_wait(i, NULL));
	assert_told(&t, "Aa@1;Ab@10;Ma@11;Db@21;");
	assert_watched_from(2, "9");
	assert_watched_from(3, "11");
	assert_watched_from(4, "20"); /* of the bookmark */
	assert_int_equal(seen_count(), 5);
	stop_quickly(i);
	kube_client_free(c);
}

static void test_history_that_is_gone_is_listed_again(void **state)
{
	struct kube_client *c = client_of((struct kube_config){ 0 });
	struct told t = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct informer *i;

	(void)state;
	/* As an event in an answer that is 200, as a status, and as a line that is none. */
	PLAY(NO_STREAM, { 200, NULL, PAGE(ITEM("a", "1") "," ITEM("b", "2"), "") },
	     { 200, NULL, WATCHED("ADDED", "c", "10") "{\"type\":\"ERROR\",\"object\":" STATUS("Expired", 410) "}\n" },
	     { 200, NULL, PAGE(ITEM("b", "2") "," ITEM("c", "12"), "") }, { 410, NULL, STATUS("Expired", 410) },
	     { 200, NULL, PAGE(ITEM("d", "13"), "") }, { 200, NULL, "nonsense\n" }, { 200, NULL, PAGE("", "") }, { -1, NULL, "" });
	i = kube_watch_start(c, &things, NULL, NULL, NULL, NULL, on_change, &t, NULL);
	assert_told(&t, "Aa@1;Ab@2;Ac@10;Mc@12;Da@1;Ad@13;Db@2;Dc@12;Dd@13;");
	wait_seen(9);
	assert_watched_from(8, "9");
	stop_quickly(i);
	kube_client_free(c);
}

static void test_what_is_no_gone_history_is_not_listed_again(void **state)
{
	struct kube_client *c = client_of((struct kube_config){ 0 });
	struct told t = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct informer *i;

	(void)state;
	PLAY(NO_STREAM, { 200, NULL, PAGE(ITEM("a", "1"), "") },
	     { 200, NULL, "{\"type\":\"ERROR\",\"object\":" STATUS("InternalError", 500) "}\n" }, { 0, NULL, "" }, { 429, NULL, "" },
	     { 403, NULL, STATUS("Forbidden", 403) }, { -1, NULL, WATCHED("MODIFIED", "a", "10") });
	i = kube_watch_start(c, &things, NULL, NULL, NULL, NULL, on_change, &t, NULL);
	assert_told(&t, "Aa@1;Ma@10;");
	for (size_t n = 2; n < 7; n++)
		assert_watched_from(n, "9");
	stop_quickly(i);
	kube_client_free(c);
}

static void test_an_absent_kind_is_not_synced(void **state)
{
	struct kube_client *c = client_of((struct kube_config){ 0 });
	struct told t = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct informer *i;

	(void)state;
	PLAY({ 404, NULL, "404 page not found\n" });
	i = kube_watch_start(c, &things, NULL, NULL, NULL, NULL, on_change, &t, NULL);
	wait_seen(1);
	cancel_wait(NULL, 1000);
	assert_false(informer_synced(i));
	assert_int_equal(seen_count(), 1); /* asked again slowly */
	stop_quickly(i);                   /* also out of a long wait */
	kube_client_free(c);
}

static void test_stop_in_every_state(void **state)
{
	static const struct answer listed[] = {
		NO_STREAM, { 200, NULL, PAGE(ITEM("a", "1"), "") }, { -1, NULL, "{\"type\"" }, { 0, NULL, NULL }
	};
	static const struct answer listing[] = { NO_STREAM, { -1, NULL, "{\"items\":[" }, { 0, NULL, NULL } };
	struct kube_client *c = client_of((struct kube_config){ 0 });

	(void)state;
	for (unsigned ms = 0; ms < 40; ms += 2) {
		struct told t = { .lock = PTHREAD_MUTEX_INITIALIZER };
		struct cancel *cancel = cancel_new(NULL);
		struct informer *i;

		play(ms % 4 ? listed : listing);
		i = kube_watch_start(c, &things, NULL, NULL, NULL, cancel, on_change, &t, NULL);
		cancel_wait(NULL, ms);
		if (ms % 8 == 0)
			cancel_request(cancel);
		stop_quickly(i);
		cancel_free(cancel);
	}
	kube_client_free(c);
}

static uint64_t count_of(const struct request_totals *t, const char *method, int code)
{
	for (size_t i = 0; i < t->count_len; i++)
		if (t->counts[i].code == code && !strcmp(t->counts[i].method, method))
			return t->counts[i].count;
	return 0;
}

static void test_requests_are_counted(void **state)
{
	struct kube_client *c = client_of((struct kube_config){ 0 });
	struct request_totals *t = calloc(1, sizeof *t);
	AUTO_JSON json_t *body = json_object();
	uint64_t in_buckets = 0;

	(void)state;
	PLAY({ 503, NULL, STATUS("ServiceUnavailable", 503) }, { 200, NULL, OBJECT }, { 409, NULL, STATUS("Conflict", 409) },
	     { 0, NULL, "" });
	json_decref(call(c, "GET", "a", NULL, NULL));
	assert_null(call(c, "PATCH", "a", body, NULL));
	assert_null(call(c, "POST", NULL, body, NULL));
	request_stats_read(kube_client_stats(c), t);
	assert_int_equal(strncmp(t->host, url + 7, strcspn(url + 7, "/")), 0);
	assert_null(strchr(t->host, '/'));
	assert_int_equal(t->count_len, 4);
	assert_int_equal(count_of(t, "GET", 503), 1);
	assert_int_equal(count_of(t, "GET", 200), 1);
	assert_int_equal(count_of(t, "PATCH", 409), 1);
	assert_int_equal(count_of(t, "POST", 0), 1);
	assert_int_equal(t->retries, 1);
	assert_string_equal(t->durations[0].method, "GET");
	assert_int_equal(t->durations[0].count, 2);
	for (size_t i = 0; i <= REQUEST_BUCKETS; i++)
		in_buckets += t->durations[0].buckets[i];
	assert_int_equal(in_buckets, 2);
	free(t);
	kube_client_free(c);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_what_a_request_says),
		TEST(test_errors),
		TEST(test_only_what_is_safe_is_tried_again),
		TEST(test_retry_after_is_honoured),
		TEST(test_tries_end),
		TEST(test_a_refusal_after_trouble_is_not_final),
		TEST(test_a_token_that_is_refused_is_read_again),
		TEST(test_bad_names_make_no_request),
		TEST(test_a_list_in_pages),
		TEST(test_a_list_that_expires_starts_over),
		TEST(test_a_list_as_a_stream),
		TEST(test_a_stream_without_an_end_is_no_list),
		TEST(test_a_watch_goes_on_where_it_was),
		TEST(test_history_that_is_gone_is_listed_again),
		TEST(test_what_is_no_gone_history_is_not_listed_again),
		TEST(test_an_absent_kind_is_not_synced),
		TEST(test_stop_in_every_state),
		TEST(test_requests_are_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
