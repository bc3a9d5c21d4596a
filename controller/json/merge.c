/* JSON merge patch, RFC 7386. */
#include <string.h>

#include "json/codec.h"

json_t *json_merge_diff(const json_t *from, const json_t *to)
{
	json_t *diff = json_object();
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)to, key, value) {
		json_t *old = json_object_get(from, key);

		if (old && json_equal(old, value))
			continue;
		if (json_is_object(old) && json_is_object(value))
			json_object_set_new(diff, key, json_merge_diff(old, value));
		else
			json_object_set(diff, key, value);
	}
	json_object_foreach ((json_t *)from, key, value)
		if (!json_object_get(to, key))
			json_object_set_new(diff, key, json_null());
	return diff;
}

json_t *json_merge_apply(const json_t *target, const json_t *patch)
{
	const char *key;
	json_t *value, *result;

	if (!json_is_object(patch))
		return json_incref((json_t *)patch);
	result = json_is_object(target) ? json_copy((json_t *)target) : json_object();
	json_object_foreach ((json_t *)patch, key, value) {
		if (json_is_null(value))
			json_object_del(result, key);
		else
			json_object_set_new(result, key, json_merge_apply(json_object_get(result, key), value));
	}
	return result;
}

json_t *json_path(const json_t *object, const char *path)
{
	json_t *at = (json_t *)object;

	while (at && *path) {
		size_t len = strcspn(path, ".");
		char key[128];

		if (len >= sizeof key)
			return NULL;
		memcpy(key, path, len);
		key[len] = 0;
		at = json_object_get(at, key);
		path += len + (path[len] == '.');
	}
	return at;
}

const char *json_path_string(const json_t *object, const char *path)
{
	return json_string_value(json_path(object, path));
}
