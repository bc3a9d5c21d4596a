// links: reconcile store/dir source target transfer queue store web api json base PkgConfig::jansson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/resources.h"
#include "base/clock.h"
#include "reconcile/secrets.h"
#include "store/dir/dir.h"
#include "json/codec.h"

/* Users that were told, in the order that it happened. */
struct told {
	pthread_mutex_t lock;
	char text[1024];
	bool refuse;
};

static void changed(void *arg, const char *user)
{
	struct told *t = arg;

	LOCK_GUARD(&t->lock);
	strcat(strcat(t->text, user), " ");
}

static bool may_watch(void *arg, const char *ns, const char *name)
{
	const struct told *t = arg;

	(void)ns;
	return !t->refuse && strcmp(name, "forbidden") != 0;
}

/* Waits for the text, and a moment for what should not come. */
static void assert_told(struct told *t, const char *expected)
{
	for (uint64_t end = clock_monotonic_ms() + 30000; clock_monotonic_ms() < end; cancel_wait(NULL, 5)) {
		LOCK_GUARD(&t->lock);
		if (!strcmp(t->text, expected))
			break;
	}
	cancel_wait(NULL, 30);
	LOCK_GUARD(&t->lock);
	assert_string_equal(t->text, expected);
	t->text[0] = 0;
}

static json_t *put(struct store *store, const char *name, const char *password)
{
	AUTO_JSON json_t *secret = json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:s}}", "apiVersion", "v1", "kind", "Secret", "metadata", "name",
					     name, "namespace", "ns", "data", "password", password);
	AUTO_JSON json_t *patch = json_pack("{s:{s:s}}", "data", "password", password);
	json_t *done = store_create(store, &api_secrets, "ns", secret, NULL);

	if (!done)
		done = store_patch(store, &api_secrets, "ns", name, NULL, patch, NULL);
	assert_non_null(done);
	return done;
}

struct fixture {
	struct store *store;
	struct secrets *secrets;
	struct told told;
	char directory[64];
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	strcpy(f->directory, "/tmp/test_secrets.XXXXXX");
	assert_non_null(mkdtemp(f->directory));
	pthread_mutex_init(&f->told.lock, NULL);
	f->store = dir_store_open(f->directory, NULL);
	assert_non_null(f->store);
	f->secrets = secrets_new(&(struct secrets_options){
		.store = f->store, .may_watch = may_watch, .may_watch_arg = &f->told, .changed = changed, .changed_arg = &f->told });
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	char command[128];

	secrets_free(f->secrets);
	store_close(f->store);
	snprintf(command, sizeof command, "rm -rf %s", f->directory);
	assert_int_equal(system(command), 0);
	pthread_mutex_destroy(&f->told.lock);
	free(f);
	return 0;
}

static void a_change_is_told_to_who_names_it(void **state)
{
	struct fixture *f = *state;

	json_decref(put(f->store, "a", "MQ=="));
	secrets_use(f->secrets, "source-1", "ns", "a");
	assert_told(&f->told, "source-1 "); /* it is there: that may be news */
	json_decref(put(f->store, "a", "Mg=="));
	assert_told(&f->told, "source-1 ");
	json_decref(put(f->store, "b", "Mg==")); /* named by nobody */
	assert_told(&f->told, "");
	assert_int_equal(store_delete(f->store, &api_secrets, "ns", "a", NULL, NULL), 0);
	assert_told(&f->told, "source-1 ");
	json_decref(put(f->store, "a", "Mw=="));
	assert_told(&f->told, "source-1 ");
}

static void what_does_not_exist_is_waited_for(void **state)
{
	struct fixture *f = *state;

	secrets_use(f->secrets, "source-1", "ns", "later");
	assert_told(&f->told, "");
	json_decref(put(f->store, "later", "MQ=="));
	assert_told(&f->told, "source-1 ");
}

static void what_was_read_is_no_news(void **state)
{
	struct fixture *f = *state;
	AUTO_JSON json_t *first = put(f->store, "a", "MQ=="), *second = NULL;

	secrets_use(f->secrets, "source-1", "ns", "a");
	secrets_seen(f->secrets, "ns", "a", first); /* perhaps after the watch told of it */
	cancel_wait(NULL, 50);
	f->told.text[0] = 0;
	second = put(f->store, "a", "Mg==");
	assert_told(&f->told, "source-1 ");
	secrets_seen(f->secrets, "ns", "a", second);
	secrets_seen(f->secrets, "ns", "unknown", second);
	assert_told(&f->told, "");
}

static void watches_begin_and_end_with_their_users(void **state)
{
	struct fixture *f = *state;

	secrets_use(f->secrets, "source-1", "ns", "a");
	secrets_use(f->secrets, "source-1", "ns", "a");
	secrets_use(f->secrets, "source-2", "ns", "a");
	assert_int_equal(secrets_count(f->secrets), 1);
	json_decref(put(f->store, "a", "MQ=="));
	assert_told(&f->told, "source-2 source-1 ");
	secrets_use(f->secrets, "source-1", "ns", "b"); /* another one from now on */
	assert_int_equal(secrets_count(f->secrets), 2);
	json_decref(put(f->store, "a", "Mg=="));
	assert_told(&f->told, "source-2 ");
	secrets_use(f->secrets, "source-2", NULL, NULL);
	assert_int_equal(secrets_count(f->secrets), 1);
	json_decref(put(f->store, "a", "Mw=="));
	assert_told(&f->told, "");
	json_decref(put(f->store, "b", "Mw=="));
	assert_told(&f->told, "source-1 ");
	secrets_use(f->secrets, "source-1", NULL, NULL);
	secrets_use(f->secrets, "nobody", NULL, NULL);
	assert_int_equal(secrets_count(f->secrets), 0);
}

static void what_may_not_be_watched_is_not(void **state)
{
	struct fixture *f = *state;

	json_decref(put(f->store, "forbidden", "MQ=="));
	secrets_use(f->secrets, "source-1", "ns", "forbidden");
	assert_int_equal(secrets_count(f->secrets), 0);
	json_decref(put(f->store, "forbidden", "Mg=="));
	assert_told(&f->told, "");
	/* Asked for again each time: it may be allowed by then. */
	f->told.refuse = true;
	secrets_use(f->secrets, "source-1", "ns", "a");
	assert_int_equal(secrets_count(f->secrets), 0);
	f->told.refuse = false;
	secrets_use(f->secrets, "source-1", "ns", "a");
	assert_int_equal(secrets_count(f->secrets), 1);
}

static void *use_some(void *arg)
{
	struct fixture *f = arg;
	unsigned seed = (unsigned)(uintptr_t)&seed;
	char user[16], name[16];

	for (int i = 0; i < 200; i++) {
		snprintf(user, sizeof user, "u%d", rand_r(&seed) % 5);
		snprintf(name, sizeof name, "s%d", rand_r(&seed) % 5);
		secrets_use(f->secrets, user, "ns", rand_r(&seed) % 4 ? name : NULL);
	}
	return NULL;
}

static void by_several_threads(void **state)
{
	struct fixture *f = *state;
	pthread_t threads[3];
	char user[16];

	for (size_t i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, use_some, f);
	for (size_t i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	assert_in_range(secrets_count(f->secrets), 0, 5);
	for (int i = 0; i < 5; i++) {
		snprintf(user, sizeof user, "u%d", i);
		secrets_use(f->secrets, user, NULL, NULL);
	}
	assert_int_equal(secrets_count(f->secrets), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(a_change_is_told_to_who_names_it),       TEST(what_does_not_exist_is_waited_for), TEST(what_was_read_is_no_news),
		TEST(watches_begin_and_end_with_their_users), TEST(what_may_not_be_watched_is_not),    TEST(by_several_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
