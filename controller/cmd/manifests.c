#include "cmd/manifests.h"

#include <errno.h>
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

/* False for a VirtualMachineImport that --vm leaves out. */
static bool is_meant(const struct manifests *m, const json_t *object)
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

bool manifests_concern(const struct manifests *m, const char *plural, const char *ns, const char *name)
{
	AUTO_FREE char *key = NULL;

	if (!ns || !name || asprintf(&key, "%s/%s/%s", plural, ns, name) < 0) {
		key = NULL;
		return false;
	}
	return json_object_get(m->concerned, key) != NULL;
}

bool manifests_want(const struct manifests *m, const json_t *import)
{
	return manifests_concern(m, api_vmimports.plural, json_path_string(import, "metadata.namespace"),
				 json_path_string(import, "metadata.name"));
}

void manifests_free(struct manifests *m)
{
	json_decref(move_ptr(m->objects));
	json_decref(move_ptr(m->concerned));
}

static int concern(struct manifests *m, const char *plural, const char *ns, const char *name, struct error **err)
{
	AUTO_FREE char *key = NULL;

	if (asprintf(&key, "%s/%s/%s", plural, ns, name) < 0)
		key = NULL;
	return key && json_object_set_new(m->concerned, key, json_true()) == 0 ? 0
									       : error_set_errno(err, ENOMEM, "cannot read the manifests");
}

/* The import, and the source that it names. */
static int concern_import(struct manifests *m, const json_t *import, struct error **err)
{
	const char *own = json_path_string(import, "metadata.namespace"), *name = json_path_string(import, "metadata.name");
	const char *ns = json_path_string(import, "spec.sourceCluster.namespace");
	const char *source = json_path_string(import, "spec.sourceCluster.name");
	const struct resource *resource = api_source_resource(json_path_string(import, "spec.sourceCluster.kind"));

	own = own && *own ? own : "default";
	if (concern(m, api_vmimports.plural, own, name ? name : "", err) < 0)
		return -1;
	return resource && source ? concern(m, resource->plural, ns && *ns ? ns : own, source, err) : 0;
}

/* kubectl would take the last of two of one name; which one is meant, nobody can tell. The same twice does no harm. */
static int check_twice(struct manifests *m, const json_t *object, const char *file, size_t document, struct error **err)
{
	const char *kind = json_path_string(object, "kind"), *name = json_path_string(object, "metadata.name");
	const char *ns = json_path_string(object, "metadata.namespace"), *version = json_path_string(object, "apiVersion");
	AUTO_FREE char *key = NULL;
	AUTO_JSON json_t *entry = NULL;
	const json_t *first;

	if (!kind || !name || !version)
		return 0; /* refused, when it is applied */
	ns = ns && *ns ? ns : "default";
	if (asprintf(&key, "%s %s/%s/%s", version, kind, ns, name) < 0) {
		key = NULL;
		return error_set_errno(err, ENOMEM, "cannot read the manifests");
	}
	first = json_object_get(m->objects, key);
	if (first && !json_equal(json_object_get(first, "object"), object))
		return error_set(err, ERROR_PERMANENT, "Ambiguous",
				 "%s, document %zu: the %s %s/%s is in %s, document %" JSON_INTEGER_FORMAT
				 ", too, and differs; take one of them away or give it another name",
				 file, document, kind, ns, name, json_path_string(first, "file"),
				 json_integer_value(json_object_get(first, "document")));
	if (first)
		return 0;
	entry = json_pack("{s:O, s:s, s:I}", "object", object, "file", file, "document", (json_int_t)document);
	if (!entry || json_object_set(m->objects, key, entry) < 0)
		return error_set_errno(err, ENOMEM, "cannot read the manifests");
	return 0;
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

/* All documents, each list by its file. Nothing is put anywhere before all of them are known not to contradict each other. */
static int load_all(struct manifests *m, json_t *files, struct error **err)
{
	for (size_t f = 0; f < m->count; f++) {
		json_t *documents = load(m->files[f], err);
		const json_t *object;
		size_t i;

		if (!documents)
			return -1;
		json_array_append_new(files, documents);
		json_array_foreach (documents, i, object)
			if (check_twice(m, object, strcmp(m->files[f], "-") ? m->files[f] : "standard input", i + 1, err) < 0)
				return -1;
	}
	return 0;
}

int manifests_apply(struct manifests *m, struct store *store, struct error **err)
{
	AUTO_JSON json_t *crds = crds_load(err), *files = json_array();
	AUTO_BUFFER struct buffer others = { 0 };
	size_t imports = 0;

	if (!crds)
		return -1;
	buffer_init(&others, OTHERS_MAX);
	m->objects = json_object();
	m->concerned = json_object();
	if (!files || !m->objects || !m->concerned)
		return error_set_errno(err, ENOMEM, "cannot read the manifests");
	if (load_all(m, files, err) < 0)
		return -1;
	for (size_t f = 0; f < m->count; f++) {
		const json_t *object;
		size_t i;

		json_array_foreach (json_array_get(files, f), i, object) {
			const char *kind = json_path_string(object, "kind");

			if (!is_meant(m, object)) { /* an import, and not the one that is meant */
				const char *ns = json_path_string(object, "metadata.namespace");
				const char *name = json_path_string(object, "metadata.name");

				buffer_addf(&others, "%s%s/%s", others.len ? ", " : "", ns ? ns : "default", name ? name : "");
				continue;
			}
			if (check(crds, object, err) < 0 || dir_store_apply(store, object, err) < 0)
				return error_wrap(err, "%s, document %zu", m->files[f], i + 1);
			if (!kind || strcmp(kind, api_vmimports.kind))
				continue;
			imports++;
			if (concern_import(m, object, err) < 0)
				return -1;
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
