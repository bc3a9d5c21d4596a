/* A vm_model as JSON, for files of our own and for output. */
#pragma once

#include <jansson.h>

#include "api/vm_model.h"

json_t *vm_model_to_json(const struct vm_model *model);  /* a new object, NULL when memory is out */
struct vm_model *vm_model_from_json(const json_t *json); /* NULL when it is not one */
