#include "store/selector.h"

#include <string.h>

#include "json/codec.h"

static bool term_matches(const char *term, const json_t *labels)
{
	AUTO_FREE char *key = strdup(term);
	char *value = key ? strchr(key, '=') : NULL;
	bool negated = value && value > key && value[-1] == '!';
	const char *have;

	if (!key)
		return false;
	if (value) {
		value[negated ? -1 : 0] = 0;
		value += value[1] == '=' ? 2 : 1; /* == is = */
	}
	have = json_string_value(json_object_get(labels, key));
	if (!value)
		return have != NULL;
	return (have && !strcmp(have, value)) != negated;
}

bool selector_matches(const char *selector, const json_t *object)
{
	AUTO_FREE char *copy = selector ? strdup(selector) : NULL;
	const json_t *labels = json_path(object, "metadata.labels");
	char *rest = copy, *term;

	while ((term = strsep(&rest, ",")))
		if (*term && !term_matches(term, labels))
			return false;
	return true;
}
