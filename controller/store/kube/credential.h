/* Certificates and tokens as they lie about: in files, in base64. Internal to store/kube. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* The text of a regular file of at most max bytes, owned. A NUL in it is an error. All errors are permanent. */
char *credential_read(const char *path, size_t max, struct error **err);
/* The text that some base64 (RFC 4648, line breaks allowed) stands for, owned. A NUL in it is an error. */
char *credential_decode(const char *base64, struct error **err);
/* Whether it can be the value of a header: printable, nothing that ends a line. */
bool credential_fits_header(const char *text);
