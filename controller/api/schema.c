#include "api/schema.h"

#include <stdio.h>
#include <string.h>

#include "api/near.h"
#include "api/problem.h"
#include "base/cleanup.h"
#include "json/codec.h"

#define DEPTH_MAX 32
#define SHOWN_MAX 60 /* bytes of a value */

const json_t *schema_find(const json_t *crds, const char *api_version, const char *kind)
{
	const json_t *crd, *version;
	size_t i, j;

	json_array_foreach (crds, i, crd) {
		const char *group = json_path_string(crd, "spec.group"), *its = json_path_string(crd, "spec.names.kind");
		size_t len = group ? strlen(group) : 0;

		if (!its || strcmp(its, kind) || !len || strncmp(api_version, group, len) || api_version[len] != '/')
			continue;
		json_array_foreach (json_path(crd, "spec.versions"), j, version) {
			const char *name = json_path_string(version, "name");

			if (name && !strcmp(name, api_version + len + 1))
				return json_path(version, "schema.openAPIV3Schema");
		}
	}
	return NULL;
}

/* A value as it stands in a manifest, shortened; owned. */
static char *shown(const json_t *value)
{
	AUTO_FREE char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15));
	char *result = NULL;

	if (text && strlen(text) > SHOWN_MAX) {
		size_t n = SHOWN_MAX;

		while (n && ((unsigned char)text[n] & 0xc0) == 0x80) /* not in the middle of a character */
			n--;
		return asprintf(&result, "%.*s...", (int)n, text) < 0 ? NULL : result;
	}
	return move_ptr(text);
}

static void wrong(json_t *problems, const char *path, const json_t *value, const char *wanted)
{
	AUTO_FREE char *text = shown(value);

	problem_add(problems, "%s is %s, not %s", *path ? path : "the manifest", text ? text : "", wanted);
}

/* Whether it is what a type is, in words; NULL when the value is of it. */
static const char *not_of_type(const char *type, const json_t *value)
{
	if (!strcmp(type, "object"))
		return json_is_object(value) ? NULL : "an object (name: value)";
	if (!strcmp(type, "array"))
		return json_is_array(value) ? NULL : "a list";
	if (!strcmp(type, "string"))
		return json_is_string(value)                           ? NULL
		       : json_is_object(value) || json_is_array(value) ? "a text"
								       : "a text (put it in quotes)";
	if (!strcmp(type, "boolean"))
		return json_is_boolean(value) ? NULL : "true or false";
	if (!strcmp(type, "integer"))
		return json_is_integer(value) ? NULL : "a whole number";
	if (!strcmp(type, "number"))
		return json_is_number(value) ? NULL : "a number";
	return NULL;
}

static void unknown(json_t *problems, const char *path, const char *name, const json_t *properties)
{
	const char *near = NULL, *key;
	unsigned least = 3;
	const json_t *value;

	json_object_foreach ((json_t *)properties, key, value) {
		unsigned d = near_distance(key, name);

		if (d < least) {
			least = d;
			near = key;
		}
	}
	problem_add(problems, "%s%s%.100s is not known%s%s%s", path, *path ? "." : "", name, near ? " (is it " : "", near ? near : "",
		    near ? "?)" : "");
}

static void check_enum(const json_t *list, const char *path, const json_t *value, json_t *problems)
{
	char all[512] = "one of";
	const json_t *one;
	size_t i, len = strlen(all);

	json_array_foreach (list, i, one)
		if (json_equal(one, value))
			return;
	json_array_foreach (list, i, one) {
		const char *text = json_string_value(one);

		if (text && *text && len < sizeof all)
			len += (size_t)snprintf(all + len, sizeof all - len, "%s %s", len > strlen("one of") ? "," : "", text);
	}
	wrong(problems, path, value, all);
}

static void check(const json_t *schema, const json_t *value, const char *path, unsigned depth, json_t *problems)
{
	const char *type = json_path_string(schema, "type"), *not = type ? not_of_type(type, value) : NULL, *key;
	const json_t *properties = json_object_get(schema, "properties"), *items = json_object_get(schema, "items"), *member,
		     *list = json_object_get(schema, "enum"), *minimum = json_object_get(schema, "minimum"),
		     *maximum = json_object_get(schema, "maximum");
	char text[64];
	size_t i;

	if (json_is_null(value) || depth == DEPTH_MAX) /* null is dropped, as the API server does it */
		return;
	if (not) {
		wrong(problems, path, value, not);
		return;
	}
	if (list)
		check_enum(list, path, value, problems);
	if (minimum && json_number_value(value) < json_number_value(minimum)) {
		snprintf(text, sizeof text, "%g or more", json_number_value(minimum));
		wrong(problems, path, value, text);
	}
	if (maximum && json_number_value(value) > json_number_value(maximum)) {
		snprintf(text, sizeof text, "%g or less", json_number_value(maximum));
		wrong(problems, path, value, text);
	}
	json_object_foreach ((json_t *)(properties ? value : NULL), key, member) {
		const json_t *its = json_object_get(properties, key);
		AUTO_FREE char *below = NULL;

		if (!its && !depth && (!strcmp(key, "apiVersion") || !strcmp(key, "kind") || !strcmp(key, "metadata")))
			continue; /* every object has them, whether its schema says so or not */
		if (!its)
			unknown(problems, path, key, properties);
		else if (asprintf(&below, "%s%s%s", path, *path ? "." : "", key) >= 0)
			check(its, member, below, depth + 1, problems);
		else
			below = NULL;
	}
	json_array_foreach (items ? value : NULL, i, member) {
		AUTO_FREE char *below = NULL;

		if (asprintf(&below, "%s[%zu]", path, i) < 0)
			below = NULL;
		else
			check(items, member, below, depth + 1, problems);
	}
}

void schema_check(const json_t *schema, const json_t *object, json_t *problems)
{
	check(schema, object, "", 0, problems);
}
