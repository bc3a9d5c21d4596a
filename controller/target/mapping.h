/* Checks of spec.networkMapping that every target makes. Internal to target/. */
#pragma once

#include "target/target.h"

void mapping_check(const struct target_import *import, const struct vm_model *model, json_t *problems);
