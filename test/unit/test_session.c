// links: reconcile store/dir source target transfer queue store web api json base PkgConfig::jansson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/resources.h"
#include "base/clock.h"
#include "reconcile/session.h"
#include "store/dir/dir.h"
#include "json/codec.h"

/* A provider whose logins do as they are told. It takes the place of the registry's. */
static atomic_int opened, closed;
static atomic_int hold; /* a login waits until this is 0 */
static const struct error *_Atomic refuse;

static struct source *fake_open(const json_t *object, const json_t *secret, const struct source_options *options, struct cancel *cancel,
				struct error **err);

static void fake_close(struct source *source)
{
	closed++;
	free(source);
}

static const char *const keys[] = { "username", "password", NULL };
static const struct source_ops fake = { .kind = "VmwareSource", .secret_keys = keys, .open = fake_open, .close = fake_close };

static struct source *fake_open(const json_t *object, const json_t *secret, const struct source_options *options, struct cancel *cancel,
				struct error **err)
{
	const struct error *why = refuse;
	struct source *source;

	(void)object;
	(void)secret;
	(void)options;
	opened++;
	while (hold)
		cancel_wait(cancel, 5);
	if (why) {
		error_set(err, why->class, why->reason, "%s", why->message);
		return NULL;
	}
	source = calloc(1, sizeof *source);
	source->ops = &fake;
	return source;
}

const struct source_ops *source_ops_of(const char *kind)
{
	return kind && !strcasecmp(kind, fake.kind) ? &fake : NULL;
}

struct fixture {
	struct store *store;
	struct sessions *sessions;
	struct source_options options;
	char directory[64];
};

static void write_secret(struct store *store, const char *password)
{
	AUTO_JSON json_t *secret = json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:s}}", "apiVersion", "v1", "kind", "Secret", "metadata", "name",
					     "s", "namespace", "ns", "data", "password", password);
	AUTO_JSON json_t *patch = json_pack("{s:{s:s}}", "data", "password", password);
	AUTO_JSON json_t *done = store_create(store, &api_secrets, "ns", secret, NULL);

	if (!done)
		done = store_patch(store, &api_secrets, "ns", "s", NULL, patch, NULL);
	assert_non_null(done);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	opened = closed = hold = 0;
	refuse = NULL;
	strcpy(f->directory, "/tmp/test_session.XXXXXX");
	assert_non_null(mkdtemp(f->directory));
	f->store = dir_store_open(f->directory, NULL);
	assert_non_null(f->store);
	write_secret(f->store, "MQ==");
	f->sessions = sessions_new(&(struct sessions_options){ .store = f->store, .sources = &f->options, .workers = 3 });
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	char command[128];

	sessions_free(f->sessions);
	store_close(f->store);
	snprintf(command, sizeof command, "rm -rf %s", f->directory);
	assert_int_equal(system(command), 0);
	free(f);
	return 0;
}

static json_t *source_object(const char *name)
{
	return json_pack("{s:s, s:{s:s, s:s}, s:{s:{s:s}}}", "kind", "VmwareSource", "metadata", "name", name, "namespace", "ns", "spec",
			 "credentials", "name", "s");
}

/* 0, or what the error says is the reason. */
static const char *get(struct fixture *f, const char *name, struct session **out)
{
	static _Thread_local char reason[64];
	AUTO_JSON json_t *object = source_object(name);
	AUTO_ERROR struct error *err = NULL;

	*out = NULL;
	if (session_get(f->sessions, object, out, &err) == 0)
		return NULL;
	snprintf(reason, sizeof reason, "%s", err->reason);
	return reason;
}

static void a_session_is_shared(void **state)
{
	struct fixture *f = *state;
	struct session *a, *b, *other;

	assert_null(get(f, "one", &a));
	assert_null(get(f, "one", &b));
	assert_ptr_equal(a, b);
	assert_null(get(f, "two", &other));
	assert_ptr_not_equal(a, other);
	assert_int_equal(opened, 2);
	session_put(a);
	assert_int_equal(sessions_reap(f->sessions, 0), 2); /* b and other are in use */
	session_put(b);
	assert_int_equal(sessions_reap(f->sessions, 100000), 2);
	assert_int_equal(sessions_reap(f->sessions, 0), 1);
	session_put(other);
	/* Another password is another session; the old one ends with its last user. */
	assert_null(get(f, "two", &a));
	write_secret(f->store, "Mg==");
	assert_null(get(f, "two", &b));
	assert_ptr_not_equal(a, b);
	session_put(a);
	session_put(b);
	sessions_reap(f->sessions, 100000);
	assert_int_equal(sessions_count(f->sessions), 1);
}

struct getter {
	struct fixture *f;
	const char *name, *reason;
	struct session *session;
};

static void *get_on_thread(void *arg)
{
	struct getter *g = arg;
	const char *reason = get(g->f, g->name, &g->session);

	g->reason = reason ? strdup(reason) : NULL;
	return NULL;
}

static void a_login_that_hangs_holds_up_one(void **state)
{
	struct fixture *f = *state;
	struct getter first = { .f = f, .name = "one" };
	struct session *s;
	pthread_t thread;

	hold = 1;
	pthread_create(&thread, NULL, get_on_thread, &first);
	while (!opened)
		cancel_wait(NULL, 5);
	assert_string_equal(get(f, "one", &s), SESSION_BUSY);
	assert_int_equal(opened, 1);
	hold = 0;
	pthread_join(thread, NULL);
	assert_null(first.reason);
	assert_null(get(f, "one", &s));
	assert_ptr_equal(s, first.session);
	session_put(s);
	session_put(s);
}

static void a_failure_that_may_pass_is_not_met_again_at_once(void **state)
{
	struct fixture *f = *state;
	struct error away = { .class = ERROR_TRANSIENT, .reason = "ConnectFailed", .message = (char[]){ "nobody there" } };
	struct session *s;
	uint64_t start = clock_monotonic_ms();

	refuse = &away;
	assert_string_equal(get(f, "one", &s), "ConnectFailed");
	if (clock_monotonic_ms() - start < 200) { /* the shortest time is 250 ms */
		assert_string_equal(get(f, "one", &s), "ConnectFailed");
		assert_int_equal(opened, 1);
	}
	refuse = NULL;
	while (get(f, "one", &s)) {
		assert_true(clock_monotonic_ms() - start < 60000);
		cancel_wait(NULL, 10);
	}
	assert_int_equal(opened, 2);
	session_put(s);
}

static void a_wrong_password_is_tried_once(void **state)
{
	struct fixture *f = *state;
	struct error wrong = { .class = ERROR_PERMANENT, .reason = "InvalidLogin", .message = (char[]){ "no" } };
	struct session *s;

	refuse = &wrong;
	for (int i = 0; i < 5; i++) {
		assert_string_equal(get(f, "one", &s), "InvalidLogin");
		cancel_wait(NULL, 150);
	}
	assert_int_equal(opened, 1);
	refuse = NULL;
	write_secret(f->store, "Mg==");
	assert_null(get(f, "one", &s));
	session_put(s);
}

static void a_slow_source_leaves_a_worker_for_others(void **state)
{
	struct fixture *f = *state;
	struct session *a, *b, *c, *other;
	uint64_t start = clock_monotonic_ms();

	/* Three workers; transfers do not count. */
	assert_null(get(f, "one", &a));
	assert_ptr_equal(session_ref(a), a);
	assert_ptr_equal(session_ref(a), a);
	assert_null(get(f, "one", &b));
	if (clock_monotonic_ms() - start < 1500) { /* nobody has been waiting for long */
		assert_null(get(f, "one", &c));
		session_put(c);
	}
	cancel_wait(NULL, 3100);
	assert_string_equal(get(f, "one", &c), SESSION_BUSY);
	assert_null(get(f, "two", &other));
	session_put(other);
	session_put(b); /* it gets on */
	assert_null(get(f, "one", &c));
	session_put(c);
	session_put(a);
	session_release(a);
	session_release(a);
	assert_int_equal(sessions_reap(f->sessions, 0), 0);
	assert_int_equal(opened, closed);
}

/* A misspelt key is as if it were not there: it is told, with a source that works and in a refusal. */
static void a_key_that_is_not_known_is_told(void **state)
{
	static const struct error wrong = { .class = ERROR_PERMANENT, .reason = "InvalidLogin", .message = (char *)"refused" };
	static const char note[] =
		"the Secret ns/s has the key \"pasword\" (is it password?), which is not known; known are username, password";
	struct fixture *f = *state;
	AUTO_JSON json_t *patch = json_pack("{s:{s:s}}", "data", "pasword", "MQ=="), *object = source_object("other"), *done = NULL;
	AUTO_ERROR struct error *err = NULL;
	struct session *a;

	assert_null(get(f, "one", &a));
	assert_null(session_secret_note(a));
	session_put(a);
	done = store_patch(f->store, &api_secrets, "ns", "s", NULL, patch, NULL);
	assert_non_null(done);
	assert_null(get(f, "one", &a));
	assert_string_equal(session_secret_note(a), note);
	session_put(a);
	refuse = &wrong;
	assert_int_equal(session_get(f->sessions, object, &a, &err), -1);
	assert_non_null(strstr(err->message, "refused; "));
	assert_non_null(strstr(err->message, note));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(a_key_that_is_not_known_is_told), TEST(a_session_is_shared),
		TEST(a_login_that_hangs_holds_up_one), TEST(a_failure_that_may_pass_is_not_met_again_at_once),
		TEST(a_wrong_password_is_tried_once),  TEST(a_slow_source_leaves_a_worker_for_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
