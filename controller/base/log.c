#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"

static atomic_int max_level = LOG_INFO, first_level = LOG_INFO;
static atomic_bool as_json;
static _Thread_local char current_object[512];

void log_setup(enum log_level level, bool json)
{
	max_level = first_level = level;
	as_json = json;
}

void log_set_debug(bool debug)
{
	max_level = debug ? LOG_DEBUG : (int)first_level;
}

enum log_level log_level(void)
{
	return (enum log_level)max_level;
}

void log_set_object(const char *object)
{
	snprintf(current_object, sizeof current_object, "%s", object ? object : "");
}

static void put_quoted(struct buffer *b, const char *s)
{
	buffer_add(b, "\"", 1);
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			buffer_addf(b, "\\%c", c);
		else if (c == '\n')
			buffer_add(b, "\\n", 2);
		else if (c < 0x20 || c == 0x7f)
			buffer_addf(b, "\\u%04x", c);
		else
			buffer_add(b, s, 1);
	}
	buffer_add(b, "\"", 1);
}

static bool plain(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++)
		if ((unsigned char)*s <= ' ' || *s == '"' || *s == '=' || *s == '\\' || *s == 0x7f)
			return false;
	return true;
}

static void put_pair(struct buffer *b, bool json, const char *key, const char *value)
{
	value = value ? value : "";
	if (json) {
		buffer_add_string(b, ",");
		put_quoted(b, key);
		buffer_add_string(b, ":");
		put_quoted(b, value);
	} else {
		buffer_addf(b, " %s=", key);
		if (plain(value))
			buffer_add_string(b, value);
		else
			put_quoted(b, value);
	}
}

void log_write(enum log_level level, const char *message, ...)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };
	char now[CLOCK_RFC3339_SIZE];
	struct buffer line;
	bool json = as_json;
	const char *key;
	va_list ap;

	if ((int)level > max_level)
		return;
	buffer_init(&line, 64 * 1024);
	clock_rfc3339_ms(now);
	buffer_addf(&line, json ? "{\"time\":\"%s\"" : "time=%s", now);
	put_pair(&line, json, "level", names[level]);
	put_pair(&line, json, "msg", message);
	if (*current_object)
		put_pair(&line, json, "object", current_object);
	va_start(ap, message);
	while ((key = va_arg(ap, const char *)))
		put_pair(&line, json, key, va_arg(ap, const char *));
	va_end(ap);
	buffer_add_string(&line, json ? "}\n" : "\n");
	if (!line.failed)
		fwrite(line.data, 1, line.len, stderr); /* one call, so that lines of threads do not mix */
	buffer_free(&line);
}
