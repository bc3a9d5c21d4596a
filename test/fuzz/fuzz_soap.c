// links: source/vmware api json base PkgConfig::jansson PkgConfig::xml
/* Answers of a vSphere: faults, machines, leases. Whatever comes, an error has a message in UTF-8, and a model is one that can be used. */
#include <jansson.h>
#include <stdint.h>
#include <string.h>

#include "source/vmware/check.h"
#include "source/vmware/device_url.h"
#include "source/vmware/model.h"
#include "source/vmware/property.h"
#include "json/codec.h"

static void check_error(const struct error *err)
{
	AUTO_JSON json_t *text = err ? json_string(err->message) : NULL;

	if (!text || !*err->message || strlen(err->message) > 4096 || !*err->reason)
		abort();
}

static void check_model(const struct vm_model *m)
{
	if (!m->name || !m->source_id || !m->vcpus || !m->cores_per_socket || m->vcpus % m->cores_per_socket || !m->memory)
		abort();
	for (size_t i = 0; i < m->disk_count; i++)
		if (!m->disks[i].id || !m->disks[i].capacity || m->disks[i].allocated > m->disks[i].capacity ||
		    m->disks[i].boot_order != i + 1)
			abort();
}

static void read_lease(const xmlNode *info, const struct vm_model *m)
{
	const xmlNode **urls = calloc(m->disk_count + 1, sizeof *urls);
	AUTO_ERROR struct error *err = NULL;

	if (device_urls_match(info, m, urls, &err) < 0)
		check_error(err);
	for (size_t i = 0; !err && i < m->disk_count; i++) {
		AUTO_FREE char *url = xml_path_text(urls[i], "url"), *real = device_url_resolve(url ? url : "", "host:1");

		if (!urls[i] || !real)
			abort();
		for (size_t k = 0; k < i; k++)
			if (urls[k] == urls[i])
				abort();
	}
	free(urls);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_ERROR struct error *err = NULL, *no_model = NULL;
	AUTO_JSON json_t *problems = json_array(), *names = json_pack("{s:s, s:s}", "dvportgroup-1", "name", "datastore-1", "lost");
	AUTO_VM_MODEL struct vm_model *m = NULL;
	xmlNode *result = NULL;
	AUTO_XML xmlDoc *doc = soap_decode("Method", (const char *)data, size, &result, &err);
	const xmlNode *objects;

	if (!doc) {
		check_error(err);
		return 0;
	}
	objects = xml_path(result, "returnval/objects");
	m = vmware_model_of(objects, names, "vm-1", "/DC1/vm/x", &no_model);
	if (!m) {
		check_error(no_model);
		return 0;
	}
	check_model(m);
	vmware_check_of(objects, names, m, problems);
	vmware_check_privileges_of(result, m, problems);
	read_lease(vmware_property(objects, "info"), m);
	return 0;
}
