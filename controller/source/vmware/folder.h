/* A machine's disks as the datastore browser serves them: files over HTTPS, with ranges. The second way to a disk, where no export lease is
 * to be had: a flat disk can be read from any byte on, and one of snapshots' files at any place; but thin disks come with all their zeros,
 * and nothing keeps the machine from being started meanwhile.
 *
 * Source: vSphere Web Services SDK Programming Guide, "HTTP Access to vSphere Server Files" (https://server/folder/PATH?dcPath=&dsName=);
 * VMware Virtual Disk Format 1.1, "The Descriptor". */
#pragma once

#include "source/source.h"
#include "source/vmware/session.h"

struct disk_input;
struct folder;

/* Finds the files of the machine's disks and reads their descriptors. dc_path: of the machine's datacenter. */
struct folder *folder_open(struct vmware_session *session, const char *dc_path, const struct vm_model *model, struct cancel *cancel,
			   struct error **err);
void folder_free(struct folder *f); /* accepts NULL */

/* Whether disk i is one flat file, which folder_stream sends from any byte on; else it is read by place (folder_input). */
bool folder_is_flat(const struct folder *f, size_t i);
/* *started, also of folder_input: set when the machine turned out to have been started while the disk was read. */
int folder_stream(struct folder *f, size_t i, uint64_t offset, bool *started, source_sink sink, void *arg, struct cancel *cancel,
		  struct error **err);
/* Reads a little of the first flat disk, two seconds at most: bytes a second. */
int folder_sample(struct folder *f, uint64_t *rate, struct cancel *cancel, struct error **err);
/* As source_ops.export_open: a file beside disk i's descriptor, or with NULL the descriptor itself, whose disk_input_finish says whether the
 * disk is right. cancel and started live as long as the input. */
struct disk_input *folder_input(struct folder *f, size_t i, const char *name, bool *started, struct cancel *cancel, struct error **err);
