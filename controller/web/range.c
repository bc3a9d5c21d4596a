#include "web/range.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

/* Digits at *p; false when there are none. What does not fit is behind the end of any file all the same. */
static bool number(const char **p, uint64_t *out)
{
	bool over = false;
	uint64_t n = 0;

	if (**p < '0' || **p > '9')
		return false;
	for (; **p >= '0' && **p <= '9'; (*p)++)
		over = over || __builtin_mul_overflow(n, (uint64_t)10, &n) || __builtin_add_overflow(n, (uint64_t)(**p - '0'), &n);
	*out = over ? UINT64_MAX : n;
	return true;
}

enum range_kind range_parse(const char *text, uint64_t size, uint64_t *first, uint64_t *last)
{
	uint64_t from = 0, to = 0;
	bool have_from, have_to;

	if (!text || strncasecmp(text, "bytes=", 6))
		return RANGE_WHOLE;
	text += 6;
	have_from = number(&text, &from);
	if (*text++ != '-')
		return RANGE_WHOLE;
	have_to = number(&text, &to);
	if (*text || (!have_from && !have_to) || (have_from && have_to && to < from))
		return RANGE_WHOLE;
	if (!have_from) { /* the last n bytes */
		if (!to || !size)
			return RANGE_UNSATISFIABLE;
		from = to < size ? size - to : 0;
		to = size - 1;
	} else {
		if (from >= size)
			return RANGE_UNSATISFIABLE;
		if (!have_to || to >= size)
			to = size - 1;
	}
	*first = from;
	*last = to;
	return RANGE_PART;
}
