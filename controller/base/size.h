/* Numbers of bytes in words. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SIZE_TEXT 24

/* "0 bytes", "812 bytes", "3.2 KiB", "17 MiB", "1.5 TiB": whatever is not nothing does not look so. Returns out. Thread-safe, never fails. */
const char *size_text(uint64_t bytes, char out[SIZE_TEXT]);
