#include "xml/xml.h"

#include <errno.h>
#include <libxml/SAX2.h>
#include <libxml/parser.h>
#include <libxml/xmlerror.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>

#define NODES_MAX 1000000 /* elements and attributes: each takes some hundred bytes of memory, and as little as four on the wire */
#define XSI "http://www.w3.org/2001/XMLSchema-instance"

/* What a document may hold; the parser's context points here. */
struct limits {
	int nodes;
	const char *breach;
};

static void init_parser(void)
{
	xmlInitParser();
}

static void free_context_p(xmlParserCtxt **ctx)
{
	if (*ctx)
		xmlFreeParserCtxt(*ctx);
}

static void stop(xmlParserCtxt *ctx, const char *breach)
{
	struct limits *limits = ctx->_private;

	limits->breach = breach;
	xmlStopParser(ctx);
}

/* Called when a document type declaration begins, before any of its entities. */
static void on_doctype(void *ctx, const xmlChar *name, const xmlChar *external, const xmlChar *system)
{
	(void)name;
	(void)external;
	(void)system;
	stop(ctx, "it declares a document type, which is not allowed");
}

static void on_element(void *arg, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri, int namespace_count,
		       const xmlChar **namespaces, int attribute_count, int defaulted, const xmlChar **attributes)
{
	xmlParserCtxt *ctx = arg;
	struct limits *limits = ctx->_private;

	limits->nodes += 1 + attribute_count + namespace_count;
	if (limits->nodes > NODES_MAX)
		stop(ctx, "it has too many elements");
	else
		xmlSAX2StartElementNs(ctx, name, prefix, uri, namespace_count, namespaces, attribute_count, defaulted, attributes);
}

xmlDoc *xml_parse(const char *text, size_t len, struct error **err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	CLEANUP(free_context_p) xmlParserCtxt *ctx = NULL;
	AUTO_XML xmlDoc *doc = NULL;
	struct limits limits = { 0 };

	pthread_once(&once, init_parser);
	ctx = xmlNewParserCtxt();
	if (!ctx || len > INT_MAX) {
		error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the XML answer is too large");
		return NULL;
	}
	ctx->_private = &limits;
	ctx->sax->internalSubset = on_doctype;
	ctx->sax->startElementNs = on_element;
	/* Without XML_PARSE_HUGE libxml2 bounds depth, text and names; without XML_PARSE_NOENT and DTDLOAD it expands and loads nothing. */
	doc = xmlCtxtReadMemory(ctx, text, (int)len, NULL, NULL,
				XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_NOCDATA);
	if (limits.breach) {
		error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the XML is not read: %s", limits.breach);
		return NULL;
	}
	if (!doc) {
		const xmlError *e = xmlCtxtGetLastError(ctx);
		char why[160] = "";

		/* It quotes the document, which may be broken in the middle of a character. */
		for (size_t i = 0; e && e->message && i + 1 < sizeof why && e->message[i] && e->message[i] != '\n'; i++) {
			why[i] = e->message[i] >= ' ' && e->message[i] < 0x7f ? e->message[i] : '?';
			why[i + 1] = 0;
		}
		error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "this is no XML: line %d: %s", e ? e->line : 0, why);
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

int64_t xml_number(const xmlNode *node, int64_t fallback)
{
	AUTO_FREE char *text = xml_text(node);
	char *end;
	long long n;

	if (!text || !*text)
		return fallback;
	errno = 0;
	n = strtoll(text, &end, 10);
	return *end || errno ? fallback : n;
}

int64_t xml_path_number(const xmlNode *node, const char *path, int64_t fallback)
{
	return xml_number(xml_path(node, path), fallback);
}

char *xml_attribute(const xmlNode *node, const char *name)
{
	for (const xmlAttr *a = node ? node->properties : NULL; a; a = a->next)
		if (!strcmp((const char *)a->name, name))
			return xml_text((const xmlNode *)a);
	return NULL;
}

static char *attribute(const xmlNode *node, bool instance)
{
	for (const xmlAttr *a = node ? node->properties : NULL; a; a = a->next)
		if (!strcmp((const char *)a->name, "type") && (a->ns && !strcmp((const char *)a->ns->href, XSI)) == instance)
			return xml_text((const xmlNode *)a);
	return NULL;
}

char *xml_type(const xmlNode *node)
{
	AUTO_FREE char *value = attribute(node, true);
	const char *colon = value ? strrchr(value, ':') : NULL;

	return colon ? strdup(colon + 1) : move_ptr(value);
}

char *xml_reference_type(const xmlNode *node)
{
	return attribute(node, false);
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
