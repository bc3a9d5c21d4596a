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

/* The length of the UTF-8 character at p (RFC 3629), 0 when there is none. */
static size_t utf8_len(const unsigned char *p)
{
	size_t len = *p < 0x80 ? 1 : *p >= 0xc2 && *p <= 0xdf ? 2 : (*p & 0xf0) == 0xe0 ? 3 : *p >= 0xf0 && *p <= 0xf4 ? 4 : 0;

	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f))
		return 0;
	return len;
}

struct answer_shown answer_shown(const char *text)
{
	struct answer_shown out = { "" };
	size_t n = 0;

	for (const unsigned char *p = (const unsigned char *)(text ? text : ""); *p;) {
		size_t len = utf8_len(p);

		if (n + (len ? len : 1) + sizeof "..." > sizeof out.text) {
			memcpy(out.text + n, "...", sizeof "...");
			break;
		}
		if (!len || *p < 0x20 || *p == 0x7f)
			out.text[n++] = '?';
		else
			memcpy(out.text + n, p, len), n += len;
		p += len ? len : 1;
	}
	return out;
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
