/* What preflight found to stand in the way: a JSON array of sentences. */
#pragma once

#include <jansson.h>

/* Appends a sentence without a final full stop. One that is no UTF-8, or for which memory lacks, is left out. */
void problem_add(json_t *problems, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
