#include "api/near.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>

#define SHORT 64
#define FURTHEST 2

unsigned near_distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);
	unsigned row[SHORT];

	if (n >= SHORT || m >= SHORT)
		return 9;
	for (size_t j = 0; j <= m; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= m; j++) {
			unsigned change = diagonal + (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]));

			diagonal = row[j];
			row[j] = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
			row[j] = row[j] < change ? row[j] : change;
		}
	}
	return row[m];
}

const char *near_word(const char *word, const char *const *words)
{
	const char *near = NULL;
	unsigned least = FURTHEST + 1;

	for (; *words; words++) {
		unsigned d = near_distance(word, *words);

		if (d < least) {
			least = d;
			near = *words;
		}
	}
	return near;
}
