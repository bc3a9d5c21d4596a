#include "source/ova/unit.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

struct word {
	const char *text;
	unsigned shift;
};

/* What people write. DSP0004 has only "byte"; "bytes" and the rest are of OVF 0.9 and of tools. */
static const struct word words[] = {
	{ "byte", 0 },       { "bytes", 0 },  { "b", 0 },       { "kilobyte", 10 }, { "kilobytes", 10 }, { "kibibyte", 10 },
	{ "kibibytes", 10 }, { "kb", 10 },    { "kib", 10 },    { "megabyte", 20 }, { "megabytes", 20 }, { "mebibyte", 20 },
	{ "mebibytes", 20 }, { "mb", 20 },    { "mib", 20 },    { "gigabyte", 30 }, { "gigabytes", 30 }, { "gibibyte", 30 },
	{ "gibibytes", 30 }, { "gb", 30 },    { "gib", 30 },    { "terabyte", 40 }, { "terabytes", 40 }, { "tebibyte", 40 },
	{ "tebibytes", 40 }, { "tb", 40 },    { "tib", 40 },    { "kbyte", 10 },    { "kbytes", 10 },    { "mbyte", 20 },
	{ "mbytes", 20 },    { "gbyte", 30 }, { "gbytes", 30 }, { "tbyte", 40 },    { "tbytes", 40 },
};

static const char *skip_space(const char *p)
{
	while (isspace((unsigned char)*p))
		p++;
	return p;
}

/* Digits at *p, which it moves behind them. */
static bool digits(const char **p, uint64_t *out)
{
	uint64_t n = 0;
	const char *at = *p;

	if (!isdigit((unsigned char)*at))
		return false;
	for (; isdigit((unsigned char)*at); at++)
		if (__builtin_mul_overflow(n, UINT64_C(10), &n) || __builtin_add_overflow(n, (uint64_t)(*at - '0'), &n))
			return false;
	*p = at;
	*out = n;
	return true;
}

bool ovf_number(const char *text, uint64_t *out)
{
	const char *p = text ? skip_space(text) : "";
	uint64_t n;

	if (!digits(&p, &n) || *skip_space(p))
		return false;
	*out = n;
	return true;
}

/* "2^20", "2 ^ 20" or "512" at *p. */
static bool factor(const char **p, uint64_t *out)
{
	uint64_t base, exponent, n = 1;

	if (!digits(p, &base))
		return false;
	*p = skip_space(*p);
	if (**p == '^') {
		*p = skip_space(*p + 1);
		if (!digits(p, &exponent) || exponent > 64)
			return false;
		while (exponent--)
			if (__builtin_mul_overflow(n, base, &n))
				return false;
		base = n;
		*p = skip_space(*p);
	}
	*out = base;
	return true;
}

/* The bytes of one unit. */
static bool unit_bytes(const char *unit, uint64_t *out)
{
	const char *p = skip_space(unit), *begin = p;
	uint64_t n = 0, by;

	while (isalpha((unsigned char)*p))
		p++;
	for (size_t i = 0; i < sizeof words / sizeof *words && !n; i++)
		if (strlen(words[i].text) == (size_t)(p - begin) && !strncasecmp(words[i].text, begin, (size_t)(p - begin)))
			n = UINT64_C(1) << words[i].shift;
	if (!n)
		return false;
	for (p = skip_space(p); *p == '*'; p = skip_space(p)) {
		p = skip_space(p + 1);
		if (!factor(&p, &by) || __builtin_mul_overflow(n, by, &n))
			return false;
	}
	if (*p || !n)
		return false;
	*out = n;
	return true;
}

bool ovf_bytes(const char *quantity, const char *unit, uint64_t fallback, uint64_t *bytes)
{
	uint64_t n, by = fallback;

	if (!ovf_number(quantity, &n) || (unit && *skip_space(unit) && !unit_bytes(unit, &by)) || __builtin_mul_overflow(n, by, &n) ||
	    n > INT64_MAX)
		return false;
	*bytes = n;
	return true;
}
