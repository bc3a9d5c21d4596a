/* Events (events.k8s.io/v1) about an object: what `kubectl describe` shows. Best effort: a failure is never the caller's. */
#pragma once

#include "store/store.h"

struct event_recorder;

/* component: reportingController. Where events are not allowed, or there are none
 * (store/dir), it is silent; it tries again every five minutes. */
struct event_recorder *event_recorder_new(struct store *store, const char *component, struct error **err);
/* type: "Normal" or "Warning"; reason CamelCase; note for people, cut at 1,024 bytes at a character boundary. The same event again
 * within a few minutes raises the first one's series.count instead, which is written at once the first time and then once a minute. An
 * object has 25 different events at once, then one in five minutes: what comes above that is left out. Returns at once: a thread of the
 * recorder sends. */
void event_record(struct event_recorder *recorder, const json_t *object, const char *type, const char *reason, const char *note);
void event_recorder_free(struct event_recorder *recorder); /* sends what waits, for at most 2 s; accepts NULL */
