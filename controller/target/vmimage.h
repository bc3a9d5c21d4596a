/* The VirtualMachineImage that a disk becomes: Harvester downloads it from our image server. Internal to target/.
 *
 * Fields and conditions: harvesterhci.io/v1beta1 VirtualMachineImage of Harvester 1.8. */
#pragma once

#include "target/target.h"

/* Finds the image that was made before, by label, owner and display name, or makes one. Its name is the caller's. */
int vmimage_submit(struct store *store, const struct target_import *import, const struct target_disk *disk, char **name,
		   struct error **err);
/* The image of a disk, a new reference. One that is gone is an error of class not-found. */
json_t *vmimage_get(struct store *store, const struct target_import *import, const struct target_disk *disk, struct error **err);
/* What an image's status says. */
void vmimage_progress(const json_t *image, struct target_progress *out);
/* Takes our owner references off all images of the import, so that they outlive it. */
int vmimage_release(struct store *store, const struct target_import *import, struct error **err);
