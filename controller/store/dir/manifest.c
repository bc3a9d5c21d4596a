#include "store/dir/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/names.h"
#include "json/codec.h"
#include "json/yaml.h"

/* A DNS-1123 subdomain. */
static bool is_name(const char *text)
{
	size_t len = strlen(text);

	return len && len <= 253 && strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-.") == len && !strchr("-.", text[0]) &&
	       !strchr("-.", text[len - 1]);
}

static bool is_kind(const char *text)
{
	size_t len = strlen(text);

	return len && len <= 63 && strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") == len;
}

bool manifest_check(const char *kind, const char *ns, const char *name, struct error **err)
{
	if (!is_kind(kind))
		error_set(err, ERROR_PERMANENT, "InvalidObject", "\"%s\" is no kind", kind);
	else if (!name || !*name)
		error_set(err, ERROR_PERMANENT, "InvalidObject", "the %s has no metadata.name", kind);
	else if (!is_name(name))
		error_set(err, ERROR_PERMANENT, "InvalidObject",
			  "metadata.name \"%s\" of the %s may hold lower-case letters, digits, \"-\" and \".\" only", name, kind);
	else if (ns && !name_is_dns1123_label(ns))
		error_set(err, ERROR_PERMANENT, "InvalidObject",
			  "metadata.namespace \"%s\" of the %s %s may hold lower-case letters, digits and \"-\" only", ns, kind, name);
	else
		return true;
	return false;
}

static bool is_secret(const json_t *object)
{
	const char *kind = json_path_string(object, "kind");

	return kind && !strcmp(kind, "Secret");
}

/* A "_", which is in no name, ends a namespace that holds "-" itself: no two objects share a file. */
static char *path_of(const char *directory, const json_t *object)
{
	const char *kind = json_path_string(object, "kind"), *ns = json_path_string(object, "metadata.namespace");
	const char *name = json_path_string(object, "metadata.name");
	char lower[64], *path = NULL;
	size_t i;

	for (i = 0; kind[i] && i < sizeof lower - 1; i++)
		lower[i] = (char)(kind[i] >= 'A' && kind[i] <= 'Z' ? kind[i] - 'A' + 'a' : kind[i]);
	lower[i] = 0;
	return asprintf(&path, "%s/%s-%s%s%s.yaml", directory, lower, ns ? ns : "", ns && strchr(ns, '-') ? "_" : "-", name) < 0 ? NULL
																 : path;
}

int manifest_write(const char *directory, const json_t *object, struct error **err)
{
	AUTO_FREE char *path = NULL, *new = NULL, *text = NULL;
	AUTO_FILE FILE *f = NULL;

	if (is_secret(object))
		return 0;
	text = yaml_dump(object, err);
	if (!text)
		return -1;
	path = path_of(directory, object);
	if (!path || asprintf(&new, "%s.new", path) < 0) {
		new = NULL;
		return error_set_errno(err, ENOMEM, "cannot write the object");
	}
	f = fopen(new, "we");
	if (!f || fputs(text, f) == EOF || fclose(move_ptr(f)) == EOF || rename(new, path) < 0)
		return error_set_errno(err, errno, "cannot write %s", path);
	return 0;
}

void manifest_remove(const char *directory, const json_t *object)
{
	AUTO_FREE char *path = is_secret(object) ? NULL : path_of(directory, object);

	if (path)
		unlink(path);
}

/* A new reference in *out, NULL for a file without a document: what a crash of the machine may leave of a new one. */
static int load_file(const char *directory, const char *path, json_t **out, struct error **err)
{
	AUTO_JSON json_t *documents = yaml_load_file(path, err);
	AUTO_FREE char *own = NULL;
	json_t *object = json_array_get(documents, 0);
	const char *kind = json_path_string(object, "kind");

	if (!documents)
		return error_wrap(err, "cannot read what an earlier run left (remove the file to start anew)");
	if (!object)
		return 0;
	if (!kind ||
	    !manifest_check(kind, json_path_string(object, "metadata.namespace"), json_path_string(object, "metadata.name"), NULL) ||
	    !json_path_string(object, "metadata.uid") || !(own = path_of(directory, object)) || strcmp(own, path))
		return error_set(err, ERROR_PERMANENT, "InvalidObject", "%s is no object of an earlier run; remove it to start anew", path);
	*out = json_incref(object);
	return 0;
}

static void close_directory_p(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

json_t *manifest_load(const char *directory, struct error **err)
{
	CLEANUP(close_directory_p) DIR *dir = opendir(directory);
	AUTO_JSON json_t *objects = json_array();
	const struct dirent *entry;

	if (!dir || !objects) {
		error_set_errno(err, dir ? ENOMEM : errno, "cannot read %s", directory);
		return NULL;
	}
	while ((entry = readdir(dir))) {
		size_t len = strlen(entry->d_name);
		AUTO_FREE char *path = NULL;
		json_t *object = NULL;

		if (len < 5 || strcmp(entry->d_name + len - 5, ".yaml"))
			continue;
		if (asprintf(&path, "%s/%s", directory, entry->d_name) < 0) {
			path = NULL;
			error_set_errno(err, ENOMEM, "cannot read %s", directory);
			return NULL;
		}
		if (load_file(directory, path, &object, err) < 0)
			return NULL;
		if (object)
			json_array_append_new(objects, object);
	}
	return move_ptr(objects);
}
