/* Label selectors of equality: "key=value,key2,key3!=value". */
#pragma once

#include <jansson.h>
#include <stdbool.h>

/* NULL or "" matches everything. */
bool selector_matches(const char *selector, const json_t *object);
