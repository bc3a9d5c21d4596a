#include "target/storage_class.h"

#include <string.h>

#include "api/resources.h"

#define LONGHORN "driver.longhorn.io"

static bool is_default(const json_t *class)
{
	const json_t *annotations = json_path(class, "metadata.annotations");
	const char *now = json_string_value(json_object_get(annotations, "storageclass.kubernetes.io/is-default-class"));
	const char *once = json_string_value(json_object_get(annotations, "storageclass.beta.kubernetes.io/is-default-class"));

	return (now && !strcmp(now, "true")) || (once && !strcmp(once, "true"));
}

/* Of several defaults Kubernetes takes the newest, then the first by name: the same here. */
static bool comes_before(const json_t *a, const json_t *b)
{
	const char *made_a = json_path_string(a, "metadata.creationTimestamp"), *made_b = json_path_string(b, "metadata.creationTimestamp");
	const char *name_a = json_path_string(a, "metadata.name"), *name_b = json_path_string(b, "metadata.name");
	int order = strcmp(made_b ? made_b : "", made_a ? made_a : ""); /* both in UTC and of one length */

	return order ? order < 0 : strcmp(name_a ? name_a : "", name_b ? name_b : "") < 0;
}

json_t *storage_class_get(struct store *store, const struct target_import *t, struct error **err)
{
	const char *name = t->import->spec.storage_class;
	const json_t *class, *best = NULL;
	AUTO_ERROR struct error *failed = NULL;
	AUTO_JSON json_t *list = NULL;
	size_t i;

	if (name && *name) {
		json_t *found = store_get(store, &api_storage_classes, NULL, name, &failed);

		if (!found && failed->class != ERROR_NOT_FOUND)
			error_move(err, move_ptr(failed));
		return found;
	}
	list = store_list(store, &api_storage_classes, NULL, NULL, err);
	json_array_foreach (list, i, class) {
		if (is_default(class) && (!best || comes_before(class, best)))
			best = class;
	}
	return json_incref((json_t *)best);
}

bool storage_class_has_backing_images(const json_t *class)
{
	const char *provisioner = json_path_string(class, "provisioner"), *engine = json_path_string(class, "parameters.dataEngine");

	return provisioner && !strcmp(provisioner, LONGHORN) && (!engine || !strcmp(engine, "v1"));
}
