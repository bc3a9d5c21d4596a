// links: api json base PkgConfig::jansson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "api/conditions.h"
#include "api/names.h"
#include "api/types.h"
#include "json/yaml.h"

static json_t *yaml(const char *text)
{
	AUTO_ERROR struct error *err = NULL;
	json_t *documents = yaml_load(text, strlen(text), "test", &err);

	if (!documents)
		fail_msg("%s: %s", text, error_message(err));
	return documents;
}

static void expect_yaml(const char *text, const char *json)
{
	AUTO_JSON json_t *got = yaml(text), *wanted = json_loads(json, 0, NULL);

	assert_non_null(wanted);
	if (!json_equal(got, wanted))
		fail_msg("%s: got %s, wanted %s", text, json_dumps(got, JSON_COMPACT), json);
}

static void expect_no_yaml(const char *text, const char *part)
{
	AUTO_ERROR struct error *err = NULL;
	AUTO_JSON json_t *got = yaml_load(text, strlen(text), "file.yaml", &err);

	if (got || !strstr(err->message, part) || !strstr(err->message, "file.yaml, line"))
		fail_msg("%s: expected \"%s\", got %s", text, part, got ? "a value" : error_message(err));
}

static void test_yaml_reads_what_kubectl_reads(void **state)
{
	(void)state;
	expect_yaml("a: 1\nb: [x, 'y', \"z\"]\n", "[{\"a\": 1, \"b\": [\"x\", \"y\", \"z\"]}]");
	expect_yaml("a: yes\nb: off\nc: 'on'\nd: y\ne: true\n", "[{\"a\": true, \"b\": false, \"c\": \"on\", \"d\": \"y\", \"e\": true}]");
	expect_yaml("a: ~\nb:\nc: null\n", "[{\"a\": null, \"b\": null, \"c\": null}]");
	expect_yaml("a: 010\nb: 0x1F\nc: -7\nd: 1.5\ne: 1.2.3\nf: 12345678901\n",
		    "[{\"a\": \"010\", \"b\": 31, \"c\": -7, \"d\": 1.5, \"e\": \"1.2.3\", \"f\": 12345678901}]");
	expect_yaml("---\na: 1\n---\n---\nb: 2\n...\n", "[{\"a\": 1}, {\"b\": 2}]");
	expect_yaml("a: |\n  one\n  two\nb: >-\n  one\n  two\n", "[{\"a\": \"one\\ntwo\\n\", \"b\": \"one two\"}]");
	expect_yaml("a: &x {k: 1}\nb: *x\nc: {<<: *x, l: 2}\n", "[{\"a\": {\"k\": 1}, \"b\": {\"k\": 1}, \"c\": {\"k\": 1, \"l\": 2}}]");
	expect_yaml("{\"json\": [1, {\"is\": \"yaml\"}]}", "[{\"json\": [1, {\"is\": \"yaml\"}]}]");
	expect_yaml("2026-11-24T12:00:00Z: 00:50:56:aa:00:01\n", "[{\"2026-11-24T12:00:00Z\": \"00:50:56:aa:00:01\"}]");
	expect_yaml("", "[]");
}

static void test_yaml_names_the_place(void **state)
{
	char bomb[2048] = "a: &a [x,x,x,x,x,x,x,x,x,x]\n", *deep = calloc(1, 5000);

	(void)state;
	expect_no_yaml("a: 1\na: 2\n", "line 2, column 1: the key is there twice");
	expect_no_yaml("a: [1, 2\nb: 3\n", "line 2");
	expect_no_yaml("a: *nobody\n", "alias");
	expect_no_yaml("? [1]\n: 2\n", "key must be a plain value");
	expect_no_yaml("a: !!binary aGk=\n", "binary");
	for (char c = 'b'; c < 'l'; c++)
		sprintf(bomb + strlen(bomb), "%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", c, c, c - 1, c - 1, c - 1, c - 1, c - 1,
			c - 1, c - 1, c - 1, c - 1);
	expect_no_yaml(bomb, "too many values");
	memset(deep, '[', 2000);
	expect_no_yaml(deep, "nested too deeply");
	free(deep);
}

static void test_yaml_writes_what_it_reads(void **state)
{
	static const char *const values[] = {
		"{\"a\": \"yes\", \"b\": \"1\", \"c\": \"\", \"d\": \"null\", \"e\": true, \"f\": 1.5, \"g\": -3, \"h\": null, \"i\": \"y\", \"j\": \"~\"}",
		"{\"text\": \"one\\ntwo\\n\", \"odd\": \"a: b # c\", \"lead\": \" x\", \"quote\": \"it's \\\"it\\\"\", \"u\": \"\\u00fc\\u672c\"}",
		"{\"empty\": {}, \"none\": [], \"list\": [[1, 2], [{\"a\": []}]], \"mac\": \"00:50:56:00:00:01\", \"hex\": \"0x10\", \"exp\": \"1e5\"}",
		"{\"tabs\": \"a\\tb\", \"ctl\": \"a\\u0001b\", \"trail\": \"x\\n\\n\", \"on\": \"on\", \"0\": 0, \"dash\": \"- a\", \"time\": \"12:30\"}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
		AUTO_JSON json_t *value = json_loads(values[i], 0, NULL), *again = NULL;
		AUTO_FREE char *text = yaml_dump(value, NULL);

		assert_non_null(text);
		again = yaml(text);
		if (!json_equal(json_array_get(again, 0), value))
			fail_msg("%s became %s", values[i], text);
	}
}

static void expect_patch(const char *from, const char *to, const char *patch)
{
	AUTO_JSON json_t *f = json_loads(from, 0, NULL), *t = json_loads(to, 0, NULL), *p = json_loads(patch, 0, NULL);
	AUTO_JSON json_t *diff = json_merge_diff(f, t), *before = json_deep_copy(f), *applied = json_merge_apply(f, diff);

	assert_true(json_equal(diff, p));
	assert_true(json_equal(applied, t));
	assert_true(json_equal(f, before));
}

static void test_merge_patches(void **state)
{
	AUTO_JSON json_t *target = json_loads("{\"a\": {\"b\": 1, \"c\": 2}, \"d\": [1]}", 0, NULL);
	AUTO_JSON json_t *patch =
		json_loads("{\"a\": {\"b\": null, \"e\": {\"f\": null, \"g\": 1}}, \"d\": [2, null], \"x\": {\"y\": null}}", 0, NULL);
	AUTO_JSON json_t *wanted = json_loads("{\"a\": {\"c\": 2, \"e\": {\"g\": 1}}, \"d\": [2, null], \"x\": {}}", 0, NULL);
	AUTO_JSON json_t *got = json_merge_apply(target, patch);

	(void)state;
	assert_true(json_equal(got, wanted));
	expect_patch("{}", "{}", "{}");
	expect_patch("{\"a\": 1, \"b\": {\"c\": 1, \"d\": 2}}", "{\"b\": {\"c\": 1, \"d\": 3}}", "{\"a\": null, \"b\": {\"d\": 3}}");
	expect_patch("{\"a\": [1, 2]}", "{\"a\": [1]}", "{\"a\": [1]}");
	expect_patch("{\"a\": {\"b\": 1}}", "{\"a\": 2}", "{\"a\": 2}");
	assert_string_equal(json_path_string(json_path(wanted, "a"), "zz.y") ? "" : "absent", "absent");
	assert_int_equal(json_integer_value(json_path(wanted, "a.e.g")), 1);
}

/* Any value; objects hold no null, for a merge patch cannot make one. */
static json_t *any_value(unsigned *seed, int depth)
{
	json_t *value;

	switch (rand_r(seed) % (depth ? 6 : 4)) {
	case 0:
		return json_integer(rand_r(seed) % 3);
	case 1:
		return json_string(rand_r(seed) % 2 ? "x" : "");
	case 2:
		return json_boolean(rand_r(seed) % 2);
	case 3:
		value = json_array();
		for (int i = rand_r(seed) % 3; i > 0; i--)
			json_array_append_new(value, json_integer(i));
		return value;
	default:
		value = json_object();
		for (int i = rand_r(seed) % 5; i > 0; i--) {
			char key[2] = { (char)('a' + rand_r(seed) % 4), 0 };

			json_object_set_new(value, key, any_value(seed, depth - 1));
		}
		return value;
	}
}

static json_t *any_object(unsigned *seed)
{
	json_t *object = json_object();

	for (char key[2] = "a"; *key < 'f'; ++*key)
		if (rand_r(seed) % 2)
			json_object_set_new(object, key, any_value(seed, 3));
	return object;
}

static void test_merge_patches_of_random_objects(void **state)
{
	unsigned seed = 3;

	(void)state;
	for (int i = 0; i < 3000; i++) {
		AUTO_JSON json_t *from = any_object(&seed), *to = any_object(&seed), *before = json_deep_copy(from);
		AUTO_JSON json_t *diff = json_merge_diff(from, to), *applied = json_merge_apply(from, diff),
				 *again = json_merge_diff(to, to);
		AUTO_JSON json_t *twice = json_merge_apply(applied, diff);

		assert_true(json_equal(applied, to));
		assert_true(json_equal(twice, to)); /* a patch that is applied again changes nothing */
		assert_true(json_equal(from, before));
		assert_int_equal(json_object_size(again), 0);
	}
}

static void test_types_round_trip(void **state)
{
	static const char text[] =
		"spec: {virtualMachineName: 'A b', folder: /DC0/vm/x, forcePowerOff: true, gracefulShutdownTimeoutSeconds: 7, unknown: [1],\n"
		"  sourceCluster: {kind: vmwareSOURCE, name: vc, namespace: ns, apiVersion: migration.harvesterhci.io/v1beta1},\n"
		"  networkMapping: [{sourceNetwork: a, destinationNetwork: b, networkInterfaceModel: ''}, {sourceNetwork: c, destinationNetwork: d}]}\n"
		"status: {importStatus: sourceReady, progress: 0, diskImportStatus: [{diskName: disk-0.raw, diskSize: 1099511627776, VirtualMachineImage: image-1,\n"
		"  diskConditions: [{type: VirtualMachineImageReady, status: 'True'}]}], sourceLedger: [{kind: ExportLease, id: x}]}\n";
	AUTO_JSON json_t *documents = yaml(text), *again = NULL, *known = NULL;
	struct vmimport import = { 0 };

	(void)state;
	assert_int_equal(json_decode(&api_vmimport_type, json_array_get(documents, 0), &import, NULL), 0);
	assert_string_equal(import.spec.source_cluster.kind, "vmwareSOURCE");
	assert_int_equal(import.spec.network_mapping_count, 2);
	assert_string_equal(import.spec.network_mapping[1].destination_network, "d");
	assert_true(import.spec.force_power_off);
	assert_int_equal(import.status.disks[0].disk_size, INT64_C(1) << 40);
	assert_string_equal(import.status.disks[0].image, "image-1");
	again = json_encode(&api_vmimport_type, &import);
	known = json_deep_copy(json_array_get(documents, 0));
	json_object_del(json_object_get(known, "spec"), "unknown");
	json_object_del(json_array_get(json_path(known, "spec.networkMapping"), 0), "networkInterfaceModel"); /* empty is absent */
	if (!json_equal(again, known))
		fail_msg("%s", json_dumps(again, 0));
	json_type_free(&api_vmimport_type, &import);
	assert_null(import.spec.folder);
}

static void test_decode_names_the_path(void **state)
{
	static const struct {
		const char *yaml, *message;
	} cases[] = {
		{ "spec: {networkMapping: [{sourceNetwork: a}, {sourceNetwork: 3}]}",
		  "spec.networkMapping[1].sourceNetwork: expected a string, got an integer" },
		{ "spec: {forcePowerOff: 'yes'}", "spec.forcePowerOff: expected a boolean, got a string" },
		{ "spec: [1]", "spec: expected an object, got an array" },
		{ "spec: {networkMapping: {}}", "spec.networkMapping: expected an array, got an object" },
		{ "spec: {gracefulShutdownTimeoutSeconds: 1.5}", "spec.gracefulShutdownTimeoutSeconds: expected an integer, got a number" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		AUTO_JSON json_t *documents = yaml(cases[i].yaml);
		AUTO_ERROR struct error *err = NULL;
		struct vmimport import = { 0 };

		assert_int_equal(json_decode(&api_vmimport_type, json_array_get(documents, 0), &import, &err), -1);
		assert_string_equal(err->message, cases[i].message);
		assert_null(import.spec.network_mapping);
	}
}

static void expect_label(const char *name, const char *label)
{
	AUTO_FREE char *got = name_dns1123_label(name);

	assert_true(name_is_dns1123_label(got));
	if (label)
		assert_string_equal(got, label);
}

static void test_names(void **state)
{
	char long_a[300], long_b[300];
	AUTO_FREE char *a = NULL, *b = NULL, *v = NULL, *w = NULL, *ns = NULL, *name = NULL;

	(void)state;
	expect_label("web-01", "web-01");
	expect_label("Web Server_01.example", "web-server-01-example");
	expect_label("--Ünïcode ファイル--", NULL);
	expect_label("本番", NULL);
	expect_label("", NULL);
	memset(long_a, 'x', sizeof long_a);
	long_a[299] = 0;
	memcpy(long_b, long_a, sizeof long_b);
	long_b[298] = 'y';
	a = name_dns1123_label(long_a);
	b = name_dns1123_label(long_b);
	assert_int_equal(strlen(a), 63);
	assert_true(name_is_dns1123_label(a));
	assert_string_not_equal(a, b);
	v = name_label_value("vm-import-Web_1.disk-0.raw");
	assert_string_equal(v, "vm-import-Web_1.disk-0.raw");
	w = name_label_value(long_a);
	assert_true(strlen(w) <= 63);
	name_split("ns/net", "default", &ns, &name);
	assert_string_equal(ns, "ns");
	assert_string_equal(name, "net");
	assert_false(name_is_dns1123_label("a_b"));
	assert_false(name_is_dns1123_label("-a"));
	assert_false(name_is_dns1123_label("A"));
	assert_true(name_is_dns1123_subdomain("a") && name_is_dns1123_subdomain("vlan-1.example") && name_is_dns1123_subdomain("1.2"));
	assert_false(name_is_dns1123_subdomain("") || name_is_dns1123_subdomain("a b") || name_is_dns1123_subdomain("a_b") ||
		     name_is_dns1123_subdomain("Vlan") || name_is_dns1123_subdomain("a..b") || name_is_dns1123_subdomain(".a") ||
		     name_is_dns1123_subdomain("a.") || name_is_dns1123_subdomain("a-.b") || name_is_dns1123_subdomain("a.-b"));
}

static void test_conditions(void **state)
{
	struct vmimport_status s = { 0 };
	const struct api_condition *c;

	(void)state;
	assert_true(condition_set(&s.conditions, &s.condition_count, "Ready", "False", "Importing", "a", true));
	c = condition_find(s.conditions, s.condition_count, "Ready");
	assert_non_null(c->last_transition_time);
	free(s.conditions[0].last_transition_time);
	s.conditions[0].last_transition_time = strdup("2000-01-01T00:00:00Z");
	assert_false(condition_set(&s.conditions, &s.condition_count, "Ready", "False", "Importing", "a", true));
	assert_true(condition_set(&s.conditions, &s.condition_count, "Ready", "False", "Importing", "b", true));
	assert_string_equal(s.conditions[0].last_transition_time, "2000-01-01T00:00:00Z"); /* the status did not change */
	assert_true(condition_set(&s.conditions, &s.condition_count, "Ready", "True", "Done", "b", true));
	assert_string_not_equal(s.conditions[0].last_transition_time, "2000-01-01T00:00:00Z");
	/* what a condition holds may be what it is set to (asan tells) */
	assert_true(
		condition_set(&s.conditions, &s.condition_count, "Ready", "False", s.conditions[0].reason, s.conditions[0].message, true));
	assert_string_equal(s.conditions[0].reason, "Done");
	assert_true(condition_set(&s.conditions, &s.condition_count, "Ready", "True", "Done", "b", true));
	assert_int_equal(s.condition_count, 1);
	assert_true(condition_is_true(s.conditions, s.condition_count, "Ready"));
	assert_false(condition_is_true(s.conditions, s.condition_count, "Stalled"));
	json_type_free(&api_vmimport_status_type, &s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_yaml_reads_what_kubectl_reads),
		cmocka_unit_test(test_yaml_names_the_place),
		cmocka_unit_test(test_yaml_writes_what_it_reads),
		cmocka_unit_test(test_merge_patches),
		cmocka_unit_test(test_merge_patches_of_random_objects),
		cmocka_unit_test(test_types_round_trip),
		cmocka_unit_test(test_decode_names_the_path),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_conditions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
