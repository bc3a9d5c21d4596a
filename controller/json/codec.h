/* JSON <-> C structs by tables: one table a type drives decode, encode and free, and a test compares it with the CRD's schema.
 *
 * Strings become owned char * (NULL: absent), integers int64_t, booleans bool, objects embedded structs, arrays a pointer and a count.
 * Unknown members are ignored on decode. Errors name the path: "spec.networkMapping[1].sourceNetwork: expected a string, got a number". */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum json_field_type { JSON_FIELD_STRING, JSON_FIELD_INTEGER, JSON_FIELD_BOOLEAN, JSON_FIELD_OBJECT, JSON_FIELD_ARRAY };

enum {
	JSON_FIELD_REQUIRED = 1,   /* absent or null is an error on decode */
	JSON_FIELD_KEEP_EMPTY = 2, /* encoded although it is "", 0, false or empty */
};

struct json_type;

struct json_field {
	const char *name;
	enum json_field_type type;
	size_t offset;
	unsigned flags;
	const struct json_type *of; /* of an object, or of the elements of an array of objects; NULL: an array of strings */
	size_t count_offset;        /* of an array: where its size_t count is */
};

struct json_type {
	const char *name;
	size_t size;
	const struct json_field *fields;
	size_t field_count;
};

/* Fills *out, which must be zeroed; on failure it is zeroed again. json NULL or null decodes as {}. */
int json_decode(const struct json_type *type, const json_t *json, void *out, struct error **err);
/* A new object. Empty values are left out unless they are to be kept. */
json_t *json_encode(const struct json_type *type, const void *in);
/* Frees what the struct holds and zeroes it. */
void json_type_free(const struct json_type *type, void *in);
/* The merge patch (RFC 7386) that makes `to` of `from`: a new object, empty when they are equal. */
json_t *json_merge_diff(const json_t *from, const json_t *to);
/* Applies a merge patch; a new value. Either may be shared: neither is changed. */
json_t *json_merge_apply(const json_t *target, const json_t *patch);
/* A string deep inside: json_path_string(o, "spec.template.metadata.name"); NULL when absent or of another type. Borrowed. */
const char *json_path_string(const json_t *object, const char *path);
/* The value at a path of object members, borrowed, or NULL. */
json_t *json_path(const json_t *object, const char *path);

static inline void json_decref_p(json_t **json)
{
	json_decref(*json);
}
#define AUTO_JSON CLEANUP(json_decref_p)
