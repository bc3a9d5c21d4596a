/* A registry of numbers for Prometheus, and their text (its exposition format, version 0.0.4).
 *
 * A metric is a name with labels; a series is one set of label values. What is counted where it happens is kept here; what can be asked for
 * (the depth of a queue) is set by a collector just before the text is made. Thread-safe. Everything accepts a NULL registry, metric or
 * series and does nothing, so that a module works without. Metrics and series live until metrics_free. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct metrics;
struct metric;
struct series;

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM }; /* a histogram is one of seconds: from 1 ms to 5 minutes */

#define METRIC_BOUNDS_MAX 24

struct metrics *metrics_new(void); /* NULL when memory is out, which is then a registry that keeps nothing */
void metrics_free(struct metrics *m);
/* The metric of this name, made when there is none. name, labels ("controller,result"; NULL: none) and help must live as long as the
 * registry: constants. */
struct metric *metrics_add(struct metrics *m, enum metric_type type, const char *name, const char *labels, const char *help);
/* A histogram with bounds of its own: upper ones, ascending, without +Inf; METRIC_BOUNDS_MAX at most. */
struct metric *metrics_add_histogram(struct metrics *m, const char *name, const char *labels, const char *help, const double *bounds,
				     size_t count);
/* The series of these label values, in the order of the labels and ended by NULL; made when there is none. A metric has at most 200: what
 * comes after that shares one whose values are "Other", so that what others name cannot grow without limit. */
struct series *metric_with(struct metric *metric, ...) __attribute__((sentinel));
/* Sets all series of a gauge to 0: nobody collects it any more. */
void metric_clear(struct metric *metric);
void series_add(struct series *series, double by);
void series_set(struct series *series, double value);
double series_get(struct series *series); /* of a histogram: the count */
void series_observe(struct series *series, double seconds);
/* Sets a histogram that somebody else keeps: counts has one more than there are bounds, not cumulative. */
void series_set_histogram(struct series *series, const uint64_t *counts, double sum);
/* Calls collect(arg) whenever the text is made, until metrics_ignore with the same arg, which waits for the end of a call. Calls are made
 * one at a time, without a lock that the functions above take. */
void metrics_ask(struct metrics *m, void (*collect)(void *arg), void *arg);
void metrics_ignore(struct metrics *m, void *arg);
char *metrics_text(struct metrics *m); /* owned by the caller; NULL when memory is out */
