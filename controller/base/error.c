#include "base/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

__attribute__((format(printf, 1, 0))) static char *format(const char *fmt, va_list ap)
{
	char *text = NULL;

	if (vasprintf(&text, fmt, ap) < 0)
		text = strdup("out of memory");
	/* What is quoted in it may be anything, cut anywhere. */
	if (text)
		utf8_repair(text);
	return text;
}

/* Takes ownership of message. */
static int set(struct error **err, enum error_class class, const char *reason, int code, char *message)
{
	struct error *e;

	if (!err || !message || !(e = calloc(1, sizeof *e))) {
		free(message);
		return -1;
	}
	e->class = class;
	e->code = code;
	snprintf(e->reason, sizeof e->reason, "%s", reason ? reason : error_class_name(class));
	e->message = message;
	error_free(*err);
	*err = e;
	return -1;
}

int error_set(struct error **err, enum error_class class, const char *reason, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return -1;
	va_start(ap, fmt);
	char *message = format(fmt, ap);
	va_end(ap);
	return set(err, class, reason, 0, message);
}

int error_set_code(struct error **err, enum error_class class, const char *reason, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return -1;
	va_start(ap, fmt);
	char *message = format(fmt, ap);
	va_end(ap);
	return set(err, class, reason, code, message);
}

static enum error_class class_of_errno(int n)
{
	switch (n) {
	case ENOENT:
		return ERROR_NOT_FOUND;
	case ECANCELED:
		return ERROR_CANCELLED;
	case EAGAIN:
	case EINTR:
	case EIO:
	case ENOSPC:
	case EDQUOT:
	case ENOMEM:
	case EMFILE:
	case ENFILE:
	case ETIMEDOUT:
	case ECONNREFUSED:
	case ECONNRESET:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EPIPE:
		return ERROR_TRANSIENT;
	default:
		return ERROR_PERMANENT;
	}
}

int error_set_errno(struct error **err, int error_number, const char *fmt, ...)
{
	char text[128], *with_cause = NULL;
	va_list ap;

	if (!err)
		return -1;
	va_start(ap, fmt);
	AUTO_FREE char *message = format(fmt, ap);
	va_end(ap);
	const char *cause = strerror_r(error_number, text, sizeof text);
	if (asprintf(&with_cause, "%s: %s", message ? message : "", cause) < 0)
		with_cause = NULL;
	return set(err, class_of_errno(error_number), error_number == ENOSPC ? "NoSpace" : "SystemError", error_number, with_cause);
}

int error_wrap(struct error **err, const char *fmt, ...)
{
	char *wrapped = NULL;
	va_list ap;

	if (!err || !*err)
		return -1;
	va_start(ap, fmt);
	AUTO_FREE char *what = format(fmt, ap);
	va_end(ap);
	if (what && asprintf(&wrapped, "%s: %s", what, (*err)->message) >= 0) {
		free((*err)->message);
		(*err)->message = wrapped;
	}
	return -1;
}

int error_move(struct error **err, struct error *from)
{
	if (!err) {
		error_free(from);
		return -1;
	}
	error_free(*err);
	*err = from;
	return -1;
}

const char *error_class_name(enum error_class class)
{
	switch (class) {
	case ERROR_TRANSIENT:
		return "Transient";
	case ERROR_PERMANENT:
		return "Permanent";
	case ERROR_CONFLICT:
		return "Conflict";
	case ERROR_NOT_FOUND:
		return "NotFound";
	case ERROR_GONE:
		return "Gone";
	case ERROR_CANCELLED:
		return "Cancelled";
	}
	return "Unknown";
}

const char *error_message(const struct error *err)
{
	return err ? err->message : "";
}

void error_free(struct error *err)
{
	if (!err)
		return;
	free(err->message);
	free(err);
}
