/* The Range header of a GET (RFC 9110, section 14). Internal to web/. */
#pragma once

#include <stdint.h>

enum range_kind { RANGE_WHOLE, RANGE_PART, RANGE_UNSATISFIABLE };

/* Reads "bytes=a-b", "bytes=a-" and "bytes=-n" for a file of size bytes: RANGE_PART with first and last (inclusive), or
 * RANGE_UNSATISFIABLE. Anything else, several ranges too, is answered with the whole file, as the RFC allows. text may be NULL. */
enum range_kind range_parse(const char *text, uint64_t size, uint64_t *first, uint64_t *last);
