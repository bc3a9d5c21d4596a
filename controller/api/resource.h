/* A kind of Kubernetes object and where it is found. */
#pragma once

#include <stdbool.h>

struct resource {
	const char *group; /* "" for the core group */
	const char *version, *kind, *plural;
	bool namespaced;
	bool status_subresource;
};
