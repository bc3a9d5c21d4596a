#include "api/types.h"

#include <stdlib.h>

#define COUNT(list) (sizeof(list) / sizeof *(list))
#define STRING(c_type, member, json) { .name = json, .type = JSON_FIELD_STRING, .offset = offsetof(struct c_type, member) }
#define KEPT(c_type, member, json) \
	{ .name = json, .type = JSON_FIELD_STRING, .offset = offsetof(struct c_type, member), .flags = JSON_FIELD_KEEP_EMPTY }
#define INTEGER(c_type, member, json) { .name = json, .type = JSON_FIELD_INTEGER, .offset = offsetof(struct c_type, member) }
#define BOOLEAN(c_type, member, json) { .name = json, .type = JSON_FIELD_BOOLEAN, .offset = offsetof(struct c_type, member) }
#define OBJECT(c_type, member, json, table) \
	{ .name = json, .type = JSON_FIELD_OBJECT, .offset = offsetof(struct c_type, member), .of = &(table) }
#define ARRAY(c_type, member, count, json, table)    \
	{ .name = json,                              \
	  .type = JSON_FIELD_ARRAY,                  \
	  .offset = offsetof(struct c_type, member), \
	  .of = &(table),                            \
	  .count_offset = offsetof(struct c_type, count) }
#define TYPE(c_type, list) { .name = #c_type, .size = sizeof(struct c_type), .fields = list, .field_count = COUNT(list) }

static const struct json_field object_ref_fields[] = {
	STRING(api_object_ref, api_version, "apiVersion"),
	STRING(api_object_ref, kind, "kind"),
	STRING(api_object_ref, namespace_, "namespace"),
	STRING(api_object_ref, name, "name"),
};
static const struct json_type object_ref_type = TYPE(api_object_ref, object_ref_fields);

static const struct json_field secret_ref_fields[] = {
	STRING(api_secret_ref, name, "name"),
	STRING(api_secret_ref, namespace_, "namespace"),
};
const struct json_type api_secret_ref_type = TYPE(api_secret_ref, secret_ref_fields);

/* importConditions and diskConditions, as Harvester's controller writes them. */
static const struct json_field timed_condition_fields[] = {
	KEPT(api_condition, type, "type"),
	KEPT(api_condition, status, "status"),
	STRING(api_condition, reason, "reason"),
	STRING(api_condition, message, "message"),
	STRING(api_condition, last_update_time, "lastUpdateTime"),
	STRING(api_condition, last_transition_time, "lastTransitionTime"),
};
static const struct json_type timed_condition_type = TYPE(api_condition, timed_condition_fields);

/* conditions, as kstatus reads them; sources have theirs in one list with Harvester's, so that lastUpdateTime is known here too. */
static const struct json_field condition_fields[] = {
	KEPT(api_condition, type, "type"),
	KEPT(api_condition, status, "status"),
	STRING(api_condition, reason, "reason"),
	STRING(api_condition, message, "message"),
	STRING(api_condition, last_update_time, "lastUpdateTime"),
	STRING(api_condition, last_transition_time, "lastTransitionTime"),
	INTEGER(api_condition, observed_generation, "observedGeneration"),
};
static const struct json_type condition_type = TYPE(api_condition, condition_fields);

static const struct json_field network_mapping_fields[] = {
	STRING(api_network_mapping, source_network, "sourceNetwork"),
	STRING(api_network_mapping, destination_network, "destinationNetwork"),
	STRING(api_network_mapping, network_interface_model, "networkInterfaceModel"),
};
static const struct json_type network_mapping_type = TYPE(api_network_mapping, network_mapping_fields);

static const struct json_field transfer_fields[] = {
	STRING(api_transfer, mode, "mode"),
	INTEGER(api_transfer, scratch_factor, "scratchFactor"),
};
static const struct json_type transfer_type = TYPE(api_transfer, transfer_fields);

static const struct json_field vmimport_spec_fields[] = {
	OBJECT(vmimport_spec, source_cluster, "sourceCluster", object_ref_type),
	STRING(vmimport_spec, virtual_machine_name, "virtualMachineName"),
	STRING(vmimport_spec, folder, "folder"),
	ARRAY(vmimport_spec, network_mapping, network_mapping_count, "networkMapping", network_mapping_type),
	STRING(vmimport_spec, default_network_interface_model, "defaultNetworkInterfaceModel"),
	STRING(vmimport_spec, storage_class, "storageClass"),
	STRING(vmimport_spec, default_disk_bus_type, "defaultDiskBusType"),
	BOOLEAN(vmimport_spec, force_power_off, "forcePowerOff"),
	INTEGER(vmimport_spec, graceful_shutdown_timeout_seconds, "gracefulShutdownTimeoutSeconds"),
	BOOLEAN(vmimport_spec, skip_preflight_checks, "skipPreflightChecks"),
	STRING(vmimport_spec, target_virtual_machine_name, "targetVirtualMachineName"),
	OBJECT(vmimport_spec, transfer, "transfer", transfer_type),
	BOOLEAN(vmimport_spec, warm, "warm"),
	STRING(vmimport_spec, cutover, "cutover"),
	STRING(vmimport_spec, source_recovery, "sourceRecovery"),
	STRING(vmimport_spec, target_power_state, "targetPowerState"),
};
static const struct json_type vmimport_spec_type = TYPE(vmimport_spec, vmimport_spec_fields);

static const struct json_field disk_fields[] = {
	STRING(vmimport_disk, disk_name, "diskName"),
	INTEGER(vmimport_disk, disk_size, "diskSize"),
	STRING(vmimport_disk, disk_local_path, "diskLocalPath"),
	STRING(vmimport_disk, disk_route, "diskRoute"),
	STRING(vmimport_disk, image, "VirtualMachineImage"),
	STRING(vmimport_disk, bus_type, "busType"),
	INTEGER(vmimport_disk, bytes_transferred, "bytesTransferred"),
	INTEGER(vmimport_disk, bytes_total, "bytesTotal"),
	STRING(vmimport_disk, digest, "digest"),
	ARRAY(vmimport_disk, conditions, condition_count, "diskConditions", timed_condition_type),
};
static const struct json_type disk_type = TYPE(vmimport_disk, disk_fields);

void vmimport_clear_disks(struct vmimport_status *status)
{
	for (size_t i = 0; i < status->disk_count; i++)
		json_type_free(&disk_type, &status->disks[i]);
	free(status->disks);
	status->disks = NULL;
	status->disk_count = 0;
}

static const struct json_field ledger_fields[] = {
	STRING(vmimport_ledger_entry, kind, "kind"),
	STRING(vmimport_ledger_entry, id, "id"),
	STRING(vmimport_ledger_entry, since, "since"),
};
static const struct json_type ledger_type = TYPE(vmimport_ledger_entry, ledger_fields);

static const struct json_field vmimport_status_fields[] = {
	STRING(vmimport_status, import_status, "importStatus"),
	ARRAY(vmimport_status, import_conditions, import_condition_count, "importConditions", timed_condition_type),
	ARRAY(vmimport_status, disks, disk_count, "diskImportStatus", disk_type),
	STRING(vmimport_status, new_virtual_machine, "newVirtualMachine"),
	STRING(vmimport_status, imported_virtual_machine_name, "importedVirtualMachineName"),
	{ .name = "progress",
	  .type = JSON_FIELD_INTEGER,
	  .offset = offsetof(struct vmimport_status, progress),
	  .flags = JSON_FIELD_KEEP_EMPTY },
	STRING(vmimport_status, message, "message"),
	STRING(vmimport_status, start_time, "startTime"),
	STRING(vmimport_status, completion_time, "completionTime"),
	INTEGER(vmimport_status, observed_generation, "observedGeneration"),
	ARRAY(vmimport_status, conditions, condition_count, "conditions", condition_type),
	ARRAY(vmimport_status, ledger, ledger_count, "sourceLedger", ledger_type),
};
const struct json_type api_vmimport_status_type = TYPE(vmimport_status, vmimport_status_fields);

static const struct json_field vmimport_fields[] = {
	OBJECT(vmimport, spec, "spec", vmimport_spec_type),
	OBJECT(vmimport, status, "status", api_vmimport_status_type),
};
const struct json_type api_vmimport_type = TYPE(vmimport, vmimport_fields);

static const struct json_field vmware_source_spec_fields[] = {
	STRING(vmware_source_spec, endpoint, "endpoint"),
	STRING(vmware_source_spec, dc, "dc"),
	OBJECT(vmware_source_spec, credentials, "credentials", api_secret_ref_type),
};
const struct json_type api_vmware_source_spec_type = TYPE(vmware_source_spec, vmware_source_spec_fields);

static const struct json_field openstack_source_spec_fields[] = {
	STRING(openstack_source_spec, endpoint, "endpoint"),
	STRING(openstack_source_spec, region, "region"),
	STRING(openstack_source_spec, interface, "interface"),
	OBJECT(openstack_source_spec, credentials, "credentials", api_secret_ref_type),
	INTEGER(openstack_source_spec, upload_image_retry_count, "uploadImageRetryCount"),
	INTEGER(openstack_source_spec, upload_image_retry_delay, "uploadImageRetryDelay"),
};
const struct json_type api_openstack_source_spec_type = TYPE(openstack_source_spec, openstack_source_spec_fields);

static const struct json_field ova_source_spec_fields[] = {
	STRING(ova_source_spec, url, "url"),
	OBJECT(ova_source_spec, credentials, "credentials", api_secret_ref_type),
	INTEGER(ova_source_spec, http_timeout_seconds, "httpTimeoutSeconds"),
};
const struct json_type api_ova_source_spec_type = TYPE(ova_source_spec, ova_source_spec_fields);

static const struct json_field kvm_source_spec_fields[] = {
	STRING(kvm_source_spec, endpoint, "endpoint"),
	INTEGER(kvm_source_spec, ssh_timeout_seconds, "sshTimeoutSeconds"),
	STRING(kvm_source_spec, virsh_connection_uri, "virshConnectionURI"),
	STRING(kvm_source_spec, libvirt_uri, "libvirtURI"),
	OBJECT(kvm_source_spec, credentials, "credentials", api_secret_ref_type),
};
const struct json_type api_kvm_source_spec_type = TYPE(kvm_source_spec, kvm_source_spec_fields);

#define SOURCE_STATUS                                                                                                             \
	STRING(source_status, status, "status"), ARRAY(source_status, conditions, condition_count, "conditions", condition_type), \
		STRING(source_status, message, "message"), INTEGER(source_status, observed_generation, "observedGeneration")
static const struct json_field source_status_fields[] = { SOURCE_STATUS };
const struct json_type api_source_status_type = TYPE(source_status, source_status_fields);

static const struct json_field certificate_fields[] = {
	STRING(api_certificate, endpoint, "endpoint"),
	STRING(api_certificate, fingerprint, "fingerprint"),
};
static const struct json_type certificate_type = TYPE(api_certificate, certificate_fields);
static const struct json_field vmware_source_status_fields[] = {
	SOURCE_STATUS,
	OBJECT(source_status, certificate, "certificate", certificate_type),
};
const struct json_type api_vmware_source_status_type = TYPE(source_status, vmware_source_status_fields);
