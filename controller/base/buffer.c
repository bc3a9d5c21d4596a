#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void buffer_init(struct buffer *b, size_t max)
{
	*b = (struct buffer){ .max = max };
}

/* Makes room for len more bytes and the final NUL. */
static int reserve(struct buffer *b, size_t len)
{
	size_t cap = b->cap ? b->cap : 256;
	char *data;

	if (b->failed || len > b->max || b->len > b->max - len)
		goto fail;
	while (cap - b->len <= len)
		cap *= 2;
	if (cap != b->cap) {
		data = realloc(b->data, cap);
		if (!data)
			goto fail;
		b->data = data;
		b->cap = cap;
	}
	return 0;
fail:
	b->failed = true;
	return -1;
}

int buffer_add(struct buffer *b, const void *data, size_t len)
{
	if (reserve(b, len) < 0)
		return -1;
	if (len)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = 0;
	return 0;
}

int buffer_add_string(struct buffer *b, const char *s)
{
	return buffer_add(b, s, strlen(s));
}

int buffer_addf(struct buffer *b, const char *fmt, ...)
{
	AUTO_FREE char *text = NULL;
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (len < 0) {
		text = NULL;
		b->failed = true;
		return -1;
	}
	return buffer_add(b, text, (size_t)len);
}

void buffer_clear(struct buffer *b)
{
	b->len = 0;
	b->failed = false;
	if (b->data)
		b->data[0] = 0;
}

void buffer_consume(struct buffer *b, size_t len)
{
	if (len > b->len)
		len = b->len;
	if (!len)
		return;
	memmove(b->data, b->data + len, b->len - len);
	b->len -= len;
	b->data[b->len] = 0;
}

char *buffer_steal(struct buffer *b)
{
	char *data = b->failed ? NULL : b->data;

	if (b->failed)
		free(b->data);
	else if (!data)
		data = strdup("");
	*b = (struct buffer){ .max = b->max };
	return data;
}

void buffer_free(struct buffer *b)
{
	free(b->data);
	*b = (struct buffer){ 0 };
}
