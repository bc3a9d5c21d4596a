/* What whoever runs a command can do about an error, where its message does not say so itself. */
#pragma once

#include <stdbool.h>

#include "base/error.h"

/* "; do this", or "". Of errors about one image or device; those of imports say what to do by themselves. */
const char *advice_of(const struct error *err);

/* Whether what was read is damaged or was cut, as opposed to what was written. */
bool advice_blames_input(const struct error *err);
