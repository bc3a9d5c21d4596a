/* An input that counts what is read of it. Internal to transfer/. */
#pragma once

#include "base/metrics.h"
#include "disk/input.h"

/* Takes the input over, also on failure; NULL stays NULL, with the error that is there already. */
struct disk_input *counted_input(struct disk_input *in, struct series *bytes, struct error **err);
