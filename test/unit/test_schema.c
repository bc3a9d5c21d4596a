// links: api json base PkgConfig::jansson
/* What is wrong with a manifest is said by the schemas of crds/. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "api/schema.h"
#include "json/codec.h"
#include "json/yaml.h"

#define VERSION "migration.harvesterhci.io/v1beta1"

static json_t *load(const char *plural)
{
	char path[1024];
	AUTO_ERROR struct error *err = NULL;
	json_t *documents;

	snprintf(path, sizeof path, "%s/crds/%s.yaml", SOURCE_DIR, plural);
	documents = yaml_load_file(path, &err);
	assert_non_null(documents);
	return documents;
}

/* Problems of an import whose spec is this YAML. */
static json_t *problems_of(const char *spec)
{
	AUTO_ERROR struct error *err = NULL;
	AUTO_JSON json_t *crds = load("virtualmachineimports"), *documents, *problems = json_array();
	const json_t *schema = schema_find(crds, VERSION, "VirtualMachineImport");
	char text[4096];

	assert_non_null(schema);
	assert_null(schema_find(crds, "migration.harvesterhci.io/v1", "VirtualMachineImport"));
	assert_null(schema_find(crds, VERSION, "VmwareSource"));
	snprintf(text, sizeof text,
		 "{apiVersion: migration.harvesterhci.io/v1beta1, kind: VirtualMachineImport, metadata: {name: x, foo: bar}, spec: %s}",
		 spec);
	documents = yaml_load(text, strlen(text), "test", &err);
	assert_non_null(documents);
	schema_check(schema, json_array_get(documents, 0), problems);
	return json_incref(problems);
}

static void assert_problem(const char *spec, const char *wanted)
{
	AUTO_JSON json_t *problems = problems_of(spec);

	if (json_array_size(problems) != 1 || strcmp(json_string_value(json_array_get(problems, 0)), wanted)) {
		AUTO_FREE char *text = json_dumps(problems, 0);

		fail_msg("%s: got %s, wanted %s", spec, text, wanted);
	}
}

static void as_it_should_be(void **state)
{
	AUTO_JSON json_t *problems =
		problems_of("{virtualMachineName: web, sourceCluster: {kind: VmwareSource, name: v}, warm: false, folder: null, "
			    "gracefulShutdownTimeoutSeconds: 60, defaultDiskBusType: virtio, networkMapping: [{sourceNetwork: a, "
			    "destinationNetwork: b}]}");

	(void)state;
	assert_int_equal(json_array_size(problems), 0);
}

static void not_as_it_should_be(void **state)
{
	(void)state;
	assert_problem("{defaultDiskBusType: nvme}", "spec.defaultDiskBusType is \"nvme\", not one of virtio, sata, scsi, usb");
	assert_problem("{virtualmachineName: web}", "spec.virtualmachineName is not known (is it virtualMachineName?)");
	assert_problem("{networkMappings: []}", "spec.networkMappings is not known (is it networkMapping?)");
	assert_problem("{networkMapping: [{}, {sourceNet: a}]}", "spec.networkMapping[1].sourceNet is not known");
	assert_problem("{somethingElse: 1}", "spec.somethingElse is not known");
	assert_problem("{networkMapping: {sourceNetwork: a}}", "spec.networkMapping is {\"sourceNetwork\":\"a\"}, not a list");
	assert_problem("{warm: 'yes'}", "spec.warm is \"yes\", not true or false");
	assert_problem("{virtualMachineName: 42}", "spec.virtualMachineName is 42, not a text (put it in quotes)");
	assert_problem("{gracefulShutdownTimeoutSeconds: soon}", "spec.gracefulShutdownTimeoutSeconds is \"soon\", not a whole number");
	assert_problem("{gracefulShutdownTimeoutSeconds: 1.5}", "spec.gracefulShutdownTimeoutSeconds is 1.5, not a whole number");
	assert_problem("{gracefulShutdownTimeoutSeconds: 1e300}", "spec.gracefulShutdownTimeoutSeconds is 1e300, not a whole number");
	assert_problem("{sourceCluster: vcenter}", "spec.sourceCluster is \"vcenter\", not an object (name: value)");
	assert_problem("[]", "spec is [], not an object (name: value)");
	assert_problem("{warm: '0123456789012345678901234567890123456789012345678901234567890123456789'}",
		       "spec.warm is \"01234567890123456789012345678901234567890123456789012345678..., not true or false");
}

/* A keyword that is not read would be a promise that is not kept. */
static void assert_known(const json_t *schema)
{
	static const char *const known[] = { "type", "properties", "items", "enum", "minimum", "maximum", "description", "format" };
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)schema, key, value) {
		bool is = false;

		for (size_t i = 0; i < sizeof known / sizeof *known; i++)
			is = is || !strcmp(key, known[i]);
		if (!is)
			fail_msg("the schemas say \"%s\", which is not looked at", key);
	}
	json_object_foreach (json_object_get(schema, "properties"), key, value)
		assert_known(value);
	if (json_object_get(schema, "items"))
		assert_known(json_object_get(schema, "items"));
}

static void all_keywords_are_known(void **state)
{
	static const char *const files[][2] = { { "virtualmachineimports", "VirtualMachineImport" },
						{ "vmwaresources", "VmwareSource" },
						{ "openstacksources", "OpenstackSource" },
						{ "ovasources", "OvaSource" },
						{ "kvmsources", "KVMSource" } };

	(void)state;
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		AUTO_JSON json_t *crds = load(files[i][0]);
		const json_t *schema = schema_find(crds, VERSION, files[i][1]);

		assert_non_null(schema);
		assert_known(schema);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(as_it_should_be), cmocka_unit_test(not_as_it_should_be),
					    cmocka_unit_test(all_keywords_are_known) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
