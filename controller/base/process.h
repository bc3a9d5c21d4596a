/* What the process uses, as metrics under the names of the Prometheus client libraries. */
#pragma once

#include "base/metrics.h"

/* process_resident_memory_bytes, process_virtual_memory_bytes, process_cpu_seconds_total, process_open_fds, process_max_fds,
 * process_threads, process_start_time_seconds: read from /proc/self whenever the text is made, for as long as the registry lives. */
void process_metrics(struct metrics *metrics);
