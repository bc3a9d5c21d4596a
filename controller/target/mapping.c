#include "target/mapping.h"

#include <string.h>

#include "api/names.h"
#include "api/problem.h"
#include "base/buffer.h"

static bool has_network(const struct vm_model *model, const char *network)
{
	for (size_t i = 0; i < model->nic_count; i++)
		if (model->nics[i].network && vm_same_network(model->nics[i].network, network))
			return true;
	/* One list of mappings may serve many machines: it is enough that the network exists. */
	for (size_t i = 0; i < model->network_count; i++)
		if (vm_same_network(model->networks[i], network))
			return true;
	return false;
}

static void list_networks(const struct vm_model *model, struct buffer *b)
{
	for (size_t i = 0; i < model->nic_count; i++)
		buffer_addf(b, "%s%s", i ? ", " : "", model->nics[i].network ? model->nics[i].network : "(unnamed)");
	if (!model->nic_count)
		buffer_add_string(b, "no NICs");
}

bool mapping_can_be(const char *destination)
{
	AUTO_FREE char *ns = NULL, *name = NULL;

	name_split(destination, "default", &ns, &name);
	return !ns || !name || (name_is_dns1123_label(ns) && name_is_dns1123_subdomain(name)); /* without memory nothing is said */
}

void mapping_check(const struct target_import *t, const struct vm_model *model, json_t *problems)
{
	const struct vmimport_spec *spec = &t->import->spec;

	for (size_t i = 0; i < spec->network_mapping_count; i++) {
		const char *network = spec->network_mapping[i].source_network;

		if (!network || !*network || !spec->network_mapping[i].destination_network ||
		    !*spec->network_mapping[i].destination_network) {
			problem_add(problems, "spec.networkMapping[%zu] lacks sourceNetwork or destinationNetwork", i);
			continue;
		}
		if (!mapping_can_be(spec->network_mapping[i].destination_network))
			problem_add(
				problems,
				"spec.networkMapping[%zu].destinationNetwork \"%.300s\" is neither NAME nor NAMESPACE/NAME of lower-case "
				"letters, digits, '-' and '.'",
				i, spec->network_mapping[i].destination_network);
		for (size_t k = 0; k < i; k++)
			if (spec->network_mapping[k].source_network && vm_same_network(spec->network_mapping[k].source_network, network))
				problem_add(problems, "spec.networkMapping names the source network \"%s\" twice", network);
		if (model && !spec->skip_preflight_checks && !has_network(model, network)) {
			CLEANUP(buffer_free) struct buffer list = { 0 };

			buffer_init(&list, 16384);
			list_networks(model, &list);
			if (model->networks)
				problem_add(problems,
					    "spec.networkMapping[%zu].sourceNetwork \"%s\" does not exist at the source; %s is on: %s", i,
					    network, model->name, list.data ? list.data : "");
			else
				problem_add(problems, "spec.networkMapping[%zu].sourceNetwork \"%s\" is no network of %s, which is on: %s",
					    i, network, model->name, list.data ? list.data : "");
		}
	}
}
