/* Structured log lines on stderr: one line an event, key=value or (LOG_FORMAT=json) a JSON object.
 *
 * Only the reconcile worker, the servers' own threads and main log; library code returns errors. Never pass a secret. Thread-safe. */
#pragma once

#include <stdbool.h>

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

/* Sets the level (messages above it are dropped) and the form. Defaults: LOG_INFO, key=value. */
void log_setup(enum log_level level, bool json);
enum log_level log_level(void);
/* Raises the level to LOG_DEBUG while it runs, or sets it back to what log_setup said. */
void log_set_debug(bool debug);

/* The object (NAMESPACE/NAME of an import or source) that this thread works on; every line carries it. NULL: none. Copied. */
void log_set_object(const char *object);

/* log_write(LOG_INFO, "disk fetched", "disk", name, "digest", digest, NULL): a message and pairs of strings, ended by NULL. */
void log_write(enum log_level level, const char *message, ...) __attribute__((sentinel));
