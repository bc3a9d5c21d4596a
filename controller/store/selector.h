/* Label selectors of equality and existence: "key=value,key2,key3!=value,!key4". Sets ("in", "notin") are not known. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

/* NULL or "" matches everything. */
bool selector_matches(const char *selector, const json_t *object);
