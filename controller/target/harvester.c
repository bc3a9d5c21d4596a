/* The target Harvester: VirtualMachineImage -> PersistentVolumeClaim -> VirtualMachine. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/names.h"
#include "api/problem.h"
#include "api/resources.h"
#include "target/mapping.h"
#include "target/storage_class.h"
#include "target/target.h"
#include "target/vmimage.h"
#include "target/vmspec.h"

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

static bool is_ours(const json_t *vm, const struct target_import *t)
{
	const char *uid = json_string_value(json_object_get(json_path(vm, "metadata.annotations"), API_ANNOTATION_IMPORT_UID));

	return uid && uid_of(t) && !strcmp(uid, uid_of(t));
}

/* Harvester's own controller left no annotation on its machines: they are known by their disks, whose names no other machine has. */
static bool has_our_disks(const json_t *vm, const struct target_disk *disks, size_t count)
{
	const char *imported = json_string_value(json_object_get(json_path(vm, "metadata.labels"), API_LABEL_IMPORTED));
	const json_t *volumes = json_path(vm, "spec.template.spec.volumes"), *volume;
	size_t i, found = 0;

	if (!imported || strcmp(imported, "true") || json_object_get(json_path(vm, "metadata.annotations"), API_ANNOTATION_IMPORT_UID))
		return false;
	json_array_foreach (volumes, i, volume) {
		const char *claim = json_path_string(volume, "persistentVolumeClaim.claimName");

		for (size_t k = 0; claim && k < count; k++)
			found += !strcmp(claim, disks[k].image);
	}
	return count && found == count;
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

/* Whether the network exists: 1, 0, or -1. By a list: Harvester's own role lets us list these, not get them. */
static int has_network(struct target *target, const char *ns, const char *name, struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;
	AUTO_JSON json_t *list = store_list(store_of(target), &api_nads, ns, NULL, &failed);
	const json_t *network;
	size_t i;

	if (!list && failed->class != ERROR_NOT_FOUND)
		return error_move(err, move_ptr(failed));
	json_array_foreach (list, i, network) {
		const char *have = json_path_string(network, "metadata.name");

		if (have && !strcmp(have, name))
			return 1;
	}
	return 0;
}

static int check_networks(struct target *target, const struct target_import *t, json_t *problems, struct error **err)
{
	for (size_t i = 0; i < t->import->spec.network_mapping_count; i++) {
		const char *destination = t->import->spec.network_mapping[i].destination_network;
		AUTO_FREE char *ns = NULL, *name = NULL;
		int found;

		if (!destination || !*destination || !mapping_can_be(destination))
			continue; /* mapping_check complains */
		name_split(destination, ns_of(t), &ns, &name);
		if (!ns || !name)
			return error_set_errno(err, ENOMEM, "cannot check the networks");
		found = has_network(target, ns, name, err);
		if (found < 0)
			return error_wrap(err, "cannot look for the network %s/%s", ns, name);
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
	AUTO_JSON json_t *class = storage_class_get(store_of(target), t, &failed);

	if (failed)
		return error_move(err, move_ptr(failed));
	if (!class && name && *name && name_is_dns1123_subdomain(name))
		problem_add(problems,
			    "spec.storageClass: there is no StorageClass %s; correct the name (kubectl get storageclass lists them)", name);
	else if (!class && (!name || !*name))
		problem_add(problems, "spec.storageClass is empty and the cluster has no default StorageClass; name one");
	mapping_check(t, model, problems);
	if (check_networks(target, t, problems, err) < 0)
		return -1;
	return t->vm_name ? check_name(target, t, problems, err) : 0;
}

static int harvester_submit_disk(struct target *target, const struct target_import *t, const struct target_disk *disk, char **image,
				 struct error **err)
{
	return vmimage_submit(store_of(target), t, disk, image, err);
}

static int harvester_disk_state(struct target *target, const struct target_import *t, const struct target_disk *disk,
				struct target_progress *out, struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;
	AUTO_JSON json_t *image = vmimage_get(store_of(target), t, disk, &failed);

	if (image)
		vmimage_progress(image, out);
	else if (failed->class == ERROR_NOT_FOUND)
		*out = (struct target_progress){ .state = TARGET_FAILED, .message = strdup("the image was deleted") };
	else
		return error_move(err, move_ptr(failed));
	return 0;
}

static int harvester_delete_disk(struct target *target, const struct target_import *t, const struct target_disk *disk, struct error **err)
{
	if (!*disk->image)
		return 0;
	return store_delete(store_of(target), &api_vmimages, ns_of(t), disk->image, NULL, err);
}

/* NULL when memory is out. */
static json_t *describe_claim(const struct target_import *t, const json_t *image, const char *class, uint64_t capacity)
{
	json_int_t virtual_size = json_integer_value(json_path(image, "status.virtualSize"));
	const char *name = json_path_string(image, "metadata.name");
	AUTO_FREE char *id = NULL;
	char size[32];

	if (virtual_size > 0 && (uint64_t)virtual_size > capacity)
		capacity = (uint64_t)virtual_size;
	snprintf(size, sizeof size, "%llu", (unsigned long long)capacity);
	if (asprintf(&id, "%s/%s", ns_of(t), name) < 0) {
		id = NULL;
		return NULL;
	}
	return json_pack("{s:s, s:s, s:{s:s, s:s, s:{s:s}, s:{s:s}}, s:{s:[s], s:s, s:s, s:{s:{s:s}}}}", "apiVersion", "v1", "kind",
			 "PersistentVolumeClaim", "metadata", "name", name, "namespace", ns_of(t), "annotations", API_ANNOTATION_IMAGE_ID,
			 id, "labels", API_LABEL_IMPORTED, "true", "spec", "accessModes", "ReadWriteMany", "volumeMode", "Block",
			 "storageClassName", class, "resources", "requests", "storage", size);
}

/* The claim of a backing image. With CDI the image's controller makes it. */
static int create_claim(struct target *target, const struct target_import *t, const struct target_disk *disk, struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;
	AUTO_JSON json_t *image = vmimage_get(store_of(target), t, disk, &failed), *claim = NULL, *made = NULL;
	const char *class = json_path_string(image, "status.storageClassName"), *backend = json_path_string(image, "spec.backend");

	if (!image && failed->class == ERROR_NOT_FOUND)
		return error_set(err, ERROR_PERMANENT, "ImageDeleted", "the image %s of %s was deleted; start the import anew", disk->image,
				 disk->name);
	if (!image) {
		error_wrap(&failed, "cannot read the image %s", disk->image);
		return error_move(err, move_ptr(failed));
	}
	if (backend && !strcmp(backend, "cdi"))
		return 0;
	if (!class || !*class)
		return error_set(err, ERROR_TRANSIENT, "ImageNotReady", "the image %s names no storage class yet", disk->image);
	claim = describe_claim(t, image, class, disk->capacity);
	if (!claim)
		return error_set_errno(err, ENOMEM, "cannot describe the claim");
	made = store_create(store_of(target), &api_pvcs, ns_of(t), claim, &failed);
	if (made || !strcmp(failed->reason, "AlreadyExists")) /* its name is the image's, which is ours */
		return 0;
	error_wrap(&failed, "cannot create the claim %s", disk->image);
	return error_move(err, move_ptr(failed));
}

/* A machine of the name exists: fine when it is what an earlier run made. */
static int accept_present(struct target *target, const struct target_import *t, const struct target_disk *disks, size_t count,
			  struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;
	AUTO_JSON json_t *vm = store_get(store_of(target), &api_vms, ns_of(t), t->vm_name, &failed);

	if (!vm && failed->class == ERROR_NOT_FOUND)
		return error_set(err, ERROR_TRANSIENT, "NameInUse", "a virtual machine named %s was there a moment ago", t->vm_name);
	if (!vm)
		return error_move(err, move_ptr(failed));
	if (!is_ours(vm, t) && !has_our_disks(vm, disks, count))
		return error_set(err, ERROR_PERMANENT, "NameTaken",
				 "a virtual machine named %s exists in the namespace %s and is not of this import", t->vm_name, ns_of(t));
	if (json_path(vm, "metadata.deletionTimestamp"))
		return error_set(err, ERROR_TRANSIENT, "NameInUse", "the virtual machine %s of an earlier try is still being deleted",
				 t->vm_name);
	return 0;
}

static int harvester_create_vm(struct target *target, const struct target_import *t, const struct vm_model *model,
			       const struct target_disk *disks, size_t count, struct error **err)
{
	AUTO_JSON json_t *vm = vmspec_build(t, model, disks, count, false, err), *made = NULL;
	AUTO_ERROR struct error *failed = NULL;

	if (!vm)
		return -1;
	for (size_t i = 0; i < count; i++)
		if (create_claim(target, t, &disks[i], err) < 0)
			return -1;
	made = store_create(store_of(target), &api_vms, ns_of(t), vm, &failed);
	if (made)
		return 0;
	if (!strcmp(failed->reason, "AlreadyExists"))
		return accept_present(target, t, disks, count, err);
	return error_move(err, move_ptr(failed));
}

/* "ErrorUnschedulable: 0/3 nodes are available: ...": the machine's state and what its conditions say of it. Owned by the caller. */
static char *describe_state(const json_t *vm)
{
	const char *state = json_path_string(vm, "status.printableStatus"), *why = NULL;
	const json_t *condition;
	char *text = NULL;
	size_t i;

	json_array_foreach (json_path(vm, "status.conditions"), i, condition) {
		const char *type = json_path_string(condition, "type"), *status = json_path_string(condition, "status");
		const char *message = json_path_string(condition, "message");

		if (!type || !status || !message || !*message)
			continue;
		if (!strcmp(type, "Failure") && !strcmp(status, "True")) {
			why = message;
			break;
		}
		if ((!strcmp(type, "PodScheduled") || (!strcmp(type, "Ready") && !why)) && !strcmp(status, "False"))
			why = message;
	}
	if (!state && !why)
		return NULL;
	return asprintf(&text, "%s%s%s", state ? state : "", state && why ? ": " : "", why ? why : "") < 0 ? NULL : text;
}

static int harvester_vm_state(struct target *target, const struct target_import *t, struct target_progress *out, struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;
	AUTO_JSON json_t *vm = store_get(store_of(target), &api_vms, ns_of(t), t->vm_name, &failed);
	const char *strategy = json_path_string(vm, "spec.runStrategy"), *state = json_path_string(vm, "status.printableStatus");
	bool halted = strategy && !strcmp(strategy, "Halted");

	if (!vm && failed->class != ERROR_NOT_FOUND)
		return error_move(err, move_ptr(failed));
	*out = (struct target_progress){ .state = TARGET_PENDING };
	if (!vm) {
		out->state = TARGET_FAILED;
		out->message = strdup("it was deleted");
	} else if (halted ? state && !strcmp(state, "Stopped") : json_is_true(json_path(vm, "status.ready"))) {
		out->state = TARGET_READY;
		out->percent = 100;
	} else {
		out->message = describe_state(vm); /* a user can mend all of them: none is final */
	}
	return 0;
}

static int harvester_release(struct target *target, const struct target_import *t, struct error **err)
{
	return vmimage_release(store_of(target), t, err);
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
