/* Checks of spec.networkMapping that every target makes. Internal to target/. */
#pragma once

#include "target/target.h"

/* Whether it is NAME or NAMESPACE/NAME of what can be in a cluster. */
bool mapping_can_be(const char *destination_network);
void mapping_check(const struct target_import *import, const struct vm_model *model, json_t *problems);
