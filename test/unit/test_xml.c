// links: source/vmware source net json base PkgConfig::jansson PkgConfig::xml
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "source/source.h"
#include "xml/xml.h"

static xmlDoc *parse(const char *text)
{
	AUTO_ERROR struct error *err = NULL;
	xmlDoc *doc = xml_parse(text, strlen(text), &err);

	if (!doc)
		fail_msg("%s", error_message(err));
	return doc;
}

static void test_reading(void **state)
{
	AUTO_XML xmlDoc *doc = parse(
		"<?xml version=\"1.0\"?><s:a xmlns:s=\"urn:s\" xmlns:x=\"http://www.w3.org/2001/XMLSchema-instance\"><b x:type=\"v:Disk\"><n>12</n><t> x &amp; <![CDATA[<y>]]></t></b>"
		"<!-- no --><b><n>-3</n></b><c/><n>z</n></s:a>");
	const xmlNode *root = xmlDocGetRootElement(doc), *b = xml_child(root, "b");
	AUTO_FREE char *type = xml_type(b), *text = xml_path_text(b, "t"), *none = xml_type(xml_child(root, "c"));

	(void)state;
	assert_true(xml_named(root, "a"));
	assert_string_equal(type, "Disk");
	assert_string_equal(text, " x & <y>");
	assert_null(none);
	assert_int_equal(xml_path_number(root, "b/n", 0), 12);
	assert_int_equal(xml_path_number(xml_next(b, "b"), "n", 0), -3);
	assert_int_equal(xml_path_number(root, "n", 7), 7); /* no number */
	assert_int_equal(xml_path_number(root, "b/zz/n", 7), 7);
	assert_null(xml_path(NULL, "a/b"));
	assert_null(xml_text(NULL));
	assert_true(xml_path_is(root, "n", "z"));
	assert_false(xml_path_is(root, "nn", "z"));
}

static void refuse(const char *text)
{
	AUTO_ERROR struct error *err = NULL;
	AUTO_XML xmlDoc *doc = xml_parse(text, strlen(text), &err);

	if (doc)
		fail_msg("accepted: %.80s", text);
	assert_string_equal(err->reason, "InvalidAnswer");
}

static void test_hostile_documents(void **state)
{
	char *deep = calloc(1, 20000);

	(void)state;
	refuse("");
	refuse("<a>");
	refuse("<a><b></a></b>");
	refuse("plain text");
	refuse("<!DOCTYPE a [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><a>&e;</a>");
	refuse("<!DOCTYPE a [<!ENTITY a \"aaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\"><!ENTITY c \"&b;&b;&b;&b;\">]><a>&c;</a>");
	refuse("<!DOCTYPE a SYSTEM \"http://127.0.0.1:1/x.dtd\"><a/>");
	for (int i = 0; i < 5000; i++)
		strcat(deep + 3 * (size_t)i, "<a>");
	refuse(deep);
	free(deep);
}

static void test_writing_escapes(void **state)
{
	CLEANUP(buffer_free) struct buffer b;

	(void)state;
	buffer_init(&b, 4096);
	xml_add(&b, "name", "<&> \"quoted\"\n\x01 ü");
	assert_string_equal(b.data, "<name>&lt;&amp;&gt; &quot;quoted&quot;&#10; ü</name>");
	AUTO_XML xmlDoc *doc = parse(b.data);
	AUTO_FREE char *text = xml_text(xmlDocGetRootElement(doc));
	assert_string_equal(text, "<&> \"quoted\"\n ü");
}

static void test_providers_are_complete(void **state)
{
	static const char *const kinds[] = { "VmwareSource", "vmwaresource" };

	(void)state;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		const struct source_ops *ops = source_ops_of(kinds[i]);

		assert_non_null(ops);
		assert_true(ops->open && ops->close && ops->verify && ops->describe && ops->preflight && ops->power_state &&
			    ops->shutdown_guest);
		assert_true(ops->power_off && ops->power_on && ops->export_begin && ops->export_stream && ops->export_progress &&
			    ops->export_end && ops->cleanup);
	}
	assert_null(source_ops_of("Nobody"));
	assert_null(source_ops_of(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reading),
		cmocka_unit_test(test_hostile_documents),
		cmocka_unit_test(test_writing_escapes),
		cmocka_unit_test(test_providers_are_complete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
