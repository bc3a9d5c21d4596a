/* What a word that is not known may have been meant as. */
#pragma once

#include <stdbool.h>

/* How many letters have to be changed, added or left out between two short words, whatever their case; 9 when they are not short. */
unsigned near_distance(const char *a, const char *b);

/* The one of the words (NULL-ended) that is nearest to this one, if it differs in its case only or in at most two letters; else NULL. */
const char *near_word(const char *word, const char *const *words);
