/* The provider "VmwareSource". */
#pragma once

#include "source/source.h"

extern const struct source_ops vmware_source_ops;
