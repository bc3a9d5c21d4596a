#include "store/kube/watch_decoder.h"

#include <string.h>

#include "base/buffer.h"
#include "store/kube/status.h"
#include "json/codec.h"

struct watch_decoder {
	watch_event event;
	void *arg;
	struct buffer line; /* the start of a line whose end has not come */
};

struct watch_decoder *watch_decoder_new(watch_event event, void *arg)
{
	struct watch_decoder *d = calloc(1, sizeof *d);

	if (!d)
		return NULL;
	d->event = event;
	d->arg = arg;
	buffer_init(&d->line, WATCH_LINE_MAX);
	return d;
}

void watch_decoder_free(struct watch_decoder *d)
{
	if (!d)
		return;
	buffer_free(&d->line);
	free(d);
}

static int invalid(struct error **err, const char *what)
{
	return error_set(err, ERROR_TRANSIENT, "InvalidEvent", "the watch sent what is no event: %s", what);
}

static int decode_line(struct watch_decoder *d, const char *line, size_t len, struct error **err)
{
	static const char *const names[] = { "ADDED", "MODIFIED", "DELETED", "BOOKMARK" };
	AUTO_JSON json_t *event = NULL;
	json_error_t why;
	const char *type;
	json_t *object;

	while (len && strchr(" \t\r", line[len - 1]))
		len--;
	if (!len)
		return 0;
	event = json_loadb(line, len, JSON_ALLOW_NUL, &why);
	if (!event)
		return invalid(err, why.text);
	type = json_path_string(event, "type");
	object = json_object_get(event, "object");
	if (!type || !json_is_object(object))
		return invalid(err, "type or object is missing");
	if (!strcmp(type, "ERROR"))
		return status_to_error(object, 0, err);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (strcmp(type, names[i]))
			continue;
		if (!json_path_string(object, "metadata.resourceVersion") ||
		    (i != WATCH_BOOKMARK && !json_path_string(object, "metadata.name")))
			return invalid(err, "the object has no name or resourceVersion");
		d->event(d->arg, (enum watch_type)i, object);
		return 0;
	}
	return 0; /* a type of a later version: nothing that we asked for */
}

static int too_long(struct error **err)
{
	return error_set(err, ERROR_TRANSIENT, "InvalidEvent", "the watch sent an event of more than %u MiB", WATCH_LINE_MAX >> 20);
}

int watch_decoder_feed(struct watch_decoder *d, const void *data, size_t len, struct error **err)
{
	const char *p = data;

	while (len) {
		const char *end = memchr(p, '\n', len);
		size_t part = end ? (size_t)(end - p) : len;

		if (end && !d->line.len) { /* a whole line where it lies */
			if (part > WATCH_LINE_MAX)
				return too_long(err);
			if (decode_line(d, p, part, err) < 0)
				return -1;
		} else {
			if (buffer_add(&d->line, p, part) < 0)
				return too_long(err);
			if (end) {
				if (decode_line(d, d->line.data, d->line.len, err) < 0)
					return -1;
				buffer_clear(&d->line);
			}
		}
		part += end != NULL;
		p += part;
		len -= part;
	}
	return 0;
}
