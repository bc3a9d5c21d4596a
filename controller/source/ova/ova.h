/* The provider "OvaSource". */
#pragma once

#include "source/source.h"

extern const struct source_ops ova_source_ops;
