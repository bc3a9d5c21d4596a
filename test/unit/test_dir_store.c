// links: store/dir store api json base PkgConfig::jansson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "api/resources.h"
#include "base/clock.h"
#include "scratch.h"
#include "store/dir/dir.h"
#include "store/informer.h"
#include "json/codec.h"
#include "json/yaml.h"

static struct store *open_store(void)
{
	AUTO_ERROR struct error *err = NULL;
	struct store *s = dir_store_open(directory, &err);

	assert_string_equal(error_message(err), "");
	return s;
}

static bool is_file(const char *name)
{
	char path[256];

	snprintf(path, sizeof path, "%s/%s", directory, name);
	return access(path, F_OK) == 0;
}

static json_t *parse(const char *text)
{
	AUTO_ERROR struct error *err = NULL;
	AUTO_JSON json_t *documents = yaml_load(text, strlen(text), "test", &err);

	assert_string_equal(error_message(err), "");
	return json_incref(json_array_get(documents, 0));
}

static json_t *create(struct store *s, const struct resource *res, const char *ns, const char *text)
{
	AUTO_JSON json_t *object = parse(text);
	AUTO_ERROR struct error *err = NULL;
	json_t *made = store_create(s, res, ns, object, &err);

	assert_string_equal(error_message(err), "");
	return made;
}

static json_t *patch(struct store *s, const struct resource *res, const char *name, const char *subresource, const char *text,
		     struct error **err)
{
	AUTO_JSON json_t *object = parse(text);

	return store_patch(s, res, "default", name, subresource, object, err);
}

static void apply(struct store *s, const char *text)
{
	AUTO_JSON json_t *object = parse(text);
	AUTO_ERROR struct error *err = NULL;

	dir_store_apply(s, object, &err);
	assert_string_equal(error_message(err), "");
}

static const char *text_at(const json_t *object, const char *path)
{
	const char *text = json_path_string(object, path);

	return text ? text : "";
}

static void test_create_fills_in(void **state)
{
	struct store *s = open_store();
	AUTO_JSON json_t *made = create(s, &api_vmimports, "default", "{metadata: {name: a}, spec: {x: 1}, status: {importStatus: lie}}");
	AUTO_JSON json_t *generated = create(s, &api_vmimages, "default", "{metadata: {generateName: image-}, status: {progress: 1}}");
	AUTO_JSON json_t *object = parse("{metadata: {name: a}}"), *again = NULL, *found = NULL;
	AUTO_ERROR struct error *err = NULL;

	(void)state;
	assert_string_equal(text_at(made, "apiVersion"), "migration.harvesterhci.io/v1beta1");
	assert_string_equal(text_at(made, "kind"), "VirtualMachineImport");
	assert_int_equal(strlen(text_at(made, "metadata.uid")), 36);
	assert_true(clock_parse_rfc3339(text_at(made, "metadata.creationTimestamp")) > 0);
	assert_int_equal(json_integer_value(json_path(made, "metadata.generation")), 1);
	assert_true(*text_at(made, "metadata.resourceVersion"));
	assert_null(json_path(made, "status"));          /* it has a status subresource ... */
	assert_non_null(json_path(generated, "status")); /* ... images have none */
	assert_int_equal(strncmp(text_at(generated, "metadata.name"), "image-", 6), 0);
	assert_true(strlen(text_at(generated, "metadata.name")) > 6);
	again = store_create(s, &api_vmimports, "default", object, &err);
	assert_null(again);
	assert_int_equal(err->class, ERROR_CONFLICT);
	assert_string_equal(err->reason, "AlreadyExists");
	found = store_get(s, &api_vmimports, "default", "a", NULL);
	assert_true(json_equal(found, made));
	assert_true(is_file("virtualmachineimport-default-a.yaml"));
	store_close(s);
}

static void test_bad_names_are_refused(void **state)
{
	struct store *s = open_store();
	static const char *const bad[] = { "{metadata: {name: ../../x}}",
					   "{metadata: {name: A}}",
					   "{metadata: {name: a/b}}",
					   "{metadata: {name: ''}}",
					   "{metadata: {name: .hidden}}",
					   "{metadata: {}}",
					   "{spec: {}}",
					   "{metadata: {name: 'a b'}}" };

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		AUTO_JSON json_t *object = parse(bad[i]), *made = NULL;
		AUTO_ERROR struct error *err = NULL;

		made = store_create(s, &api_vmimports, "default", object, &err);
		assert_null(made);
		assert_int_equal(err->class, ERROR_PERMANENT);
	}
	store_close(s);
}

static void test_patches_and_generations(void **state)
{
	struct store *s = open_store();
	AUTO_JSON json_t *made = create(s, &api_vmimports, "default", "{metadata: {name: a}, spec: {x: 1, y: 2}}");
	AUTO_JSON json_t *status = NULL, *same = NULL, *spec = NULL, *labels = NULL, *stale = NULL, *missing = NULL, *meta = NULL;
	AUTO_ERROR struct error *err = NULL;
	char precondition[200];

	(void)state;
	/* The status subresource changes the status only. */
	status = patch(s, &api_vmimports, "a", "status", "{status: {importStatus: s, m: {n: 1}}, spec: {x: 9}, metadata: {labels: {l: v}}}",
		       NULL);
	assert_string_equal(text_at(status, "status.importStatus"), "s");
	assert_int_equal(json_integer_value(json_path(status, "spec.x")), 1);
	assert_null(json_path(status, "metadata.labels"));
	assert_int_equal(json_integer_value(json_path(status, "metadata.generation")), 1);
	assert_string_not_equal(text_at(status, "metadata.resourceVersion"), text_at(made, "metadata.resourceVersion"));
	/* What says nothing new makes no version. */
	same = patch(s, &api_vmimports, "a", "status", "{status: {importStatus: s}}", NULL);
	assert_string_equal(text_at(same, "metadata.resourceVersion"), text_at(status, "metadata.resourceVersion"));
	/* Without it the status stays, and a new spec is a new generation. */
	spec = patch(s, &api_vmimports, "a", NULL, "{spec: {x: 3, y: null}, status: {importStatus: lie}}", NULL);
	assert_int_equal(json_integer_value(json_path(spec, "spec.x")), 3);
	assert_null(json_path(spec, "spec.y"));
	assert_string_equal(text_at(spec, "status.importStatus"), "s");
	assert_int_equal(json_integer_value(json_path(spec, "metadata.generation")), 2);
	labels = patch(s, &api_vmimports, "a", NULL, "{metadata: {labels: {l: v}}}", NULL);
	assert_string_equal(text_at(labels, "metadata.labels.l"), "v");
	assert_int_equal(json_integer_value(json_path(labels, "metadata.generation")), 2);
	/* A version is a precondition. */
	snprintf(precondition, sizeof precondition, "{metadata: {resourceVersion: '%s', labels: {l: w}}}",
		 text_at(spec, "metadata.resourceVersion"));
	stale = patch(s, &api_vmimports, "a", NULL, precondition, &err);
	assert_null(stale);
	assert_int_equal(err->class, ERROR_CONFLICT);
	assert_string_equal(err->reason, "Conflict");
	assert_int_equal(err->code, 409);
	snprintf(precondition, sizeof precondition, "{metadata: {resourceVersion: '%s', labels: {l: w}}}",
		 text_at(labels, "metadata.resourceVersion"));
	stale = patch(s, &api_vmimports, "a", NULL, precondition, NULL);
	assert_string_equal(text_at(stale, "metadata.labels.l"), "w");
	/* Who an object is cannot be patched. */
	meta = patch(s, &api_vmimports, "a", NULL,
		     "{kind: X, metadata: {name: b, uid: u, generation: 77, deletionTimestamp: now, creationTimestamp: null}}", NULL);
	assert_true(json_equal(json_path(meta, "metadata"), json_path(stale, "metadata")));
	assert_string_equal(text_at(meta, "kind"), "VirtualMachineImport");
	error_free(move_ptr(err));
	missing = patch(s, &api_vmimports, "b", NULL, "{}", &err);
	assert_null(missing);
	assert_int_equal(err->class, ERROR_NOT_FOUND);
	error_free(move_ptr(err));
	missing = patch(s, &api_vmimages, "b", "status", "{}", &err);
	assert_int_equal(err->code, 404);
	/* What was handed out first did not change under way. */
	assert_int_equal(json_integer_value(json_path(made, "spec.x")), 1);
	assert_null(json_path(made, "status"));
	store_close(s);
}

static void test_delete_waits_for_finalizers(void **state)
{
	struct store *s = open_store();
	AUTO_JSON json_t *made = create(s, &api_vmimports, "default", "{metadata: {name: a, finalizers: [f, g]}}");
	AUTO_JSON json_t *marked = NULL, *half = NULL, *last = NULL, *gone = NULL;
	AUTO_ERROR struct error *err = NULL;

	(void)state;
	assert_int_equal(store_delete(s, &api_vmimports, "default", "a", "another", &err), -1);
	assert_int_equal(err->class, ERROR_CONFLICT);
	assert_int_equal(store_delete(s, &api_vmimports, "default", "a", text_at(made, "metadata.uid"), NULL), 0);
	marked = store_get(s, &api_vmimports, "default", "a", NULL);
	assert_true(clock_parse_rfc3339(text_at(marked, "metadata.deletionTimestamp")) > 0);
	assert_int_equal(store_delete(s, &api_vmimports, "default", "a", NULL, NULL), 0); /* harmless */
	half = patch(s, &api_vmimports, "a", NULL, "{metadata: {finalizers: [g]}}", NULL);
	assert_non_null(half);
	assert_true(is_file("virtualmachineimport-default-a.yaml"));
	last = patch(s, &api_vmimports, "a", NULL, "{metadata: {finalizers: null}}", NULL);
	assert_non_null(last);
	gone = store_get(s, &api_vmimports, "default", "a", NULL);
	assert_null(gone);
	assert_false(is_file("virtualmachineimport-default-a.yaml"));
	assert_int_equal(store_delete(s, &api_vmimports, "default", "a", NULL, NULL), 0); /* absent is success */
	store_close(s);
}

static void test_list_by_namespace_and_label(void **state)
{
	struct store *s = open_store();
	AUTO_JSON json_t *a = create(s, &api_vms, "one", "{metadata: {name: a, labels: {k: v}}}");
	AUTO_JSON json_t *b = create(s, &api_vms, "two", "{metadata: {name: b, labels: {k: w}}}");
	AUTO_JSON json_t *c = create(s, &api_vmimages, "two", "{metadata: {name: c, labels: {k: v}}}");
	AUTO_JSON json_t *class = create(s, &api_storage_classes, "ignored", "{metadata: {name: fast}, provisioner: p}");
	AUTO_JSON json_t *all = store_list(s, &api_vms, NULL, NULL, NULL), *two = store_list(s, &api_vms, "two", NULL, NULL);
	AUTO_JSON json_t *v = store_list(s, &api_vms, NULL, "k=v", NULL), *not_v = store_list(s, &api_vms, NULL, "k!=v", NULL);
	AUTO_JSON json_t *fast = store_get(s, &api_storage_classes, NULL, "fast", NULL), *none = store_list(s, &api_pvcs, NULL, NULL, NULL);

	(void)state;
	assert_int_equal(json_array_size(all), 2);
	assert_int_equal(json_array_size(two), 1);
	assert_string_equal(text_at(json_array_get(v, 0), "metadata.name"), "a");
	assert_string_equal(text_at(json_array_get(not_v, 0), "metadata.name"), "b");
	assert_non_null(fast);
	assert_null(json_path(class, "metadata.namespace"));
	assert_int_equal(json_array_size(none), 0);
	(void)a;
	(void)b;
	(void)c;
	store_close(s);
}

static void test_what_is_kept_between_runs(void **state)
{
	struct store *s = open_store();
	AUTO_JSON json_t *before = NULL, *after = NULL, *secret = NULL, *gone = NULL, *other = NULL, *next = NULL;

	(void)state;
	apply(s,
	      "{apiVersion: migration.harvesterhci.io/v1beta1, kind: VirtualMachineImport, metadata: {name: a, labels: {l: '1'}}, spec: {x: yes}}");
	apply(s, "{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {password: geheim}}");
	/* Two objects whose names look alike when put together. */
	apply(s, "{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {name: b-c, namespace: a}}");
	apply(s, "{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {name: c, namespace: a-b}}");
	before = patch(s, &api_vmimports, "a", "status", "{status: {importStatus: sourceReady, n: 7}}", NULL);
	store_close(s);

	s = open_store();
	after = store_get(s, &api_vmimports, "default", "a", NULL);
	assert_true(json_equal(before, after));
	secret = store_get(s, &api_secrets, "default", "s", NULL);
	assert_null(secret); /* never on a disk */
	other = store_list(s, &api_vms, NULL, NULL, NULL);
	assert_int_equal(json_array_size(other), 2);
	/* Versions go on. */
	next = patch(s, &api_vmimports, "a", NULL, "{metadata: {labels: {x: y}}}", NULL);
	assert_true(atol(text_at(next, "metadata.resourceVersion")) > atol(text_at(before, "metadata.resourceVersion")));
	assert_int_equal(store_delete(s, &api_vmimports, "default", "a", NULL, NULL), 0);
	store_close(s);

	s = open_store();
	gone = store_get(s, &api_vmimports, "default", "a", NULL);
	assert_null(gone);
	store_close(s);
}

static void test_apply_again(void **state)
{
	struct store *s = open_store();
	AUTO_JSON json_t *first = NULL, *second = NULL, *third = NULL, *annotated = NULL, *status = NULL;

	(void)state;
	apply(s,
	      "{apiVersion: migration.harvesterhci.io/v1beta1, kind: VirtualMachineImport, metadata: {name: a}, spec: {x: 1, y: {z: 2}}, status: "
	      "{importStatus: lie}}");
	first = store_get(s, &api_vmimports, "default", "a", NULL);
	assert_null(json_path(first, "status"));
	status = patch(s, &api_vmimports, "a", "status", "{status: {importStatus: sourceReady}}", NULL);
	annotated = patch(s, &api_vmimports, "a", NULL, "{metadata: {annotations: {ours: v}, finalizers: [f]}}", NULL);
	apply(s,
	      "{apiVersion: migration.harvesterhci.io/v1beta1, kind: VirtualMachineImport, metadata: {name: a, annotations: {theirs: w}}, spec: {y: {}}}");
	second = store_get(s, &api_vmimports, "default", "a", NULL);
	assert_null(json_path(second, "spec.x"));
	assert_null(json_path(second, "spec.y.z"));
	assert_string_equal(text_at(second, "status.importStatus"), "sourceReady");
	assert_string_equal(text_at(second, "metadata.annotations.ours"), "v");
	assert_string_equal(text_at(second, "metadata.annotations.theirs"), "w");
	assert_int_equal(json_array_size(json_path(second, "metadata.finalizers")), 1);
	assert_string_equal(text_at(second, "metadata.uid"), text_at(first, "metadata.uid"));
	assert_int_equal(json_integer_value(json_path(second, "metadata.generation")), 2);
	/* The same manifest once more changes nothing. */
	apply(s,
	      "{apiVersion: migration.harvesterhci.io/v1beta1, kind: VirtualMachineImport, metadata: {name: a, annotations: {theirs: w}}, spec: {y: {}}}");
	third = store_get(s, &api_vmimports, "default", "a", NULL);
	assert_true(json_equal(second, third));
	store_close(s);
}

static void test_secrets_are_folded(void **state)
{
	struct store *s = open_store();
	AUTO_JSON json_t *secret = NULL, *again = NULL,
			 *bad = parse("{apiVersion: v1, kind: Secret, metadata: {name: b}, stringData: {pin: 1234}}");
	AUTO_ERROR struct error *err = NULL;

	(void)state;
	apply(s, "{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {a: b2xk, b: Yg==}, stringData: {a: 'new', empty: ''}}");
	secret = store_get(s, &api_secrets, "default", "s", NULL);
	assert_string_equal(text_at(secret, "data.a"), "bmV3");
	assert_string_equal(text_at(secret, "data.b"), "Yg==");
	assert_string_equal(text_at(secret, "data.empty"), "");
	assert_null(json_path(secret, "stringData"));
	apply(s, "{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {c: 'x'}}");
	again = store_get(s, &api_secrets, "default", "s", NULL);
	assert_null(json_path(again, "data.a"));
	assert_string_equal(text_at(again, "data.c"), "eA==");
	assert_int_equal(dir_store_apply(s, bad, &err), -1);
	assert_non_null(strstr(err->message, "stringData.pin"));
	assert_false(is_file("secret-default-s.yaml"));
	store_close(s);
}

static void test_wrong_manifests_are_named(void **state)
{
	struct store *s = open_store();
	static const struct {
		const char *text, *told;
	} wrong[] = {
		{ "{kind: VirtualMachine}", "apiVersion or kind is missing" },
		{ "{apiVersion: kubevirt.io/v1alpha3, kind: VirtualMachine, metadata: {name: a}}", "kubevirt.io/v1" },
		{ "{apiVersion: v1, kind: VirtualMachineImport, metadata: {name: a}}", "migration.harvesterhci.io/v1beta1" },
		{ "{apiVersion: v1, kind: Secret, metadata: {name: ../x}}", "metadata.name" },
		{ "{apiVersion: v1, kind: Secret, metadata: {name: x, namespace: a.b}}", "metadata.namespace" },
		{ "{apiVersion: v1, kind: ../Thing, metadata: {name: x}}", "no kind" },
		{ "{apiVersion: migration.harvesterhci.io/v1, kind: OvaSource, metadata: {name: x}}",
		  "write apiVersion: migration.harvesterhci.io/v1beta1" },
		{ "{apiVersion: migration.harvesterhci.io/v1beta1, kind: OVASource, metadata: {name: x}}", "(is it OvaSource, " },
		{ "{apiVersion: migration.harvesterhci.io/v1beta1, kind: VMwareSource, metadata: {name: x}}", "(is it VmwareSource, " },
		{ "{apiVersion: migration.harvesterhci.io/v1beta1, kind: OpenStackSources, metadata: {name: x}}",
		  "(is it OpenstackSource, " },
		{ "{apiVersion: harvesterhci.io/v1beta1, kind: VirtualMachineImports, metadata: {name: x}}",
		  "(is it VirtualMachineImport, of apiVersion migration.harvesterhci.io/v1beta1?)" },
		{ "{apiVersion: v1, kind: Secrets, metadata: {name: x}}", "(is it Secret, of apiVersion v1?)" },
		{ "{apiVersion: migration.harvesterhci.io/v1beta1, kind: Vcenter, metadata: {name: x}}",
		  "has no kind Vcenter; it has Virtual" },
		{ "{apiVersion: migration.harvesterhc.io/v1beta1, kind: Vcenter, metadata: {name: x}}",
		  "has no kind Vcenter; it has Virtual" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		AUTO_JSON json_t *object = parse(wrong[i].text);
		AUTO_ERROR struct error *err = NULL;

		assert_int_equal(dir_store_apply(s, object, &err), -1);
		if (!strstr(err->message, wrong[i].told))
			fail_msg("%s: %s", wrong[i].text, err->message);
	}
	/* What is another's is none of our business, however it is called. */
	apply(s, "{apiVersion: example.com/v1, kind: Secrets, metadata: {name: x}}");
	apply(s, "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}");
	store_close(s);
}

static void test_foreign_files_are_named(void **state)
{
	AUTO_ERROR struct error *err = NULL;
	char path[128];
	FILE *f;

	(void)state;
	snprintf(path, sizeof path, "%s/thing-default-a.yaml", directory);
	f = fopen(path, "w");
	fputs("kind: [", f);
	fclose(f);
	assert_null(dir_store_open(directory, &err));
	assert_non_null(strstr(err->message, "thing-default-a.yaml"));
	assert_non_null(strstr(err->message, "line"));
	error_free(move_ptr(err));
	f = fopen(path, "w");
	fputs("{kind: Thing, metadata: {name: b, uid: u}}", f);
	fclose(f);
	assert_null(dir_store_open(directory, &err));
	assert_non_null(strstr(err->message, "thing-default-a.yaml"));
	/* What a crash in the middle may leave. */
	f = fopen(path, "w");
	fclose(f);
	store_close(open_store());
}

struct told {
	pthread_mutex_t lock;
	char text[4096];
	struct store *store;
};

static void on_change(void *arg, enum store_event event, const json_t *old, const json_t *object)
{
	struct told *t = arg;
	AUTO_JSON json_t *all = store_list(t->store, &api_vms, NULL, NULL, NULL); /* handlers may ask the store */
	size_t n;

	(void)old;
	LOCK_GUARD(&t->lock);
	n = strlen(t->text);
	snprintf(t->text + n, sizeof t->text - n, "%c%s=%s;", "AMD"[event], text_at(object, "metadata.name"), text_at(object, "spec.x"));
}

static void assert_told(struct told *t, const char *expected)
{
	for (int i = 0; i < 500; i++) {
		bool same;

		pthread_mutex_lock(&t->lock);
		same = !strcmp(t->text, expected);
		pthread_mutex_unlock(&t->lock);
		if (same)
			return;
		cancel_wait(NULL, 10);
	}
	pthread_mutex_lock(&t->lock);
	assert_string_equal(t->text, expected);
}

static void test_watch_tells_in_order(void **state)
{
	struct store *s = open_store();
	struct told t = { .lock = PTHREAD_MUTEX_INITIALIZER, .store = s };
	AUTO_JSON json_t *a = create(s, &api_vms, "default", "{metadata: {name: a, labels: {k: v}}, spec: {x: '1'}}");
	AUTO_JSON json_t *hidden = create(s, &api_vms, "default", "{metadata: {name: hidden}, spec: {x: '1'}}"), *b = NULL, *changed = NULL,
			 *left = NULL;
	struct informer *i = store_watch(s, &api_vms, "default", "k", on_change, &t, NULL);

	(void)state;
	assert_true(informer_wait(i, NULL));
	b = create(s, &api_vms, "default", "{metadata: {name: b, labels: {k: w}}, spec: {x: '2'}}");
	changed = patch(s, &api_vms, "a", NULL, "{spec: {x: '3'}}", NULL);
	json_decref(create(s, &api_vms, "other", "{metadata: {name: c, labels: {k: w}}}"));
	json_decref(create(s, &api_vmimages, "default", "{metadata: {name: d, labels: {k: w}}}"));
	/* What matches no more is gone for the watcher, and comes back when it matches again. */
	left = patch(s, &api_vms, "a", NULL, "{metadata: {labels: {k: null}}}", NULL);
	json_decref(patch(s, &api_vms, "a", NULL, "{metadata: {labels: {k: z}}}", NULL));
	store_delete(s, &api_vms, "default", "b", NULL, NULL);
	assert_told(&t, "Aa=1;Ab=2;Ma=3;Da=3;Aa=3;Db=2;");
	assert_int_equal(informer_count(i), 1);
	informer_free(i);
	(void)hidden;
	store_close(s);
}

static void test_watch_of_one_object(void **state)
{
	struct store *s = open_store();
	struct told t = { .lock = PTHREAD_MUTEX_INITIALIZER, .store = s };
	struct informer *i = store_watch_object(s, &api_vms, "default", "a", on_change, &t, NULL);

	(void)state;
	assert_true(informer_wait(i, NULL));
	json_decref(create(s, &api_vms, "default", "{metadata: {name: aa}, spec: {x: '1'}}"));
	json_decref(create(s, &api_vms, "default", "{metadata: {name: a}, spec: {x: '2'}}"));
	json_decref(create(s, &api_vms, "other", "{metadata: {name: a}, spec: {x: '3'}}"));
	json_decref(patch(s, &api_vms, "a", NULL, "{spec: {x: '4'}}", NULL));
	assert_told(&t, "Aa=2;Ma=4;");
	informer_free(i);
	*t.text = 0;
	i = store_watch_object(s, &api_vms, "default", "a", on_change, &t, NULL);
	store_delete(s, &api_vms, "default", "aa", NULL, NULL);
	store_delete(s, &api_vms, "default", "a", NULL, NULL);
	assert_told(&t, "Aa=4;Da=4;");
	informer_free(i);
	store_close(s);
}

static void *change_much(void *arg)
{
	struct store *s = arg;

	for (int i = 0; i < 200; i++) {
		AUTO_JSON json_t *p = NULL, *done = NULL;
		char text[16];

		snprintf(text, sizeof text, "%d", i);
		p = json_pack("{s:{s:s}}", "spec", "x", text);
		done = store_patch(s, &api_vms, "default", "a", NULL, p, NULL);
	}
	return NULL;
}

struct monotonic {
	long last;
	atomic_bool broken;
};

static void on_version(void *arg, enum store_event event, const json_t *old, const json_t *object)
{
	struct monotonic *m = arg;
	long version = atol(text_at(object, "metadata.resourceVersion"));

	(void)event;
	(void)old;
	if (version <= m->last)
		m->broken = true;
	m->last = version;
}

/* Watches that come and go while others write: each sees versions rise only, and ends with the store's state. */
static void test_watches_beside_writers(void **state)
{
	struct store *s = open_store();
	AUTO_JSON json_t *a = create(s, &api_vms, "default", "{metadata: {name: a}, spec: {x: start}}"), *last = NULL;
	pthread_t writers[3];
	struct monotonic final = { 0 };
	struct informer *i;

	(void)state;
	for (size_t n = 0; n < 3; n++)
		pthread_create(&writers[n], NULL, change_much, s);
	for (int n = 0; n < 30; n++) {
		struct monotonic m = { 0 };

		i = store_watch(s, &api_vms, NULL, NULL, on_version, &m, NULL);
		if (n % 2)
			informer_wait(i, NULL);
		informer_free(i);
		assert_false(m.broken);
	}
	i = store_watch(s, &api_vms, NULL, NULL, on_version, &final, NULL);
	for (size_t n = 0; n < 3; n++)
		pthread_join(writers[n], NULL);
	last = store_get(s, &api_vms, "default", "a", NULL);
	for (int n = 0; n < 500; n++) {
		AUTO_JSON json_t *cached = informer_get(i, "default", "a");

		if (json_equal(cached, last))
			break;
		assert_true(n < 499);
		cancel_wait(NULL, 10);
	}
	informer_free(i);
	assert_false(final.broken);
	(void)a;
	store_close(s);
}

static void test_events_are_not_kept(void **state)
{
	struct store *s = open_store();
	AUTO_JSON json_t *event = parse("{metadata: {name: e}}"), *made = NULL;
	AUTO_ERROR struct error *err = NULL;

	(void)state;
	made = store_create(s, &api_events, "default", event, &err);
	assert_null(made);
	assert_int_equal(err->code, 405);
	store_close(s);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_make, scratch_remove)
	const struct CMUnitTest tests[] = {
		TEST(test_create_fills_in),
		TEST(test_bad_names_are_refused),
		TEST(test_patches_and_generations),
		TEST(test_delete_waits_for_finalizers),
		TEST(test_list_by_namespace_and_label),
		TEST(test_what_is_kept_between_runs),
		TEST(test_apply_again),
		TEST(test_secrets_are_folded),
		TEST(test_wrong_manifests_are_named),
		TEST(test_foreign_files_are_named),
		TEST(test_watch_tells_in_order),
		TEST(test_watch_of_one_object),
		TEST(test_watches_beside_writers),
		TEST(test_events_are_not_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
