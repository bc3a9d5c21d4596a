// links: support
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "support/redact.h"
#include "json/codec.h"

static struct redactor *redactor;

static int set_up(void **state)
{
	(void)state;
	redactor = redactor_new(NULL);
	assert_non_null(redactor);
	assert_int_equal(redactor_add(redactor, "planted & Secret\n", NULL), 0);
	assert_int_equal(redactor_add(redactor, "planted", NULL), 0);
	assert_int_equal(redactor_add(redactor, "abc", NULL), 0); /* too short to be looked for */
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	redactor_free(redactor);
	return 0;
}

static void becomes(const char *text, const char *wanted)
{
	AUTO_FREE char *got = redact_text(redactor, text);

	assert_non_null(got);
	assert_string_equal(got, wanted);
}

static void redacts_known_secrets(void **state)
{
	(void)state;
	becomes("it is planted & Secret, says abc", "it is REDACTED, says abc");
	becomes("xplantedx planted & Secre", "xREDACTEDx REDACTED & Secre");
	becomes("a=planted%20%26%20Secret", "a=REDACTED");
	becomes("value: cGxhbnRlZCAmIFNlY3JldA==", "value: REDACTED");
	becomes("", "");
	becomes("\n\nplanted\n", "\n\nREDACTED\n");
}

static void redacts_what_looks_like_one(void **state)
{
	(void)state;
	becomes("url=http://h:8080/images/Dro9N_ayiB8rQPUB1UfV0igI30zOgcYT1mxMr145Vso/24fa/disk-0.raw done",
		"url=http://h:8080/images/REDACTED/24fa/disk-0.raw done");
	becomes("GET https://user:pass@host/x and https://other:word@host",
		"GET https://user:REDACTED@host/x and https://other:REDACTED@host");
	becomes("https://host/disk.vmdk?X-Amz-Signature=abcdef&x=y, then", "https://host/disk.vmdk?REDACTED then");
	becomes("Authorization: Bearer abcdefgh.12345678", "Authorization: REDACTED");
	becomes("it says Bearer abcdefgh.12345678 now", "it says Bearer REDACTED now");
	becomes("Set-Cookie: vmware_soap_session=\"52f1\"; Path=/", "Set-Cookie: REDACTED");
	becomes("vmware_soap_session=\"52f1\"; Path=/", "vmware_soap_session=\"REDACTED\"; Path=/");
	becomes("token eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlIn0.c2lnbmF0dXJl end", "token REDACTED end");
	becomes("{\"password\": \"open sesame\", \"name\": \"a\"}", "{\"password\": \"REDACTED\", \"name\": \"a\"}");
	becomes("password=sesame user=me token=\"x y\"", "password=REDACTED user=me token=\"REDACTED\"");
	becomes("{\\\"apiKey\\\":\\\"k\\\"}", "{\\\"apiKey\\\":\\\"REDACTED\"}");
	becomes("a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabcd\n-----END RSA PRIVATE KEY-----\nb", "a\nREDACTED\nb");
	becomes("-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
		"-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----");
}

static void leaves_the_rest(void **state)
{
	static const char *const lines[] = {
		"time=2026-11-25T20:46:01.832Z level=info msg=\"A failed image was deleted\" object=default/exported state=disksExported",
		"https://vcenter.example.com/sdk and http://127.0.0.1:8080/metrics",
		"the secret default/vcenter-credentials has no key",
		"digest vmid2:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		"vm_import_failures_total{reason=\"InvalidLogin\"} 2",
		"/images/short/x",
	};

	(void)state;
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
		becomes(lines[i], lines[i]);
}

static void redacts_objects(void **state)
{
	AUTO_JSON json_t *in = json_loads(
		"[{\"kind\": \"Secret\", \"metadata\": {\"name\": \"s\", \"managedFields\": [1], \"annotations\": {\"a\": \"b\", "
		"\"kubectl.kubernetes.io/last-applied-configuration\": \"{}\"}}, \"data\": {\"username\": \"dQ==\", \"x\": \"eA==\"}},"
		" {\"kind\": \"VmwareSource\", \"spec\": {\"endpoint\": \"https://v/sdk\", \"credentials\": {\"name\": \"s\", \"namespace\": \"n\"}},"
		"  \"status\": {\"message\": \"planted refused\", \"n\": 5, \"ok\": true, \"none\": null, \"sessionToken\": \"t\"}},"
		" {\"sourceLedger\": [{\"kind\": \"Session\", \"id\": \"52-abc\"}, {\"kind\": \"Lease\", \"id\": \"52-def\"}]}]",
		0, NULL);
	AUTO_JSON json_t *wanted = json_loads(
		"[{\"kind\": \"Secret\", \"metadata\": {\"name\": \"s\", \"annotations\": {\"a\": \"b\"}},"
		"  \"data\": {\"username\": \"REDACTED\", \"x\": \"REDACTED\"}},"
		" {\"kind\": \"VmwareSource\", \"spec\": {\"endpoint\": \"https://v/sdk\", \"credentials\": {\"name\": \"s\", \"namespace\": \"n\"}},"
		"  \"status\": {\"message\": \"REDACTED refused\", \"n\": 5, \"ok\": true, \"none\": null, \"sessionToken\": \"REDACTED\"}},"
		" {\"sourceLedger\": [{\"kind\": \"Session\", \"id\": \"REDACTED\"}, {\"kind\": \"Lease\", \"id\": \"52-def\"}]}]",
		0, NULL);
	AUTO_JSON json_t *got = redact_json(redactor, in);

	(void)state;
	assert_non_null(in);
	assert_non_null(wanted);
	if (!json_equal(got, wanted)) {
		AUTO_FREE char *text = json_dumps(got, JSON_INDENT(1));

		fail_msg("%s", text ? text : "nothing");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(redacts_known_secrets),
		cmocka_unit_test(redacts_what_looks_like_one),
		cmocka_unit_test(leaves_the_rest),
		cmocka_unit_test(redacts_objects),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
