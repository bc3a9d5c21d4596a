#include "json/yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <yaml.h>

#include "base/buffer.h"
#include "json/codec.h"

#define DEPTH_MAX 100
/* An alias costs as many nodes as it stands for: a text of some lines may not become millions of objects. */
#define NODES_MAX 1000000
#define FILE_MAX (16u << 20)

struct reader {
	yaml_parser_t parser;
	const char *file;
	json_t *anchors; /* name -> value of this document */
	size_t nodes;
	struct error **err;
};

static int fail(struct reader *r, const yaml_mark_t *mark, const char *what)
{
	return error_set(r->err, ERROR_PERMANENT, "InvalidYAML", "%s, line %zu, column %zu: %s", r->file, mark->line + 1, mark->column + 1,
			 what);
}

static int next(struct reader *r, yaml_event_t *event)
{
	if (yaml_parser_parse(&r->parser, event))
		return 0;
	return fail(r, &r->parser.problem_mark, r->parser.problem ? r->parser.problem : "not YAML");
}

static size_t nodes_of(const json_t *json)
{
	size_t n = 1, i;
	const char *key;
	json_t *value;

	if (json_is_object(json))
		json_object_foreach ((json_t *)json, key, value)
			n += nodes_of(value);
	json_array_foreach (json, i, value)
		n += nodes_of(value);
	return n;
}

static bool is_integer(const char *s)
{
	size_t digits;

	s += *s == '-' || *s == '+';
	digits = strspn(s, "0123456789");
	/* 0123 is octal in YAML 1.1 and decimal in 1.2: nobody means it as a number */
	return digits && !s[digits] && (digits == 1 || *s != '0');
}

static bool is_real(const char *s)
{
	size_t before, after = 0;
	bool point = false;

	s += *s == '-' || *s == '+';
	before = strspn(s, "0123456789");
	s += before;
	if (*s == '.') {
		point = true;
		after = strspn(s + 1, "0123456789");
		s += 1 + after;
	}
	if (!before && !after)
		return false;
	if (*s == 'e' || *s == 'E') {
		size_t exponent;

		s++;
		s += *s == '-' || *s == '+';
		exponent = strspn(s, "0123456789");
		return exponent && !s[exponent];
	}
	return point && !*s;
}

static bool one_of(const char *s, const char *const *list)
{
	for (; *list; list++)
		if (!strcmp(s, *list))
			return true;
	return false;
}

/* A plain scalar as kubectl reads it: the booleans of YAML 1.1 in the three usual spellings. */
static json_t *plain(const char *s)
{
	static const char *const null[] = { "", "~", "null", "Null", "NULL", NULL };
	static const char *const yes[] = { "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", NULL };
	static const char *const no[] = { "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", NULL };

	if (one_of(s, null))
		return json_null();
	if (one_of(s, yes))
		return json_true();
	if (one_of(s, no))
		return json_false();
	if (is_integer(s)) {
		long long n;

		errno = 0;
		n = strtoll(s, NULL, 10);
		return errno ? json_real(strtod(s, NULL)) : json_integer(n);
	}
	if (!strncmp(s, "0x", 2) && s[2] && strspn(s + 2, "0123456789abcdefABCDEF") == strlen(s + 2) && strlen(s) <= 17)
		return json_integer(strtoll(s, NULL, 16));
	if (is_real(s)) {
		double d = strtod(s, NULL);

		return isfinite(d) ? json_real(d) : NULL;
	}
	return json_string(s);
}

static int read_scalar(struct reader *r, const yaml_event_t *e, json_t **out)
{
	const char *text = (const char *)e->data.scalar.value, *tag = (const char *)e->data.scalar.tag;

	if (tag && !strcmp(tag, "tag:yaml.org,2002:binary"))
		return fail(r, &e->start_mark, "binary values are not supported");
	if (e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE || (tag && !strcmp(tag, "tag:yaml.org,2002:str")))
		*out = json_stringn(text, e->data.scalar.length);
	else
		*out = strlen(text) == e->data.scalar.length ? plain(text) : NULL;
	return *out ? 0 : fail(r, &e->start_mark, "the value is not valid UTF-8 or out of range");
}

static int read_node(struct reader *r, yaml_event_t *e, int depth, json_t **out);

static int read_sequence(struct reader *r, int depth, json_t **out)
{
	AUTO_JSON json_t *array = json_array();

	for (;;) {
		yaml_event_t e;
		json_t *value = NULL;
		int failed;

		if (next(r, &e) < 0)
			return -1;
		if (e.type == YAML_SEQUENCE_END_EVENT) {
			yaml_event_delete(&e);
			*out = move_ptr(array);
			return 0;
		}
		failed = read_node(r, &e, depth, &value);
		yaml_event_delete(&e);
		if (failed)
			return -1;
		json_array_append_new(array, value);
	}
}

/* `<<: *defaults`: the members of the other mapping that this one does not have. */
static int merge(struct reader *r, json_t *object, const json_t *value, const yaml_mark_t *mark)
{
	const json_t *part;
	size_t i;

	if (json_is_object(value)) {
		json_object_update_missing(object, (json_t *)value);
		return 0;
	}
	if (!json_is_array(value))
		return fail(r, mark, "<< takes a mapping or a list of mappings");
	json_array_foreach (value, i, part) {
		if (!json_is_object(part))
			return fail(r, mark, "<< takes a mapping or a list of mappings");
		json_object_update_missing(object, (json_t *)part);
	}
	return 0;
}

/* The key as text: JSON has no others. */
static char *key_of(const json_t *key)
{
	char *text = NULL;

	if (json_is_string(key))
		return strdup(json_string_value(key));
	if (json_is_integer(key))
		return asprintf(&text, "%" JSON_INTEGER_FORMAT, json_integer_value(key)) < 0 ? NULL : text;
	if (json_is_boolean(key))
		return strdup(json_is_true(key) ? "true" : "false");
	return json_is_null(key) ? strdup("null") : NULL;
}

static int read_member(struct reader *r, yaml_event_t *e, int depth, json_t *object)
{
	AUTO_JSON json_t *key_json = NULL, *value = NULL;
	AUTO_FREE char *key = NULL;
	yaml_mark_t mark = e->start_mark;
	yaml_event_t v;
	bool is_merge = e->type == YAML_SCALAR_EVENT && e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
			!strcmp((const char *)e->data.scalar.value, "<<");
	int failed;

	if (read_node(r, e, depth, &key_json) < 0)
		return -1;
	key = key_of(key_json);
	if (!key)
		return fail(r, &mark, "a key must be a plain value");
	if (next(r, &v) < 0)
		return -1;
	failed = read_node(r, &v, depth, &value);
	yaml_event_delete(&v);
	if (failed)
		return -1;
	if (is_merge)
		return merge(r, object, value, &mark);
	if (json_object_get(object, key))
		return fail(r, &mark, "the key is there twice");
	json_object_set(object, key, value);
	return 0;
}

static int read_mapping(struct reader *r, int depth, json_t **out)
{
	AUTO_JSON json_t *object = json_object();

	for (;;) {
		yaml_event_t e;
		int failed;

		if (next(r, &e) < 0)
			return -1;
		if (e.type == YAML_MAPPING_END_EVENT) {
			yaml_event_delete(&e);
			*out = move_ptr(object);
			return 0;
		}
		failed = read_member(r, &e, depth, object);
		yaml_event_delete(&e);
		if (failed)
			return -1;
	}
}

static int read_node(struct reader *r, yaml_event_t *e, int depth, json_t **out)
{
	const char *anchor = NULL;
	json_t *found;
	int failed;

	if (depth > DEPTH_MAX)
		return fail(r, &e->start_mark, "nested too deeply");
	if (++r->nodes > NODES_MAX)
		return fail(r, &e->start_mark, "too many values");
	switch (e->type) {
	case YAML_ALIAS_EVENT:
		found = json_object_get(r->anchors, (const char *)e->data.alias.anchor);
		if (!found)
			return fail(r, &e->start_mark, "the alias names no anchor before it");
		r->nodes += nodes_of(found);
		if (r->nodes > NODES_MAX)
			return fail(r, &e->start_mark, "too many values");
		*out = json_deep_copy(found);
		return 0;
	case YAML_SCALAR_EVENT:
		anchor = (const char *)e->data.scalar.anchor;
		failed = read_scalar(r, e, out);
		break;
	case YAML_SEQUENCE_START_EVENT:
		anchor = (const char *)e->data.sequence_start.anchor;
		failed = read_sequence(r, depth + 1, out);
		break;
	case YAML_MAPPING_START_EVENT:
		anchor = (const char *)e->data.mapping_start.anchor;
		failed = read_mapping(r, depth + 1, out);
		break;
	default:
		return fail(r, &e->start_mark, "unexpected structure");
	}
	if (!failed && anchor)
		json_object_set(r->anchors, anchor, *out);
	return failed;
}

static int read_documents(struct reader *r, json_t *documents)
{
	for (;;) {
		AUTO_JSON json_t *document = NULL;
		yaml_event_t e;
		yaml_event_type_t type;
		int failed = 0;

		if (next(r, &e) < 0)
			return -1;
		type = e.type;
		if (type == YAML_DOCUMENT_START_EVENT)
			json_object_clear(r->anchors);
		else if (type != YAML_STREAM_START_EVENT && type != YAML_STREAM_END_EVENT && type != YAML_DOCUMENT_END_EVENT)
			failed = read_node(r, &e, 0, &document);
		yaml_event_delete(&e);
		if (failed)
			return -1;
		if (type == YAML_STREAM_END_EVENT)
			return 0;
		if (document && !json_is_null(document))
			json_array_append(documents, document);
	}
}

json_t *yaml_load(const char *text, size_t len, const char *file_name, struct error **err)
{
	struct reader r = { .file = file_name, .anchors = json_object(), .err = err };
	AUTO_JSON json_t *documents = json_array();
	int failed;

	if (!r.anchors || !documents || !yaml_parser_initialize(&r.parser)) {
		json_decref(r.anchors);
		error_set(err, ERROR_TRANSIENT, "OutOfMemory", "out of memory");
		return NULL;
	}
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
	failed = read_documents(&r, documents);
	yaml_parser_delete(&r.parser);
	json_decref(r.anchors);
	return failed ? NULL : move_ptr(documents);
}

json_t *yaml_load_file(const char *path, struct error **err)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	CLEANUP(buffer_free) struct buffer text = { 0 };
	struct stat st;
	char piece[16384];
	ssize_t n;

	buffer_init(&text, FILE_MAX);
	if (fd < 0 || fstat(fd, &st) < 0) {
		error_set_errno(err, errno, "cannot read %s", path);
		return NULL;
	}
	if (S_ISDIR(st.st_mode)) {
		error_set(err, ERROR_PERMANENT, "IsADirectory", "%s is a directory; name the files in it", path);
		return NULL;
	}
	while ((n = read(fd, piece, sizeof piece)) > 0) {
		if (buffer_add(&text, piece, (size_t)n) < 0) {
			error_set(err, ERROR_PERMANENT, "TooLarge", "%s is larger than 16 MiB", path);
			return NULL;
		}
	}
	if (n < 0) {
		error_set_errno(err, errno, "cannot read %s", path);
		return NULL;
	}
	return yaml_load(text.data ? text.data : "", text.len, path, err);
}

static int emit(yaml_emitter_t *emitter, yaml_event_t *event)
{
	return yaml_emitter_emit(emitter, event) ? 0 : -1;
}

static int emit_scalar(yaml_emitter_t *emitter, const char *text, size_t len, bool quote)
{
	bool block = memchr(text, '\n', len) != NULL;
	yaml_scalar_style_t style = quote ? YAML_DOUBLE_QUOTED_SCALAR_STYLE : block ? YAML_LITERAL_SCALAR_STYLE : YAML_ANY_SCALAR_STYLE;
	yaml_event_t e;

	return yaml_scalar_event_initialize(&e, NULL, NULL, (const unsigned char *)text, (int)len, 1, 1, style) ? emit(emitter, &e) : -1;
}

static int emit_string(yaml_emitter_t *emitter, const char *text, size_t len)
{
	json_t *as_plain = strlen(text) == len && !memchr(text, '\n', len) ? plain(text) : NULL;
	/* What would read as something else (in YAML 1.1 too) is quoted. */
	bool quote = !len || (as_plain && !json_is_string(as_plain)) || !strcasecmp(text, "y") || !strcasecmp(text, "n") ||
		     strspn(text, "0123456789_:.+-") == len;

	json_decref(as_plain);
	return emit_scalar(emitter, text, len, quote);
}

static int emit_value(yaml_emitter_t *emitter, const json_t *json, int depth)
{
	char number[64];
	yaml_event_t e;
	const char *key;
	json_t *value;
	size_t i;

	if (depth > DEPTH_MAX)
		return -1;
	switch (json_typeof(json)) {
	case JSON_OBJECT:
		if (!yaml_mapping_start_event_initialize(&e, NULL, NULL, 1,
							 json_object_size(json) ? YAML_BLOCK_MAPPING_STYLE : YAML_FLOW_MAPPING_STYLE) ||
		    emit(emitter, &e) < 0)
			return -1;
		json_object_foreach ((json_t *)json, key, value)
			if (emit_string(emitter, key, strlen(key)) < 0 || emit_value(emitter, value, depth + 1) < 0)
				return -1;
		return yaml_mapping_end_event_initialize(&e) ? emit(emitter, &e) : -1;
	case JSON_ARRAY:
		if (!yaml_sequence_start_event_initialize(&e, NULL, NULL, 1,
							  json_array_size(json) ? YAML_BLOCK_SEQUENCE_STYLE : YAML_FLOW_SEQUENCE_STYLE) ||
		    emit(emitter, &e) < 0)
			return -1;
		json_array_foreach (json, i, value)
			if (emit_value(emitter, value, depth + 1) < 0)
				return -1;
		return yaml_sequence_end_event_initialize(&e) ? emit(emitter, &e) : -1;
	case JSON_STRING:
		return emit_string(emitter, json_string_value(json), json_string_length(json));
	case JSON_INTEGER:
		snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(json));
		return emit_scalar(emitter, number, strlen(number), false);
	case JSON_REAL:
		snprintf(number, sizeof number, "%.17g", json_real_value(json));
		return emit_scalar(emitter, number, strlen(number), false);
	case JSON_TRUE:
		return emit_scalar(emitter, "true", 4, false);
	case JSON_FALSE:
		return emit_scalar(emitter, "false", 5, false);
	case JSON_NULL:
		return emit_scalar(emitter, "null", 4, false);
	}
	return -1;
}

static int write_piece(void *arg, unsigned char *data, size_t len)
{
	return buffer_add(arg, data, len) == 0;
}

char *yaml_dump(const json_t *json, struct error **err)
{
	struct buffer text;
	yaml_emitter_t emitter;
	yaml_event_t e;
	int failed;
	char *out;

	buffer_init(&text, 4 * FILE_MAX);
	if (!yaml_emitter_initialize(&emitter)) {
		error_set(err, ERROR_TRANSIENT, "OutOfMemory", "out of memory");
		return NULL;
	}
	yaml_emitter_set_output(&emitter, write_piece, &text);
	yaml_emitter_set_unicode(&emitter, 1);
	yaml_emitter_set_width(&emitter, -1);
	failed = !yaml_stream_start_event_initialize(&e, YAML_UTF8_ENCODING) || emit(&emitter, &e) < 0 ||
		 !yaml_document_start_event_initialize(&e, NULL, NULL, NULL, 1) || emit(&emitter, &e) < 0 ||
		 emit_value(&emitter, json, 0) < 0 || !yaml_document_end_event_initialize(&e, 1) || emit(&emitter, &e) < 0 ||
		 !yaml_stream_end_event_initialize(&e) || emit(&emitter, &e) < 0;
	yaml_emitter_delete(&emitter);
	out = buffer_steal(&text);
	if (!failed && out)
		return out;
	free(out);
	error_set(err, ERROR_PERMANENT, "InvalidValue", "the value cannot be written as YAML");
	return NULL;
}
