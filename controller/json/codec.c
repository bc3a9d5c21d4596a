#include "json/codec.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Deeper nesting than any of our types has; a table that refers to itself would end here. */
#define DEPTH_MAX 16
#define PATH_MAX_LEN 256

static void *at(void *base, size_t offset)
{
	return (char *)base + offset;
}

static const void *at_const(const void *base, size_t offset)
{
	return (const char *)base + offset;
}

static const char *type_name(const json_t *json)
{
	switch (json_typeof(json)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "an integer";
	case JSON_REAL:
		return "a number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a boolean";
	case JSON_NULL:
		return "null";
	}
	return "something else";
}

static int mismatch(const char *path, const char *expected, const json_t *got, struct error **err)
{
	return error_set(err, ERROR_PERMANENT, "InvalidField", "%s: expected %s, got %s", path, expected, type_name(got));
}

static int no_memory(struct error **err)
{
	return error_set(err, ERROR_TRANSIENT, "OutOfMemory", "out of memory");
}

static int decode_object(const struct json_type *type, const json_t *json, void *out, const char *path, int depth, struct error **err);

static int decode_string(const json_t *json, char **out, const char *path, struct error **err)
{
	if (!json_is_string(json))
		return mismatch(path, "a string", json, err);
	/* A NUL inside would cut what we compare with. */
	if (strlen(json_string_value(json)) != json_string_length(json))
		return error_set(err, ERROR_PERMANENT, "InvalidField", "%s: the string holds a NUL character", path);
	*out = strdup(json_string_value(json));
	return *out ? 0 : no_memory(err);
}

static int decode_array(const struct json_field *field, const json_t *json, void *out, const char *path, int depth, struct error **err)
{
	size_t n = json_array_size(json), size = field->of ? field->of->size : sizeof(char *);
	size_t *count = at(out, field->count_offset);
	void *items;

	if (!json_is_array(json))
		return mismatch(path, "an array", json, err);
	if (!n)
		return 0;
	items = calloc(n, size);
	if (!items)
		return no_memory(err);
	memcpy(at(out, field->offset), &items, sizeof items);
	for (size_t i = 0; i < n; i++) {
		char below[PATH_MAX_LEN];
		int failed;

		snprintf(below, sizeof below, "%.*s[%zu]", PATH_MAX_LEN - 24, path, i);
		*count = i + 1; /* so that a half-filled element is freed too */
		if (field->of)
			failed = decode_object(field->of, json_array_get(json, i), at(items, i * size), below, depth + 1, err);
		else
			failed = decode_string(json_array_get(json, i), (char **)at(items, i * size), below, err);
		if (failed)
			return -1;
	}
	return 0;
}

static int decode_field(const struct json_field *field, const json_t *json, void *out, const char *path, int depth, struct error **err)
{
	switch (field->type) {
	case JSON_FIELD_STRING:
		return decode_string(json, at(out, field->offset), path, err);
	case JSON_FIELD_INTEGER:
		if (!json_is_integer(json))
			return mismatch(path, "an integer", json, err);
		*(int64_t *)at(out, field->offset) = json_integer_value(json);
		return 0;
	case JSON_FIELD_BOOLEAN:
		if (!json_is_boolean(json))
			return mismatch(path, "a boolean", json, err);
		*(bool *)at(out, field->offset) = json_is_true(json);
		return 0;
	case JSON_FIELD_OBJECT:
		return decode_object(field->of, json, at(out, field->offset), path, depth + 1, err);
	case JSON_FIELD_ARRAY:
		return decode_array(field, json, out, path, depth, err);
	}
	return 0;
}

static int decode_object(const struct json_type *type, const json_t *json, void *out, const char *path, int depth, struct error **err)
{
	if (depth > DEPTH_MAX)
		return error_set(err, ERROR_PERMANENT, "InvalidField", "%s: nested too deeply", path);
	if (json && !json_is_null(json) && !json_is_object(json))
		return mismatch(*path ? path : type->name, "an object", json, err);
	for (size_t i = 0; i < type->field_count; i++) {
		const struct json_field *field = &type->fields[i];
		const json_t *value = json_object_get(json, field->name);
		char below[PATH_MAX_LEN];

		snprintf(below, sizeof below, "%s%s%s", path, *path ? "." : "", field->name);
		if (!value || json_is_null(value)) {
			if (field->flags & JSON_FIELD_REQUIRED)
				return error_set(err, ERROR_PERMANENT, "MissingField", "%s is missing", below);
			continue;
		}
		if (decode_field(field, value, out, below, depth, err) < 0)
			return -1;
	}
	return 0;
}

int json_decode(const struct json_type *type, const json_t *json, void *out, struct error **err)
{
	if (decode_object(type, json, out, "", 0, err) == 0)
		return 0;
	json_type_free(type, out);
	return -1;
}

static json_t *encode_array(const struct json_field *field, const void *in)
{
	size_t count = *(const size_t *)at_const(in, field->count_offset), size = field->of ? field->of->size : sizeof(char *);
	json_t *array = json_array();
	const char *items;

	memcpy(&items, at_const(in, field->offset), sizeof items);
	for (size_t i = 0; i < count; i++) {
		const char *text = NULL;

		if (!field->of)
			memcpy(&text, items + i * size, sizeof text);
		json_array_append_new(array, field->of ? json_encode(field->of, items + i * size) : json_string(text ? text : ""));
	}
	return array;
}

static bool is_empty(const struct json_field *field, const json_t *value)
{
	switch (field->type) {
	case JSON_FIELD_STRING:
		return !json_string_length(value);
	case JSON_FIELD_INTEGER:
		return !json_integer_value(value);
	case JSON_FIELD_BOOLEAN:
		return json_is_false(value);
	case JSON_FIELD_OBJECT:
		return !json_object_size(value);
	case JSON_FIELD_ARRAY:
		return !json_array_size(value);
	}
	return false;
}

json_t *json_encode(const struct json_type *type, const void *in)
{
	json_t *object = json_object();

	for (size_t i = 0; object && i < type->field_count; i++) {
		const struct json_field *field = &type->fields[i];
		const void *from = at_const(in, field->offset);
		json_t *value = NULL;

		switch (field->type) {
		case JSON_FIELD_STRING: {
			const char *text = *(char *const *)from;

			value = json_string(text ? text : "");
			break;
		}
		case JSON_FIELD_INTEGER:
			value = json_integer(*(const int64_t *)from);
			break;
		case JSON_FIELD_BOOLEAN:
			value = json_boolean(*(const bool *)from);
			break;
		case JSON_FIELD_OBJECT:
			value = json_encode(field->of, from);
			break;
		case JSON_FIELD_ARRAY:
			value = encode_array(field, in);
			break;
		}
		if (value && !(field->flags & JSON_FIELD_KEEP_EMPTY) && is_empty(field, value))
			json_decref(value);
		else
			json_object_set_new(object, field->name, value);
	}
	return object;
}

void json_type_free(const struct json_type *type, void *in)
{
	for (size_t i = 0; i < type->field_count; i++) {
		const struct json_field *field = &type->fields[i];
		void *from = at(in, field->offset);

		if (field->type == JSON_FIELD_STRING) {
			free(*(char **)from);
		} else if (field->type == JSON_FIELD_OBJECT) {
			json_type_free(field->of, from);
		} else if (field->type == JSON_FIELD_ARRAY) {
			size_t count = *(size_t *)at(in, field->count_offset);
			char *items;

			memcpy(&items, from, sizeof items);
			for (size_t k = 0; k < count; k++) {
				if (field->of)
					json_type_free(field->of, items + k * field->of->size);
				else
					free(((char **)(void *)items)[k]);
			}
			free(items);
		}
	}
	memset(in, 0, type->size);
}
