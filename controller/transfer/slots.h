/* A counting semaphore whose waits end on cancellation. Thread-safe. */
#pragma once

#include "base/cancel.h"
#include "base/error.h"

struct slots;

struct slots *slots_new(unsigned count);
void slots_free(struct slots *slots);
/* Takes one, waiting for it. -1 (cancelled) when cancel was requested first. */
int slots_take(struct slots *slots, struct cancel *cancel, struct error **err);
void slots_give(struct slots *slots);
