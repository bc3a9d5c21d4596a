/* Values out of the answers of OpenStack's services, which are believed only as far as they are of the right kind. Internal to
 * source/openstack/. No I/O. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "api/vm_model.h"

/* A member that is a string, borrowed; NULL when it is absent, empty or something else. */
const char *answer_text(const json_t *object, const char *key);
/* The same when it may stand in a URL's path as it is: letters, digits, '-', '_' and '.', at most 255, not only dots. */
const char *answer_id(const json_t *object, const char *key);
bool answer_is_id(const char *text);
/* A UUID with dashes, in any case. */
bool answer_is_uuid(const char *text);
/* A number that is not negative, as an integer or (extra specs, image properties) in decimal digits. False when it is not there or is none. */
bool answer_number(const json_t *object, const char *key, uint64_t *out);
bool answer_number_of(const json_t *value, uint64_t *out);
/* true, "true", "True", "yes", "1" are. */
bool answer_true(const json_t *object, const char *key);

/* Text of others for a message: not too long, ended at the end of a character, with '?' for what is no UTF-8 or a control character. To be used within
 * the expression: error_set(…, "%s", answer_shown(name).text). NULL is "". */
struct answer_shown {
	char text[320];
};
struct answer_shown answer_shown(const char *text);

/* Appends to what a model tells people: "a; b". */
void model_note(struct vm_model *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
