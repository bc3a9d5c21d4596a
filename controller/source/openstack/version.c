#include "source/openstack/version.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "source/openstack/answer.h"

/* "2.93" -> 93, when it is of this major version. */
static bool minor_of(const char *text, unsigned major, unsigned *minor)
{
	unsigned a, b;
	char rest;

	if (!text || sscanf(text, "%u.%u%c", &a, &b, &rest) != 2 || a != major)
		return false;
	*minor = b;
	return true;
}

unsigned openstack_negotiate(const json_t *document, unsigned major, unsigned known)
{
	const json_t *list = json_object_get(document, "versions"), *one = json_object_get(document, "version");
	size_t n = one ? 1 : json_array_size(list);

	for (size_t i = 0; i < n; i++) {
		const json_t *v = one ? one : json_array_get(list, i);
		const char *highest = answer_text(v, "version");
		unsigned min = 0, max = 0;

		if (!highest) /* Cinder at first */
			highest = answer_text(v, "max_version");
		if (minor_of(highest, major, &max) && minor_of(answer_text(v, "min_version"), major, &min) && min <= known)
			return max < known ? max : known;
	}
	return 0;
}

char *openstack_version_end(char *url, const char *version)
{
	char *at = strstr(url, "://");
	size_t len = strlen(version);

	at = at ? strchr(at + 3, '/') : NULL;
	while (at && (at = strstr(at, version))) {
		at += len;
		if (*at == '/' || !*at)
			return at;
	}
	return NULL;
}
