// links: leader store api json base PkgConfig::jansson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "api/resources.h"
#include "leader/election.h"
#include "leader/gate.h"
#include "json/codec.h"

/* A store that holds one Lease, and a world with one time, which goes on only when a test says so. */
struct world {
	uint64_t now;
	json_t *lease;
	unsigned version, writes;
};

/* How one replica sees the world. */
struct view {
	struct store store;
	struct world *world;
	int64_t skew;                         /* of its clock */
	bool cut;                             /* it does not reach the store */
	bool deaf;                            /* what it asks for is done, but it gets no answer */
	bool forbidden;                       /* it may not */
	uint64_t slow;                        /* an answer takes so long */
	void (*before_patch)(struct view *v); /* once */
};

static uint64_t now_of(void *arg)
{
	const struct view *v = arg;

	return v->world->now + (uint64_t)v->skew;
}

static int reach(struct view *v, struct error **err)
{
	v->world->now += v->slow;
	if (v->forbidden)
		return error_set_code(err, ERROR_PERMANENT, "Forbidden", 403, "not allowed");
	return v->cut ? error_set(err, ERROR_TRANSIENT, "TimedOut", "no answer") : 0;
}

static json_t *answer(struct view *v, struct error **err)
{
	if (!v->deaf)
		return json_deep_copy(v->world->lease);
	error_set(err, ERROR_TRANSIENT, "TimedOut", "no answer");
	return NULL;
}

static json_t *get(struct store *store, const struct resource *res, const char *ns, const char *name, struct error **err)
{
	struct view *v = (struct view *)store;

	assert_ptr_equal(res, &api_leases);
	assert_string_equal(ns, "here");
	assert_string_equal(name, "the-lease");
	if (reach(v, err) < 0)
		return NULL;
	if (v->world->lease)
		return answer(v, err);
	error_set_code(err, ERROR_NOT_FOUND, "NotFound", 404, "there is none");
	return NULL;
}

static void stamp(struct world *w)
{
	json_object_set_new(json_object_get(w->lease, "metadata"), "resourceVersion", json_sprintf("%u", ++w->version));
	w->writes++;
}

static json_t *create(struct store *store, const struct resource *res, const char *ns, const json_t *object, struct error **err)
{
	struct view *v = (struct view *)store;

	(void)res;
	(void)ns;
	if (reach(v, err) < 0)
		return NULL;
	if (v->world->lease) {
		error_set_code(err, ERROR_CONFLICT, "AlreadyExists", 409, "it exists");
		return NULL;
	}
	v->world->lease = json_deep_copy(object);
	stamp(v->world);
	return answer(v, err);
}

static json_t *patch(struct store *store, const struct resource *res, const char *ns, const char *name, const char *subresource,
		     const json_t *merge_patch, struct error **err)
{
	struct view *v = (struct view *)store;
	struct world *w = v->world;
	json_t *merged;

	(void)res;
	(void)ns;
	(void)name;
	assert_null(subresource);
	if (v->before_patch) {
		void (*first)(struct view *) = v->before_patch;

		v->before_patch = NULL;
		first(v);
	}
	if (reach(v, err) < 0)
		return NULL;
	if (!w->lease) {
		error_set_code(err, ERROR_NOT_FOUND, "NotFound", 404, "there is none");
		return NULL;
	}
	assert_non_null(json_path_string(merge_patch, "metadata.resourceVersion")); /* never without */
	if (strcmp(json_path_string(merge_patch, "metadata.resourceVersion"), json_path_string(w->lease, "metadata.resourceVersion"))) {
		error_set_code(err, ERROR_CONFLICT, "Conflict", 409, "it was changed");
		return NULL;
	}
	merged = json_merge_apply(w->lease, merge_patch);
	json_decref(w->lease);
	w->lease = merged;
	stamp(w);
	return answer(v, err);
}

static const struct store_ops ops = { .get = get, .create = create, .patch = patch };

struct replica {
	struct view view;
	struct election *election;
	uint64_t next; /* of the world's time */
};

static void join(struct replica *r, struct world *w, const char *identity, int64_t skew)
{
	*r = (struct replica){ .view = { .store.ops = &ops, .world = w, .skew = skew } };
	struct election_options options = { .store = &r->view.store,
					    .ns = "here",
					    .name = "the-lease",
					    .identity = identity,
					    .note = "scratch-1",
					    .now = now_of,
					    .now_arg = &r->view };
	r->election = election_new(&options, NULL);
	assert_non_null(r->election);
	r->next = w->now;
}

static void leave(struct replica *r)
{
	election_free(r->election);
}

/* Lets time pass in steps of 100 ms, and each replica look when it wants to. At no time do two lead. Returns who leads at the end. */
static int pass(struct world *w, struct replica *replicas, size_t count, uint64_t ms)
{
	int leader = -1;

	for (uint64_t end = w->now + ms; w->now < end; w->now += 100) {
		for (size_t i = 0; i < count; i++) {
			uint64_t wait;

			if (w->now < replicas[i].next)
				continue;
			wait = election_run_once(replicas[i].election);
			assert_in_range(wait, 1, 4400); /* 2 s, and up to 1.2 times as much */
			replicas[i].next = w->now + wait;
		}
		leader = -1;
		for (size_t i = 0; i < count; i++) {
			if (!election_leads(replicas[i].election))
				continue;
			assert_int_equal(leader, -1);
			leader = (int)i;
		}
	}
	return leader;
}

static const char *field(const struct world *w, const char *path)
{
	return json_path_string(w->lease, path);
}

static int number(const struct world *w, const char *path)
{
	return (int)json_integer_value(json_path(w->lease, path));
}

static void world_end(struct world *w)
{
	json_decref(w->lease);
}

static void one_alone_leads(void **state)
{
	struct world w = { .now = 1000000 };
	struct replica r[1];
	AUTO_FREE char *leader = NULL, *note = NULL;

	(void)state;
	join(&r[0], &w, "a", 0);
	assert_false(election_leads(r[0].election));
	assert_int_equal(pass(&w, r, 1, 100), 0);
	assert_string_equal(field(&w, "spec.holderIdentity"), "a");
	assert_int_equal(number(&w, "spec.leaseDurationSeconds"), 15);
	assert_int_equal(number(&w, "spec.leaseTransitions"), 0);
	AUTO_FREE char *acquired = strdup(field(&w, "spec.acquireTime")), *renewed = strdup(field(&w, "spec.renewTime"));
	assert_int_equal(strlen(acquired), strlen("2006-01-02T15:04:05.000000Z"));
	/* Renewed every two seconds, and only that. */
	w.writes = 0;
	assert_int_equal(pass(&w, r, 1, 60000), 0);
	assert_in_range(w.writes, 29, 31);
	assert_string_equal(field(&w, "spec.acquireTime"), acquired);
	assert_int_equal(number(&w, "spec.leaseTransitions"), 0);
	election_leader(r[0].election, &leader, &note);
	assert_string_equal(leader, "a");
	assert_string_equal(note, "scratch-1");
	leave(&r[0]);
	world_end(&w);
}

static void a_dead_leader_is_followed(void **state)
{
	struct world w = { .now = 1000000 };
	struct replica r[2];
	uint64_t died;
	AUTO_FREE char *leader = NULL, *note = NULL;

	(void)state;
	join(&r[0], &w, "a", 0);
	join(&r[1], &w, "b", 0);
	assert_int_equal(pass(&w, r, 2, 20000), 0);
	election_leader(r[1].election, &leader, &note);
	assert_string_equal(leader, "a");
	died = w.now;
	/* Not before the lease has run out for who looked, which is after the last renewal. */
	while (pass(&w, &r[1], 1, 100) < 0)
		assert_true(w.now - died < 25000);
	assert_true(w.now - died > 13000);
	assert_true(w.now - died <= 15000 + 4400 + 200);
	assert_string_equal(field(&w, "spec.holderIdentity"), "b");
	assert_int_equal(number(&w, "spec.leaseTransitions"), 1);
	/* The dead one comes to life, as one that was stopped for long: it leads no more from the first moment. */
	assert_false(election_leads(r[0].election));
	assert_int_equal(pass(&w, r, 2, 60000), 1);
	election_rejoin(r[0].election);
	assert_int_equal(pass(&w, r, 2, 60000), 1);
	leave(&r[0]);
	leave(&r[1]);
	world_end(&w);
}

static void a_lease_that_is_given_back_is_taken_at_once(void **state)
{
	struct world w = { .now = 1000000 };
	struct replica r[2];
	uint64_t left;

	(void)state;
	join(&r[0], &w, "a", 0);
	join(&r[1], &w, "b", 0);
	assert_int_equal(pass(&w, r, 2, 10000), 0);
	election_stop(r[0].election);
	assert_false(election_leads(r[0].election));
	assert_null(field(&w, "spec.holderIdentity"));
	assert_int_equal(number(&w, "spec.leaseDurationSeconds"), 1);
	assert_null(json_object_get(json_path(w.lease, "metadata.annotations"), API_ANNOTATION_SCRATCH));
	left = w.now;
	while (pass(&w, &r[1], 1, 100) < 0)
		assert_true(w.now - left <= 4400);
	assert_int_equal(number(&w, "spec.leaseDurationSeconds"), 15);
	assert_int_equal(number(&w, "spec.leaseTransitions"), 1);
	leave(&r[0]);
	leave(&r[1]);
	world_end(&w);
}

/* Clocks that differ by hours change nothing: nobody reads another one's time. */
static void clocks_need_not_agree(void **state)
{
	struct world w = { .now = 100000000 };
	struct replica r[3];
	uint64_t died;

	(void)state;
	join(&r[0], &w, "a", -3600000);
	join(&r[1], &w, "b", 7200000);
	join(&r[2], &w, "c", 60000);
	assert_int_equal(pass(&w, r, 3, 60000), 0);
	died = w.now;
	while (pass(&w, &r[1], 2, 100) < 0)
		assert_true(w.now - died <= 19600);
	assert_true(w.now - died > 13000);
	assert_true(pass(&w, &r[1], 2, 60000) >= 0);
	for (size_t i = 0; i < 3; i++)
		leave(&r[i]);
	world_end(&w);
}

static void who_cannot_renew_stops_before_another_may_begin(void **state)
{
	struct world w = { .now = 1000000 };
	struct replica r[2];
	uint64_t cut, lost = 0, taken = 0;

	(void)state;
	join(&r[0], &w, "a", 0);
	join(&r[1], &w, "b", 0);
	assert_int_equal(pass(&w, r, 2, 20000), 0);
	r[0].view.cut = true;
	cut = w.now;
	while (!taken) {
		int leader = pass(&w, r, 2, 100); /* never two */

		lost = !lost && leader != 0 ? w.now : lost;
		taken = leader == 1 ? w.now : 0;
		assert_true(w.now - cut < 25000);
	}
	assert_in_range(lost - cut, 7900, 10100); /* 10 s after a renewal that is at most 2 s old */
	assert_true(taken - lost >= 4900);
	/* Back again, it follows. */
	r[0].view.cut = false;
	assert_int_equal(pass(&w, r, 2, 30000), 1);
	election_rejoin(r[0].election);
	assert_int_equal(pass(&w, r, 2, 30000), 1);
	leave(&r[0]);
	leave(&r[1]);
	world_end(&w);
}

static void a_short_trouble_is_survived(void **state)
{
	struct world w = { .now = 1000000 };
	struct replica r[2];

	(void)state;
	join(&r[0], &w, "a", 0);
	join(&r[1], &w, "b", 0);
	assert_int_equal(pass(&w, r, 2, 20000), 0);
	r[0].view.cut = true;
	assert_int_equal(pass(&w, r, 2, 5500), 0);
	r[0].view.cut = false;
	assert_int_equal(pass(&w, r, 2, 60000), 0);
	/* What was done but not answered: the version that it knows is the old one. */
	r[0].view.deaf = true;
	assert_int_equal(pass(&w, r, 2, 3000), 0);
	r[0].view.deaf = false;
	assert_int_equal(pass(&w, r, 2, 60000), 0);
	assert_int_equal(number(&w, "spec.leaseTransitions"), 0);
	leave(&r[0]);
	leave(&r[1]);
	world_end(&w);
}

/* A request that hangs does not make anybody a leader for longer: what counts is when it was begun. */
static void slow_answers_do_not_stretch_the_lease(void **state)
{
	struct world w = { .now = 1000000 };
	struct replica r[1];
	uint64_t renewed;

	(void)state;
	join(&r[0], &w, "a", 0);
	assert_int_equal(pass(&w, r, 1, 4000), 0);
	r[0].view.slow = 6000;
	renewed = w.now;
	election_run_once(r[0].election);
	assert_true(election_leads(r[0].election));
	w.now = renewed + 9999;
	assert_true(election_leads(r[0].election));
	w.now = renewed + 10000;
	assert_false(election_leads(r[0].election));
	/* Once it was found out, a renewal that comes late does not count. */
	election_run_once(r[0].election);
	assert_false(election_leads(r[0].election));
	election_rejoin(r[0].election);
	r[0].view.slow = 0;
	election_run_once(r[0].election);
	assert_true(election_leads(r[0].election));
	/* An answer that comes after the deadline makes no leader. */
	r[0].view.slow = 11000;
	election_run_once(r[0].election);
	assert_false(election_leads(r[0].election));
	leave(&r[0]);
	world_end(&w);
}

static void somebody_else_takes_it(struct view *v)
{
	json_t *spec = json_object_get(v->world->lease, "spec");

	json_object_set_new(spec, "holderIdentity", json_string("thief"));
	stamp(v->world);
}

static void a_lease_that_was_taken_is_lost_at_once(void **state)
{
	struct world w = { .now = 1000000 };
	struct replica r[1];
	unsigned writes;

	(void)state;
	join(&r[0], &w, "a", 0);
	assert_int_equal(pass(&w, r, 1, 4000), 0);
	r[0].view.before_patch = somebody_else_takes_it;
	assert_int_equal(pass(&w, r, 1, 2100), -1);
	writes = w.writes;
	assert_int_equal(pass(&w, r, 1, 5000), -1);
	assert_int_equal(w.writes, writes); /* lost: nothing is written, and it waits to be told */
	election_rejoin(r[0].election);
	assert_int_equal(pass(&w, r, 1, 5000), -1); /* the other one may be alive */
	assert_int_equal(pass(&w, r, 1, 20000), 0);
	leave(&r[0]);
	world_end(&w);
}

static void two_at_a_time_make_one_leader(void **state)
{
	(void)state;
	for (int round = 0; round < 50; round++) {
		struct world w = { .now = 1000000 };
		struct replica r[4];
		static const char *const names[] = { "a", "b", "c", "d" };

		for (size_t i = 0; i < 4; i++)
			join(&r[i], &w, names[i], (int64_t)i * 1000);
		assert_int_equal(pass(&w, r, 4, 5000), 0);
		/* The leader stops being heard of; the three others are after the Lease. */
		r[0].view.cut = true;
		assert_in_range(pass(&w, r, 4, 30000), 1, 3);
		assert_int_equal(number(&w, "spec.leaseTransitions"), 1);
		for (size_t i = 0; i < 4; i++)
			leave(&r[i]);
		world_end(&w);
	}
}

static void a_lease_that_disappears_is_made_anew(void **state)
{
	struct world w = { .now = 1000000 };
	struct replica r[1];

	(void)state;
	join(&r[0], &w, "a", 0);
	assert_int_equal(pass(&w, r, 1, 4000), 0);
	json_decref(w.lease);
	w.lease = NULL;
	assert_int_equal(pass(&w, r, 1, 4000), 0);
	assert_string_equal(field(&w, "spec.holderIdentity"), "a");
	leave(&r[0]);
	world_end(&w);
}

/* A Lease that others left: by their rules, however odd. */
static void leases_of_others(void **state)
{
	static const struct {
		const char *spec;
		unsigned long after; /* it is ours after so long */
	} cases[] = {
		{ "{}", 0 },
		{ "{\"holderIdentity\": \"\"}", 0 },
		{ "{\"holderIdentity\": \"x\", \"leaseDurationSeconds\": 60}", 60000 },
		{ "{\"holderIdentity\": \"x\", \"leaseDurationSeconds\": 1}", 1000 },
		{ "{\"holderIdentity\": \"x\"}", 15000 },
		{ "{\"holderIdentity\": \"x\", \"leaseDurationSeconds\": -5}", 15000 },
		{ "{\"holderIdentity\": \"x\", \"leaseDurationSeconds\": 99999999}", 3600000 },
		{ "{\"holderIdentity\": \"x\", \"leaseDurationSeconds\": \"much\", \"leaseTransitions\": \"many\"}", 15000 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct world w = { .now = 1000000 };
		struct replica r[1];
		uint64_t start = w.now;

		w.lease = json_pack("{s:{s:s, s:s}, s:o}", "metadata", "name", "the-lease", "resourceVersion", "0", "spec",
				    json_loads(cases[i].spec, 0, NULL));
		join(&r[0], &w, "a", 0);
		while (pass(&w, r, 1, 100) < 0)
			assert_true(w.now - start <= cases[i].after + 4600);
		assert_true(w.now - start >= cases[i].after);
		leave(&r[0]);
		world_end(&w);
	}
}

static void what_is_not_allowed_makes_no_leader(void **state)
{
	struct world w = { .now = 1000000 };
	struct replica r[1];

	(void)state;
	join(&r[0], &w, "a", 0);
	r[0].view.forbidden = true;
	assert_int_equal(pass(&w, r, 1, 60000), -1);
	r[0].view.forbidden = false;
	assert_int_equal(pass(&w, r, 1, 5000), 0);
	leave(&r[0]);
	world_end(&w);
}

static void wrong_times_are_refused(void **state)
{
	static const struct {
		unsigned duration, deadline, retry;
		const char *says;
	} cases[] = {
		{ 10, 10, 2, "renew deadline" },
		{ 15, 20, 2, "renew deadline" },
		{ 15, 10, 9, "retry period" },
		{ 4000, 10, 2, "longer than" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		AUTO_ERROR struct error *err = NULL;
		struct election_options o = {
			.ns = "n", .name = "l", .duration_s = cases[i].duration, .deadline_s = cases[i].deadline, .retry_s = cases[i].retry
		};

		assert_null(election_new(&o, &err));
		assert_int_equal(err->class, ERROR_PERMANENT);
		assert_non_null(strstr(err->message, cases[i].says));
	}
}

static void identities_differ(void **state)
{
	struct election_options o = { .ns = "n", .name = "l" };
	struct election *a = election_new(&o, NULL), *b = election_new(&o, NULL);

	(void)state;
	assert_string_not_equal(election_identity(a), election_identity(b));
	setenv("POD_NAME", "pod-7", 1);
	election_free(b);
	b = election_new(&o, NULL);
	assert_memory_equal(election_identity(b), "pod-7_", 6);
	unsetenv("POD_NAME");
	election_free(a);
	election_free(b);
}

/* With a thread and a real clock, as short as may be. */
static void on_a_thread(void **state)
{
	struct world w = { .now = 1000000 };
	struct view v = { .store.ops = &ops, .world = &w };
	struct election_options o = {
		.store = &v.store, .ns = "here", .name = "the-lease", .duration_s = 4, .deadline_s = 3, .retry_s = 1
	};
	struct election *e = election_new(&o, NULL);

	(void)state;
	assert_int_equal(election_start(e, NULL), 0);
	while (!election_leads(e))
		cancel_wait(NULL, 5);
	election_stop(e);
	assert_false(election_leads(e));
	assert_null(field(&w, "spec.holderIdentity"));
	election_free(e);
	world_end(&w);
}

static bool open_now;

static bool is_open(void *arg)
{
	return *(bool *)arg;
}

static int remove_object(struct store *store, const struct resource *res, const char *ns, const char *name, const char *uid,
			 struct error **err)
{
	(void)res;
	(void)ns;
	(void)name;
	(void)uid;
	return reach((struct view *)store, err);
}

static void a_closed_gate_lets_nothing_be_written(void **state)
{
	static const struct store_ops all = { .get = get, .create = create, .patch = patch, .delete_object = remove_object };
	struct world w = { .now = 1 };
	struct view v = { .store.ops = &all, .world = &w };
	struct store *s = gate_store_new(&v.store, is_open, &open_now, NULL);
	AUTO_JSON json_t *object = json_pack("{s:{s:s}}", "metadata", "name", "the-lease");
	AUTO_JSON json_t *change = json_pack("{s:{s:s}}", "metadata", "resourceVersion", "1");

	(void)state;
	for (int i = 0; i < 2; i++) {
		AUTO_ERROR struct error *created = NULL, *patched = NULL, *deleted = NULL;
		AUTO_JSON json_t *a = NULL, *b = NULL, *c = NULL;

		open_now = i;
		a = store_create(s, &api_leases, "here", object, &created);
		b = store_patch(s, &api_leases, "here", "the-lease", NULL, change, &patched);
		c = store_get(s, &api_leases, "here", "the-lease", NULL);
		assert_int_equal(store_delete(s, &api_leases, "here", "the-lease", NULL, &deleted), i ? 0 : -1);
		if (i) {
			assert_true(a && b && c);
			continue;
		}
		assert_true(!a && !b && !c);
		assert_string_equal(created->reason, "NotLeader");
		assert_int_equal(patched->class, ERROR_CANCELLED);
		assert_int_equal(deleted->class, ERROR_CANCELLED);
		assert_int_equal(w.writes, 0);
	}
	store_close(s);
	world_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_alone_leads),
		cmocka_unit_test(a_dead_leader_is_followed),
		cmocka_unit_test(a_lease_that_is_given_back_is_taken_at_once),
		cmocka_unit_test(clocks_need_not_agree),
		cmocka_unit_test(who_cannot_renew_stops_before_another_may_begin),
		cmocka_unit_test(a_short_trouble_is_survived),
		cmocka_unit_test(slow_answers_do_not_stretch_the_lease),
		cmocka_unit_test(a_lease_that_was_taken_is_lost_at_once),
		cmocka_unit_test(two_at_a_time_make_one_leader),
		cmocka_unit_test(a_lease_that_disappears_is_made_anew),
		cmocka_unit_test(leases_of_others),
		cmocka_unit_test(what_is_not_allowed_makes_no_leader),
		cmocka_unit_test(wrong_times_are_refused),
		cmocka_unit_test(identities_differ),
		cmocka_unit_test(on_a_thread),
		cmocka_unit_test(a_closed_gate_lets_nothing_be_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
