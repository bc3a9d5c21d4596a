// links: transfer base
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "transfer/budget.h"

struct figure {
	const char *host;
	unsigned running, waiting, allowed;
};

static void find(void *arg, const char *host, unsigned running, unsigned waiting, unsigned allowed)
{
	struct figure *f = arg;

	if (!strcmp(f->host, host))
		*f = (struct figure){ f->host, running, waiting, allowed };
}

static struct figure figure_of(struct budgets *b, const char *host)
{
	struct figure f = { .host = host };

	budgets_each(b, find, &f);
	return f;
}

/* Somebody who waits for a stream, gets it, and holds it until told to let go. */
struct guest {
	struct budgets *budgets;
	const char *endpoint, *host;
	const void *owner;
	struct cancel *cancel;
	struct budget_grant *grant;
	atomic_int got; /* 1: granted, -1: cancelled */
	unsigned order;
	pthread_t thread;
};

static atomic_uint turns;

static void *guest_main(void *arg)
{
	struct guest *g = arg;
	AUTO_ERROR struct error *err = NULL;

	if (budgets_take(g->budgets, g->endpoint, g->host, g->owner, g->cancel, &g->grant, &err) == 0) {
		g->order = ++turns;
		g->got = 1;
	} else {
		assert_int_equal(err->class, ERROR_CANCELLED);
		g->got = -1;
	}
	return NULL;
}

static void arrive(struct guest *g, struct budgets *b, const char *endpoint, const char *host, const void *owner)
{
	*g = (struct guest){ .budgets = b, .endpoint = endpoint, .host = host, .owner = owner, .cancel = cancel_new(NULL) };
	assert_int_equal(pthread_create(&g->thread, NULL, guest_main, g), 0);
}

static bool served(const struct guest *g)
{
	for (int i = 0; i < 1000 && !g->got; i++)
		cancel_wait(NULL, 5);
	return g->got == 1;
}

/* Nobody would ever come after so long when the limits are kept; a broken limit shows at once. */
static bool kept_waiting(const struct guest *g)
{
	cancel_wait(NULL, 100);
	return !g->got;
}

static void leave(struct guest *g)
{
	if (!g->got)
		cancel_request(g->cancel);
	pthread_join(g->thread, NULL);
	budgets_give(g->grant);
	cancel_free(g->cancel);
}

static void test_limits_are_kept(void **state)
{
	struct budgets *b = budgets_new(&(struct budget_limits){ .per_host = 2, .per_endpoint = 3, .total = 4 });
	struct guest g[6];

	(void)state;
	arrive(&g[0], b, "vc1", "esx1", "a");
	arrive(&g[1], b, "vc1", "esx1", "b");
	assert_true(served(&g[0]) && served(&g[1]));
	arrive(&g[2], b, "vc1", "esx1", "c"); /* the host is full */
	assert_true(kept_waiting(&g[2]));
	assert_int_equal(figure_of(b, "esx1").running, 2);
	assert_int_equal(figure_of(b, "esx1").waiting, 1);
	arrive(&g[3], b, "vc1", "esx2", "d"); /* another host is not */
	assert_true(served(&g[3]));
	arrive(&g[4], b, "vc1", "esx3", "e"); /* the vCenter is full */
	assert_true(kept_waiting(&g[4]));
	arrive(&g[5], b, NULL, NULL, "f");
	assert_true(served(&g[5]));
	leave(&g[5]);
	leave(&g[3]); /* makes room at the vCenter: for the host that has some */
	assert_true(served(&g[4]));
	assert_true(kept_waiting(&g[2]));
	leave(&g[0]);
	assert_true(served(&g[2]));
	leave(&g[1]);
	leave(&g[2]);
	leave(&g[4]);
	budgets_free(b);
}

static void test_is_fair(void **state)
{
	struct budgets *b = budgets_new(&(struct budget_limits){ .per_host = 2 });
	struct guest many[4], one;

	(void)state;
	for (size_t i = 0; i < 4; i++) { /* one import with four disks comes first */
		arrive(&many[i], b, "vc", "esx", "many");
		while (figure_of(b, "esx").running + figure_of(b, "esx").waiting <= i)
			cancel_wait(NULL, 1);
	}
	assert_true(served(&many[0]) && served(&many[1]));
	arrive(&one, b, "vc", "esx", "one");
	while (figure_of(b, "esx").waiting < 3)
		cancel_wait(NULL, 1);
	leave(&many[0]);
	assert_true(served(&one));
	assert_int_equal(many[2].got, 0);
	leave(&many[1]);
	assert_true(served(&many[2])); /* the longest waiting of those left */
	assert_int_equal(many[3].got, 0);
	leave(&one);
	assert_true(served(&many[3]));
	leave(&many[2]);
	leave(&many[3]);
	budgets_free(b);
}

static void test_complaints_lower_a_host_and_time_raises_it(void **state)
{
	struct budgets *b = budgets_new(&(struct budget_limits){ .per_host = 8, .rise_ms = 400 });
	struct guest g[9];

	(void)state;
	for (size_t i = 0; i < 8; i++) {
		arrive(&g[i], b, "vc", "esx", "a");
		assert_true(served(&g[i]));
	}
	budgets_note(g[0].grant, BUDGET_SLOW);
	budgets_note(g[1].grant, BUDGET_FAILED); /* of the same trouble */
	assert_in_range(figure_of(b, "esx").allowed, 4, 5);
	for (size_t i = 0; i < 8; i++)
		leave(&g[i]);
	for (int i = 0; figure_of(b, "esx").allowed < 8; i++) {
		assert_true(i < 1000);
		cancel_wait(NULL, 10);
	}
	budgets_free(b);
}

static void test_a_refusal_tells_how_many(void **state)
{
	struct budgets *b = budgets_new(&(struct budget_limits){ .per_host = 8, .rise_ms = 3600000 });
	struct guest g[8], late;

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		arrive(&g[i], b, "vc", "esx", "a");
		assert_true(served(&g[i]));
	}
	budgets_note(g[5].grant, BUDGET_REFUSED);
	leave(&g[5]);
	assert_int_equal(figure_of(b, "esx").allowed, 5);
	arrive(&late, b, "vc", "esx", "b");
	assert_true(kept_waiting(&late));
	leave(&g[0]);
	assert_true(served(&late));
	for (size_t i = 1; i < 5; i++)
		leave(&g[i]);
	budgets_note(late.grant, BUDGET_FAILED); /* one is left always */
	leave(&late);
	budgets_free(b);
}

static void test_waiting_ends_when_told(void **state)
{
	struct budgets *b = budgets_new(&(struct budget_limits){ .per_host = 1, .unnamed = 1 });
	struct guest first, second, third, nameless, other;

	(void)state;
	arrive(&first, b, "vc", "esx", "a");
	assert_true(served(&first));
	arrive(&second, b, "vc", "esx", "b");
	arrive(&third, b, "vc", "esx", "c");
	while (figure_of(b, "esx").waiting < 2)
		cancel_wait(NULL, 1);
	cancel_request(second.cancel);
	assert_false(served(&second));
	leave(&first);
	assert_true(served(&third));
	leave(&second);
	leave(&third);
	arrive(&nameless, b, NULL, "", "a");
	assert_true(served(&nameless));
	arrive(&other, b, NULL, NULL, "b");
	assert_true(kept_waiting(&other));
	leave(&nameless);
	assert_true(served(&other));
	leave(&other);
	budgets_free(b);
	budgets_free(NULL);
	budgets_give(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits_are_kept),
		cmocka_unit_test(test_is_fair),
		cmocka_unit_test(test_complaints_lower_a_host_and_time_raises_it),
		cmocka_unit_test(test_a_refusal_tells_how_many),
		cmocka_unit_test(test_waiting_ends_when_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
