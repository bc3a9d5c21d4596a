/* Text that must be UTF-8 because it ends up in a status or a log, and comes from who knows where.
 *
 * Source: RFC 3629, section 4 (no surrogates, nothing above U+10FFFF, no longer form than needed). */
#pragma once

#include <stddef.h>

/* The bytes of the character at the start of a NUL-terminated text; 0 when there is none, at the text's end 1. */
size_t utf8_length(const char *text);
/* Makes it valid in place: what is no character becomes '?', control characters become spaces. */
void utf8_repair(char *text);
