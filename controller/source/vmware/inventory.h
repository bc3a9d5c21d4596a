/* Finding things in a vSphere inventory by the names people use. */
#pragma once

#include <pthread.h>

#include "source/source.h"
#include "source/vmware/session.h"

/* The datacenter that spec.dc names: by name or inventory path; empty: the only one. path and vm_folder (value of the Folder) are owned by the caller. Names
 * may be written as they are, or as vCenter writes them in paths (%2f for a slash). */
int vmware_find_datacenter(struct vmware_session *s, const char *dc, char **path, char **vm_folder, struct cancel *cancel,
			   struct error **err);

/* Fills model->networks with the names of all networks of the datacenter that the vm folder belongs to. */
int vmware_list_networks(struct vmware_session *s, const char *vm_folder, struct vm_model *model, struct cancel *cancel,
			 struct error **err);

/* What a traversal found serves the look-ups of the next seconds: many imports begin at once, and a vCenter may have thousands of machines.
 * Who comes while it is made waits for it. */
struct vmware_listing {
	pthread_mutex_t lock; /* held while it is made */
	json_t *objects;
	uint64_t made; /* monotonic milliseconds */
};
void vmware_listing_init(struct vmware_listing *l);
void vmware_listing_clear(struct vmware_listing *l);
void vmware_listing_forget(struct vmware_listing *l); /* it is not true any more */

/* The virtual machine of this name below the datacenter's vm folder: its reference (vm-12) and inventory path, owned by the caller. With
 * no folder given, one directly in the vm folder goes before namesakes in other folders; "folder/name" is a name too, and so is a
 * reference (vm-12), or an instance UUID, where no machine has it as its name. Not found, or permanent when several have the name (the message lists their paths). */
int vmware_find_vm(struct vmware_session *s, const char *dc_path, const char *vm_folder, const struct source_vm_name *name,
		   struct vmware_listing *recent, char **ref, char **path, struct cancel *cancel, struct error **err);
