/* The little of XML that SOAP, OVF and others need. Documents come from outside: no entities, no network, bounded depth, size and number of nodes. */
#pragma once

#include <libxml/tree.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

/* Parses a whole document; free with xmlFreeDoc. Refuses a document type declaration. NULL sets a transient error InvalidAnswer. */
xmlDoc *xml_parse(const char *text, size_t len, struct error **err);

/* All by local name. Accept NULL nodes. */
xmlNode *xml_child(const xmlNode *node, const char *name);
xmlNode *xml_next(const xmlNode *node, const char *name); /* the next sibling of that name; name NULL: any element */
xmlNode *xml_first(const xmlNode *node);                  /* the first child element */
xmlNode *xml_path(const xmlNode *node, const char *path); /* "a/b/c" */
bool xml_named(const xmlNode *node, const char *name);
char *xml_text(const xmlNode *node);                        /* owned, NULL for a NULL node */
char *xml_path_text(const xmlNode *node, const char *path); /* owned, NULL when absent */
bool xml_path_is(const xmlNode *node, const char *path, const char *text);
int64_t xml_number(const xmlNode *node, int64_t fallback); /* fallback also for what is no number, or too large */
int64_t xml_path_number(const xmlNode *node, const char *path, int64_t fallback);
/* The attribute of this local name, of any namespace. Owned, NULL when absent. */
char *xml_attribute(const xmlNode *node, const char *name);
/* The type of a value without its prefix: xsi:type="vim25:VirtualDisk" is VirtualDisk. Owned, NULL when absent. */
char *xml_type(const xmlNode *node);
/* The type of the managed object that a reference names: the attribute type of no namespace. Owned, NULL when absent. */
char *xml_reference_type(const xmlNode *node);

/* Adds <name>text</name>, escaped. */
void xml_add(struct buffer *b, const char *name, const char *text);
void xml_add_escaped(struct buffer *b, const char *text);

static inline void xml_doc_free_p(xmlDoc **doc)
{
	if (*doc)
		xmlFreeDoc(*doc);
}
#define AUTO_XML CLEANUP(xml_doc_free_p)
