#include "source/openstack/answer.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define ID_MAX 255
#define NOTES_MAX 4096

const char *answer_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text && *text ? text : NULL;
}

bool answer_is_id(const char *text)
{
	size_t n = 0;

	for (; text && text[n]; n++)
		if (n == ID_MAX || (!isalnum((unsigned char)text[n]) && !strchr("-_.", text[n])))
			return false;
	return n && strspn(text, ".") < n;
}

const char *answer_id(const json_t *object, const char *key)
{
	const char *text = answer_text(object, key);

	return answer_is_id(text) ? text : NULL;
}

bool answer_is_uuid(const char *text)
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	size_t i = 0;

	for (; text && text[i] && form[i]; i++)
		if (form[i] == 'x' ? !isxdigit((unsigned char)text[i]) : text[i] != '-')
			return false;
	return text && !text[i] && !form[i];
}

bool answer_number_of(const json_t *value, uint64_t *out)
{
	const char *text = json_string_value(value);
	uint64_t n = 0;

	if (json_is_integer(value)) {
		if (json_integer_value(value) < 0)
			return false;
		*out = (uint64_t)json_integer_value(value);
		return true;
	}
	if (!text || !*text)
		return false;
	for (; *text; text++)
		if (!isdigit((unsigned char)*text) || __builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*text - '0'), &n))
			return false;
	*out = n;
	return true;
}

bool answer_number(const json_t *object, const char *key, uint64_t *out)
{
	return answer_number_of(json_object_get(object, key), out);
}

bool answer_true(const json_t *object, const char *key)
{
	static const char *const words[] = { "true", "yes", "on", "1", "t", "y" };
	const json_t *value = json_object_get(object, key);
	const char *text = json_string_value(value);

	for (size_t i = 0; text && i < sizeof words / sizeof *words; i++)
		if (!strcasecmp(text, words[i]))
			return true;
	return json_is_true(value);
}

void model_note(struct vm_model *m, const char *fmt, ...)
{
	AUTO_FREE char *note = NULL;
	char *all = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&note, fmt, ap) < 0)
		note = NULL;
	va_end(ap);
	if (!note || (m->notes && strlen(m->notes) + strlen(note) > NOTES_MAX))
		return;
	if (asprintf(&all, "%s%s%s", m->notes ? m->notes : "", m->notes ? "; " : "", note) < 0)
		return;
	free(m->notes);
	m->notes = all;
}
