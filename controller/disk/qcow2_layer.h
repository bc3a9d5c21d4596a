/* A qcow2 image, of version 2 or 3, as a layer. Internal to disk/. */
#pragma once

#include "disk/image_parts.h"

/* in is an input of the image. Its backing file, when it has one, is put into parent. */
struct layer *qcow2_layer_open(struct disk_image *image, struct disk_input *in, struct parent *parent, struct error **err);
