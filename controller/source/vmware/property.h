/* Properties of managed objects, as the PropertyCollector gives them.
 *
 * Source: vSphere Web Services API reference, PropertyCollector.RetrievePropertiesEx, ContinueRetrievePropertiesEx. */
#pragma once

#include "source/vmware/session.h"

/* Properties of one object: the document; *node is the <objects> element. paths ends with NULL. A property that the user may not read
 * is absent. Not found when the object does not exist. */
xmlDoc *vmware_properties(struct vmware_session *s, struct vmware_ref object, const char *const *paths, xmlNode **node,
			  struct cancel *cancel, struct error **err);
/* The <val> of a property in <objects>, or NULL. */
xmlNode *vmware_property(const xmlNode *objects, const char *name);

/* All objects that a <specSet> selects, page by page: calls each for every <objects>; it returns -1 when memory is out. When the session
 * is lost between pages it begins anew, so that an object may come twice. */
int vmware_retrieve(struct vmware_session *s, const char *spec_set, int (*each)(void *arg, const xmlNode *objects), void *arg,
		    struct cancel *cancel, struct error **err);
