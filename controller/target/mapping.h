/* Checks of spec.networkMapping that every target makes. Internal to target/. */
#pragma once

#include "target/target.h"

void mapping_check(const struct target_import *import, const struct vm_model *model, json_t *problems);
/* Appends a problem. */
void problem_add(json_t *problems, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
