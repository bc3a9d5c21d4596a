/* SOAP 1.1 as the vSphere Web Services API (vim25) speaks it: requests to text, answers and faults to nodes and errors. No I/O.
 *
 * Source: SOAP 1.1 (W3C Note, 8 May 2000), sections 4 and 6; vSphere Web Services API reference, "Faults". */
#pragma once

#include "base/buffer.h"
#include "xml/xml.h"

/* A managed object reference: its type and value, as in <obj type="VirtualMachine">vm-12</obj>. */
struct vmware_ref {
	const char *type, *value;
};

/* Adds the envelope of a call. arguments: the XML behind <_this>. Returns -1 when it did not fit. */
int soap_add_request(struct buffer *b, const char *method, struct vmware_ref self, const char *arguments);

/* The document of an answer (free with xmlFreeDoc); *result its first element in the body, as <MethodResponse>. A fault becomes an error
 * whose reason is the fault's type (InvalidLogin, TaskInProgress, ...), SOAPFault when it has none that is fit for one. */
xmlDoc *soap_decode(const char *method, const char *text, size_t len, xmlNode **result, struct error **err);

/* The class of a vim25 fault by its type: what is not known to be lasting may pass. */
enum error_class soap_fault_class(const char *type);
/* A fault's type as the reason of a condition: letters and digits alone; fallback when it is anything else, or NULL. */
const char *soap_fault_reason(const char *type, const char *fallback);

/* Cuts a text of the server's for a message: not more bytes than so many, and no half character at the end. */
void soap_shorten(char *text, size_t max);

/* The SOAPAction header for a server of this API version ("7.0.3.0"). A server shows a client only the types of the version asked for, so
 * that vTPMs (6.7) would be plain devices to an older one; and it refuses a version newer than its own. */
const char *soap_action(const char *api_version);
