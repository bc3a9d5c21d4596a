#include "base/metrics.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"

#define SERIES_MAX 200
#define LABELS_MAX 4
#define TEXT_MAX (4u << 20)

/* Upper bounds of a histogram's buckets, in seconds; above the last there is +Inf. */
static const double seconds_bounds[] = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300 };
struct series {
	struct series *next;
	const struct metric *metric;
	char *values[LABELS_MAX];
	_Atomic double value;     /* of a histogram: the sum */
	_Atomic uint64_t *counts; /* of a histogram: bound_count + 1, each for itself */
};

struct metric {
	struct metric *next;
	struct metrics *registry;
	enum metric_type type;
	const char *name, *help;
	const double *bounds;
	size_t bound_count;
	char *labels[LABELS_MAX];
	size_t label_count, series_count;
	struct series *list, **last;
};

struct collector {
	struct collector *next;
	void (*collect)(void *arg);
	void *arg;
};

struct metrics {
	pthread_mutex_t collecting; /* guards collectors; held while they run; taken before lock */
	struct collector *collectors;
	pthread_mutex_t lock; /* guards the lists; the numbers are atomics */
	struct metric *list, **last;
};

struct metrics *metrics_new(void)
{
	struct metrics *m = calloc(1, sizeof *m);

	if (!m)
		return NULL;
	pthread_mutex_init(&m->collecting, NULL);
	pthread_mutex_init(&m->lock, NULL);
	m->last = &m->list;
	return m;
}

static void series_free(struct series *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < LABELS_MAX; i++)
		free(s->values[i]);
	free((void *)s->counts);
	free(s);
}

static void metric_free(struct metric *f)
{
	while (f->list) {
		struct series *s = f->list;

		f->list = s->next;
		series_free(s);
	}
	for (size_t i = 0; i < f->label_count; i++)
		free(f->labels[i]);
	free(f);
}

void metrics_free(struct metrics *m)
{
	if (!m)
		return;
	while (m->list) {
		struct metric *f = m->list;

		m->list = f->next;
		metric_free(f);
	}
	while (m->collectors) {
		struct collector *c = m->collectors;

		m->collectors = c->next;
		free(c);
	}
	pthread_mutex_destroy(&m->lock);
	pthread_mutex_destroy(&m->collecting);
	free(m);
}

/* Splits "a,b". False when memory is out. */
static bool set_labels(struct metric *f, const char *labels)
{
	while (labels && *labels && f->label_count < LABELS_MAX) {
		size_t len = strcspn(labels, ",");
		char *label = strndup(labels, len);

		if (!label)
			return false;
		f->labels[f->label_count++] = label;
		labels += len + (labels[len] == ',');
	}
	return true;
}

static struct metric *add_metric(struct metrics *m, enum metric_type type, const char *name, const char *labels, const char *help,
				 const double *bounds, size_t bound_count)
{
	struct metric *f;

	if (!m)
		return NULL;
	LOCK_GUARD(&m->lock);
	for (f = m->list; f; f = f->next)
		if (!strcmp(f->name, name))
			return f;
	f = calloc(1, sizeof *f);
	if (!f)
		return NULL;
	*f = (struct metric){ .registry = m, .type = type, .name = name, .help = help, .bounds = bounds };
	f->bound_count = bound_count < METRIC_BOUNDS_MAX ? bound_count : METRIC_BOUNDS_MAX;
	f->last = &f->list;
	if (!set_labels(f, labels)) {
		metric_free(f);
		return NULL;
	}
	*m->last = f;
	m->last = &f->next;
	return f;
}

struct metric *metrics_add(struct metrics *m, enum metric_type type, const char *name, const char *labels, const char *help)
{
	return add_metric(m, type, name, labels, help, seconds_bounds, sizeof seconds_bounds / sizeof *seconds_bounds);
}

struct metric *metrics_add_histogram(struct metrics *m, const char *name, const char *labels, const char *help, const double *bounds,
				     size_t count)
{
	return add_metric(m, METRIC_HISTOGRAM, name, labels, help, bounds, count);
}

static struct series *find(const struct metric *f, const char *const *values)
{
	for (struct series *s = f->list; s; s = s->next) {
		size_t i = 0;

		while (i < f->label_count && !strcmp(s->values[i], values[i]))
			i++;
		if (i == f->label_count)
			return s;
	}
	return NULL;
}

static struct series *make(struct metric *f, const char *const *values)
{
	struct series *s = calloc(1, sizeof *s);
	bool good = s != NULL;

	if (good)
		s->metric = f;
	for (size_t i = 0; good && i < f->label_count; i++)
		good = (s->values[i] = strdup(values[i])) != NULL;
	if (good && f->type == METRIC_HISTOGRAM)
		good = (s->counts = calloc(f->bound_count + 1, sizeof *s->counts)) != NULL;
	if (!good) {
		series_free(s);
		return NULL;
	}
	*f->last = s;
	f->last = &s->next;
	f->series_count++;
	return s;
}

struct series *metric_with(struct metric *f, ...)
{
	static const char *const others[LABELS_MAX] = { "Other", "Other", "Other", "Other" };
	const char *values[LABELS_MAX] = { "", "", "", "" }, *value;
	struct series *s;
	size_t n = 0;
	va_list ap;

	if (!f)
		return NULL;
	va_start(ap, f);
	while ((value = va_arg(ap, const char *)))
		if (n < LABELS_MAX)
			values[n++] = value;
	va_end(ap);
	LOCK_GUARD(&f->registry->lock);
	s = find(f, values);
	if (!s && f->series_count < SERIES_MAX)
		s = make(f, values);
	else if (!s && !(s = find(f, others)))
		s = make(f, others);
	return s;
}

void metric_clear(struct metric *f)
{
	if (!f)
		return;
	LOCK_GUARD(&f->registry->lock);
	for (struct series *s = f->list; s; s = s->next)
		s->value = 0;
}

static void add(_Atomic double *to, double by)
{
	double old = *to;

	while (!atomic_compare_exchange_weak(to, &old, old + by))
		;
}

void series_add(struct series *s, double by)
{
	if (s)
		add(&s->value, by);
}

void series_set(struct series *s, double value)
{
	if (s)
		s->value = value;
}

void series_observe(struct series *s, double seconds)
{
	size_t i = 0;

	if (!s || !s->counts)
		return;
	while (i < s->metric->bound_count && seconds > s->metric->bounds[i])
		i++;
	s->counts[i]++;
	add(&s->value, seconds);
}

void series_set_histogram(struct series *s, const uint64_t *counts, double sum)
{
	if (!s || !s->counts)
		return;
	for (size_t i = 0; i <= s->metric->bound_count; i++)
		s->counts[i] = counts[i];
	s->value = sum;
}

double series_get(struct series *s)
{
	double sum = 0;

	if (!s || !s->counts)
		return s ? s->value : 0;
	for (size_t i = 0; i <= s->metric->bound_count; i++)
		sum += (double)s->counts[i];
	return sum;
}

void metrics_ask(struct metrics *m, void (*collect)(void *arg), void *arg)
{
	struct collector *c = m ? calloc(1, sizeof *c) : NULL;

	if (!c)
		return;
	LOCK_GUARD(&m->collecting);
	*c = (struct collector){ m->collectors, collect, arg };
	m->collectors = c;
}

void metrics_ignore(struct metrics *m, void *arg)
{
	if (!m)
		return;
	LOCK_GUARD(&m->collecting);
	for (struct collector **at = &m->collectors; *at;) {
		struct collector *c = *at;

		if (c->arg != arg) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		free(c);
	}
}

/* Escaped as the format wants it: in a label's value the quotes too. */
static void add_escaped(struct buffer *b, const char *text, bool quoted)
{
	for (; *text; text++) {
		if (*text == '\n')
			buffer_add_string(b, "\\n");
		else if (*text == '\\' || (quoted && *text == '"'))
			buffer_addf(b, "\\%c", *text);
		else
			buffer_add(b, text, 1);
	}
}

static void add_number(struct buffer *b, double value)
{
	if (isnan(value))
		buffer_add_string(b, "NaN");
	else if (isinf(value))
		buffer_add_string(b, value > 0 ? "+Inf" : "-Inf");
	else if (fabs(value) < 9007199254740992.0 && value == (double)(int64_t)value) /* 2^53: exact up to there */
		buffer_addf(b, "%.0f", value);
	else
		buffer_addf(b, "%.12g", value);
}

/* One line. le, when not NULL, is one more label. */
static void add_line(struct buffer *b, const struct metric *f, const char *suffix, const struct series *s, const char *le, double value)
{
	const char *separator = "{";

	buffer_addf(b, "%s%s", f->name, suffix);
	for (size_t i = 0; i < f->label_count; i++) {
		buffer_addf(b, "%s%s=\"", separator, f->labels[i]);
		add_escaped(b, s->values[i], true);
		buffer_add_string(b, "\"");
		separator = ",";
	}
	if (le)
		buffer_addf(b, "%sle=\"%s\"", separator, le);
	buffer_add_string(b, le || f->label_count ? "} " : " ");
	add_number(b, value);
	buffer_add_string(b, "\n");
}

static void add_histogram(struct buffer *b, const struct metric *f, const struct series *s)
{
	double count = 0;
	char le[32];

	for (size_t i = 0; i <= f->bound_count; i++) {
		count += (double)s->counts[i];
		snprintf(le, sizeof le, "%g", i < f->bound_count ? f->bounds[i] : 0);
		add_line(b, f, "_bucket", s, i < f->bound_count ? le : "+Inf", count);
	}
	add_line(b, f, "_sum", s, NULL, s->value);
	add_line(b, f, "_count", s, NULL, count);
}

static void write_metric(struct buffer *b, const struct metric *f)
{
	static const char *const types[] = { "counter", "gauge", "histogram" };

	if (!f->list)
		return;
	buffer_addf(b, "# HELP %s ", f->name);
	add_escaped(b, f->help, false);
	buffer_addf(b, "\n# TYPE %s %s\n", f->name, types[f->type]);
	for (const struct series *s = f->list; s; s = s->next) {
		if (f->type == METRIC_HISTOGRAM)
			add_histogram(b, f, s);
		else
			add_line(b, f, "", s, NULL, s->value);
	}
}

char *metrics_text(struct metrics *m)
{
	struct buffer b;

	buffer_init(&b, TEXT_MAX);
	if (!m)
		return buffer_steal(&b);
	LOCK_GUARD(&m->collecting);
	for (const struct collector *c = m->collectors; c; c = c->next)
		c->collect(c->arg);
	LOCK_GUARD(&m->lock);
	for (const struct metric *f = m->list; f; f = f->next)
		write_metric(&b, f);
	return buffer_steal(&b);
}
