// links: source/ova api json base xml PkgConfig::jansson
/* OVF descriptors, manifests and signatures: whatever comes, an error has a message in UTF-8, and a model is one that can be used. */
#include <jansson.h>
#include <stdint.h>
#include <string.h>

#include "source/ova/manifest.h"
#include "source/ova/ovf.h"
#include "json/codec.h"

static void check_error(const struct error *err)
{
	AUTO_JSON json_t *text = err ? json_string(err->message) : NULL;

	if (!text || !*err->message || !*err->reason)
		abort();
}

static void check_model(const struct vm_model *m)
{
	if (!m->name || !m->vcpus || !m->cores_per_socket || m->vcpus % m->cores_per_socket || !m->memory || m->memory > INT64_MAX)
		abort();
	for (size_t i = 0; i < m->disk_count; i++) {
		if (!m->disks[i].id || !m->disks[i].capacity || m->disks[i].allocated > m->disks[i].capacity ||
		    m->disks[i].boot_order != i + 1)
			abort();
		for (size_t k = 0; k < i; k++)
			if (!strcmp(m->disks[i].id, m->disks[k].id))
				abort();
	}
	for (size_t i = 0; i < m->nic_count; i++)
		if (m->nics[i].mac && strlen(m->nics[i].mac) != 17)
			abort();
}

static void check_files(const struct ovf *o)
{
	for (size_t i = 0; i < ovf_file_count(o); i++)
		if (ovf_safe_name(ovf_file(o, i)->href) != ovf_file(o, i)->href)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	AUTO_ERROR struct error *err = NULL, *no_model = NULL, *no_manifest = NULL, *no_signature = NULL;
	AUTO_OVF struct ovf *o = ovf_parse(text, size, &err);
	AUTO_VM_MODEL struct vm_model *m = o ? ovf_model(o, "vm", &no_model) : NULL;
	AUTO_MANIFEST struct manifest *manifest = ovf_manifest_parse(text, size, &no_manifest);
	AUTO_FREE char *said = NULL;

	if (!o)
		check_error(err);
	else
		check_files(o);
	if (o && !m)
		check_error(no_model);
	if (m)
		check_model(m);
	if (!manifest)
		check_error(no_manifest);
	if (ovf_manifest_check_signature(text, size, text, size, &said, &no_signature) < 0)
		check_error(no_signature);
	return 0;
}
