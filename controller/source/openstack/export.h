/* The disks of a server as streams of raw bytes.
 *
 * A volume goes the way snapshot, volume from it, image, download; where snapshots are not to be had, a copy of the volume takes the place of
 * both; where Cinder uploads volumes in use (enable_force_upload), or the volume is not in use, it is uploaded directly. A root disk that is no
 * volume becomes an image by createImage. A raw one is streamed; a qcow2 one of the disk's size is read by its tables as it streams
 * (image_input.h); of any other, and where that needs parts that the image store does not give, Cinder makes a raw volume, which goes the
 * way of volumes. So there is no second file here, and Glance's checksum is verified over the bytes that were used. Ephemeral
 * disks arrive empty, swap disks with a swap space's header (mkswap(8), version 1) and nothing in it.
 *
 * What a disk needs in the cloud is removed when it is here, within the quota that is left; what could not be removed stays in the ledger. */
#pragma once

#include "source/openstack/session.h"
#include "source/source.h"

struct source_export *openstack_export_begin(struct openstack_session *s, const struct source_ops *ops, const struct vm_model *model,
					     source_ledger ledger, void *ledger_arg, struct cancel *cancel, struct error **err);
int openstack_export_stream(struct source_export *e, size_t i, source_sink sink, void *arg, struct cancel *cancel, struct error **err);
struct disk_input *openstack_export_open(struct source_export *e, size_t i, const char *name, struct cancel *cancel, struct error **err);
void openstack_export_progress(struct source_export *e, unsigned percent);
int openstack_export_end(struct source_export *e, bool ok, struct error **err);
