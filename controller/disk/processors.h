/* How many threads are worth while. Internal to disk/. */
#pragma once

#define PROCESSORS_DEFAULT_MAX 8

/* Processors that the process may use, by its affinity and its cgroups' cpu.max; at least 1. */
unsigned processors_usable(void);
/* The same, but never more than 8. */
unsigned processors_default(void);
