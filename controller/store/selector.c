#include "store/selector.h"

#include <string.h>

#include "json/codec.h"

/* One requirement: "key", "!key", "key=value", "key==value", "key!=value". */
static bool term_matches(char *term, const json_t *labels)
{
	char *value = strchr(term, '=');
	bool negated = *term == '!';
	const char *have;

	if (negated)
		term++;
	if (value) {
		if (value > term && value[-1] == '!') {
			negated = true;
			value[-1] = 0;
		}
		*value = 0;
		value += value[1] == '=' ? 2 : 1;
	}
	have = json_string_value(json_object_get(labels, term));
	return (have && (!value || !strcmp(have, value))) != negated;
}

bool selector_matches(const char *selector, const json_t *object)
{
	AUTO_FREE char *copy = selector ? strdup(selector) : NULL;
	const json_t *labels = json_path(object, "metadata.labels");
	char *rest = copy, *term;

	if (selector && !copy)
		return false;
	while ((term = strsep(&rest, ",")))
		if (*term && !term_matches(term, labels))
			return false;
	return true;
}
