#include "store/kube/kubeconfig_entry.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "store/kube/credential.h"
#include "json/yaml.h"

/* "FILE, line L, column C: user "NAME": MEMBER: " */
static char *place_of(const struct entry *e, const char *member)
{
	AUTO_FREE char *path = NULL;
	size_t line = 0, column = 0;
	char *place = NULL;

	if (asprintf(&path, "%s%s%s", e->path, member ? "." : "", member ? member : "") < 0)
		return NULL;
	yaml_locate(e->text, strlen(e->text), path, &line, &column);
	if (asprintf(&place, "%s, line %zu, column %zu: %s \"%s\"%s%s", e->file, line, column, e->kind, e->name, member ? ": " : "",
		     member ? member : "") < 0)
		return NULL;
	return place;
}

int entry_fail(const struct entry *e, const char *member, struct error **err, const char *fmt, ...)
{
	AUTO_FREE char *place = place_of(e, member), *what = NULL;
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vasprintf(&what, fmt, ap);
	va_end(ap);
	if (len < 0)
		what = NULL;
	return error_set(err, ERROR_PERMANENT, "InvalidKubeconfig", "%s: %s", place ? place : e->file, what ? what : fmt);
}

int entry_wrap(const struct entry *e, const char *member, struct error **err)
{
	AUTO_FREE char *place = place_of(e, member);

	return error_wrap(err, "%s", place ? place : e->file);
}

int entry_string(const struct entry *e, const char *member, const char **out, struct error **err)
{
	const json_t *value = json_object_get(e->json, member);

	if (value && !json_is_null(value) && !json_is_string(value))
		return entry_fail(e, member, err, "expected a string (quote it)");
	*out = json_string_length(value) ? json_string_value(value) : NULL;
	return 0;
}

int entry_copy(const struct entry *e, const char *member, char **out, struct error **err)
{
	const char *text = NULL;

	if (entry_string(e, member, &text, err) < 0)
		return -1;
	if (text && !(*out = strdup(text)))
		return error_set_errno(err, ENOMEM, "cannot read %s", e->file);
	return 0;
}

int entry_header(const struct entry *e, const char *member, char **out, struct error **err)
{
	if (entry_copy(e, member, out, err) < 0)
		return -1;
	return !*out || credential_fits_header(*out) ? 0 : entry_fail(e, member, err, "it holds control characters");
}

int entry_boolean(const struct entry *e, const char *member, bool *out, struct error **err)
{
	const json_t *value = json_object_get(e->json, member);

	if (value && !json_is_null(value) && !json_is_boolean(value))
		return entry_fail(e, member, err, "expected true or false");
	*out = json_is_true(value);
	return 0;
}

char *entry_path(const struct entry *e, const char *path)
{
	const char *slash = strrchr(e->file, '/');
	char *full = NULL;

	if (*path == '/' || !slash)
		return strdup(path);
	return asprintf(&full, "%.*s/%s", (int)(slash - e->file), e->file, path) < 0 ? NULL : full;
}

int entry_pem(const struct entry *e, const char *member, char **out, char **file, struct error **err)
{
	const char *data = NULL, *path = NULL;
	AUTO_FREE char *full = NULL;
	char data_member[64];

	snprintf(data_member, sizeof data_member, "%s-data", member);
	if (entry_string(e, data_member, &data, err) < 0 || entry_string(e, member, &path, err) < 0)
		return -1;
	if (data) {
		*out = credential_decode(data, err);
		return *out ? 0 : entry_wrap(e, data_member, err);
	}
	if (!path)
		return 0;
	full = entry_path(e, path);
	if (!full)
		return error_set_errno(err, ENOMEM, "cannot read %s", e->file);
	*out = credential_read(full, 1u << 20, err);
	if (!*out)
		return entry_wrap(e, member, err);
	if (file)
		*file = move_ptr(full);
	return 0;
}
