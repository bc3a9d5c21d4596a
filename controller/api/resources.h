/* The resources we read and write, and the names we give to things. */
#pragma once

#include "api/resource.h"

extern const struct resource api_vmimports, api_vmware_sources, api_openstack_sources, api_ova_sources, api_kvm_sources;
extern const struct resource api_vmimages, api_vms, api_pvcs, api_storage_classes, api_nads, api_secrets, api_events, api_crds;
extern const struct resource api_leases;

/* The source resource of a kind, case-insensitive; NULL when it is none of ours. */
const struct resource *api_source_resource(const char *kind);

#define API_GROUP_VERSION "migration.harvesterhci.io/v1beta1"
#define API_FINALIZER "migration.harvesterhci.io/vm-import-controller"
#define API_LABEL_IMPORTED "migration.harvesterhci.io/imported"
#define API_LABEL_OS "harvesterhci.io/os" /* what Harvester's UI shows of the guest */
#define API_LABEL_IMAGE_DISPLAY_NAME "harvesterhci.io/imageDisplayName"
#define API_ANNOTATION_STORAGE_CLASS "harvesterhci.io/storageClassName"
#define API_ANNOTATION_IMAGE_ID "harvesterhci.io/imageId"
/* On the Lease of the leader election: a fingerprint of the leader's scratch space. */
#define API_ANNOTATION_SCRATCH "migration.harvesterhci.io/scratch"
#define API_ANNOTATION_RETRY "migration.harvesterhci.io/retry"
/* On a machine we created: "NAMESPACE/NAME" of its import, and that import's uid. */
#define API_ANNOTATION_IMPORT "migration.harvesterhci.io/virtualmachineimport"
#define API_ANNOTATION_IMPORT_UID "migration.harvesterhci.io/virtualmachineimport-uid"
