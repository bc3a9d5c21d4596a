/* Hexadecimal digits. (sscanf looks for the text's end each time: with many digits in a long text that never ends.) */
#pragma once

#include <ctype.h>

/* The value of a digit that isxdigit accepts. */
static inline unsigned hex_digit(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a' + 10);
}

/* The byte that two such digits are. */
static inline unsigned char hex_byte(const char *two)
{
	return (unsigned char)(hex_digit(two[0]) << 4 | hex_digit(two[1]));
}
