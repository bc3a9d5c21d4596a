/* Lists of conditions, kept by type. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "api/types.h"

/* Sets (or adds) the condition of a type. lastTransitionTime moves only when status changes, lastUpdateTime when anything does. With
 * with_update_time=false no lastUpdateTime is written (kstatus). Returns true when anything changed. */
bool condition_set(struct api_condition **list, size_t *count, const char *type, const char *status, const char *reason,
		   const char *message, bool with_update_time);
const struct api_condition *condition_find(const struct api_condition *list, size_t count, const char *type); /* NULL: absent */
bool condition_is_true(const struct api_condition *list, size_t count, const char *type);
