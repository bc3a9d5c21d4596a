#include "disk/vmdk_descriptor.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define LINE_SHOWN 120

static const char *const type_names[] = {
	[VMDK_FLAT] = "FLAT",         [VMDK_VMFS] = "VMFS", [VMDK_SPARSE] = "SPARSE", [VMDK_VMFSSPARSE] = "VMFSSPARSE",
	[VMDK_SESPARSE] = "SESPARSE", [VMDK_ZERO] = "ZERO",
};

const char *vmdk_extent_type_name(enum vmdk_extent_type type)
{
	return type_names[type];
}

void vmdk_descriptor_clear(struct vmdk_descriptor *d)
{
	for (size_t i = 0; i < d->extent_count; i++)
		free(d->extents[i].file);
	free(d->extents);
	free(d->parent);
	*d = (struct vmdk_descriptor){ 0 };
}

/* A line of the text, not terminated, without the blanks at its ends. */
struct line {
	const char *p, *end;
	const char *file; /* the descriptor's name, for errors */
	unsigned number;
};

static int bad_line(const struct line *l, const char *start, struct error **err, const char *why)
{
	char shown[LINE_SHOWN + 1];
	size_t n = 0;

	for (const char *p = start; p < l->end && n < LINE_SHOWN; p++)
		shown[n++] = (char)(isprint((unsigned char)*p) ? *p : '?');
	shown[n] = 0;
	return error_set(err, ERROR_PERMANENT, "InvalidImage", "line %u of the descriptor %s, \"%s\", %s", l->number, l->file, shown, why);
}

static void skip_blanks(struct line *l)
{
	while (l->p < l->end && isspace((unsigned char)*l->p))
		l->p++;
}

/* Takes the next word, without case, when it is this one and ends there. */
static bool take_word(struct line *l, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(l->end - l->p) < n || strncasecmp(l->p, word, n) || ((size_t)(l->end - l->p) > n && !isspace((unsigned char)l->p[n])))
		return false;
	l->p += n;
	skip_blanks(l);
	return true;
}

/* Digits alone; false when they are none, or too many. */
static bool take_number(struct line *l, uint64_t *out)
{
	const char *start = l->p;
	uint64_t value = 0;

	for (; l->p < l->end && isdigit((unsigned char)*l->p); l->p++)
		if (__builtin_mul_overflow(value, (uint64_t)10, &value) || __builtin_add_overflow(value, (uint64_t)(*l->p - '0'), &value))
			return false;
	if (l->p == start || (l->p < l->end && !isspace((unsigned char)*l->p)))
		return false;
	skip_blanks(l);
	*out = value;
	return true;
}

/* A text in quotation marks; NULL when there is none, or memory is out. The name may have marks in it: the last one ends it. */
static char *take_quoted(struct line *l)
{
	const char *last = l->p < l->end && *l->p == '"' ? memrchr(l->p + 1, '"', (size_t)(l->end - l->p - 1)) : NULL;
	char *text;

	if (!last)
		return NULL;
	text = strndup(l->p + 1, (size_t)(last - l->p - 1));
	l->p = last + 1;
	skip_blanks(l);
	return text;
}

static int add_extent(struct line *l, const char *start, struct vmdk_descriptor *d, struct error **err)
{
	struct vmdk_extent e = { 0 }, *all;
	size_t type = 0, types = sizeof type_names / sizeof *type_names;
	uint64_t bytes;

	if (d->extent_count == VMDK_EXTENTS_MAX)
		return bad_line(l, start, err, "is one extent more than the 8192 that are read");
	if (!take_number(l, &e.sectors))
		return bad_line(l, start, err, "must have the number of its sectors there");
	while (type < types && !take_word(l, type_names[type]))
		type++;
	if (type == types)
		return bad_line(l, start, err, "is of an extent that cannot be read here (raw device mappings belong to their storage)");
	e.type = (enum vmdk_extent_type)type;
	if (e.type != VMDK_ZERO) {
		if (l->p == l->end || *l->p != '"')
			return bad_line(l, start, err, "must name a file in quotation marks");
		e.file = take_quoted(l);
		if (!e.file)
			return memrchr(l->p + 1, '"', (size_t)(l->end - l->p - 1))
				       ? error_set_errno(err, ENOMEM, "cannot read %s", l->file)
				       : bad_line(l, start, err, "must close its quotation marks");
	}
	if ((e.type == VMDK_FLAT || e.type == VMDK_VMFS) && l->p < l->end && !take_number(l, &e.offset)) {
		free(e.file);
		return bad_line(l, start, err, "must end with the sector where the extent begins in its file");
	}
	if (__builtin_add_overflow(d->sectors, e.sectors, &d->sectors) || __builtin_mul_overflow(d->sectors, (uint64_t)512, &bytes) ||
	    bytes > INT64_MAX || __builtin_mul_overflow(e.offset, (uint64_t)512, &bytes) || bytes > INT64_MAX) {
		free(e.file);
		return bad_line(l, start, err, "makes the disk larger than any can be");
	}
	all = d->extent_count & (d->extent_count - 1) ? d->extents
						      : reallocarray(d->extents, d->extent_count ? 2 * d->extent_count : 1, sizeof *all);
	if (!all) {
		free(e.file);
		return error_set_errno(err, ENOMEM, "cannot read %s", l->file);
	}
	d->extents = all;
	d->extents[d->extent_count++] = e;
	return 0;
}

/* The value of "key = value", with or without quotation marks; NULL when the line is of another key. The caller frees it. */
static char *value_of(const struct line *from, const char *key)
{
	struct line l = *from;
	size_t n = strlen(key);

	if ((size_t)(l.end - l.p) <= n || strncasecmp(l.p, key, n))
		return NULL;
	l.p += n;
	skip_blanks(&l);
	if (l.p == l.end || *l.p != '=')
		return NULL;
	l.p++;
	skip_blanks(&l);
	return l.p < l.end && *l.p == '"' ? take_quoted(&l) : strndup(l.p, (size_t)(l.end - l.p));
}

/* 8 hexadecimal digits, or fewer. */
static int parse_cid(const struct line *l, const char *text, uint32_t *cid, struct error **err)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 16);
	if (!isxdigit((unsigned char)*text) || *end || errno || value > UINT32_MAX)
		return bad_line(l, l->p, err, "must have a number of up to 8 hexadecimal digits");
	*cid = (uint32_t)value;
	return 0;
}

/* The first line of a key counts. */
static int read_line(struct line *l, struct vmdk_descriptor *d, bool *has_parent_cid, struct error **err)
{
	const char *start = l->p;
	AUTO_FREE char *value = NULL;

	if (l->p == l->end || *l->p == '#')
		return 0;
	for (const char *p = l->p; p < l->end; p++) /* names go into messages, and messages to terminals */
		if ((unsigned char)*p < ' ' && *p != '\t')
			return bad_line(l, start, err, "has control characters in it");
	if (take_word(l, "RW") || take_word(l, "RDONLY") || take_word(l, "NOACCESS"))
		return add_extent(l, start, d, err);
	if (l->end - l->p > 4 && !strncasecmp(l->p, "ddb.", 4)) {
		d->has_ddb = true;
		return 0;
	}
	if ((value = value_of(l, "CID"))) {
		bool first = !d->has_cid;

		d->has_cid = true;
		return first ? parse_cid(l, value, &d->cid, err) : 0;
	}
	if ((value = value_of(l, "parentCID"))) {
		bool first = !*has_parent_cid;

		*has_parent_cid = true;
		return first ? parse_cid(l, value, &d->parent_cid, err) : 0;
	}
	if ((value = value_of(l, "createType"))) {
		if (!*d->create_type)
			snprintf(d->create_type, sizeof d->create_type, "%s", value);
	} else if (!d->parent && (value = value_of(l, "parentFileNameHint"))) {
		d->parent = move_ptr(value);
	}
	return 0;
}

int vmdk_descriptor_parse(const char *text, size_t len, const char *name, struct vmdk_descriptor *out, struct error **err)
{
	CLEANUP(vmdk_descriptor_clear) struct vmdk_descriptor d = { .parent_cid = VMDK_NO_PARENT };
	const char *zero = memchr(text, 0, len), *end = zero ? zero : text + len; /* an embedded one is filled up with zeros */
	struct line l = { .p = text, .file = name };
	bool has_parent_cid = false;

	if (len > 2 && !memcmp(text, "\xff\xfe", 2))
		return error_set(err, ERROR_PERMANENT, "InvalidImage", "the descriptor %s is in UTF-16; save it as UTF-8", name);
	if (end - text > 3 && !memcmp(text, "\xef\xbb\xbf", 3)) /* an editor's mark of UTF-8 */
		text += 3;
	for (const char *next = text; next < end;) {
		const char *stop = next;

		while (stop < end && *stop != '\n' && *stop != '\r')
			stop++;
		l.p = next;
		l.end = stop;
		l.number += stop == end || *stop == '\n' || stop + 1 == end || stop[1] != '\n'; /* CR LF is one end */
		skip_blanks(&l);
		while (l.end > l.p && isspace((unsigned char)l.end[-1]))
			l.end--;
		if (read_line(&l, &d, &has_parent_cid, err) < 0)
			return -1;
		next = stop + 1;
	}
	*out = d;
	d = (struct vmdk_descriptor){ 0 };
	return 0;
}
