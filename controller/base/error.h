/* What went wrong, for a program to decide on (class), for a condition (reason) and for a person (message).
 *
 * Whatever can fail takes `struct error **err` last and returns -1 or NULL. err may be NULL (the caller does not care); otherwise *err
 * must be NULL on entry and owns the error on failure. Outputs stay untouched on failure. */
#pragma once

#include <stdarg.h>

#include "base/cleanup.h"

enum error_class {
	ERROR_TRANSIENT, /* may go away by itself: retry with back-off */
	ERROR_PERMANENT, /* will not: needs a change by somebody */
	ERROR_CONFLICT,  /* somebody else changed the object first: read again */
	ERROR_NOT_FOUND, /* the named thing does not exist */
	ERROR_GONE,      /* the history asked for exists no more (Kubernetes 410): list again */
	ERROR_CANCELLED, /* we were told to stop */
};

struct error {
	enum error_class class;
	int code;        /* HTTP status or errno; 0 when there is none */
	char reason[64]; /* CamelCase, fit for a condition's reason */
	char *message;   /* one sentence without a final full stop, in UTF-8 whatever was quoted in it; never NULL */
};

/* Sets *err and returns -1, so that `return error_set(...)` is the way out. A reason that is NULL becomes the class's name. */
int error_set(struct error **err, enum error_class class, const char *reason, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* The same with a code (HTTP status or errno). */
int error_set_code(struct error **err, enum error_class class, const char *reason, int code, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* From errno: ENOENT is not-found; EAGAIN, EINTR, EIO, ENOSPC and network errors are transient; the rest permanent. Appends strerror. */
int error_set_errno(struct error **err, int error_number, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "<what was being attempted>: " before the message. Returns -1. Harmless when *err is NULL. */
int error_wrap(struct error **err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Hands an owned error on to the caller's err, or frees it. Returns -1. */
int error_move(struct error **err, struct error *from);

const char *error_class_name(enum error_class class);
const char *error_message(const struct error *err); /* "" for NULL */
void error_free(struct error *err);

static inline void error_free_p(struct error **err)
{
	error_free(*err);
	*err = NULL;
}

#define AUTO_ERROR CLEANUP(error_free_p)
