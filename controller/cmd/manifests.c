#include "cmd/manifests.h"

#include <stdio.h>
#include <string.h>

#include "api/resources.h"
#include "api/schema.h"
#include "base/buffer.h"
#include "cmd/crds.h"
#include "store/dir/dir.h"
#include "json/codec.h"
#include "json/yaml.h"

#define STDIN_MAX (16u << 20)
#define OTHERS_MAX 400 /* bytes of a list of names */

bool manifests_add(struct manifests *m, const char *file)
{
	if (m->count == MANIFESTS_MAX)
		return false;
	m->files[m->count++] = file;
	return true;
}

bool manifests_want(const struct manifests *m, const json_t *object)
{
	const char *kind = json_path_string(object, "kind"), *name = json_path_string(object, "metadata.name");
	const char *ns = json_path_string(object, "metadata.namespace"), *slash;

	if (!m->only || !kind || strcmp(kind, api_vmimports.kind))
		return true;
	if (!ns)
		ns = "default";
	slash = strchr(m->only, '/');
	if (slash)
		return name && !strcmp(name, slash + 1) && !strncmp(ns, m->only, (size_t)(slash - m->only)) && !ns[slash - m->only];
	return name && !strcmp(name, m->only);
}

static char *read_stdin(void)
{
	struct buffer text;
	char piece[4096];
	size_t n;

	buffer_init(&text, STDIN_MAX);
	while ((n = fread(piece, 1, sizeof piece, stdin)) > 0)
		buffer_add(&text, piece, n);
	return buffer_steal(&text);
}

static json_t *load(const char *file, struct error **err)
{
	if (strcmp(file, "-"))
		return yaml_load_file(file, err);
	AUTO_FREE char *text = read_stdin();
	if (!text) {
		error_set(err, ERROR_PERMANENT, "TooLarge", "standard input holds more than 16 MiB");
		return NULL;
	}
	return yaml_load(text, strlen(text), "standard input", err);
}

/* Fields that are not known, and values that are impossible, all of them: kubectl would refuse the object, too. */
static int check(const json_t *crds, const json_t *object, struct error **err)
{
	const char *kind = json_path_string(object, "kind"), *version = json_path_string(object, "apiVersion");
	const char *name = json_path_string(object, "metadata.name");
	const json_t *schema = kind && version ? schema_find(crds, version, kind) : NULL;
	size_t i;
	AUTO_JSON json_t *problems = json_array();
	AUTO_BUFFER struct buffer all = { 0 };
	const json_t *problem;

	if (!schema)
		return 0;
	schema_check(schema, object, problems);
	buffer_init(&all, 4096);
	json_array_foreach (problems, i, problem)
		buffer_addf(&all, "%s%s", i ? "; " : "", json_string_value(problem));
	return all.len ? error_set(err, ERROR_PERMANENT, "InvalidObject", "the %s %s: %s", kind, name ? name : "", all.data) : 0;
}

int manifests_apply(const struct manifests *m, struct store *store, struct error **err)
{
	AUTO_JSON json_t *crds = crds_load(err);
	AUTO_BUFFER struct buffer others = { 0 };
	size_t imports = 0;

	if (!crds)
		return -1;
	buffer_init(&others, OTHERS_MAX);

	for (size_t f = 0; f < m->count; f++) {
		AUTO_JSON json_t *documents = load(m->files[f], err);
		const json_t *object;
		size_t i;

		if (!documents)
			return -1;
		json_array_foreach (documents, i, object) {
			const char *kind = json_path_string(object, "kind");

			if (!manifests_want(m, object)) { /* an import, and not the one that is meant */
				const char *ns = json_path_string(object, "metadata.namespace");
				const char *name = json_path_string(object, "metadata.name");

				buffer_addf(&others, "%s%s/%s", others.len ? ", " : "", ns ? ns : "default", name ? name : "");
				continue;
			}
			imports += kind && !strcmp(kind, api_vmimports.kind);
			if (check(crds, object, err) < 0 || dir_store_apply(store, object, err) < 0)
				return error_wrap(err, "%s, document %zu", m->files[f], i + 1);
		}
	}
	if (!imports && m->only)
		return error_set(err, ERROR_PERMANENT, "NothingToDo", "no manifest holds a VirtualMachineImport named %s%s%s", m->only,
				 others.len ? "; there are " : "", others.len ? others.data : "");
	return imports ? 0
		       : error_set(
				 err, ERROR_PERMANENT, "NothingToDo",
				 "no manifest holds a VirtualMachineImport, which says what to import; name the file that has one with -f, too");
}
