/* Numbers on the command line. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* A decimal number within the limits; false, *out untouched, when text is anything else. */
bool numbers_unsigned(const char *text, unsigned min, unsigned max, unsigned *out);
/* The size of a disk in bytes, 1 to 2^63 - 1. */
bool numbers_bytes(const char *text, uint64_t *out);
