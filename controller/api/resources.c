#include "api/resources.h"

#include <stddef.h>
#include <strings.h>

#define OURS(kind_, plural_)                    \
	{ .group = "migration.harvesterhci.io", \
	  .version = "v1beta1",                 \
	  .kind = kind_,                        \
	  .plural = plural_,                    \
	  .namespaced = true,                   \
	  .status_subresource = true }

const struct resource api_vmimports = OURS("VirtualMachineImport", "virtualmachineimports");
const struct resource api_vmware_sources = OURS("VmwareSource", "vmwaresources");
const struct resource api_openstack_sources = OURS("OpenstackSource", "openstacksources");
const struct resource api_ova_sources = OURS("OvaSource", "ovasources");
const struct resource api_kvm_sources = OURS("KVMSource", "kvmsources");

/* VirtualMachineImage has no status subresource in Harvester. */
const struct resource api_vmimages = { "harvesterhci.io", "v1beta1", "VirtualMachineImage", "virtualmachineimages", true, false };
const struct resource api_vms = { "kubevirt.io", "v1", "VirtualMachine", "virtualmachines", true, true };
const struct resource api_pvcs = { "", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", true, true };
const struct resource api_storage_classes = { "storage.k8s.io", "v1", "StorageClass", "storageclasses", false, false };
const struct resource api_nads = { "k8s.cni.cncf.io", "v1", "NetworkAttachmentDefinition", "network-attachment-definitions", true, false };
const struct resource api_secrets = { "", "v1", "Secret", "secrets", true, false };
const struct resource api_events = { "events.k8s.io", "v1", "Event", "events", true, false };
const struct resource api_leases = { "coordination.k8s.io", "v1", "Lease", "leases", true, false };
const struct resource api_crds = { "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", false, true };

const struct resource *api_source_resource(const char *kind)
{
	static const struct resource *const sources[] = { &api_vmware_sources, &api_openstack_sources, &api_ova_sources, &api_kvm_sources };

	for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
		if (kind && !strcasecmp(kind, sources[i]->kind))
			return sources[i];
	return NULL;
}
