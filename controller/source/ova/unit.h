/* Quantities of OVF descriptors in bytes. No I/O.
 *
 * Source of the notation: DMTF DSP0004 2.8, annex C (programmatic units), as DSP0243 2.1 wants it in AllocationUnits and
 * capacityAllocationUnits ("byte * 2^20"); and the words that writers used before OVF 1.0 and still do ("MegaBytes", "MB"), where a
 * megabyte is 2^20 bytes. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* quantity (a decimal number without sign, spaces around it) of a unit as bytes; a unit that is NULL or empty is `fallback` bytes. False when
 * either is not understood, the result is no whole number of bytes, or it is larger than INT64_MAX; then *bytes stays as it is. */
bool ovf_bytes(const char *quantity, const char *unit, uint64_t fallback, uint64_t *bytes);

/* A number without sign, spaces around it, and nothing else. */
bool ovf_number(const char *text, uint64_t *out);
