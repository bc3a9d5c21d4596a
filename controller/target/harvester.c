/* The target Harvester: VirtualMachineImage -> PersistentVolumeClaim -> VirtualMachine. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/names.h"
#include "api/problem.h"
#include "api/resources.h"
#include "target/mapping.h"
#include "target/target.h"
#include "target/vmspec.h"

#define LONGHORN "driver.longhorn.io"
#define DEFAULT_CLASS "storageclass.kubernetes.io/is-default-class"

struct harvester {
	struct target target;
	struct store *store;
};

static struct store *store_of(struct target *target)
{
	return ((struct harvester *)target)->store;
}

static const char *ns_of(const struct target_import *t)
{
	return json_path_string(t->object, "metadata.namespace");
}

static const char *uid_of(const struct target_import *t)
{
	return json_path_string(t->object, "metadata.uid");
}

/* The storage class of the import: the one it names, else the cluster's default. NULL without an error: there is none. */
static json_t *storage_class(struct target *target, const struct target_import *t, struct error **err)
{
	const char *name = t->import->spec.storage_class;
	AUTO_JSON json_t *list = NULL;
	AUTO_ERROR struct error *failed = NULL;
	const json_t *class;
	size_t i;

	if (name && *name) {
		json_t *found = store_get(store_of(target), &api_storage_classes, NULL, name, &failed);

		if (!found && failed->class != ERROR_NOT_FOUND)
			error_move(err, move_ptr(failed));
		return found;
	}
	list = store_list(store_of(target), &api_storage_classes, NULL, NULL, err);
	json_array_foreach (list, i, class) {
		const char *is_default = json_string_value(json_object_get(json_path(class, "metadata.annotations"), DEFAULT_CLASS));

		if (is_default && !strcmp(is_default, "true"))
			return json_incref((json_t *)class);
	}
	return NULL;
}

/* Longhorn's first engine has backing images; everything else goes through CDI. */
static bool uses_backing_images(const json_t *class)
{
	const char *provisioner = json_string_value(json_object_get(class, "provisioner"));
	const char *engine = json_string_value(json_object_get(json_object_get(class, "parameters"), "dataEngine"));

	return provisioner && !strcmp(provisioner, LONGHORN) && (!engine || !strcmp(engine, "v1"));
}

static bool is_ours(const json_t *vm, const struct target_import *t)
{
	const char *uid = json_string_value(json_object_get(json_path(vm, "metadata.annotations"), API_ANNOTATION_IMPORT_UID));

	return uid && uid_of(t) && !strcmp(uid, uid_of(t));
}

static int check_name(struct target *target, const struct target_import *t, json_t *problems, struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;
	AUTO_JSON json_t *vm = store_get(store_of(target), &api_vms, ns_of(t), t->vm_name, &failed);

	if (vm && !is_ours(vm, t))
		problem_add(
			problems,
			"a virtual machine named %s exists in the namespace %s and is not of this import; set spec.targetVirtualMachineName to another name",
			t->vm_name, ns_of(t));
	if (vm || failed->class == ERROR_NOT_FOUND)
		return 0;
	return error_move(err, move_ptr(failed));
}

static int check_networks(struct target *target, const struct target_import *t, json_t *problems, struct error **err)
{
	for (size_t i = 0; i < t->import->spec.network_mapping_count; i++) {
		const char *destination = t->import->spec.network_mapping[i].destination_network;
		AUTO_FREE char *ns = NULL, *name = NULL;
		AUTO_ERROR struct error *failed = NULL;
		AUTO_JSON json_t *nad = NULL, *list = NULL;
		const json_t *entry;
		bool found = false;
		size_t k;

		if (!destination || !*destination)
			continue;
		name_split(destination, ns_of(t), &ns, &name);
		if (!ns || !name)
			return error_set_errno(err, ENOMEM, "cannot check the networks");
		/* A list: Harvester's own role lets us list these, not get them. */
		list = store_list(store_of(target), &api_nads, ns, NULL, &failed);
		if (!list && failed->class != ERROR_NOT_FOUND)
			return error_move(err, move_ptr(failed));
		json_array_foreach (list, k, entry) {
			const char *have = json_path_string(entry, "metadata.name");

			found = found || (have && !strcmp(have, name));
		}
		if (!found)
			problem_add(
				problems,
				"spec.networkMapping[%zu].destinationNetwork: there is no NetworkAttachmentDefinition %s/%s; create it or correct the name",
				i, ns, name);
	}
	return 0;
}

static int harvester_preflight(struct target *target, const struct target_import *t, const struct vm_model *model, json_t *problems,
			       struct error **err)
{
	const char *name = t->import->spec.storage_class;
	AUTO_ERROR struct error *failed = NULL;
	AUTO_JSON json_t *class = storage_class(target, t, &failed);

	if (failed)
		return error_move(err, move_ptr(failed));
	if (!class && name && *name)
		problem_add(problems,
			    "spec.storageClass: there is no StorageClass %s; correct the name (kubectl get storageclass lists them)", name);
	else if (!class)
		problem_add(problems, "spec.storageClass is empty and the cluster has no default StorageClass; name one");
	mapping_check(t, model, problems);
	if (check_networks(target, t, problems, err) < 0)
		return -1;
	return t->vm_name ? check_name(target, t, problems, err) : 0;
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

static bool owned(const json_t *object, const char *uid)
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

static bool going(const json_t *object)
{
	return json_path(object, "metadata.deletionTimestamp") != NULL;
}

/* The image of a disk that was made before; NULL without an error: there is none. */
static json_t *find_image(struct target *target, const struct target_import *t, const char *display, struct error **err)
{
	AUTO_JSON json_t *list = store_list(store_of(target), &api_vmimages, ns_of(t), API_LABEL_IMPORTED "=true", err);
	const json_t *image;
	size_t i;

	json_array_foreach (list, i, image) {
		const char *have = json_path_string(image, "spec.displayName");

		if (have && !strcmp(have, display) && owned(image, uid_of(t)) && !going(image))
			return json_incref((json_t *)image);
	}
	return NULL;
}

static json_t *image_object(const struct target_import *t, const struct target_disk *disk, const char *display, const json_t *class)
{
	bool backing = uses_backing_images(class);
	const char *class_name = json_path_string(class, "metadata.name");
	json_t *image =
		json_pack("{s:s, s:s, s:{s:s, s:s, s:{s:s, s:s}, s:{s:s}, s:[{s:s, s:s, s:s, s:s}]}, s:{s:s, s:s, s:s, s:s}}", "apiVersion",
			  "harvesterhci.io/v1beta1", "kind", "VirtualMachineImage", "metadata", "generateName", "image-", "namespace",
			  ns_of(t), "labels", API_LABEL_IMPORTED, "true", API_LABEL_IMAGE_DISPLAY_NAME, display, "annotations",
			  API_ANNOTATION_STORAGE_CLASS, class_name, "ownerReferences", "apiVersion", API_GROUP_VERSION, "kind",
			  "VirtualMachineImport", "name", json_path_string(t->object, "metadata.name"), "uid", uid_of(t), "spec",
			  "displayName", display, "sourceType", "download", "url", disk->url, "backend", backing ? "backingimage" : "cdi");

	if (!backing)
		json_object_set_new(json_object_get(image, "spec"), "targetStorageClassName", json_string(class_name));
	return image;
}

static int harvester_submit_disk(struct target *target, const struct target_import *t, const struct target_disk *disk, char **name,
				 struct error **err)
{
	AUTO_FREE char *display = display_name(t, disk);
	AUTO_ERROR struct error *failed = NULL;
	AUTO_JSON json_t *image = display ? find_image(target, t, display, &failed) : NULL, *class = NULL, *object = NULL;

	if (failed)
		return error_move(err, move_ptr(failed));
	if (!image) {
		class = storage_class(target, t, &failed);
		if (failed)
			return error_move(err, move_ptr(failed));
		if (!class)
			return error_set(err, ERROR_TRANSIENT, "StorageClassNotFound",
					 "the storage class of the import does not exist any more");
		object = display ? image_object(t, disk, display, class) : NULL;
		if (!object)
			return error_set_errno(err, ENOMEM, "cannot describe the image");
		image = store_create(store_of(target), &api_vmimages, ns_of(t), object, err);
		if (!image)
			return -1;
	}
	*name = strdup(json_path_string(image, "metadata.name"));
	return *name ? 0 : error_set_errno(err, ENOMEM, "cannot keep the image's name");
}

static const json_t *condition_of(const json_t *object, const char *type)
{
	const json_t *c;
	size_t i;

	json_array_foreach (json_path(object, "status.conditions"), i, c) {
		const char *have = json_path_string(c, "type");

		if (have && !strcmp(have, type))
			return c;
	}
	return NULL;
}

static bool has_condition(const json_t *object, const char *type, const char *status)
{
	const char *have = json_path_string(condition_of(object, type), "status");

	return have && !strcmp(have, status);
}

static int harvester_disk_state(struct target *target, const struct target_import *t, const struct target_disk *disk,
				struct target_progress *out, struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;
	AUTO_JSON json_t *image = store_get(store_of(target), &api_vmimages, ns_of(t), disk->image, &failed);
	json_int_t progress = json_integer_value(json_path(image, "status.progress"));

	*out = (struct target_progress){ .state = TARGET_PENDING };
	if (!image && failed->class == ERROR_NOT_FOUND) {
		*out = (struct target_progress){ .state = TARGET_FAILED, .message = strdup("the image was deleted") };
		return 0;
	}
	if (!image)
		return error_move(err, move_ptr(failed));
	out->percent = progress > 0 && progress <= 100 ? (unsigned)progress : 0;
	if (has_condition(image, "Imported", "True")) {
		out->state = TARGET_READY;
	} else if (has_condition(image, "RetryLimitExceeded", "True")) {
		/* Only here is a failed try final: before, the image's controller tries again by itself. */
		const char *message = json_path_string(condition_of(image, "RetryLimitExceeded"), "message");

		out->state = TARGET_FAILED;
		out->message = strdup(message ? message : "the image could not be imported");
	}
	return 0;
}

static int harvester_delete_disk(struct target *target, const struct target_import *t, const struct target_disk *disk, struct error **err)
{
	if (!*disk->image)
		return 0;
	return store_delete(store_of(target), &api_vmimages, ns_of(t), disk->image, NULL, err);
}

/* The claim of a backing image. With CDI the image's controller makes it. */
static int create_claim(struct target *target, const struct target_import *t, const struct target_disk *disk, struct error **err)
{
	AUTO_JSON json_t *image = store_get(store_of(target), &api_vmimages, ns_of(t), disk->image, err), *claim = NULL, *made = NULL;
	const char *class = json_path_string(image, "status.storageClassName"), *backend = json_path_string(image, "spec.backend");
	json_int_t virtual_size = json_integer_value(json_path(image, "status.virtualSize"));
	AUTO_ERROR struct error *failed = NULL;
	AUTO_FREE char *id = NULL;
	char size[32];

	if (!image)
		return error_wrap(err, "cannot read the image %s", disk->image);
	if (backend && !strcmp(backend, "cdi"))
		return 0;
	if (!class || !*class)
		return error_set(err, ERROR_TRANSIENT, "ImageNotReady", "the image %s names no storage class yet", disk->image);
	if ((uint64_t)virtual_size < disk->capacity)
		virtual_size = (json_int_t)disk->capacity;
	snprintf(size, sizeof size, "%lld", (long long)virtual_size);
	if (asprintf(&id, "%s/%s", ns_of(t), disk->image) < 0) {
		id = NULL;
		return error_set_errno(err, ENOMEM, "cannot describe the claim");
	}
	claim = json_pack("{s:s, s:s, s:{s:s, s:s, s:{s:s}, s:{s:s}}, s:{s:[s], s:s, s:s, s:{s:{s:s}}}}", "apiVersion", "v1", "kind",
			  "PersistentVolumeClaim", "metadata", "name", disk->image, "namespace", ns_of(t), "annotations",
			  API_ANNOTATION_IMAGE_ID, id, "labels", API_LABEL_IMPORTED, "true", "spec", "accessModes", "ReadWriteMany",
			  "volumeMode", "Block", "storageClassName", class, "resources", "requests", "storage", size);
	made = claim ? store_create(store_of(target), &api_pvcs, ns_of(t), claim, &failed) : NULL;
	if (made || (failed && !strcmp(failed->reason, "AlreadyExists"))) /* its name is the image's, which is ours */
		return 0;
	if (!failed)
		return error_set_errno(err, ENOMEM, "cannot describe the claim");
	error_wrap(&failed, "cannot create the claim %s", disk->image);
	return error_move(err, move_ptr(failed));
}

static int harvester_create_vm(struct target *target, const struct target_import *t, const struct vm_model *model,
			       const struct target_disk *disks, size_t count, struct error **err)
{
	AUTO_JSON json_t *vm = vmspec_build(t, model, disks, count, false, err), *made = NULL, *present = NULL;
	AUTO_ERROR struct error *failed = NULL;

	if (!vm)
		return -1;
	for (size_t i = 0; i < count; i++)
		if (create_claim(target, t, &disks[i], err) < 0)
			return -1;
	made = store_create(store_of(target), &api_vms, ns_of(t), vm, &failed);
	if (made)
		return 0;
	if (strcmp(failed->reason, "AlreadyExists"))
		return error_move(err, move_ptr(failed));
	present = store_get(store_of(target), &api_vms, ns_of(t), t->vm_name, err);
	if (!present)
		return -1;
	if (is_ours(present, t))
		return 0;
	return error_set(err, ERROR_PERMANENT, "NameTaken",
			 "a virtual machine named %s exists in the namespace %s and is not of this import", t->vm_name, ns_of(t));
}

static int harvester_vm_state(struct target *target, const struct target_import *t, struct target_progress *out, struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;
	AUTO_JSON json_t *vm = store_get(store_of(target), &api_vms, ns_of(t), t->vm_name, &failed);
	const char *strategy = json_path_string(vm, "spec.runStrategy"), *state = json_path_string(vm, "status.printableStatus");
	bool halted = strategy && !strcmp(strategy, "Halted");

	*out = (struct target_progress){ .state = TARGET_PENDING };
	if (!vm && failed->class == ERROR_NOT_FOUND) {
		*out = (struct target_progress){ .state = TARGET_FAILED, .message = strdup("it was deleted") };
		return 0;
	}
	if (!vm)
		return error_move(err, move_ptr(failed));
	if (halted ? state && !strcmp(state, "Stopped") : json_is_true(json_path(vm, "status.ready")))
		out->state = TARGET_READY;
	else if (state)
		out->message = strdup(state);
	return 0;
}

static int release_image(struct target *target, const struct target_import *t, const json_t *image, struct error **err)
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
	patch = json_pack("{s:{s:O, s:O}}", "metadata", "resourceVersion", json_path(image, "metadata.resourceVersion"), "ownerReferences",
			  rest);
	done = patch ? store_patch(store_of(target), &api_vmimages, ns_of(t), json_path_string(image, "metadata.name"), NULL, patch,
				   &failed)
		     : NULL;
	if (done || (failed && failed->class == ERROR_NOT_FOUND))
		return 0;
	return failed ? error_move(err, move_ptr(failed)) : error_set_errno(err, ENOMEM, "cannot release the image");
}

static int harvester_release(struct target *target, const struct target_import *t, struct error **err)
{
	AUTO_JSON json_t *list = store_list(store_of(target), &api_vmimages, ns_of(t), API_LABEL_IMPORTED "=true", err);
	const json_t *image;
	size_t i;

	if (!list)
		return -1;
	json_array_foreach (list, i, image)
		if (owned(image, uid_of(t)) && release_image(target, t, image, err) < 0)
			return -1;
	return 0;
}

static void harvester_free(struct target *target)
{
	free(target);
}

struct target *target_harvester_new(struct store *store, struct error **err)
{
	static const struct target_ops ops = {
		.preflight = harvester_preflight,
		.submit_disk = harvester_submit_disk,
		.disk_state = harvester_disk_state,
		.delete_disk = harvester_delete_disk,
		.create_vm = harvester_create_vm,
		.vm_state = harvester_vm_state,
		.release = harvester_release,
		.free = harvester_free,
	};
	struct harvester *h = calloc(1, sizeof *h);

	if (!h) {
		error_set_errno(err, ENOMEM, "cannot use the cluster");
		return NULL;
	}
	h->target.ops = &ops;
	h->store = store;
	return &h->target;
}
