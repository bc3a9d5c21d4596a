/* Waits for a property of a managed object without asking again and again: the server answers when it changes.
 *
 * Source: vSphere Web Services API reference, PropertyCollector.CreatePropertyCollector, CreateFilter, WaitForUpdatesEx. A collector of its
 * own for each wait, as waits on one would get each other's updates; it ends with its session, so that a wait begins anew in the next. */
#pragma once

#include "source/vmware/session.h"

/* Waits until the property (an enumeration or a text) has one of the values (ended by NULL); *which becomes its index. Not found when the
 * object is not there or goes away, transient TimedOut after timeout_ms. */
int vmware_wait_property(struct vmware_session *s, struct vmware_ref object, const char *property, const char *const *values,
			 unsigned timeout_ms, size_t *which, struct cancel *cancel, struct error **err);
