// links: api json base PkgConfig::jansson
/* Any JSON through the table of every type: an error that names a path, or a struct that encodes to what decodes to the same again. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/types.h"
#include "json/codec.h"

#define CHECK(condition)          \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_type(const struct json_type *type, const json_t *json)
{
	AUTO_ERROR struct error *err = NULL;
	AUTO_JSON json_t *once = NULL, *twice = NULL;
	void *value = calloc(1, type->size), *again = calloc(1, type->size), *zero = calloc(1, type->size);

	CHECK(value && again && zero);
	if (json_decode(type, json, value, &err) < 0) {
		CHECK(err && *err->message && !memcmp(value, zero, type->size));
	} else {
		CHECK(!err);
		once = json_encode(type, value);
		CHECK(once && json_decode(type, once, again, NULL) == 0);
		twice = json_encode(type, again);
		CHECK(json_equal(once, twice));
	}
	json_type_free(type, value);
	json_type_free(type, again);
	CHECK(!memcmp(value, zero, type->size));
	free(value);
	free(again);
	free(zero);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct json_type *const types[] = {
		&api_vmimport_type,        &api_vmimport_status_type, &api_vmware_source_spec_type, &api_openstack_source_spec_type,
		&api_ova_source_spec_type, &api_kvm_source_spec_type, &api_source_status_type,      &api_vmware_source_status_type,
		&api_secret_ref_type,
	};
	AUTO_JSON json_t *json = json_loadb((const char *)data, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);

	for (size_t i = 0; json && i < sizeof types / sizeof *types; i++)
		try_type(types[i], json);
	return 0;
}
