#include "target/vmimage.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/names.h"
#include "api/resources.h"
#include "target/storage_class.h"

#define RETRY_DEFAULT 3 /* of spec.retry */

static const char *ns_of(const struct target_import *t)
{
	return json_path_string(t->object, "metadata.namespace");
}

static const char *uid_of(const struct target_import *t)
{
	return json_path_string(t->object, "metadata.uid");
}

/* Harvester copies the display name into a label, so it must be a label's value. */
static char *display_name(const struct target_import *t, const struct target_disk *disk)
{
	AUTO_FREE char *plain = NULL;

	if (asprintf(&plain, "vm-import-%s-%s", json_path_string(t->object, "metadata.name"), disk->name) < 0) {
		plain = NULL;
		return NULL;
	}
	return name_label_value(plain);
}

static bool is_owned(const json_t *object, const char *uid)
{
	const json_t *owner;
	size_t i;

	json_array_foreach (json_path(object, "metadata.ownerReferences"), i, owner) {
		const char *have = json_path_string(owner, "uid");

		if (have && uid && !strcmp(have, uid))
			return true;
	}
	return false;
}

/* NULL without an error: there is none. */
static json_t *find(struct store *store, const struct target_import *t, const char *display, struct error **err)
{
	AUTO_JSON json_t *list = store_list(store, &api_vmimages, ns_of(t), API_LABEL_IMPORTED "=true", err);
	const json_t *image;
	size_t i;

	json_array_foreach (list, i, image) {
		const char *have = json_path_string(image, "spec.displayName");

		if (have && !strcmp(have, display) && is_owned(image, uid_of(t)) && !json_path(image, "metadata.deletionTimestamp"))
			return json_incref((json_t *)image);
	}
	return NULL;
}

static json_t *describe(const struct target_import *t, const struct target_disk *disk, const char *display, const json_t *class)
{
	bool backing = storage_class_has_backing_images(class);
	const char *class_name = json_path_string(class, "metadata.name");

	return json_pack(
		"{s:s, s:s, s:{s:s, s:s, s:{s:s, s:s}, s:{s:s}, s:[{s:s, s:s, s:s, s:s, s:b, s:b}]}, s:{s:s, s:s, s:s, s:s, s:s*}}",
		"apiVersion", "harvesterhci.io/v1beta1", "kind", "VirtualMachineImage", "metadata", "generateName", "image-", "namespace",
		ns_of(t), "labels", API_LABEL_IMPORTED, "true", API_LABEL_IMAGE_DISPLAY_NAME, display, "annotations",
		API_ANNOTATION_STORAGE_CLASS, class_name, "ownerReferences", "apiVersion", API_GROUP_VERSION, "kind",
		"VirtualMachineImport", "name", json_path_string(t->object, "metadata.name"), "uid", uid_of(t), "controller", 0,
		"blockOwnerDeletion", 0, "spec", "displayName", display, "sourceType", "download", "url", disk->url, "backend",
		backing ? "backingimage" : "cdi", "targetStorageClassName", backing ? NULL : class_name);
}

static json_t *create(struct store *store, const struct target_import *t, const struct target_disk *disk, const char *display,
		      struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;
	AUTO_JSON json_t *class = storage_class_get(store, t, &failed), *object = NULL;

	if (failed) {
		error_move(err, move_ptr(failed));
		return NULL;
	}
	if (!class) {
		error_set(err, ERROR_TRANSIENT, "StorageClassNotFound",
			  "the storage class of the import does not exist any more; create it again");
		return NULL;
	}
	object = describe(t, disk, display, class);
	if (!object) {
		error_set_errno(err, ENOMEM, "cannot describe the image");
		return NULL;
	}
	return store_create(store, &api_vmimages, ns_of(t), object, err);
}

int vmimage_submit(struct store *store, const struct target_import *t, const struct target_disk *disk, char **name, struct error **err)
{
	AUTO_FREE char *display = display_name(t, disk);
	AUTO_ERROR struct error *failed = NULL;
	AUTO_JSON json_t *image = NULL;
	const char *made;
	char *copy;

	if (!display)
		return error_set_errno(err, ENOMEM, "cannot name the image");
	image = find(store, t, display, &failed);
	if (failed)
		return error_move(err, move_ptr(failed));
	/* When an answer is lost, the next call finds what this one made: a list without a version is never stale. */
	if (!image && !(image = create(store, t, disk, display, err)))
		return -1;
	made = json_path_string(image, "metadata.name");
	if (!made)
		return error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the cluster made an image without a name");
	copy = strdup(made);
	if (!copy)
		return error_set_errno(err, ENOMEM, "cannot keep the image's name");
	*name = copy;
	return 0;
}

json_t *vmimage_get(struct store *store, const struct target_import *t, const struct target_disk *disk, struct error **err)
{
	return store_get(store, &api_vmimages, ns_of(t), disk->image, err);
}

static const json_t *condition(const json_t *image, const char *type)
{
	const json_t *c;
	size_t i;

	json_array_foreach (json_path(image, "status.conditions"), i, c) {
		const char *have = json_path_string(c, "type");

		if (have && !strcmp(have, type))
			return c;
	}
	return NULL;
}

static bool is(const json_t *image, const char *type, const char *status)
{
	const char *have = json_path_string(condition(image, type), "status");

	return have && !strcmp(have, status);
}

/* Why the last try failed; NULL when nothing says so. Owned by the caller. */
static char *reason_of(const json_t *image)
{
	static const char *const types[] = { "RetryLimitExceeded", "Imported", "Initialized" };

	for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
		const char *message = json_path_string(condition(image, types[i]), "message");

		if (message && *message)
			return strdup(message);
	}
	return NULL;
}

/* A failed try is not the end: Harvester tries spec.retry times again. Releases without that say so by a condition alone. */
static bool is_failed(const json_t *image)
{
	const json_t *retry = json_path(image, "spec.retry");
	json_int_t tries = json_integer_value(json_path(image, "status.failed"));
	json_int_t limit = json_is_integer(retry) ? json_integer_value(retry) : RETRY_DEFAULT;

	if (is(image, "RetryLimitExceeded", "True"))
		return true;
	return (is(image, "Imported", "False") || is(image, "Initialized", "False")) &&
	       (tries > limit || !condition(image, "RetryLimitExceeded"));
}

void vmimage_progress(const json_t *image, struct target_progress *out)
{
	json_int_t percent = json_integer_value(json_path(image, "status.progress"));

	*out = (struct target_progress){ .state = TARGET_PENDING, .percent = percent > 0 && percent <= 100 ? (unsigned)percent : 0 };
	if (is(image, "Imported", "True")) {
		out->state = TARGET_READY;
		out->percent = 100;
	} else if (is_failed(image)) {
		out->state = TARGET_FAILED;
		out->message = reason_of(image);
	} else if (json_integer_value(json_path(image, "status.failed")) > 0) {
		out->message = reason_of(image);
	}
}

static int release(struct store *store, const struct target_import *t, const json_t *image, struct error **err)
{
	AUTO_JSON json_t *rest = json_array(), *patch = NULL, *done = NULL;
	AUTO_ERROR struct error *failed = NULL;
	const json_t *owner;
	size_t i;

	json_array_foreach (json_path(image, "metadata.ownerReferences"), i, owner) {
		const char *uid = json_path_string(owner, "uid");

		if (!uid || strcmp(uid, uid_of(t)))
			json_array_append(rest, (json_t *)owner);
	}
	/* The version: another owner may come meanwhile. */
	patch = json_pack("{s:{s:O, s:O}}", "metadata", "resourceVersion", json_path(image, "metadata.resourceVersion"), "ownerReferences",
			  rest);
	done = patch ? store_patch(store, &api_vmimages, ns_of(t), json_path_string(image, "metadata.name"), NULL, patch, &failed) : NULL;
	if (done || (failed && failed->class == ERROR_NOT_FOUND))
		return 0;
	return failed ? error_move(err, move_ptr(failed)) : error_set_errno(err, ENOMEM, "cannot release the image");
}

int vmimage_release(struct store *store, const struct target_import *t, struct error **err)
{
	AUTO_JSON json_t *list = store_list(store, &api_vmimages, ns_of(t), API_LABEL_IMPORTED "=true", err);
	const json_t *image;
	size_t i;

	if (!list)
		return -1;
	json_array_foreach (list, i, image)
		if (is_owned(image, uid_of(t)) && release(store, t, image, err) < 0)
			return error_wrap(err, "cannot take the owner off the image %s", json_path_string(image, "metadata.name"));
	return 0;
}
