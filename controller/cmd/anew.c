#include "cmd/anew.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "api/resources.h"
#include "reconcile/reconciler.h"
#include "json/codec.h"

/* Of a file that a done import left: "", or what is wrong with it (owned). length < 0: any. NULL: memory. */
static char *file_problem(const char *directory, const char *vm, const char *name, json_int_t length)
{
	AUTO_FREE char *path = NULL;
	struct stat st;
	char *text = NULL;

	if (asprintf(&path, "%s/%s/%s", directory, vm, name) < 0) {
		path = NULL;
		return NULL;
	}
	if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) && (length < 0 || (json_int_t)st.st_size == length))
		return strdup("");
	return asprintf(&text, "%s is not there%s", path, length < 0 ? "" : " in its full length") < 0 ? NULL : text;
}

/* Why the status is not to be believed; owned, "" when it is, NULL when memory is out. */
static char *doubt(const json_t *import, const char *directory)
{
	const char *state = json_path_string(import, "status.importStatus"), *vm = json_path_string(import, "status.newVirtualMachine");
	const json_t *disk, *observed = json_path(import, "status.observedGeneration");
	char *problem;
	size_t i;

	if (!state || !strcmp(state, STATE_FAILED) || !strcmp(state, STATE_INVALID)) /* tried anew anyway */
		return strdup("");
	if (json_is_integer(observed) && json_integer_value(observed) != json_integer_value(json_path(import, "metadata.generation")))
		return strdup("its spec was changed");
	if (strcmp(state, STATE_RUNNING))
		return strdup("");
	vm = vm ? vm : "";
	json_array_foreach (json_path(import, "status.diskImportStatus"), i, disk) {
		const char *name = json_path_string(disk, "diskName");

		problem = file_problem(directory, vm, name ? name : "", json_integer_value(json_object_get(disk, "diskSize")));
		if (!problem || *problem)
			return problem;
		free(problem);
	}
	return file_problem(directory, vm, "virtualmachine.yaml", -1);
}

int anew_begin(struct store *store, const struct manifests *manifests, const char *directory, struct error **err)
{
	AUTO_JSON json_t *list = store_list(store, &api_vmimports, NULL, NULL, err);
	const json_t *import;
	size_t i;

	if (!list)
		return -1;
	json_array_foreach (list, i, import) {
		const char *ns = json_path_string(import, "metadata.namespace"), *name = json_path_string(import, "metadata.name");
		AUTO_FREE char *why = doubt(import, directory);
		AUTO_JSON json_t *status = NULL, *patch = NULL, *done = NULL;
		const char *field;
		json_t *value;

		if (!why)
			return error_set_errno(err, ENOMEM, "cannot check what was imported");
		if (!*why || !manifests_want(manifests, import))
			continue;
		status = json_object();
		json_object_foreach (json_object_get(import, "status"), field, value)
			if (strcmp(field, "sourceLedger") != 0)
				json_object_set_new(status, field, json_null());
		patch = status ? json_pack("{s:O}", "status", status) : NULL;
		done = patch ? store_patch(store, &api_vmimports, ns, name, "status", patch, err) : NULL;
		if (!done)
			return error_wrap(err, "cannot begin %s/%s anew", ns, name);
		fprintf(stderr, "vm-import-controller: %s/%s begins anew: %s\n", ns, name, why);
	}
	return 0;
}
