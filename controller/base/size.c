#include "base/size.h"

#include <inttypes.h>
#include <stdio.h>

const char *size_text(uint64_t bytes, char out[SIZE_TEXT])
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes / 1024;
	size_t u = 0;

	if (bytes < 1024) {
		snprintf(out, SIZE_TEXT, "%" PRIu64 " byte%s", bytes, bytes == 1 ? "" : "s");
		return out;
	}
	/* What would be rounded to 1,024 is 1 of the next. */
	while (value >= 1023.5 && u + 1 < sizeof units / sizeof *units) {
		value /= 1024;
		u++;
	}
	snprintf(out, SIZE_TEXT, value < 9.95 ? "%.1f %s" : "%.0f %s", value, units[u]);
	return out;
}
