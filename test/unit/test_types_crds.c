// links: api json base PkgConfig::jansson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "api/resources.h"
#include "api/types.h"
#include "json/yaml.h"

/* The tables of api/types.c and the schemas of crds/ say the same: no field is in one and not in the other. */

static json_t *load(const char *plural)
{
	char path[1024];
	AUTO_ERROR struct error *err = NULL;
	json_t *documents;

	snprintf(path, sizeof path, "%s/crds/%s.yaml", SOURCE_DIR, plural);
	documents = yaml_load_file(path, &err);
	if (!documents)
		fail_msg("%s", error_message(err));
	assert_int_equal(json_array_size(documents), 1);
	json_t *crd = json_incref(json_array_get(documents, 0));
	json_decref(documents);
	return crd;
}

static const json_t *version_of(const json_t *crd)
{
	return json_array_get(json_path(crd, "spec.versions"), 0);
}

static const char *type_of(const struct json_field *field)
{
	static const char *const names[] = { "string", "integer", "boolean", "object", "array" };

	return names[field->type];
}

static const struct json_field *field_of(const struct json_type *type, const char *name)
{
	for (size_t i = 0; i < type->field_count; i++)
		if (!strcmp(type->fields[i].name, name))
			return &type->fields[i];
	return NULL;
}

static void compare(const struct json_type *type, const json_t *schema, const char *path)
{
	const json_t *properties = json_object_get(schema, "properties");
	const char *name;
	json_t *property;

	for (size_t i = 0; i < type->field_count; i++)
		if (!json_object_get(properties, type->fields[i].name))
			fail_msg("%s.%s is in the table and not in the schema", path, type->fields[i].name);
	json_object_foreach ((json_t *)properties, name, property) {
		const struct json_field *field = field_of(type, name);
		const char *description = json_path_string(property, "description"), *have = json_path_string(property, "type");
		char below[512];

		snprintf(below, sizeof below, "%s.%s", path, name);
		if (!field)
			fail_msg("%s is in the schema and not in the table", below);
		if (!have || strcmp(have, type_of(field)))
			fail_msg("%s is a %s in the schema and a %s in the table", below, have ? have : "(nothing)", type_of(field));
		if (!description || strlen(description) < 5)
			fail_msg("%s has no description", below);
		if (field->type == JSON_FIELD_OBJECT)
			compare(field->of, property, below);
		else if (field->type == JSON_FIELD_ARRAY && field->of)
			compare(field->of, json_object_get(property, "items"), below);
		else if (field->type == JSON_FIELD_INTEGER)
			assert_string_equal(json_path_string(property, "format"), "int64");
	}
}

static void compare_resource(const struct resource *res, const struct json_type *spec, const struct json_type *status)
{
	AUTO_JSON json_t *crd = load(res->plural);
	const json_t *schema = json_path(version_of(crd), "schema.openAPIV3Schema.properties"), *column;
	char name[256];

	snprintf(name, sizeof name, "%s.%s", res->plural, res->group);
	assert_string_equal(json_path_string(crd, "metadata.name"), name);
	assert_string_equal(json_path_string(crd, "spec.names.kind"), res->kind);
	assert_string_equal(json_path_string(crd, "spec.names.plural"), res->plural);
	assert_string_equal(json_path_string(crd, "spec.group"), res->group);
	assert_string_equal(json_path_string(version_of(crd), "name"), res->version);
	assert_string_equal(json_path_string(crd, "spec.scope"), res->namespaced ? "Namespaced" : "Cluster");
	assert_int_equal(json_path(version_of(crd), "subresources.status") != NULL, res->status_subresource);
	assert_string_equal(json_string_value(json_array_get(json_path(crd, "spec.names.categories"), 0)), "vm-import");
	column = json_array_get(json_path(version_of(crd), "additionalPrinterColumns"), 0);
	assert_string_equal(json_path_string(column, "name"), "STATUS");
	compare(spec, json_object_get(schema, "spec"), "spec");
	compare(status, json_object_get(schema, "status"), "status");
}

static void test_virtualmachineimport(void **state)
{
	(void)state;
	/* the spec's own table is the first member of the whole object's */
	compare_resource(&api_vmimports, field_of(&api_vmimport_type, "spec")->of, &api_vmimport_status_type);
}

static void test_sources(void **state)
{
	(void)state;
	compare_resource(&api_vmware_sources, &api_vmware_source_spec_type, &api_vmware_source_status_type);
	compare_resource(&api_openstack_sources, &api_openstack_source_spec_type, &api_source_status_type);
	compare_resource(&api_ova_sources, &api_ova_source_spec_type, &api_source_status_type);
	compare_resource(&api_kvm_sources, &api_kvm_source_spec_type, &api_source_status_type);
}

static void test_short_names_clash_with_nobody(void **state)
{
	static const struct resource *const all[] = { &api_vmimports, &api_vmware_sources, &api_openstack_sources, &api_ova_sources,
						      &api_kvm_sources };
	static const char *const taken[] = { "vm", "vms", "vmi", "vmis", "vmimage", "vmimages", "dv", "dvs", "pvc" };

	(void)state;
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		AUTO_JSON json_t *crd = load(all[i]->plural);
		const json_t *name;
		size_t n;

		json_array_foreach (json_path(crd, "spec.names.shortNames"), n, name)
			for (size_t k = 0; k < sizeof taken / sizeof *taken; k++)
				assert_string_not_equal(json_string_value(name), taken[k]);
	}
}

static void test_empty_strings_are_defaults(void **state)
{
	static const char *const paths[] = { "defaultNetworkInterfaceModel", "defaultDiskBusType", "sourceRecovery", "targetPowerState" };
	AUTO_JSON json_t *crd = load(api_vmimports.plural);
	const json_t *spec = json_path(version_of(crd), "schema.openAPIV3Schema.properties.spec.properties"), *value;
	size_t n;

	(void)state;
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		bool found = false;

		json_array_foreach (json_object_get(json_object_get(spec, paths[i]), "enum"), n, value) {
			assert_true(json_is_string(value)); /* on and off are strings, not booleans */
			found = found || !*json_string_value(value);
		}
		if (!found)
			fail_msg("spec.%s does not take \"\"", paths[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_virtualmachineimport),
		cmocka_unit_test(test_sources),
		cmocka_unit_test(test_short_names_clash_with_nobody),
		cmocka_unit_test(test_empty_strings_are_defaults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
