/* The sparse extents of VMDKs, as layers. Internal to disk/. */
#pragma once

#include "disk/image_parts.h"

#define VMDK_SECTOR 512u

/* Where an extent has a descriptor in it, in bytes; len 0: none. */
struct vmdk_embedded {
	uint64_t at, len;
};

/* in stays the caller's; name lives as long as the image. embedded may be NULL. */
struct layer *vmdk_hosted_layer_new(struct disk_image *image, struct disk_input *in, const char *name, struct vmdk_embedded *embedded,
				    struct error **err);
struct layer *vmdk_cowd_layer_new(struct disk_image *image, struct disk_input *in, const char *name, struct error **err);
struct layer *vmdk_sesparse_layer_new(struct disk_image *image, struct disk_input *in, const char *name, struct error **err);

/* A VMDK: by its descriptor, or by its single sparse extent. in is an input of the image. What it lies upon is put into parent; its CID, when it has
 * one, into cid. */
struct layer *vmdk_layer_open(struct disk_image *image, struct disk_input *in, enum disk_format format, struct parent *parent,
			      bool *has_cid, uint32_t *cid, struct error **err);
