// links: source/vmware base PkgConfig::xml
/* SOAP and XML of vSphere: what is sent is escaped, faults become errors, and hostile documents come to nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "source/vmware/soap.h"

#define ENVELOPE(body)                                                                                                               \
	"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" " \
	"xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\"><soapenv:Body>" body \
	"</soapenv:Body></soapenv:Envelope>"
#define FAULT(text, detail)                                                                                                \
	ENVELOPE("<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>" text "</faultstring><detail>" detail \
		 "</detail></soapenv:Fault>")

static void test_requests_are_escaped(void **state)
{
	CLEANUP(buffer_free) struct buffer b;
	CLEANUP(buffer_free) struct buffer arguments;
	AUTO_XML xmlDoc *doc = NULL;
	AUTO_FREE char *user = NULL, *self = NULL;
	xmlNode *result = NULL;
	const char *nasty = "a<b>&\"c'\r\n\td ünï \x01]]>";

	(void)state;
	buffer_init(&b, 65536);
	buffer_init(&arguments, 65536);
	xml_add(&arguments, "userName", nasty);
	assert_int_equal(soap_add_request(&b, "Login", (struct vmware_ref){ "SessionManager", "<&>" }, arguments.data), 0);
	doc = soap_decode("Login", b.data, b.len, &result, NULL);
	assert_non_null(doc);
	assert_string_equal((const char *)result->name, "Login");
	assert_string_equal((const char *)result->ns->href, "urn:vim25");
	self = xml_path_text(result, "_this");
	assert_string_equal(self, "<&>");
	user = xml_path_text(result, "userName");
	assert_string_equal(user, "a<b>&\"c'\r\n\td ünï ]]>"); /* what XML cannot hold is left out */
	buffer_free(&b);
	buffer_init(&b, 100);
	assert_int_equal(soap_add_request(&b, "Login", (struct vmware_ref){ "SessionManager", "x" }, arguments.data), -1);
}

static void expect_error(const char *text, size_t len, enum error_class class, const char *reason, const char *part)
{
	AUTO_ERROR struct error *err = NULL;
	xmlNode *result = NULL;

	assert_null(soap_decode("Method", text, len, &result, &err));
	assert_non_null(err);
	if (err->class != class || strcmp(err->reason, reason) || !strstr(err->message, part))
		fail_msg("got %s %s: %s", error_class_name(err->class), err->reason, err->message);
	assert_true(strlen(err->message) < 2000);
	/* And with nobody to hear it. */
	assert_null(soap_decode("Method", text, len, &result, NULL));
}

static void test_faults(void **state)
{
	static const struct {
		const char *text;
		enum error_class class;
		const char *reason, *part;
	} cases[] = {
		{ FAULT("Cannot complete login", "<InvalidLoginFault xmlns=\"urn:vim25\" xsi:type=\"InvalidLogin\"/>"), ERROR_PERMANENT,
		  "InvalidLogin", "Method: Cannot complete login (InvalidLogin)" },
		{ FAULT("",
			"<NotAuthenticatedFault xmlns=\"urn:vim25\" xsi:type=\"NotAuthenticated\"><object type=\"Folder\">group-d1</object>"
			"<privilegeId>System.View</privilegeId></NotAuthenticatedFault>"),
		  ERROR_TRANSIENT, "NotAuthenticated", "the server refused" },
		{ FAULT("Permission denied",
			"<NoPermissionFault xmlns=\"urn:vim25\" xsi:type=\"NoPermission\"><object type=\"VirtualMachine\">vm-12</object>"
			"<privilegeId>VApp.Export</privilegeId></NoPermissionFault>"),
		  ERROR_PERMANENT, "NoPermission", "lacks the privilege VApp.Export on vm-12" },
		{ FAULT("busy",
			"<TaskInProgressFault xmlns=\"urn:vim25\" xsi:type=\"vim25:TaskInProgress\" xmlns:vim25=\"urn:vim25\"><task>task-7</task>"
			"</TaskInProgressFault>"),
		  ERROR_TRANSIENT, "TaskInProgress", "held by the task task-7" },
		{ FAULT("gone",
			"<ManagedObjectNotFoundFault xmlns=\"urn:vim25\"><obj type=\"VirtualMachine\">vm-1</obj></ManagedObjectNotFoundFault>"),
		  ERROR_NOT_FOUND, "ManagedObjectNotFound", "vm-1" },
		{ FAULT("off", "<InvalidPowerState xmlns=\"urn:vim25\"/>"), ERROR_PERMANENT, "InvalidPowerState", "off" },
		{ FAULT("no tools", "<ToolsUnavailableFault xmlns=\"urn:vim25\" xsi:type=\"ToolsUnavailable\"/>"), ERROR_PERMANENT,
		  "ToolsUnavailable", "no tools" },
		{ FAULT("late", "<TimedoutFault xmlns=\"urn:vim25\" xsi:type=\"Timedout\"/>"), ERROR_TRANSIENT, "Timedout", "late" },
		{ FAULT("odd", "<X xsi:type=\"not a reason; really\"/>"), ERROR_TRANSIENT, "SOAPFault", "odd (SOAPFault)" },
		{ FAULT("odd", "text"), ERROR_TRANSIENT, "SOAPFault", "odd" },
		{ ENVELOPE("<soapenv:Fault/>"), ERROR_TRANSIENT, "SOAPFault", "the server refused" },
		{ ENVELOPE(""), ERROR_TRANSIENT, "InvalidAnswer", "the answer to Method is no SOAP" },
		{ "<html><Body><p>It works!</p></Body></html>", ERROR_TRANSIENT, "InvalidAnswer", "no SOAP" },
		{ "<html><p>It works!</html>", ERROR_TRANSIENT, "InvalidAnswer", "no XML" },
		{ "", ERROR_TRANSIENT, "InvalidAnswer", "no XML" },
		{ "<a>\xff</a>", ERROR_TRANSIENT, "InvalidAnswer", "no XML" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		expect_error(cases[i].text, strlen(cases[i].text), cases[i].class, cases[i].reason, cases[i].part);
}

static char *repeat(const char *before, const char *what, size_t count, const char *after, size_t *len)
{
	size_t n = strlen(what), first = strlen(before);
	char *text = malloc(first + n * count + strlen(after) + 1);

	memcpy(text, before, first);
	for (size_t i = 0; i < count; i++)
		memcpy(text + first + i * n, what, n);
	strcpy(text + first + n * count, after);
	*len = first + n * count + strlen(after);
	return text;
}

static void test_long_fault_texts_are_cut(void **state)
{
	AUTO_FREE char *text = NULL;
	size_t len;
	char cut[] = "aé";

	(void)state;
	text = repeat("<e:Envelope xmlns:e='x'><e:Body><e:Fault><faultstring>", "ä€", 100000,
		      "</faultstring></e:Fault></e:Body></e:Envelope>", &len);
	expect_error(text, len, ERROR_TRANSIENT, "SOAPFault", "ä€ä€ä€");
	soap_shorten(cut, 2);
	assert_string_equal(cut, "a");
}

static void test_hostile_documents(void **state)
{
	static const char laughs[] =
		"<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY a \"aaaaaaaaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">"
		"<!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;\"><!ENTITY d \"&c;&c;&c;&c;&c;&c;&c;&c;\">]>"
		"<e:Envelope xmlns:e='x'><e:Body><r v=\"&d;\">&d;</r></e:Body></e:Envelope>";
	static const char file[] =
		"<!DOCTYPE x [<!ENTITY f SYSTEM \"file:///etc/passwd\">]><e:Envelope xmlns:e='x'><e:Body><r>&f;</r></e:Body></e:Envelope>";
	static const char remote[] =
		"<!DOCTYPE x SYSTEM \"http://127.0.0.1:1/x.dtd\"><e:Envelope xmlns:e='x'><e:Body><r/></e:Body></e:Envelope>";
	static const char undeclared[] = "<e:Envelope xmlns:e='x'><e:Body><r>&f;</r></e:Body></e:Envelope>";
	static const char nul[] = "<e:Envelope xmlns:e='x'><e:Body><r>a\0b</r></e:Body></e:Envelope>";
	AUTO_FREE char *deep = NULL, *many = NULL, *wide = NULL, *fat = NULL;
	uint64_t begun = clock_monotonic_ms();
	size_t len;

	(void)state;
	expect_error(laughs, strlen(laughs), ERROR_TRANSIENT, "InvalidAnswer", "declares a document type");
	expect_error(file, strlen(file), ERROR_TRANSIENT, "InvalidAnswer", "declares a document type");
	expect_error(remote, strlen(remote), ERROR_TRANSIENT, "InvalidAnswer", "declares a document type");
	expect_error(undeclared, strlen(undeclared), ERROR_TRANSIENT, "InvalidAnswer", "no XML");
	expect_error(nul, sizeof nul - 1, ERROR_TRANSIENT, "InvalidAnswer", "no XML");
	deep = repeat("<e:Envelope xmlns:e='x'><e:Body>", "<a>", 200000, "", &len);
	expect_error(deep, len, ERROR_TRANSIENT, "InvalidAnswer", "no XML");
	many = repeat("<e:Envelope xmlns:e='x'><e:Body>", "<a/>", 1100000, "</e:Body></e:Envelope>", &len);
	expect_error(many, len, ERROR_TRANSIENT, "InvalidAnswer", "too many elements");
	wide = repeat("<e:Envelope xmlns:e='x'><e:Body>", "<a b='' c='' d='' e='' f='' g='' h='' i=''/>", 120000, "</e:Body></e:Envelope>",
		      &len);
	expect_error(wide, len, ERROR_TRANSIENT, "InvalidAnswer", "too many elements");
	fat = repeat("<e:Envelope xmlns:e='x'><e:Body>", "x", 11000000, "</e:Body></e:Envelope>", &len);
	expect_error(fat, len, ERROR_TRANSIENT, "InvalidAnswer", "");
	assert_true(clock_monotonic_ms() - begun < 20000);
}

static void test_readers(void **state)
{
	static const char text[] = ENVELOPE(
		"<R xmlns=\"urn:vim25\"> <a>1</a><!-- c --><a>2</a><b><c> x </c></b><n>9223372036854775808</n><m>-5</m><bad>5x</bad><e/>"
		"<ref type=\"VirtualMachine\" xsi:type=\"ManagedObjectReference\">vm-1</ref>"
		"<ref xsi:type=\"vim25:VirtualDisk\" type=\"Other\">vm-2</ref><d><![CDATA[<&>]]></d></R>");
	AUTO_XML xmlDoc *doc = NULL;
	xmlNode *r = NULL;
	const xmlNode *ref;

	(void)state;
	doc = soap_decode("R", text, strlen(text), &r, NULL);
	assert_non_null(doc);
	AUTO_FREE char *second = xml_text(xml_next(xml_child(r, "a"), "a")), *c = xml_path_text(r, "b/c"), *cdata = xml_path_text(r, "d");
	assert_string_equal(second, "2");
	assert_string_equal(c, " x ");
	assert_string_equal(cdata, "<&>");
	assert_true(xml_path_is(r, "a", "1"));
	assert_int_equal(xml_path_number(r, "m", 7), -5);
	assert_int_equal(xml_path_number(r, "n", 7), 7);
	assert_int_equal(xml_path_number(r, "bad", 7), 7);
	assert_int_equal(xml_path_number(r, "e", 7), 7);
	assert_int_equal(xml_path_number(r, "nothing/there", 7), 7);
	ref = xml_child(r, "ref");
	AUTO_FREE char *type = xml_type(ref), *reference = xml_reference_type(ref);
	AUTO_FREE char *type2 = xml_type(xml_next(ref, "ref")), *reference2 = xml_reference_type(xml_next(ref, "ref"));
	assert_string_equal(type, "ManagedObjectReference");
	assert_string_equal(reference, "VirtualMachine");
	assert_string_equal(type2, "VirtualDisk");
	assert_string_equal(reference2, "Other");
	assert_null(xml_text(NULL));
	assert_null(xml_type(NULL));
	assert_null(xml_path(NULL, "a/b"));
	assert_null(xml_next(NULL, "a"));
	assert_null(xml_type(xml_child(r, "a")));
}

static void test_action_fits_the_server(void **state)
{
	static const char *const cases[][2] = { { "8.0.3.0", "6.7" }, { "7.0.0.0", "6.7" }, { "6.7.3", "6.7" },    { "6.5", "6.5" },
						{ "6.0", "6.0" },     { "5.5", "5.5" },     { "nonsense", "6.5" }, { "10.1", "6.7" } };

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char wanted[64];

		snprintf(wanted, sizeof wanted, "\"urn:vim25/%s\"", cases[i][1]);
		assert_string_equal(soap_action(cases[i][0]), wanted);
	}
	assert_string_equal(soap_action(NULL), "\"urn:vim25/6.5\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests_are_escaped),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_long_fault_texts_are_cut),
		cmocka_unit_test(test_hostile_documents),
		cmocka_unit_test(test_readers),
		cmocka_unit_test(test_action_fits_the_server),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
