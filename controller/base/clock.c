#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

uint64_t clock_monotonic_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

uint64_t clock_monotonic_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

int64_t clock_unix(void)
{
	return (int64_t)time(NULL);
}

static void put(char out[CLOCK_RFC3339_SIZE], int digits)
{
	struct timespec t;
	struct tm tm;
	char date[24];

	clock_gettime(CLOCK_REALTIME, &t);
	gmtime_r(&t.tv_sec, &tm);
	strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
	switch (digits) {
	case 3:
		snprintf(out, CLOCK_RFC3339_SIZE, "%s.%03ldZ", date, t.tv_nsec / 1000000);
		break;
	case 6:
		snprintf(out, CLOCK_RFC3339_SIZE, "%s.%06ldZ", date, t.tv_nsec / 1000);
		break;
	default:
		snprintf(out, CLOCK_RFC3339_SIZE, "%sZ", date);
	}
}

void clock_rfc3339(char out[CLOCK_RFC3339_SIZE])
{
	put(out, 0);
}

void clock_rfc3339_of(int64_t unix_seconds, char out[CLOCK_RFC3339_SIZE])
{
	time_t t = (time_t)unix_seconds;
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(out, CLOCK_RFC3339_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

void clock_rfc3339_ms(char out[CLOCK_RFC3339_SIZE])
{
	put(out, 3);
}

void clock_rfc3339_us(char out[CLOCK_RFC3339_SIZE])
{
	put(out, 6);
}

int64_t clock_parse_rfc3339(const char *text)
{
	struct tm tm = { 0 };
	int hours, minutes;
	const char *p;
	int64_t t;

	if (!text || !(p = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm)))
		return -1;
	if (*p == '.') {
		size_t n = strspn(p + 1, "0123456789");

		if (!n)
			return -1;
		p += n + 1;
	}
	t = timegm(&tm);
	if (!strcmp(p, "Z"))
		return t;
	if ((*p == '+' || *p == '-') && sscanf(p + 1, "%2d:%2d", &hours, &minutes) == 2 && strlen(p) == 6)
		return *p == '+' ? t - (hours * 60 + minutes) * 60 : t + (hours * 60 + minutes) * 60;
	return -1;
}
