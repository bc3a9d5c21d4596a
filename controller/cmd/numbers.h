/* Numbers on the command line. */
#pragma once

#include <stdbool.h>

/* A decimal number within the limits; false, *out untouched, when text is anything else. */
bool numbers_unsigned(const char *text, unsigned min, unsigned max, unsigned *out);
