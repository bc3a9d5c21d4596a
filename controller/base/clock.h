/* Time: monotonic milliseconds for deadlines, microseconds to measure, RFC 3339 for what people read. Thread-safe. */
#pragma once

#include <stdint.h>

#define CLOCK_RFC3339_SIZE 48

uint64_t clock_monotonic_ms(void);
uint64_t clock_monotonic_us(void);
int64_t clock_unix(void);                         /* seconds since the epoch */
void clock_rfc3339(char out[CLOCK_RFC3339_SIZE]); /* now, UTC, whole seconds: 2026-11-24T12:00:00Z */
void clock_rfc3339_of(int64_t unix_seconds, char out[CLOCK_RFC3339_SIZE]);
void clock_rfc3339_ms(char out[CLOCK_RFC3339_SIZE]); /* with milliseconds */
void clock_rfc3339_us(char out[CLOCK_RFC3339_SIZE]); /* with microseconds, the MicroTime of Kubernetes */
int64_t clock_parse_rfc3339(const char *text);       /* seconds since the epoch, -1 when it is no RFC 3339 time */
