// links: source/openstack api json base PkgConfig::jansson
/* Answers of an OpenStack: catalogues, servers with all that belongs to them. Whatever comes, an error has a message in UTF-8, and a model is one
 * that can be used. */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "source/openstack/check.h"
#include "source/openstack/keystone.h"
#include "source/openstack/model.h"
#include "source/openstack/quota.h"
#include "json/codec.h"

static void check_error(const struct error *err)
{
	AUTO_JSON json_t *text = err ? json_string(err->message) : NULL;

	if (!text || !*err->message || strlen(err->message) > 4096 || !*err->reason)
		abort();
}

static void check_model(const struct vm_model *m)
{
	AUTO_JSON json_t *notes = json_string(m->notes ? m->notes : "");

	if (!notes || !m->name || !m->source_id || !m->path || !m->vcpus || !m->cores_per_socket || m->vcpus % m->cores_per_socket ||
	    !m->memory)
		abort();
	for (size_t i = 0; i < m->disk_count; i++)
		if (!m->disks[i].id || !m->disks[i].capacity || m->disks[i].allocated > m->disks[i].capacity ||
		    m->disks[i].boot_order != i + 1)
			abort();
	for (size_t i = 0; i < m->nic_count; i++)
		if (!m->nics[i].mac || !m->nics[i].network)
			abort();
}

static void read_server(const json_t *gathered)
{
	AUTO_JSON json_t *problems = json_array();
	AUTO_ERROR struct error *err = NULL;
	AUTO_VM_MODEL struct vm_model *m = openstack_model(gathered, &err);
	struct quota_need left = quota_left(gathered);

	if (!m) {
		check_error(err);
		return;
	}
	check_model(m);
	openstack_check_server(gathered, m, problems);
	openstack_check_quota(gathered, m, &left, gathered, problems);
}

static void read_token(const json_t *answer)
{
	struct keystone_grant g = { 0 };
	AUTO_ERROR struct error *err = NULL;

	if (keystone_parse(answer, "", "public", &g, &err) < 0) {
		check_error(err);
		return;
	}
	for (int s = 0; s < OPENSTACK_SERVICES; s++)
		if (!g.urls[s] || strncasecmp(g.urls[s], "http", 4) || g.urls[s][strlen(g.urls[s]) - 1] == '/')
			abort();
	keystone_grant_clear(&g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_JSON json_t *json = json_loadb((const char *)data, size, 0, NULL);

	if (!json)
		return 0;
	read_server(json);
	read_token(json);
	return 0;
}
