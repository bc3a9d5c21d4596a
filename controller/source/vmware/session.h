/* A session with a vSphere endpoint: calls of the Web Services API (vim25), logged in, logged in again when the session is lost.
 *
 * Source: vSphere Web Services API reference (managed objects ServiceInstance, SessionManager). Thread-safe. */
#pragma once

#include <jansson.h>

#include "base/cancel.h"
#include "net/http.h"
#include "source/vmware/soap.h"
#include "xml/xml.h"

struct vmware_session;

/* The managed objects that everything begins with. */
struct vmware_content {
	char *property_collector, *session_manager, *root_folder;
	char *authorization_manager; /* NULL where the server has none */
};

/* endpoint: the SDK's URL. The secret's keys: username, password, and for trust caCert (PEM), thumbprint or insecure. With none of these
 * the certificate must be one that the system's CAs verify, or the one of this SHA-256 fingerprint, or with pin NULL the first one seen.
 * Logs in. */
struct vmware_session *vmware_session_open(const char *endpoint, const json_t *secret, const char *pin, struct cancel *cancel,
					   struct error **err);
void vmware_session_close(struct vmware_session *s); /* logs out; accepts NULL */

/* Calls a method: arguments is the XML behind <_this>. Returns the document (free with xmlFreeDoc); *result its <MethodResponse>. A SOAP
 * fault becomes an error whose reason is the fault's type (TaskInProgress, ManagedObjectNotFound, ...). Takes at most a minute, and as
 * long again for logging in and for the next try when the session is lost. */
xmlDoc *vmware_call(struct vmware_session *s, const char *method, struct vmware_ref self, const char *arguments, xmlNode **result,
		    struct cancel *cancel, struct error **err);
/* The same within so many milliseconds, and as many for logging in. */
xmlDoc *vmware_call_within(struct vmware_session *s, unsigned timeout_ms, const char *method, struct vmware_ref self, const char *arguments,
			   xmlNode **result, struct cancel *cancel, struct error **err);

const struct vmware_content *vmware_session_content(const struct vmware_session *s);
unsigned vmware_session_logins(struct vmware_session *s); /* counts up when the session had to be made anew */
char *vmware_session_pin(struct vmware_session *s);       /* what pin is the next time, owned; NULL where the Secret says whom to trust */
char *vmware_session_cookie(struct vmware_session *s);    /* what the session's requests send: "name=value", owned */
char *vmware_session_key(struct vmware_session *s);       /* UserSession.key, owned */
const char *vmware_session_host(const struct vmware_session *s);   /* host or host:port of the endpoint */
struct http_client *vmware_session_http(struct vmware_session *s); /* trusts what the endpoint's Secret says; borrowed */
