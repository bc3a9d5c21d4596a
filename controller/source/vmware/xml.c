#include "source/vmware/xml.h"

#include <libxml/parser.h>
#include <libxml/xmlerror.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>

static void init_parser(void)
{
	xmlInitParser();
}

static void free_context_p(xmlParserCtxt **ctx)
{
	if (*ctx)
		xmlFreeParserCtxt(*ctx);
}

xmlDoc *xml_parse(const char *text, size_t len, struct error **err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	CLEANUP(free_context_p) xmlParserCtxt *ctx = NULL;
	AUTO_XML xmlDoc *doc = NULL;

	pthread_once(&once, init_parser);
	ctx = xmlNewParserCtxt();
	if (!ctx || len > INT_MAX) {
		error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the XML answer is too large");
		return NULL;
	}
	/* Without XML_PARSE_HUGE libxml2 bounds depth, text and names; without XML_PARSE_NOENT and DTDLOAD it expands and loads nothing. */
	doc = xmlCtxtReadMemory(ctx, text, (int)len, NULL, NULL, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_NOCDATA);
	if (!doc) {
		const xmlError *e = xmlCtxtGetLastError(ctx);
		int n = e && e->message ? (int)strcspn(e->message, "\n") : 0;

		error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the answer is no XML: line %d: %.*s", e ? e->line : 0, n, e && e->message ? e->message : "");
		return NULL;
	}
	if (doc->intSubset || doc->extSubset) {
		error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the answer declares a document type, which is not allowed");
		return NULL;
	}
	return move_ptr(doc);
}

bool xml_named(const xmlNode *node, const char *name)
{
	return node && node->type == XML_ELEMENT_NODE && (!name || !strcmp((const char *)node->name, name));
}

static xmlNode *from(xmlNode *node, const char *name)
{
	while (node && !xml_named(node, name))
		node = node->next;
	return node;
}

xmlNode *xml_child(const xmlNode *node, const char *name)
{
	return node ? from(node->children, name) : NULL;
}

xmlNode *xml_first(const xmlNode *node)
{
	return xml_child(node, NULL);
}

xmlNode *xml_next(const xmlNode *node, const char *name)
{
	return node ? from(node->next, name) : NULL;
}

xmlNode *xml_path(const xmlNode *node, const char *path)
{
	xmlNode *at = (xmlNode *)node;

	while (at && *path) {
		size_t len = strcspn(path, "/");
		char name[64];

		if (len >= sizeof name)
			return NULL;
		memcpy(name, path, len);
		name[len] = 0;
		at = xml_child(at, name);
		path += len + (path[len] == '/');
	}
	return at;
}

char *xml_text(const xmlNode *node)
{
	xmlChar *content = node ? xmlNodeGetContent(node) : NULL;
	char *text = content ? strdup((const char *)content) : NULL;

	xmlFree(content);
	return text;
}

char *xml_path_text(const xmlNode *node, const char *path)
{
	return xml_text(xml_path(node, path));
}

bool xml_path_is(const xmlNode *node, const char *path, const char *text)
{
	AUTO_FREE char *have = xml_path_text(node, path);

	return have && !strcmp(have, text);
}

int64_t xml_path_number(const xmlNode *node, const char *path, int64_t fallback)
{
	AUTO_FREE char *text = xml_path_text(node, path);
	char *end;
	long long n;

	if (!text || !*text)
		return fallback;
	n = strtoll(text, &end, 10);
	return *end ? fallback : n;
}

char *xml_type(const xmlNode *node)
{
	for (const xmlAttr *a = node ? node->properties : NULL; a; a = a->next) {
		if (strcmp((const char *)a->name, "type"))
			continue;
		AUTO_FREE char *value = xml_text((const xmlNode *)a);
		const char *colon = value ? strrchr(value, ':') : NULL;

		return value ? strdup(colon ? colon + 1 : value) : NULL;
	}
	return NULL;
}

void xml_add_escaped(struct buffer *b, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '&')
			buffer_add_string(b, "&amp;");
		else if (c == '<')
			buffer_add_string(b, "&lt;");
		else if (c == '>')
			buffer_add_string(b, "&gt;");
		else if (c == '"')
			buffer_add_string(b, "&quot;");
		else if (c == '\r' || c == '\n' || c == '\t')
			buffer_addf(b, "&#%u;", c);
		else if (c >= 0x20) /* other control characters cannot be in XML at all */
			buffer_add(b, text, 1);
	}
}

void xml_add(struct buffer *b, const char *name, const char *text)
{
	buffer_addf(b, "<%s>", name);
	xml_add_escaped(b, text);
	buffer_addf(b, "</%s>", name);
}
