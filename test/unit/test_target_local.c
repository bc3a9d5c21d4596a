// links: target api json base PkgConfig::jansson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "scratch.h"
#include "target/target.h"
#include "json/codec.h"
#include "json/yaml.h"

static char *slurp(const char *path)
{
	AUTO_FILE FILE *f = fopen(path, "re");
	char *text = calloc(1, 65536);

	assert_non_null(f);
	(void)!fread(text, 1, 65535, f);
	return text;
}

static void manifest_is_written(void **state)
{
	struct target *target = target_local_new(directory, NULL);
	AUTO_JSON json_t *object = json_pack("{s:{s:s, s:s}}", "metadata", "name", "web", "namespace", "default"), *documents = NULL;
	struct vmimport import = { 0 };
	struct target_import t = { .object = object, .import = &import, .vm_name = "web-01" };
	struct vm_model model = { .name = (char *)"Web", .vcpus = 2, .cores_per_socket = 1, .memory = UINT64_C(1) << 30 };
	struct target_disk disk = { .name = "disk-0.raw", .capacity = 4096, .image = "disk-0.raw", .bus = "sata" };
	struct target_progress progress = { 0 };
	AUTO_ERROR struct error *err = NULL;
	AUTO_FREE char *path = NULL, *first = NULL, *second = NULL, *left = NULL;
	struct stat st;

	(void)state;
	assert_true(asprintf(&path, "%s/web-01/virtualmachine.yaml", directory) > 0 && asprintf(&left, "%s.new", path) > 0);
	assert_int_equal(target->ops->create_vm(target, &t, &model, &disk, 1, &err), 0);
	first = slurp(path);
	documents = yaml_load(first, strlen(first), path, &err);
	assert_int_equal(json_array_size(documents), 1);
	assert_string_equal(json_path_string(json_array_get(documents, 0), "kind"), "VirtualMachine");
	assert_string_equal(json_path_string(json_array_get(documents, 0), "metadata.name"), "web-01");
	/* Again, over what is there. */
	model.vcpus = 3;
	assert_int_equal(target->ops->create_vm(target, &t, &model, &disk, 1, &err), 0);
	second = slurp(path);
	assert_string_not_equal(first, second);
	assert_int_equal(stat(left, &st), -1);
	assert_int_equal(target->ops->vm_state(target, &t, &progress, &err), 0);
	assert_int_equal(progress.state, TARGET_READY);
	assert_int_equal(target->ops->release(target, &t, &err), 0);
	assert_null(err);
	target_free(target);
	target_free(NULL);
}

static void place_that_cannot_be_written(void **state)
{
	struct target *target = target_local_new("/nonexistent/of/test", NULL);
	AUTO_JSON json_t *object = json_pack("{s:{s:s, s:s}}", "metadata", "name", "web", "namespace", "default");
	struct vmimport import = { 0 };
	struct target_import t = { .object = object, .import = &import, .vm_name = "web-01" };
	struct vm_model model = { .name = (char *)"Web", .vcpus = 2, .cores_per_socket = 1, .memory = UINT64_C(1) << 30 };
	AUTO_ERROR struct error *err = NULL;

	(void)state;
	assert_int_equal(target->ops->create_vm(target, &t, &model, NULL, 0, &err), -1);
	assert_non_null(strstr(error_message(err), "/nonexistent/of/test/web-01"));
	target_free(target);
}

static void disk_is_the_file(void **state)
{
	struct target *target = target_local_new(directory, NULL);
	struct target_import t = { 0 };
	struct target_disk disk = { .name = "disk-0.raw", .capacity = 4096, .image = "" };
	struct target_progress progress = { 0 };
	AUTO_FREE char *path = NULL, *image = NULL, *message = NULL;
	int fd;

	(void)state;
	assert_true(asprintf(&path, "%s/disk-0.raw", directory) > 0);
	disk.path = path;
	assert_int_equal(target->ops->submit_disk(target, &t, &disk, &image, NULL), 0);
	assert_string_equal(image, "disk-0.raw");
	assert_int_equal(target->ops->disk_state(target, &t, &disk, &progress, NULL), 0);
	assert_int_equal(progress.state, TARGET_FAILED);
	message = progress.message;
	assert_non_null(strstr(message, path));
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_int_equal(target->ops->disk_state(target, &t, &disk, &progress, NULL), 0);
	assert_int_equal(progress.state, TARGET_READY);
	assert_null(progress.message);
	assert_int_equal(ftruncate(fd, 4095), 0);
	close(fd);
	assert_int_equal(target->ops->disk_state(target, &t, &disk, &progress, NULL), 0);
	assert_int_equal(progress.state, TARGET_FAILED);
	free(progress.message);
	assert_int_equal(target->ops->delete_disk(target, &t, &disk, NULL), 0);
	assert_int_equal(access(path, F_OK), 0); /* what was fetched is checked anew, not fetched anew */
	target_free(target);
}

static void mappings(void **state)
{
	static const struct {
		const char *mapping; /* sourceNetwork=destinationNetwork */
		bool skip;
		size_t problems;
		const char *part;
		bool known; /* the source told its networks: the machine's and "lab/2" */
	} cases[] = {
		{ "", false, 0, NULL, false },
		{ "VM Network=vlan-1,dvs=ns/vlan-2", false, 0, NULL, false },
		{ "VM Network=vlan-1,VM Network=vlan-2", false, 1, "\"VM Network\" twice", false },
		{ "VM Network=vlan-1,vm network=vlan-2", false, 1, "\"vm network\" is no network of Web, which is on: VM Network, dvs",
		  false },
		{ "lab=vlan-1", false, 1, "networkMapping[0].sourceNetwork \"lab\"", false },
		{ "lab=vlan-1", true, 0, NULL, false }, /* spec.skipPreflightChecks skips what the source is asked */
		{ "VM Network=", true, 1, "networkMapping[0] lacks", false },
		{ "=vlan-1", true, 1, "networkMapping[0] lacks", false },
		{ "lab/2=vlan-1", false, 0, NULL, true },
		{ "lab%2F2=vlan-1,dvs=vlan-1", false, 0, NULL, true },
		{ "lab=vlan-1", false, 1, "\"lab\" does not exist at the source; Web is on: VM Network, dvs", true },
		{ "lab/2=vlan-1,lab%2f2=vlan-1", false, 1, "\"lab%2f2\" twice", true },
	};
	struct vm_nic nics[] = { { .network = (char *)"VM Network" }, { .network = (char *)"dvs" } };
	char *known[] = { (char *)"VM Network", (char *)"dvs", (char *)"lab/2" };
	struct vm_model model = { .name = (char *)"Web", .nics = nics, .nic_count = 2 };
	struct target *target = target_local_new(directory, NULL);

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct vmimport import = { .spec.skip_preflight_checks = cases[i].skip };
		struct target_import t = { .import = &import, .vm_name = "web-01" };
		struct api_network_mapping list[4] = { 0 };
		AUTO_JSON json_t *problems = json_array();
		AUTO_FREE char *text = strdup(cases[i].mapping);
		char *rest = text, *entry;

		while (*text && (entry = strsep(&rest, ","))) {
			struct api_network_mapping *m = &list[import.spec.network_mapping_count++];

			m->source_network = strsep(&entry, "=");
			m->destination_network = entry;
		}
		import.spec.network_mapping = list;
		model.networks = cases[i].known ? known : NULL;
		model.network_count = cases[i].known ? 3 : 0;
		assert_int_equal(target->ops->preflight(target, &t, &model, problems, NULL), 0);
		assert_int_equal(json_array_size(problems), cases[i].problems);
		if (cases[i].part)
			assert_non_null(strstr(json_string_value(json_array_get(problems, 0)), cases[i].part));
	}
	target_free(target);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(manifest_is_written),
		cmocka_unit_test(place_that_cannot_be_written),
		cmocka_unit_test(disk_is_the_file),
		cmocka_unit_test(mappings),
	};

	return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
