// links: reconcile source target transfer queue store web api json base PkgConfig::jansson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "reconcile/tally.h"
#include "json/codec.h"

static json_t *import(const char *name, const char *kind, const char *source_ns, const char *state)
{
	json_t *object = json_pack("{s:{s:s, s:s}, s:{s:{s:s, s:s}}}", "metadata", "name", name, "namespace", "ns", "spec", "sourceCluster",
				   "kind", kind, "name", "vc");

	if (source_ns)
		json_object_set_new(json_object_get(json_object_get(object, "spec"), "sourceCluster"), "namespace", json_string(source_ns));
	if (state)
		json_object_set_new(object, "status", json_pack("{s:s}", "importStatus", state));
	return object;
}

static size_t count(struct tally *t, const char *state)
{
	size_t i = 0;

	while (tally_states[i] && strcmp(tally_states[i], state))
		i++;
	return tally_count(t, i);
}

static void each(void *arg, const char *ns, const char *name)
{
	assert_string_equal(ns, "ns");
	strcat(strcat(arg, name), " ");
}

static void assert_waiting(struct tally *t, const char *ns, const char *expected)
{
	char names[256] = "";

	tally_waiting(t, "VmwareSource", ns, "vc", each, names);
	assert_string_equal(names, expected);
}

static void follows_the_events(void **state)
{
	struct tally *t = tally_new();
	AUTO_JSON json_t *a = import("a", "vmwaresource", NULL, NULL), *a2 = import("a", "vmwaresource", NULL, "sourceReady");
	AUTO_JSON json_t *b = import("b", "VMWARESOURCE", "ns", NULL), *c = import("c", "VmwareSource", "other", NULL);
	AUTO_JSON json_t *d = import("d", "OvaSource", "ns", NULL), *e = import("e", "VmwareSource", "ns", "no such state");
	AUTO_JSON json_t *f = import("f", "VmwareSource", "ns", "virtualMachineRunning");

	(void)state;
	tally_event(t, STORE_ADDED, NULL, a);
	tally_event(t, STORE_ADDED, NULL, b);
	tally_event(t, STORE_ADDED, NULL, c);
	tally_event(t, STORE_ADDED, NULL, d);
	tally_event(t, STORE_ADDED, NULL, e);
	tally_event(t, STORE_ADDED, NULL, f);
	assert_int_equal(count(t, ""), 4);
	assert_int_equal(count(t, "virtualMachineRunning"), 1);
	assert_waiting(t, "ns", "a b ");
	assert_waiting(t, "other", "c ");
	tally_event(t, STORE_MODIFIED, a, a2);
	assert_int_equal(count(t, ""), 3);
	assert_int_equal(count(t, "sourceReady"), 1);
	assert_waiting(t, "ns", "b ");
	tally_event(t, STORE_MODIFIED, a2, a); /* begun anew */
	assert_waiting(t, "ns", "b a ");
	tally_event(t, STORE_DELETED, a, a);
	tally_event(t, STORE_DELETED, f, f);
	tally_event(t, STORE_DELETED, e, e);
	assert_waiting(t, "ns", "b ");
	assert_int_equal(count(t, ""), 3);
	assert_int_equal(count(t, "virtualMachineRunning"), 0);
	assert_int_equal(count(t, "sourceReady"), 0);
	tally_free(t);
	tally_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(follows_the_events) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
