// links: target store/dir store api json base PkgConfig::jansson
/* The target over a directory of objects, in a store that can fail; what a cluster would do is patched in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>

#include "api/resources.h"
#include "store/dir/dir.h"
#include "target/target.h"
#include "json/codec.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* A store around another: call number fail_at fails, a create after it was done when lost is set. */
struct flaky {
	struct store store;
	struct store *real;
	unsigned calls, fail_at;
	bool lost;
	json_t *before_patch; /* another's patch of the same object, once */
};

static bool fails(struct flaky *f, struct error **err)
{
	if (++f->calls != f->fail_at)
		return false;
	error_set_code(err, ERROR_TRANSIENT, "Timeout", 504, "the answer is lost");
	return true;
}

static json_t *flaky_get(struct store *s, const struct resource *res, const char *ns, const char *name, struct error **err)
{
	return fails((struct flaky *)s, err) ? NULL : store_get(((struct flaky *)s)->real, res, ns, name, err);
}

static json_t *flaky_list(struct store *s, const struct resource *res, const char *ns, const char *selector, struct error **err)
{
	return fails((struct flaky *)s, err) ? NULL : store_list(((struct flaky *)s)->real, res, ns, selector, err);
}

static json_t *flaky_create(struct store *s, const struct resource *res, const char *ns, const json_t *object, struct error **err)
{
	struct flaky *f = (struct flaky *)s;
	AUTO_JSON json_t *made = NULL;

	if (!fails(f, err))
		return store_create(f->real, res, ns, object, err);
	if (f->lost)
		made = store_create(f->real, res, ns, object, NULL);
	return NULL;
}

static json_t *flaky_patch(struct store *s, const struct resource *res, const char *ns, const char *name, const char *sub,
			   const json_t *patch, struct error **err)
{
	struct flaky *f = (struct flaky *)s;
	AUTO_JSON json_t *other = f->before_patch, *done = NULL;

	f->before_patch = NULL;
	if (other)
		done = store_patch(f->real, res, ns, name, sub, other, NULL);
	return fails(f, err) ? NULL : store_patch(f->real, res, ns, name, sub, patch, err);
}

static int flaky_delete(struct store *s, const struct resource *res, const char *ns, const char *name, const char *uid, struct error **err)
{
	return fails((struct flaky *)s, err) ? -1 : store_delete(((struct flaky *)s)->real, res, ns, name, uid, err);
}

static const struct store_ops flaky_ops = {
	.get = flaky_get, .list = flaky_list, .create = flaky_create, .patch = flaky_patch, .delete_object = flaky_delete
};

/* One cluster a test. */
struct cluster {
	char directory[64];
	struct flaky flaky;
	struct target *target;
	json_t *object;
	struct vmimport import;
	struct target_import t;
};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* The JSON with ' for ". */
static json_t *parse(const char *text)
{
	AUTO_FREE char *plain = strdup(text);
	json_t *json;

	for (char *p = plain; *p; p++)
		*p = *p == '\'' ? '"' : *p;
	json = json_loads(plain, JSON_DECODE_ANY, NULL);
	assert_non_null(json);
	return json;
}

static json_t *create(struct cluster *c, const struct resource *res, const char *ns, const char *text)
{
	AUTO_JSON json_t *object = parse(text);
	AUTO_ERROR struct error *err = NULL;
	json_t *made = store_create(c->flaky.real, res, ns, object, &err);

	assert_string_equal(error_message(err), "");
	return made;
}

static void put(struct cluster *c, const struct resource *res, const char *ns, const char *text)
{
	json_decref(create(c, res, ns, text));
}

static void patch(struct cluster *c, const struct resource *res, const char *name, const char *text)
{
	AUTO_JSON json_t *change = parse(text), *done = NULL;
	AUTO_ERROR struct error *err = NULL;

	done = store_patch(c->flaky.real, res, "team", name, res->status_subresource ? "status" : NULL, change, &err);
	assert_string_equal(error_message(err), "");
}

static size_t count(struct cluster *c, const struct resource *res)
{
	AUTO_JSON json_t *list = store_list(c->flaky.real, res, NULL, NULL, NULL);

	return json_array_size(list);
}

/* The import "web" of the namespace "team" with this spec. */
static void set_import(struct cluster *c, const char *name, const char *spec)
{
	AUTO_JSON json_t *parsed = parse(spec);

	json_decref(c->object);
	json_type_free(&api_vmimport_type, &c->import);
	c->object = json_pack("{s:s, s:s, s:{s:s, s:s, s:s}, s:O}", "apiVersion", API_GROUP_VERSION, "kind", "VirtualMachineImport",
			      "metadata", "name", name, "namespace", "team", "uid", "uid-of-import", "spec", parsed);
	assert_int_equal(json_decode(&api_vmimport_type, c->object, &c->import, NULL), 0);
	c->t = (struct target_import){ .object = c->object, .import = &c->import, .vm_name = "web-01" };
}

#define CLASS(name, provisioner, rest) "{'metadata': {'name': '" name "'" rest "}, 'provisioner': '" provisioner "'"

static int set_up(void **state)
{
	struct cluster *c = calloc(1, sizeof *c);

	strcpy(c->directory, "/tmp/test_target.XXXXXX");
	if (!mkdtemp(c->directory))
		return -1;
	c->flaky.store.ops = &flaky_ops;
	c->flaky.real = dir_store_open(c->directory, NULL);
	c->target = target_harvester_new(&c->flaky.store, NULL);
	put(c, &api_storage_classes, NULL,
	    "{'metadata': {'name': 'longhorn', 'annotations': {'storageclass.kubernetes.io/is-default-class': 'true'}}, "
	    "'provisioner': 'driver.longhorn.io', 'parameters': {'dataEngine': 'v1'}}");
	put(c, &api_storage_classes, NULL, CLASS("longhorn-old", "driver.longhorn.io", "") "}");
	put(c, &api_storage_classes, NULL, CLASS("longhorn-v2", "driver.longhorn.io", "") ", 'parameters': {'dataEngine': 'v2'}}");
	put(c, &api_storage_classes, NULL, CLASS("other", "example.csi.io", "") "}");
	put(c, &api_nads, "team", "{'metadata': {'name': 'vlan-1'}, 'spec': {}}");
	put(c, &api_nads, "shared", "{'metadata': {'name': 'vlan-2'}, 'spec': {}}");
	set_import(c, "web", "{}");
	*state = c;
	return 0;
}

static int tear_down(void **state)
{
	struct cluster *c = *state;

	target_free(c->target);
	store_close(c->flaky.real);
	json_decref(c->object);
	json_type_free(&api_vmimport_type, &c->import);
	nftw(c->directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(c);
	return 0;
}

static const char *text_at(const json_t *object, const char *path)
{
	const char *text = json_path_string(object, path);

	return text ? text : "(absent)";
}

static const char *keyed(const json_t *object, const char *path, const char *key)
{
	const char *text = json_string_value(json_object_get(json_path(object, path), key));

	return text ? text : "(absent)";
}

static void assert_json(const json_t *got, const char *wanted)
{
	AUTO_JSON json_t *want = parse(wanted);
	AUTO_FREE char *have_text = json_dumps(got, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
	AUTO_FREE char *want_text = json_dumps(want, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);

	assert_string_equal(have_text ? have_text : "(absent)", want_text);
}

/* --- preflight --- */

static char *problems_of(struct cluster *c, const struct vm_model *model)
{
	AUTO_JSON json_t *problems = json_array();
	AUTO_ERROR struct error *err = NULL;

	assert_int_equal(c->target->ops->preflight(c->target, &c->t, model, problems, &err), 0);
	assert_null(err);
	return json_dumps(problems, JSON_COMPACT);
}

static void preflight(void **state)
{
	static const struct {
		const char *spec, *parts[3]; /* none: no problem */
	} cases[] = {
		{ "{}", { 0 } },
		{ "{'storageClass': ''}", { 0 } },
		{ "{'storageClass': 'other'}", { 0 } },
		{ "{'storageClass': 'missing'}", { "there is no StorageClass missing" } },
		{ "{'networkMapping': [{'sourceNetwork': 'VM Network', 'destinationNetwork': 'vlan-1'}, "
		  "{'sourceNetwork': 'dvs', 'destinationNetwork': 'shared/vlan-2'}]}",
		  { 0 } },
		{ "{'networkMapping': [{'sourceNetwork': 'dvs', 'destinationNetwork': 'team/vlan-1'}]}", { 0 } },
		{ "{'networkMapping': [{'sourceNetwork': 'dvs', 'destinationNetwork': 'vlan-2'}]}",
		  { "networkMapping[0].destinationNetwork: there is no NetworkAttachmentDefinition team/vlan-2" } },
		{ "{'networkMapping': [{'sourceNetwork': 'dvs', 'destinationNetwork': 'vlan'}]}",
		  { "no NetworkAttachmentDefinition team/vlan;" } },
		{ "{'networkMapping': [{'sourceNetwork': 'dvs', 'destinationNetwork': '/vlan-1'}]}",
		  { "neither NAME nor NAMESPACE/NAME" } },
		{ "{'networkMapping': [{'sourceNetwork': 'dvs', 'destinationNetwork': 'team/'}]}", { "neither NAME nor NAMESPACE/NAME" } },
		{ "{'networkMapping': [{'sourceNetwork': 'dvs', 'destinationNetwork': 'a/b/c'}]}", { "neither NAME nor NAMESPACE/NAME" } },
		{ "{'networkMapping': [{'sourceNetwork': 'dvs', 'destinationNetwork': 'team/VM Network'}]}",
		  { "networkMapping[0].destinationNetwork \\\"team/VM Network\\\" is neither NAME nor NAMESPACE/NAME of lower-case" } },
		{ "{'networkMapping': [{'sourceNetwork': 'dvs', 'destinationNetwork': 'vlan_1'}]}", { "neither NAME nor NAMESPACE/NAME" } },
		/* All that is wrong, at once. */
		{ "{'storageClass': 'missing', 'networkMapping': [{'sourceNetwork': 'dvs', 'destinationNetwork': 'none/such'}, "
		  "{'sourceNetwork': 'dvs', 'destinationNetwork': 'vlan-1'}]}",
		  { "StorageClass missing", "\\\"dvs\\\" twice", "NetworkAttachmentDefinition none/such" } },
		{ "{'networkMapping': [{'sourceNetwork': 'lab', 'destinationNetwork': 'vlan-1'}]}",
		  { "\\\"lab\\\" is no network of Web" } },
	};
	struct vm_nic nics[] = { { .network = (char *)"VM Network" }, { .network = (char *)"dvs" } };
	struct vm_model model = { .name = (char *)"Web", .nics = nics, .nic_count = 2 };
	struct cluster *c = *state;

	for (size_t i = 0; i < COUNT(cases); i++) {
		set_import(c, "web", cases[i].spec);
		AUTO_FREE char *text = problems_of(c, &model);
		if (!cases[i].parts[0])
			assert_string_equal(text, "[]");
		for (size_t k = 0; k < 3 && cases[i].parts[k]; k++)
			if (!strstr(text, cases[i].parts[k]))
				fail_msg("%s is not in %s", cases[i].parts[k], text);
	}
	assert_int_equal(count(c, &api_vmimages) + count(c, &api_vms) + count(c, &api_pvcs), 0);
}

static void default_storage_class(void **state)
{
	struct cluster *c = *state;
	AUTO_FREE char *none = NULL, *some = NULL;

	assert_int_equal(store_delete(c->flaky.real, &api_storage_classes, NULL, "longhorn", NULL, NULL), 0);
	none = problems_of(c, NULL);
	assert_non_null(strstr(none, "no default StorageClass"));
	put(c, &api_storage_classes, NULL,
	    CLASS("old", "example.csi.io", ", 'annotations': {'storageclass.beta.kubernetes.io/is-default-class': 'true'}") "}");
	put(c, &api_storage_classes, NULL,
	    CLASS("not", "example.csi.io", ", 'annotations': {'storageclass.kubernetes.io/is-default-class': 'false'}") "}");
	some = problems_of(c, NULL);
	assert_string_equal(some, "[]");
}

static void name_of_another(void **state)
{
	struct cluster *c = *state;

	put(c, &api_vms, "other", "{'metadata': {'name': 'web-01'}, 'spec': {}}"); /* in another namespace */
	{
		AUTO_FREE char *text = problems_of(c, NULL);
		assert_string_equal(text, "[]");
	}
	put(c, &api_vms, "team",
	    "{'metadata': {'name': 'web-01', 'labels': {'migration.harvesterhci.io/imported': 'true'}, "
	    "'annotations': {'migration.harvesterhci.io/virtualmachineimport-uid': 'uid-of-another'}}, 'spec': {}}");
	{
		AUTO_FREE char *text = problems_of(c, NULL);
		assert_non_null(strstr(text, "web-01 exists in the namespace team"));
		assert_non_null(strstr(text, "targetVirtualMachineName"));
	}
	assert_int_equal(store_delete(c->flaky.real, &api_vms, "team", "web-01", NULL, NULL), 0);
	put(c, &api_vms, "team",
	    "{'metadata': {'name': 'web-01', 'annotations': {'migration.harvesterhci.io/virtualmachineimport-uid': 'uid-of-import'}}, 'spec': {}}");
	AUTO_FREE char *text = problems_of(c, NULL);
	assert_string_equal(text, "[]");
}

/* --- images --- */

static struct target_disk disk_named(const char *name, const char *image)
{
	return (struct target_disk){
		.name = name, .url = "http://import:8080/images/x/disk", .capacity = 1 << 20, .image = image, .bus = "sata"
	};
}

static char *submit(struct cluster *c, const char *disk_name)
{
	struct target_disk disk = disk_named(disk_name, "");
	AUTO_ERROR struct error *err = NULL;
	char *image = NULL;

	assert_int_equal(c->target->ops->submit_disk(c->target, &c->t, &disk, &image, &err), 0);
	assert_null(err);
	return image;
}

static json_t *image_named(struct cluster *c, const char *name)
{
	json_t *image = store_get(c->flaky.real, &api_vmimages, "team", name, NULL);

	assert_non_null(image);
	return image;
}

static void image_of_a_disk(void **state)
{
	struct cluster *c = *state;
	AUTO_FREE char *name = submit(c, "disk-0.raw"), *again = submit(c, "disk-0.raw"), *other = submit(c, "disk-1.raw");
	AUTO_JSON json_t *image = image_named(c, name);

	assert_string_equal(name, again);
	assert_string_not_equal(name, other);
	assert_int_equal(count(c, &api_vmimages), 2);
	assert_memory_equal(name, "image-", 6);
	assert_string_equal(text_at(image, "apiVersion"), "harvesterhci.io/v1beta1");
	assert_json(json_path(image, "metadata.labels"),
		    "{'migration.harvesterhci.io/imported': 'true', 'harvesterhci.io/imageDisplayName': 'vm-import-web-disk-0.raw'}");
	assert_json(json_path(image, "metadata.annotations"), "{'harvesterhci.io/storageClassName': 'longhorn'}");
	assert_json(
		json_path(image, "metadata.ownerReferences"),
		"[{'apiVersion': 'migration.harvesterhci.io/v1beta1', 'kind': 'VirtualMachineImport', 'name': 'web', 'uid': 'uid-of-import', "
		"'controller': false, 'blockOwnerDeletion': false}]");
	assert_json(json_path(image, "spec"), "{'displayName': 'vm-import-web-disk-0.raw', 'sourceType': 'download', "
					      "'url': 'http://import:8080/images/x/disk', 'backend': 'backingimage'}");
}

static void backends(void **state)
{
	static const struct {
		const char *class, *backend, *target_class;
	} cases[] = {
		{ "longhorn", "backingimage", "(absent)" },
		{ "longhorn-old", "backingimage", "(absent)" },
		{ "longhorn-v2", "cdi", "longhorn-v2" },
		{ "other", "cdi", "other" },
	};
	struct cluster *c = *state;

	for (size_t i = 0; i < COUNT(cases); i++) {
		char spec[128], disk[32];

		snprintf(spec, sizeof spec, "{'storageClass': '%s'}", cases[i].class);
		snprintf(disk, sizeof disk, "disk-%zu.raw", i);
		set_import(c, "web", spec);
		AUTO_FREE char *name = submit(c, disk);
		AUTO_JSON json_t *image = image_named(c, name);
		assert_string_equal(text_at(image, "spec.backend"), cases[i].backend);
		assert_string_equal(text_at(image, "spec.targetStorageClassName"), cases[i].target_class);
		assert_string_equal(keyed(image, "metadata.annotations", "harvesterhci.io/storageClassName"), cases[i].class);
	}
}

static void long_names(void **state)
{
	struct cluster *c = *state;

	set_import(c, "an-import-whose-name-is-very-long.and.has.dots-in-it-and-still-goes-on-and-on-and-on-and-on", "{}");
	AUTO_FREE char *first = submit(c, "disk-0.raw"), *second = submit(c, "disk-1.raw"), *again = submit(c, "disk-0.raw");
	AUTO_JSON json_t *a = image_named(c, first), *b = image_named(c, second);
	assert_string_equal(first, again);
	assert_string_not_equal(text_at(a, "spec.displayName"), text_at(b, "spec.displayName"));
	assert_in_range(strlen(text_at(a, "spec.displayName")), 20, 63);
	assert_string_equal(keyed(a, "metadata.labels", "harvesterhci.io/imageDisplayName"), text_at(a, "spec.displayName"));
}

static void images_of_others_are_not_ours(void **state)
{
	struct cluster *c = *state;
	AUTO_JSON json_t *another =
		create(c, &api_vmimages, "team",
		       "{'metadata': {'generateName': 'image-', 'labels': {'migration.harvesterhci.io/imported': 'true'}, "
		       "'ownerReferences': [{'uid': 'uid-of-another'}]}, 'spec': {'displayName': 'vm-import-web-disk-0.raw'}}");
	AUTO_JSON json_t *unlabelled = create(c, &api_vmimages, "team",
					      "{'metadata': {'generateName': 'image-', 'ownerReferences': [{'uid': 'uid-of-import'}]}, "
					      "'spec': {'displayName': 'vm-import-web-disk-0.raw'}}");
	AUTO_JSON json_t *going =
		create(c, &api_vmimages, "team",
		       "{'metadata': {'generateName': 'image-', 'finalizers': ['x/y'], 'labels': {'migration.harvesterhci.io/imported': "
		       "'true'}, 'ownerReferences': [{'uid': 'uid-of-import'}]}, 'spec': {'displayName': 'vm-import-web-disk-0.raw'}}");
	assert_int_equal(store_delete(c->flaky.real, &api_vmimages, "team", text_at(going, "metadata.name"), NULL, NULL), 0);
	AUTO_FREE char *name = submit(c, "disk-0.raw");
	assert_string_not_equal(name, text_at(another, "metadata.name"));
	assert_string_not_equal(name, text_at(unlabelled, "metadata.name"));
	assert_string_not_equal(name, text_at(going, "metadata.name"));
	assert_int_equal(count(c, &api_vmimages), 4);
}

static void storage_class_that_went(void **state)
{
	struct cluster *c = *state;
	struct target_disk disk = disk_named("disk-0.raw", "");
	AUTO_ERROR struct error *err = NULL;
	char *image = NULL;

	set_import(c, "web", "{'storageClass': 'gone'}");
	assert_int_equal(c->target->ops->submit_disk(c->target, &c->t, &disk, &image, &err), -1);
	assert_int_equal(err->class, ERROR_TRANSIENT);
	assert_null(image);
	assert_int_equal(count(c, &api_vmimages), 0);
}

#define COND(type, status, message) "{'type': '" type "', 'status': '" status "', 'message': '" message "'}"

static void image_states(void **state)
{
	static const struct {
		const char *status;
		enum target_state state;
		unsigned percent;
		const char *message; /* NULL: none */
	} cases[] = {
		{ "{}", TARGET_PENDING, 0, NULL },
		{ "{'progress': 42, 'conditions': [" COND("Initialized", "True", "") ", " COND("Imported", "Unknown", "") "]}",
		  TARGET_PENDING, 42, NULL },
		{ "{'progress': 100, 'conditions': [" COND("Imported", "Unknown", "") "]}", TARGET_PENDING, 100, NULL },
		{ "{'progress': -5}", TARGET_PENDING, 0, NULL },
		{ "{'progress': 4000000000000}", TARGET_PENDING, 0, NULL },
		{ "{'progress': 100, 'conditions': [" COND("Imported", "True", "") "]}", TARGET_READY, 100, NULL },
		/* Tries that failed, with more to come. */
		{ "{'progress': 7, 'failed': 1, 'conditions': [" COND("Imported", "Unknown", "") ", " COND(
			  "RetryLimitExceeded", "False", "failed due to error: lost") "]}",
		  TARGET_PENDING, 7, "failed due to error: lost" },
		{ "{'failed': 3, 'conditions': [" COND("RetryLimitExceeded", "False", "retry attempted 2/3 lost") "]}", TARGET_PENDING, 0,
		  "retry attempted 2/3 lost" },
		{ "{'failed': 2, 'conditions': [" COND("Initialized", "False", "no host") ", " COND("RetryLimitExceeded", "False", "") "]}",
		  TARGET_PENDING, 0, "no host" },
		/* The last one. */
		{ "{'failed': 4, 'conditions': [" COND("Imported", "False", "x") ", " COND("RetryLimitExceeded", "True",
											   "retry attempted 3/3 lost") "]}",
		  TARGET_FAILED, 0, "retry attempted 3/3 lost" },
		{ "{'failed': 4, 'conditions': [" COND("Initialized", "False", "no host") ", " COND("RetryLimitExceeded", "False", "") "]}",
		  TARGET_FAILED, 0, "no host" },
		/* A Harvester without retries. */
		{ "{'conditions': [" COND("Initialized", "True", "") ", " COND("Imported", "False", "import failed") "]}", TARGET_FAILED, 0,
		  "import failed" },
		{ "{'conditions': [" COND("Initialized", "False", "bad URL") "]}", TARGET_FAILED, 0, "bad URL" },
		{ "{'failed': 4, 'conditions': [" COND("RetryLimitExceeded", "True", "") "]}", TARGET_FAILED, 0, NULL },
	};
	struct cluster *c = *state;

	for (size_t i = 0; i < COUNT(cases); i++) {
		AUTO_FREE char *name = submit(c, "disk-0.raw"), *change = NULL, *message = NULL;
		struct target_disk disk = disk_named("disk-0.raw", name);
		struct target_progress progress = { .state = TARGET_FAILED, .percent = 77 };

		assert_true(asprintf(&change, "{'status': %s}", cases[i].status) > 0);
		patch(c, &api_vmimages, name, change);
		assert_int_equal(c->target->ops->disk_state(c->target, &c->t, &disk, &progress, NULL), 0);
		message = progress.message;
		assert_int_equal(progress.state, cases[i].state);
		assert_int_equal(progress.percent, cases[i].percent);
		if (cases[i].message)
			assert_string_equal(message, cases[i].message);
		else
			assert_null(message);
		assert_int_equal(c->target->ops->delete_disk(c->target, &c->t, &disk, NULL), 0);
		assert_int_equal(count(c, &api_vmimages), 0);
	}
	struct target_disk gone = disk_named("disk-0.raw", "image-gone"), none = disk_named("disk-0.raw", "");
	struct target_progress progress = { 0 };
	assert_int_equal(c->target->ops->disk_state(c->target, &c->t, &gone, &progress, NULL), 0);
	assert_int_equal(progress.state, TARGET_FAILED);
	assert_non_null(strstr(progress.message, "deleted"));
	free(progress.message);
	assert_int_equal(c->target->ops->delete_disk(c->target, &c->t, &gone, NULL), 0);
	assert_int_equal(c->target->ops->delete_disk(c->target, &c->t, &none, NULL), 0);
}

/* --- machines --- */

static struct vm_model model = {
	.name = (char *)"Web", .vcpus = 2, .cores_per_socket = 1, .memory = UINT64_C(1) << 30, .power = VM_POWER_ON
};

/* Two images as they are when they are ready. */
static void make_images(struct cluster *c, struct target_disk disks[2])
{
	static char names[2][64];

	for (size_t i = 0; i < 2; i++) {
		const char *disk = i ? "disk-1.raw" : "disk-0.raw";
		AUTO_FREE char *name = submit(c, disk);

		snprintf(names[i], sizeof names[i], "%s", name);
		disks[i] = disk_named(disk, names[i]);
		patch(c, &api_vmimages, name,
		      i ? "{'status': {'virtualSize': 1000, 'storageClassName': 'lh-1'}}"
			: "{'status': {'virtualSize': 3145728, 'storageClassName': 'lh-0'}}");
	}
}

static void machine_and_claims(void **state)
{
	struct cluster *c = *state;
	struct target_disk disks[2];
	AUTO_ERROR struct error *err = NULL;

	make_images(c, disks);
	for (int i = 0; i < 2; i++) { /* the second time nothing is made */
		assert_int_equal(c->target->ops->create_vm(c->target, &c->t, &model, disks, 2, &err), 0);
		assert_null(err);
		assert_int_equal(count(c, &api_pvcs), 2);
		assert_int_equal(count(c, &api_vms), 1);
	}
	AUTO_JSON json_t *first = store_get(c->flaky.real, &api_pvcs, "team", disks[0].image, NULL);
	AUTO_JSON json_t *second = store_get(c->flaky.real, &api_pvcs, "team", disks[1].image, NULL);
	AUTO_JSON json_t *vm = store_get(c->flaky.real, &api_vms, "team", "web-01", NULL);
	AUTO_FREE char *id = NULL;
	assert_true(asprintf(&id, "team/%s", disks[0].image) > 0);
	assert_string_equal(keyed(first, "metadata.annotations", "harvesterhci.io/imageId"), id);
	assert_null(json_path(first, "metadata.ownerReferences"));
	assert_json(json_path(first, "spec"), "{'accessModes': ['ReadWriteMany'], 'volumeMode': 'Block', 'storageClassName': 'lh-0', "
					      "'resources': {'requests': {'storage': '3145728'}}}");
	/* Never smaller than the disk, whatever the image says. */
	assert_json(json_path(second, "spec"), "{'accessModes': ['ReadWriteMany'], 'volumeMode': 'Block', 'storageClassName': 'lh-1', "
					       "'resources': {'requests': {'storage': '1048576'}}}");
	assert_string_equal(keyed(vm, "metadata.annotations", "migration.harvesterhci.io/virtualmachineimport"), "team/web");
	assert_string_equal(text_at(json_array_get(json_path(vm, "spec.template.spec.volumes"), 1), "persistentVolumeClaim.claimName"),
			    disks[1].image);
}

static void claims_of_cdi_are_there(void **state)
{
	struct cluster *c = *state;
	struct target_disk disks[2];

	set_import(c, "web", "{'storageClass': 'other'}");
	make_images(c, disks);
	assert_int_equal(c->target->ops->create_vm(c->target, &c->t, &model, disks, 2, NULL), 0);
	assert_int_equal(count(c, &api_pvcs), 0);
	assert_int_equal(count(c, &api_vms), 1);
}

static void machine_of_another_is_left_alone(void **state)
{
	struct cluster *c = *state;
	struct target_disk disks[2];
	AUTO_ERROR struct error *err = NULL;

	make_images(c, disks);
	AUTO_JSON json_t *theirs =
		create(c, &api_vms, "team",
		       "{'metadata': {'name': 'web-01', 'labels': {'migration.harvesterhci.io/imported': 'true'}}, "
		       "'spec': {'template': {'spec': {'volumes': [{'name': 'disk-0', 'persistentVolumeClaim': {'claimName': 'x'}}]}}}}");
	assert_int_equal(c->target->ops->create_vm(c->target, &c->t, &model, disks, 2, &err), -1);
	assert_int_equal(err->class, ERROR_PERMANENT);
	assert_string_equal(err->reason, "NameTaken");
	AUTO_JSON json_t *now = store_get(c->flaky.real, &api_vms, "team", "web-01", NULL);
	assert_true(json_equal(now, theirs));
}

/* Made by Harvester's own controller, which did not get to note it. */
static void machine_of_our_disks_is_taken_over(void **state)
{
	struct cluster *c = *state;
	struct target_disk disks[2];
	AUTO_FREE char *text = NULL;

	make_images(c, disks);
	assert_true(
		asprintf(
			&text,
			"{'metadata': {'name': 'web-01', 'labels': {'migration.harvesterhci.io/imported': 'true'}}, 'spec': {'template': {'spec': "
			"{'volumes': [{'name': 'disk-0', 'persistentVolumeClaim': {'claimName': '%s'}}, "
			"{'name': 'disk-1', 'persistentVolumeClaim': {'claimName': '%s'}}]}}}}",
			disks[0].image, disks[1].image) > 0);
	put(c, &api_vms, "team", text);
	assert_int_equal(c->target->ops->create_vm(c->target, &c->t, &model, disks, 2, NULL), 0);
	assert_int_equal(count(c, &api_vms), 1);
}

static void machine_that_is_being_deleted(void **state)
{
	struct cluster *c = *state;
	struct target_disk disks[2];
	AUTO_ERROR struct error *err = NULL;

	make_images(c, disks);
	put(c, &api_vms, "team",
	    "{'metadata': {'name': 'web-01', 'finalizers': ['x/y'], 'annotations': {'migration.harvesterhci.io/virtualmachineimport-uid': "
	    "'uid-of-import'}}, 'spec': {}}");
	assert_int_equal(store_delete(c->flaky.real, &api_vms, "team", "web-01", NULL, NULL), 0);
	assert_int_equal(c->target->ops->create_vm(c->target, &c->t, &model, disks, 2, &err), -1);
	assert_int_equal(err->class, ERROR_TRANSIENT);
}

static void images_that_are_not_ready(void **state)
{
	struct cluster *c = *state;
	struct target_disk disks[2];
	AUTO_ERROR struct error *err = NULL, *err2 = NULL;

	make_images(c, disks);
	patch(c, &api_vmimages, disks[1].image, "{'status': {'storageClassName': null}}");
	assert_int_equal(c->target->ops->create_vm(c->target, &c->t, &model, disks, 2, &err), -1);
	assert_int_equal(err->class, ERROR_TRANSIENT);
	assert_int_equal(store_delete(c->flaky.real, &api_vmimages, "team", disks[1].image, NULL, NULL), 0);
	assert_int_equal(c->target->ops->create_vm(c->target, &c->t, &model, disks, 2, &err2), -1);
	assert_int_equal(err2->class, ERROR_PERMANENT);
	assert_non_null(strstr(error_message(err2), disks[1].image));
	assert_int_equal(count(c, &api_vms), 0);
}

static void machine_states(void **state)
{
	static const struct {
		const char *strategy, *status;
		enum target_state state;
		const char *message;
	} cases[] = {
		{ "RerunOnFailure", "{}", TARGET_PENDING, NULL },
		{ "RerunOnFailure", "{'ready': true, 'printableStatus': 'Running'}", TARGET_READY, NULL },
		{ "RerunOnFailure", "{'ready': false, 'printableStatus': 'Starting'}", TARGET_PENDING, "Starting" },
		{ "RerunOnFailure", "{'ready': 'true', 'printableStatus': 'Running'}", TARGET_PENDING, "Running" },
		{ "RerunOnFailure", "{'printableStatus': 'Stopped'}", TARGET_PENDING, "Stopped" },
		{ "RerunOnFailure",
		  "{'printableStatus': 'ErrorUnschedulable', 'conditions': [" COND("Ready", "False", "no pod") ", " COND(
			  "PodScheduled", "False", "0/3 nodes are available") "]}",
		  TARGET_PENDING, "ErrorUnschedulable: 0/3 nodes are available" },
		{ "RerunOnFailure",
		  "{'printableStatus': 'Stopped', 'conditions': [" COND("Failure", "True", "quota exceeded") ", " COND("Ready", "False",
														       "none") "]}",
		  TARGET_PENDING, "Stopped: quota exceeded" },
		{ "RerunOnFailure", "{'conditions': [" COND("Ready", "False", "VMI does not exist") "]}", TARGET_PENDING,
		  "VMI does not exist" },
		{ "Halted", "{}", TARGET_PENDING, NULL },
		{ "Halted", "{'printableStatus': 'Stopped'}", TARGET_READY, NULL },
		{ "Halted", "{'printableStatus': 'Stopping'}", TARGET_PENDING, "Stopping" },
	};
	struct cluster *c = *state;
	struct target_progress progress = { 0 };

	for (size_t i = 0; i < COUNT(cases); i++) {
		AUTO_FREE char *vm = NULL, *status = NULL, *message = NULL;

		assert_true(asprintf(&vm, "{'metadata': {'name': 'web-01'}, 'spec': {'runStrategy': '%s'}}", cases[i].strategy) > 0);
		assert_true(asprintf(&status, "{'status': %s}", cases[i].status) > 0);
		put(c, &api_vms, "team", vm);
		patch(c, &api_vms, "web-01", status);
		assert_int_equal(c->target->ops->vm_state(c->target, &c->t, &progress, NULL), 0);
		message = progress.message;
		assert_int_equal(progress.state, cases[i].state);
		if (cases[i].message)
			assert_string_equal(message ? message : "(none)", cases[i].message);
		else
			assert_null(message);
		assert_int_equal(store_delete(c->flaky.real, &api_vms, "team", "web-01", NULL, NULL), 0);
	}
	assert_int_equal(c->target->ops->vm_state(c->target, &c->t, &progress, NULL), 0);
	assert_int_equal(progress.state, TARGET_FAILED);
	assert_non_null(strstr(progress.message, "deleted"));
	free(progress.message);
}

/* --- the end --- */

static void images_are_released(void **state)
{
	struct cluster *c = *state;
	struct target_disk disks[2];
	AUTO_ERROR struct error *err = NULL;

	make_images(c, disks);
	AUTO_JSON json_t *another =
		create(c, &api_vmimages, "team",
		       "{'metadata': {'generateName': 'image-', 'labels': {'migration.harvesterhci.io/imported': 'true'}, "
		       "'ownerReferences': [{'uid': 'uid-of-another'}]}, 'spec': {'displayName': 'other'}}");
	patch(c, &api_vmimages, disks[1].image,
	      "{'metadata': {'ownerReferences': [{'uid': 'first'}, {'uid': 'uid-of-import'}, {'uid': 'last'}]}}");
	/* Somebody adds an owner between our look and our patch. */
	c->flaky.before_patch = parse("{'metadata': {'ownerReferences': [{'uid': 'uid-of-import'}, {'uid': 'new'}]}}");
	assert_int_equal(c->target->ops->release(c->target, &c->t, &err), -1);
	assert_int_equal(err->class, ERROR_CONFLICT);
	for (int i = 0; i < 2; i++)
		assert_int_equal(c->target->ops->release(c->target, &c->t, NULL), 0);
	size_t owners = 0;
	for (int i = 0; i < 2; i++) {
		AUTO_JSON json_t *image = image_named(c, disks[i].image);
		const json_t *owner;
		size_t k;

		json_array_foreach (json_path(image, "metadata.ownerReferences"), k, owner)
			assert_string_not_equal(text_at(owner, "uid"), "uid-of-import");
		owners += k;
	}
	assert_in_range(owners, 1, 3); /* those of others are all there: new, or new in place of first and last */
	AUTO_JSON json_t *untouched = image_named(c, text_at(another, "metadata.name"));
	assert_true(json_equal(untouched, another));
}

/* Each call of the store fails in turn, before or after it was done: the error comes out, and with another try all is right, once. */
static void every_failure(void **state)
{
	struct cluster *c = *state;
	struct target_disk disks[2];
	bool done = false;

	for (unsigned lost = 0; lost < 2; lost++) {
		done = false;
		for (unsigned n = 1; !done; n++) {
			struct target_disk disk = disk_named("disk-0.raw", "");
			AUTO_ERROR struct error *err = NULL;
			AUTO_FREE char *image = NULL;
			char *untouched = NULL;

			c->flaky.calls = 0;
			c->flaky.fail_at = n;
			c->flaky.lost = lost;
			done = c->target->ops->submit_disk(c->target, &c->t, &disk, &untouched, &err) == 0;
			assert_true(done == !err && done == (untouched != NULL));
			free(untouched);
			c->flaky.fail_at = 0;
			image = submit(c, "disk-0.raw");
			assert_int_equal(count(c, &api_vmimages), 1);
			assert_true(!done || n > 1);
			if (!done)
				assert_int_equal(store_delete(c->flaky.real, &api_vmimages, "team", image, NULL, NULL), 0);
		}
		make_images(c, disks);
		done = false;
		for (unsigned n = 1; !done; n++) {
			AUTO_ERROR struct error *err = NULL;

			c->flaky.calls = 0;
			c->flaky.fail_at = n;
			done = c->target->ops->create_vm(c->target, &c->t, &model, disks, 2, &err) == 0;
			assert_true(done == !err);
			c->flaky.fail_at = 0;
			assert_int_equal(c->target->ops->create_vm(c->target, &c->t, &model, disks, 2, NULL), 0);
			assert_int_equal(count(c, &api_pvcs), 2);
			assert_int_equal(count(c, &api_vms), 1);
			if (!done) {
				assert_int_equal(store_delete(c->flaky.real, &api_vms, "team", "web-01", NULL, NULL), 0);
				for (int i = 0; i < 2; i++)
					assert_int_equal(store_delete(c->flaky.real, &api_pvcs, "team", disks[i].image, NULL, NULL), 0);
			}
		}
		done = false;
		for (unsigned n = 1; !done; n++) {
			AUTO_ERROR struct error *err = NULL;

			c->flaky.calls = 0;
			c->flaky.fail_at = n;
			done = c->target->ops->release(c->target, &c->t, &err) == 0;
			assert_true(done == !err);
		}
		assert_int_equal(store_delete(c->flaky.real, &api_vms, "team", "web-01", NULL, NULL), 0);
		for (int i = 0; i < 2; i++) {
			assert_int_equal(store_delete(c->flaky.real, &api_pvcs, "team", disks[i].image, NULL, NULL), 0);
			assert_int_equal(store_delete(c->flaky.real, &api_vmimages, "team", disks[i].image, NULL, NULL), 0);
		}
	}
	set_import(c, "web", "{'networkMapping': [{'sourceNetwork': 'dvs', 'destinationNetwork': 'vlan-1'}]}");
	done = false;
	for (unsigned n = 1; !done; n++) {
		AUTO_JSON json_t *problems = json_array();
		AUTO_ERROR struct error *err = NULL;

		c->flaky.calls = 0;
		c->flaky.fail_at = n;
		done = c->target->ops->preflight(c->target, &c->t, NULL, problems, &err) == 0;
		assert_true(done == !err && !json_array_size(problems)); /* what could not be asked is no problem of the user */
	}
	c->flaky.calls = 0;
	c->flaky.fail_at = 1;
	struct target_progress progress = { .percent = 77 };
	struct target_disk disk = disk_named("disk-0.raw", "image-x");
	AUTO_ERROR struct error *err = NULL, *err2 = NULL;
	assert_int_equal(c->target->ops->disk_state(c->target, &c->t, &disk, &progress, &err), -1);
	assert_int_equal(progress.percent, 77);
	c->flaky.calls = 0;
	assert_int_equal(c->target->ops->vm_state(c->target, &c->t, &progress, &err2), -1);
	assert_int_equal(progress.percent, 77);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(preflight),
		TEST(default_storage_class),
		TEST(name_of_another),
		TEST(image_of_a_disk),
		TEST(backends),
		TEST(long_names),
		TEST(images_of_others_are_not_ours),
		TEST(storage_class_that_went),
		TEST(image_states),
		TEST(machine_and_claims),
		TEST(claims_of_cdi_are_there),
		TEST(machine_of_another_is_left_alone),
		TEST(machine_of_our_disks_is_taken_over),
		TEST(machine_that_is_being_deleted),
		TEST(images_that_are_not_ready),
		TEST(machine_states),
		TEST(images_are_released),
		TEST(every_failure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
