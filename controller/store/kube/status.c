#include "store/kube/status.h"

#include <stdbool.h>
#include <string.h>

#include "net/http.h"
#include "json/codec.h"

/* What is below 400 is none that a Status should have. */
static enum error_class class_of(int code)
{
	return code < 400 ? ERROR_TRANSIENT : http_status_class(code);
}

static const char *reason_of(int code)
{
	switch (code) {
	case 400:
		return "BadRequest";
	case 401:
		return "Unauthorized";
	case 403:
		return "Forbidden";
	case 404:
		return "NotFound";
	case 409:
		return "Conflict";
	case 410:
		return "Gone";
	case 422:
		return "Invalid";
	case 429:
		return "TooManyRequests";
	case 503:
		return "ServiceUnavailable";
	case 504:
		return "Timeout";
	default:
		return code >= 500 ? "InternalError" : "RequestFailed";
	}
}

/* A namespace that goes refuses new objects with 403: that is no missing permission. */
static bool namespace_terminates(const json_t *status)
{
	const json_t *cause;
	size_t i;

	json_array_foreach (json_path(status, "details.causes"), i, cause) {
		const char *reason = json_path_string(cause, "reason");

		if (reason && !strcmp(reason, "NamespaceTerminating"))
			return true;
	}
	return false;
}

int status_to_error(const json_t *status, int code, struct error **err)
{
	const char *reason = json_path_string(status, "reason"), *message = json_path_string(status, "message");
	json_int_t told = json_integer_value(json_path(status, "code"));

	if (!code)
		code = told >= 100 && told <= 999 ? (int)told : 500;
	if (namespace_terminates(status))
		reason = "NamespaceTerminating";
	if (!reason || !*reason)
		reason = reason_of(code);
	/* Old servers tell an expired list or watch only by the reason. */
	enum error_class class = !strcmp(reason, "Expired") || !strcmp(reason, "Gone") ? ERROR_GONE : class_of(code);
	if (message && *message)
		return error_set_code(err, class, reason, code, "%s", message);
	return error_set_code(err, class, reason, code, "status %d (%s)", code, reason);
}
