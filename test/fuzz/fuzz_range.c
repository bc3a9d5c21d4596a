// links: web
/* A Range header: what is to be sent lies in the file, however odd the header. The first byte says how large the file is. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "web/range.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t first = 1, last = 0, length = size ? UINT64_C(1) << (data[0] & 63) : 0;
	char text[256];

	if (size > sizeof text)
		return 0;
	length -= size && data[0] & 64;
	memcpy(text, size ? data + 1 : data, size ? size - 1 : 0);
	text[size ? size - 1 : 0] = 0;
	if (range_parse(text, length, &first, &last) == RANGE_PART ? first > last || last >= length : first != 1 || last != 0)
		abort();
	return 0;
}
