#include "base/utf8.h"

size_t utf8_length(const char *text)
{
	const unsigned char *c = (const unsigned char *)text;
	size_t len = c[0] < 0x80 ? 1 : c[0] >= 0xc2 && c[0] <= 0xdf ? 2 : (c[0] & 0xf0) == 0xe0 ? 3 : c[0] >= 0xf0 && c[0] <= 0xf4 ? 4 : 0;

	for (size_t i = 1; i < len; i++)
		if ((c[i] & 0xc0) != 0x80)
			return 0;
	if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) || (c[0] == 0xf0 && c[1] < 0x90) ||
	    (c[0] == 0xf4 && c[1] > 0x8f))
		return 0;
	return len;
}

void utf8_repair(char *text)
{
	for (char *p = text; *p;) {
		size_t len = utf8_length(p);

		if (!len)
			*p = '?';
		else if (len == 1 && ((unsigned char)*p < 0x20 || *p == 0x7f))
			*p = ' ';
		p += len ? len : 1;
	}
}
