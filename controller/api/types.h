/* The custom resources of migration.harvesterhci.io/v1beta1 as structs. types.c holds the tables (json/codec.h) that decode and encode
 * them; crds/ the schemas. Strings are NULL when absent, except where said. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "json/codec.h"

struct api_object_ref {
	char *api_version, *kind, *namespace_, *name;
};

struct api_secret_ref {
	char *name, *namespace_;
};

/* A condition in the form of Kubernetes; last_update_time only in importConditions and diskConditions. */
struct api_condition {
	char *type, *status, *reason, *message;
	char *last_update_time, *last_transition_time;
	int64_t observed_generation;
};

struct api_network_mapping {
	char *source_network, *destination_network, *network_interface_model;
};

struct api_transfer {
	char *mode; /* Controller, Job, Direct */
	int64_t scratch_factor;
};

struct vmimport_spec {
	struct api_object_ref source_cluster;
	char *virtual_machine_name, *folder;
	struct api_network_mapping *network_mapping;
	size_t network_mapping_count;
	char *default_network_interface_model, *storage_class, *default_disk_bus_type;
	bool force_power_off;
	int64_t graceful_shutdown_timeout_seconds; /* 0: absent */
	bool skip_preflight_checks;
	char *target_virtual_machine_name;
	struct api_transfer transfer;
	bool warm;
	char *cutover, *source_recovery, *target_power_state;
};

struct vmimport_disk {
	char *disk_name;       /* disk-0.raw */
	int64_t disk_size;     /* bytes */
	char *disk_local_path; /* directory of the file on the scratch volume */
	char *disk_route;      /* path of its URL on the image server */
	char *image;           /* JSON name: VirtualMachineImage */
	char *bus_type;
	int64_t bytes_transferred, bytes_total;
	char *digest;                     /* disk/digest.h */
	struct api_condition *conditions; /* JSON name: diskConditions */
	size_t condition_count;
};

struct vmimport_ledger_entry {
	char *kind, *id, *since;
};

struct vmimport_status {
	char *import_status;
	struct api_condition *import_conditions;
	size_t import_condition_count;
	struct vmimport_disk *disks; /* JSON name: diskImportStatus */
	size_t disk_count;
	char *new_virtual_machine, *imported_virtual_machine_name;
	int64_t progress; /* percent, always encoded */
	char *message, *start_time, *completion_time;
	int64_t observed_generation;
	struct api_condition *conditions; /* kstatus: Ready, Reconciling, Stalled */
	size_t condition_count;
	struct vmimport_ledger_entry *ledger; /* JSON name: sourceLedger */
	size_t ledger_count;
};

struct vmimport {
	struct vmimport_spec spec;
	struct vmimport_status status;
};

struct vmware_source_spec {
	char *endpoint, *dc;
	struct api_secret_ref credentials;
};

struct openstack_source_spec {
	char *endpoint, *region, *interface;
	struct api_secret_ref credentials;
	int64_t upload_image_retry_count, upload_image_retry_delay;
};

struct ova_source_spec {
	char *url;
	struct api_secret_ref credentials;
	int64_t http_timeout_seconds;
	/* Tells 0 (none) from absent (600): the decoded object has to be asked. */
};

struct kvm_source_spec {
	char *endpoint;
	int64_t ssh_timeout_seconds;
	char *virsh_connection_uri; /* JSON name: virshConnectionURI */
	char *libvirt_uri;          /* JSON name: libvirtURI */
	struct api_secret_ref credentials;
};

struct api_certificate {
	char *endpoint, *fingerprint; /* SHA-256, "AA:BB:..." */
};

struct source_status {
	char *status; /* clusterReady, clusterNotReady */
	struct api_condition *conditions;
	size_t condition_count;
	char *message;
	int64_t observed_generation;
	struct api_certificate certificate; /* of a VmwareSource: pinned on first use */
};

/* Empties status.diskImportStatus. */
void vmimport_clear_disks(struct vmimport_status *status);

extern const struct json_type api_vmimport_type;        /* struct vmimport: {spec, status} of the object */
extern const struct json_type api_vmimport_status_type; /* struct vmimport_status */
extern const struct json_type api_vmware_source_spec_type, api_openstack_source_spec_type, api_ova_source_spec_type,
	api_kvm_source_spec_type;
extern const struct json_type api_source_status_type, api_vmware_source_status_type;
extern const struct json_type api_secret_ref_type;
