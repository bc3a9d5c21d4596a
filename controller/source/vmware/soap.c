#include "source/vmware/soap.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FAULT_TEXT_MAX 600 /* bytes of a fault's text in a message */

int soap_add_request(struct buffer *b, const char *method, struct vmware_ref self, const char *arguments)
{
	buffer_add_string(
		b,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?><soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" "
		"xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\"><soapenv:Body>");
	buffer_addf(b, "<%s xmlns=\"urn:vim25\"><_this type=\"%s\">", method, self.type);
	xml_add_escaped(b, self.value);
	buffer_add_string(b, "</_this>");
	buffer_add_string(b, arguments);
	buffer_addf(b, "</%s></soapenv:Body></soapenv:Envelope>", method);
	return b->failed ? -1 : 0;
}

enum error_class soap_fault_class(const char *type)
{
	static const char *const lasting[] = { "InvalidLogin",
					       "InvalidPowerState",
					       "ToolsUnavailable",
					       "NoPermission",
					       "InvalidArgument",
					       "NotSupported",
					       "InvalidLocale",
					       "InvalidProperty",
					       "MethodNotFound",
					       "RestrictedVersion",
					       "InvalidType",
					       "NoDiskFound",
					       "InvalidRequest",
					       "PasswordExpired",
					       "LicenseExpired",
					       "NotEnoughLicenses",
					       "RestrictedByAdministrator" };

	if (!strcmp(type, "ManagedObjectNotFound") || !strcmp(type, "NotFound"))
		return ERROR_NOT_FOUND;
	for (size_t i = 0; i < sizeof lasting / sizeof *lasting; i++)
		if (!strcmp(type, lasting[i]))
			return ERROR_PERMANENT;
	return ERROR_TRANSIENT;
}

const char *soap_fault_reason(const char *type, const char *fallback)
{
	const char *c = type;

	if (!type || !isalpha((unsigned char)*type) || strlen(type) > 60)
		return fallback;
	while (isalnum((unsigned char)*c))
		c++;
	return *c ? fallback : type;
}

void soap_shorten(char *text, size_t max)
{
	if (strlen(text) <= max)
		return;
	while (max && ((unsigned char)text[max] & 0xc0) == 0x80)
		max--;
	text[max] = 0;
}

/* What the fault itself tells beside its text: the privilege that is missing, the task in the way, the argument that is wrong. */
static void add_details(struct buffer *b, const xmlNode *fault)
{
	static const struct {
		const char *element, *text;
	} known[] = { { "privilegeId", "the user lacks the privilege" },
		      { "object", "on" },
		      { "task", "held by the task" },
		      { "invalidProperty", "wrong argument" },
		      { "name", "wrong property" },
		      { "obj", "no such object:" },
		      { "faultMessage/message", "because" } };

	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		AUTO_FREE char *value = xml_path_text(fault, known[i].element);

		if (!value || !*value)
			continue;
		soap_shorten(value, 100);
		buffer_addf(b, "%s %s %s", !strcmp(known[i].text, "on") ? "" : ";", known[i].text, value);
	}
}

static int fault_error(const char *method, const xmlNode *fault, struct error **err)
{
	const xmlNode *detail = xml_first(xml_child(fault, "detail"));
	AUTO_FREE char *text = xml_path_text(fault, "faultstring"), *type = xml_type(detail);
	CLEANUP(buffer_free) struct buffer more;
	const char *reason;

	buffer_init(&more, 4096);
	if (!type && detail) { /* the element's name then: <InvalidLoginFault> */
		size_t len = strlen((const char *)detail->name);

		if (len > 5 && !strcmp((const char *)detail->name + len - 5, "Fault"))
			len -= 5;
		type = strndup((const char *)detail->name, len);
	}
	reason = soap_fault_reason(type, "SOAPFault");
	if (text)
		soap_shorten(text, FAULT_TEXT_MAX);
	add_details(&more, detail);
	return error_set(err, soap_fault_class(reason), reason, "%s: %s (%s%s)", method, text && *text ? text : "the server refused",
			 reason, more.data && !more.failed ? more.data : "");
}

xmlDoc *soap_decode(const char *method, const char *text, size_t len, xmlNode **result, struct error **err)
{
	AUTO_XML xmlDoc *doc = xml_parse(text, len, err);
	const xmlNode *root, *body, *fault;

	if (!doc)
		return NULL;
	root = xmlDocGetRootElement(doc);
	body = xml_named(root, "Envelope") ? xml_child(root, "Body") : NULL;
	fault = xml_child(body, "Fault");
	if (fault) {
		fault_error(method, fault, err);
		return NULL;
	}
	if (!xml_first(body)) {
		error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the answer to %s is no SOAP", method);
		return NULL;
	}
	*result = xml_first(body);
	return move_ptr(doc);
}

const char *soap_action(const char *api_version)
{
	int major = 0, minor = 0;

	if (!api_version || sscanf(api_version, "%d.%d", &major, &minor) != 2)
		return "\"urn:vim25/6.5\"";
	if (major > 6 || (major == 6 && minor >= 7))
		return "\"urn:vim25/6.7\"";
	if (major == 6 && minor >= 5)
		return "\"urn:vim25/6.5\"";
	return major == 6 ? "\"urn:vim25/6.0\"" : "\"urn:vim25/5.5\"";
}
