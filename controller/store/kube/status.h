/* A Status object (Kubernetes API conventions, "Response Status Kind") as an error. Internal to store/kube. */
#pragma once

#include <jansson.h>

#include "base/error.h"

/* Sets the error that a Status tells, and returns -1. code: of the HTTP answer, or 0: take the Status's. status may be anything, also
 * NULL: then the code is all there is to tell. */
int status_to_error(const json_t *status, int code, struct error **err);
