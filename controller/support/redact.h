/* Takes secrets out of texts and objects that are to leave the house: what is known to be one, and what looks like one. Not thread-safe. */
#pragma once

#include <jansson.h>

#include "base/error.h"

struct redactor;

struct redactor *redactor_new(struct error **err);
void redactor_free(struct redactor *r); /* accepts NULL */

/* Text that is to appear nowhere, as it is, percent-encoded or in base64. Shorter than 4 bytes it is not looked for. */
int redactor_add(struct redactor *r, const char *secret, struct error **err);

/* The text with "REDACTED" for: known secrets; the signature of an image's URL (/images/SIGNATURE/); a URL's password and query; Bearer and
 * Basic credentials, cookies and JSON web tokens; private keys in PEM; the values of password=, token= and the like. Owned; NULL when memory
 * is out. */
char *redact_text(const struct redactor *r, const char *text);

/* A copy: strings as redact_text does it, whole strings where the member's name says that it is a secret (password, token, ...), the values of
 * a Secret, ids of sessions in status.sourceLedger. Gone are managedFields and the annotation with kubectl's last-applied-configuration. */
json_t *redact_json(const struct redactor *r, const json_t *value);
