/* The provider "OpenstackSource". */
#pragma once

#include "source/source.h"

extern const struct source_ops openstack_source_ops;
