/* What an import decides for the user or leaves behind: nothing that stands in its way, but good to know before.
 *
 * Source: vSphere Web Services API reference, VirtualDevice and its descendants, VirtualDiskMode. */
#pragma once

#include "api/vm_model.h"
#include "xml/xml.h"

/* The notes about <objects> of a machine as one text, "a; b"; owned, NULL when there are none. */
char *vmware_notes_of(const xmlNode *objects, const struct vm_model *model);
