/* The disks of a server as streams of raw bytes.
 *
 * A volume goes the way snapshot, volume from it, image, download; where snapshots are not to be had, a copy of the volume takes the place of
 * both; where Cinder uploads volumes in use (enable_force_upload), or the volume is not in use, it is uploaded directly. A root disk that is no
 * volume becomes an image by createImage; when that is not raw, Cinder makes a raw volume of it, which goes the same way: so everything is
 * decoded without a second file here, and Glance's checksum is that of the bytes we get. Ephemeral disks arrive empty, swap disks with a
 * swap space's header (mkswap(8), version 1) and nothing in it.
 *
 * What a disk needs in the cloud is removed when it is here, within the quota that is left; what could not be removed stays in the ledger. */
#pragma once

#include "source/openstack/session.h"
#include "source/source.h"

struct source_export *openstack_export_begin(struct openstack_session *s, const struct source_ops *ops, const struct vm_model *model,
					     source_ledger ledger, void *ledger_arg, struct cancel *cancel, struct error **err);
int openstack_export_stream(struct source_export *e, size_t i, source_sink sink, void *arg, struct cancel *cancel, struct error **err);
void openstack_export_progress(struct source_export *e, unsigned percent);
int openstack_export_end(struct source_export *e, bool ok, struct error **err);
