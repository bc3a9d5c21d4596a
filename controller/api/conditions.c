#include "api/conditions.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

static bool same(const char *a, const char *b)
{
	return !strcmp(a ? a : "", b ? b : "");
}

/* by may be the old text itself, or a part of it. */
static void replace(char **text, const char *by)
{
	char *copy = by ? strdup(by) : NULL;

	free(*text);
	*text = copy;
}

static struct api_condition *find(struct api_condition *list, size_t count, const char *type)
{
	for (size_t i = 0; i < count; i++)
		if (same(list[i].type, type))
			return &list[i];
	return NULL;
}

bool condition_set(struct api_condition **list, size_t *count, const char *type, const char *status, const char *reason,
		   const char *message, bool with_update_time)
{
	struct api_condition *c = find(*list, *count, type);
	char now[CLOCK_RFC3339_SIZE];

	if (c && same(c->status, status) && same(c->reason, reason) && same(c->message, message))
		return false;
	if (!c) {
		c = realloc(*list, (*count + 1) * sizeof *c);
		if (!c)
			return false;
		*list = c;
		c += (*count)++;
		*c = (struct api_condition){ .type = strdup(type) };
	}
	clock_rfc3339(now);
	if (!same(c->status, status))
		replace(&c->last_transition_time, now);
	replace(&c->status, status);
	replace(&c->reason, reason);
	replace(&c->message, message);
	if (with_update_time)
		replace(&c->last_update_time, now);
	return true;
}

const struct api_condition *condition_find(const struct api_condition *list, size_t count, const char *type)
{
	return find((struct api_condition *)list, count, type);
}

bool condition_is_true(const struct api_condition *list, size_t count, const char *type)
{
	const struct api_condition *c = condition_find(list, count, type);

	return c && same(c->status, "True");
}
