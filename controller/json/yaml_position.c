#include <string.h>
#include <yaml.h>

#include "base/cleanup.h"
#include "json/yaml.h"

static yaml_node_t *member_of(yaml_document_t *doc, const yaml_node_t *node, const char *name, size_t len)
{
	if (node->type != YAML_MAPPING_NODE)
		return NULL;
	for (const yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++) {
		const yaml_node_t *key = yaml_document_get_node(doc, p->key);

		if (key && key->type == YAML_SCALAR_NODE && key->data.scalar.length == len && !memcmp(key->data.scalar.value, name, len))
			return yaml_document_get_node(doc, p->value);
	}
	return NULL;
}

static yaml_node_t *element_of(yaml_document_t *doc, const yaml_node_t *node, size_t index)
{
	const yaml_node_item_t *items;

	if (node->type != YAML_SEQUENCE_NODE)
		return NULL;
	items = node->data.sequence.items.start;
	return index < (size_t)(node->data.sequence.items.top - items) ? yaml_document_get_node(doc, items[index]) : NULL;
}

/* One step of a path, "name" or "[n]"; *path goes on to the next. */
static yaml_node_t *step(yaml_document_t *doc, const yaml_node_t *node, const char **path)
{
	if (**path == '[') {
		char *end;
		size_t index = strtoul(*path + 1, &end, 10);

		*path = *end ? end + 1 : end;
		return element_of(doc, node, index);
	}
	*path += **path == '.';
	size_t len = strcspn(*path, ".[");
	yaml_node_t *found = member_of(doc, node, *path, len);
	*path += len;
	return found;
}

void yaml_locate(const char *text, size_t len, const char *path, size_t *line, size_t *column)
{
	yaml_parser_t parser;
	yaml_document_t doc;

	*line = *column = 1;
	if (!yaml_parser_initialize(&parser))
		return;
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
	if (yaml_parser_load(&parser, &doc)) {
		yaml_node_t *node = yaml_document_get_root_node(&doc);

		while (node) {
			*line = node->start_mark.line + 1;
			*column = node->start_mark.column + 1;
			node = *path ? step(&doc, node, &path) : NULL;
		}
		yaml_document_delete(&doc);
	}
	yaml_parser_delete(&parser);
}
