/* A session with a vSphere endpoint: SOAP calls of the Web Services API (vim25), logged in, logged in again when the session is lost.
 *
 * Source: vSphere Web Services API reference (managed objects ServiceInstance, SessionManager, PropertyCollector). Thread-safe. */
#pragma once

#include <jansson.h>

#include "base/cancel.h"
#include "net/http.h"
#include "source/source.h"
#include "source/vmware/xml.h"

struct vmware_session;

/* A managed object reference: its type and value, as in <obj type="VirtualMachine">vm-12</obj>. */
struct vmware_ref {
	const char *type, *value;
};

/* endpoint: the SDK's URL. The secret's keys: username, password, and for trust caCert (PEM), thumbprint or insecure. Logs in. */
struct vmware_session *vmware_session_open(const char *endpoint, const json_t *secret, struct cancel *cancel, struct error **err);
void vmware_session_close(struct vmware_session *s); /* logs out; accepts NULL */

/* Calls a method: arguments is the XML behind <_this>. Returns the document (free with xmlFreeDoc); *result its <MethodResponse>. A SOAP
 * fault becomes an error whose reason is the fault's type (InvalidLogin, TaskInProgress, ManagedObjectNotFound, ...). */
xmlDoc *vmware_call(struct vmware_session *s, const char *method, struct vmware_ref self, const char *arguments, xmlNode **result,
		    struct cancel *cancel, struct error **err);
/* Waits for a task that a method returned (<returnval type="Task">). */
int vmware_wait_task(struct vmware_session *s, const xmlNode *result, struct cancel *cancel, struct error **err);

/* Properties of one object: the document; *object is the <objects> element. paths ends with NULL. */
xmlDoc *vmware_properties(struct vmware_session *s, struct vmware_ref object, const char *const *paths, xmlNode **node, struct cancel *cancel,
			  struct error **err);
/* The <val> of a property in <objects>, or NULL. */
xmlNode *vmware_property(const xmlNode *objects, const char *name);

/* All objects that a <specSet> selects, page by page: calls each for every <objects>. */
int vmware_retrieve(struct vmware_session *s, const char *spec_set, int (*each)(void *arg, const xmlNode *objects), void *arg,
		    struct cancel *cancel, struct error **err);

const char *vmware_root_folder(const struct vmware_session *s);  /* value of the Folder */
char *vmware_session_key(struct vmware_session *s);              /* UserSession.key, owned */
const char *vmware_endpoint_host(const struct vmware_session *s); /* host or host:port of the endpoint */
const char *vmware_session_manager(const struct vmware_session *s);
