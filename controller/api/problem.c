#include "api/problem.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/cleanup.h"

void problem_add(json_t *problems, const char *fmt, ...)
{
	AUTO_FREE char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	if (text)
		json_array_append_new(problems, json_string(text));
}
