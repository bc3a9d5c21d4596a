#include "cmd/numbers.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

bool numbers_unsigned(const char *text, unsigned min, unsigned max, unsigned *out)
{
	unsigned long n;
	char *end;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (!isdigit((unsigned char)*text) || *end || errno || n < min || n > max)
		return false;
	*out = (unsigned)n;
	return true;
}

bool numbers_bytes(const char *text, uint64_t *out)
{
	unsigned long long n;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)*text) || *end || errno || !n || n > INT64_MAX)
		return false;
	*out = n;
	return true;
}
