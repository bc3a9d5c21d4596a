#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"
#include "base/hex.h"
#include "source/ova/document.h"
#include "source/ova/unit.h"

#define FILES_MAX 1024
#define DISKS_MAX 512
#define SYSTEMS_MAX 512
#define PAGE_START 1024  /* bytes of a web page within which it says that it is one */
#define NAMES_SHOWN 4096 /* bytes of a list of names in a message */

static char *trimmed(char *text)
{
	const char *from = text;
	size_t len;

	if (!text)
		return NULL;
	while (isspace((unsigned char)*from))
		from++;
	len = strlen(from);
	while (len && isspace((unsigned char)from[len - 1]))
		len--;
	memmove(text, from, len);
	text[len] = 0;
	if (len)
		return text;
	free(text);
	return NULL;
}

char *ovf_text(const xmlNode *node, const char *child)
{
	return trimmed(xml_text(xml_child(node, child)));
}

char *ovf_attribute(const xmlNode *node, const char *name)
{
	return trimmed(xml_attribute(node, name));
}

static bool is_section(const xmlNode *node, const char *name)
{
	AUTO_FREE char *type = NULL;
	size_t len = strlen(name);

	if (xml_named(node, name))
		return true;
	if (!xml_named(node, "Section") && !xml_named(node, "Content"))
		return false;
	type = xml_type(node);
	return type && !strncmp(type, name, len) && !strcmp(type + len, "_Type");
}

const xmlNode *ovf_section(const xmlNode *parent, const char *name, const xmlNode *after)
{
	const xmlNode *n = after ? xml_next(after, NULL) : xml_first(parent);

	while (n && !is_section(n, name))
		n = xml_next(n, NULL);
	return n;
}

void ovf_note(struct vm_model *model, const char *fmt, ...)
{
	AUTO_FREE char *text = NULL;
	char *all = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	if (!text || asprintf(&all, "%s%s%s", model->notes ? model->notes : "", model->notes ? "; " : "", text) < 0)
		return;
	free(model->notes);
	model->notes = all;
}

/* --- names of files ---------------------------------------------------------------------------------------------------- */

const char *ovf_safe_name(const char *name)
{
	while (!strncmp(name, "./", 2)) {
		name += 2;
		while (*name == '/')
			name++;
	}
	if (!*name || *name == '/')
		return NULL;
	for (const char *p = name; *p; p++)
		if (*p == '\\' || (unsigned char)*p < 0x20 || *p == 0x7f)
			return NULL;
	for (const char *part = name; part; part = strchr(part, '/') ? strchr(part, '/') + 1 : NULL)
		if (!strncmp(part, "..", 2) && (!part[2] || part[2] == '/'))
			return NULL;
	return name;
}

/* Of a URI; owned. A % that is none stays. */
static char *percent_decoded(const char *text)
{
	char *out = malloc(strlen(text) + 1), *to = out;

	if (!out)
		return NULL;
	for (; *text; text++) {
		if (*text == '%' && isxdigit((unsigned char)text[1]) && isxdigit((unsigned char)text[2]) && hex_byte(text + 1)) {
			*to++ = (char)hex_byte(text + 1);
			text += 2;
		} else {
			*to++ = *text;
		}
	}
	*to = 0;
	return out;
}

bool ovf_href_is(const char *href, const char *name)
{
	AUTO_FREE char *plain = NULL;

	if (!strcmp(href, name))
		return true;
	if (!strchr(href, '%'))
		return false;
	plain = percent_decoded(href);
	return plain && !strcmp(plain, name);
}

static bool has_scheme(const char *href)
{
	const char *p = href;

	while (isalnum((unsigned char)*p) || *p == '+' || *p == '-' || *p == '.')
		p++;
	return p > href && *p == ':'; /* one letter is a drive, and no better */
}

static int check_href(const char *href, struct error **err)
{
	AUTO_FREE char *plain = percent_decoded(href);

	if (!plain)
		return error_set_errno(err, ENOMEM, "cannot read the descriptor");
	if (has_scheme(href) || !strncmp(href, "//", 2))
		return error_set(err, ERROR_PERMANENT, "InvalidDescriptor",
				 "the descriptor refers to the file \"%.200s\" elsewhere; only files of the package are fetched", href);
	if (!ovf_safe_name(href) || !ovf_safe_name(plain) || strlen(href) > 1024)
		return error_set(
			err, ERROR_PERMANENT, "InvalidDescriptor",
			"the descriptor refers to a file by the name \"%.200s\", which is not allowed: it may not leave the package", href);
	return 0;
}

/* --- References and DiskSection ---------------------------------------------------------------------------------------- */

static size_t count_children(const xmlNode *parent, const char *name)
{
	size_t n = 0;

	for (const xmlNode *c = xml_child(parent, name); c; c = xml_next(c, name))
		n++;
	return n;
}

static int read_file(const xmlNode *node, struct ovf_file *f, struct error **err)
{
	AUTO_FREE char *href = ovf_attribute(node, "href"), *size = ovf_attribute(node, "size"), *chunk = ovf_attribute(node, "chunkSize"),
		       *compression = ovf_attribute(node, "compression");

	f->id = ovf_attribute(node, "id");
	if (!f->id || !href)
		return error_set(err, ERROR_PERMANENT, "InvalidDescriptor", "a file of the descriptor's References has no id or no href");
	if (check_href(href, err) < 0)
		return -1;
	f->href = strdup(ovf_safe_name(href));
	if (!f->href)
		return error_set_errno(err, ENOMEM, "cannot read the descriptor");
	f->gzip = compression && !strcasecmp(compression, "gzip");
	if (compression && !f->gzip && strcasecmp(compression, "identity"))
		return error_set(err, ERROR_PERMANENT, "InvalidDescriptor",
				 "the file %s is compressed by \"%.100s\"; only gzip is supported", f->href, compression);
	if ((size && !ovf_number(size, &f->size)) || (chunk && !ovf_number(chunk, &f->chunk)))
		return error_set(err, ERROR_PERMANENT, "InvalidDescriptor",
				 "the file %s has the size \"%.40s\" and the part size \"%.40s\"", f->href, size ? size : "",
				 chunk ? chunk : "");
	return 0;
}

static int read_files(struct ovf *o, struct error **err)
{
	const xmlNode *references = xml_child(o->envelope, "References");
	size_t count = count_children(references, "File");

	if (count > FILES_MAX)
		return error_set(err, ERROR_PERMANENT, "InvalidDescriptor", "the descriptor refers to %zu files, more than %d", count,
				 FILES_MAX);
	o->files = calloc(count + 1, sizeof *o->files);
	if (!o->files)
		return error_set_errno(err, ENOMEM, "cannot read the descriptor");
	for (const xmlNode *n = xml_child(references, "File"); n; n = xml_next(n, "File")) {
		struct ovf_file *f = &o->files[o->file_count++];

		if (read_file(n, f, err) < 0)
			return -1;
		for (size_t i = 0; i + 1 < o->file_count; i++)
			if (!strcmp(o->files[i].id, f->id) || !strcmp(o->files[i].href, f->href))
				return error_set(err, ERROR_PERMANENT, "InvalidDescriptor",
						 "the descriptor has two files of the id %s or the name %s", f->id, f->href);
	}
	return 0;
}

/* By id, or by name as some writers have it. */
static size_t find_file(const struct ovf *o, const char *reference)
{
	for (size_t i = 0; i < o->file_count; i++)
		if (!strcmp(o->files[i].id, reference))
			return i;
	for (size_t i = 0; i < o->file_count; i++)
		if (ovf_href_is(o->files[i].href, reference))
			return i;
	return OVF_NO_FILE;
}

/* A default of the package's properties, for "${key}"; owned. */
static char *property_of(const xmlNode *parent, const char *key, unsigned depth)
{
	for (const xmlNode *n = xml_first(parent); n && depth; n = xml_next(n, NULL)) {
		AUTO_FREE char *have = xml_named(n, "Property") ? ovf_attribute(n, "key") : NULL;
		char *found;

		if (have && !strcmp(have, key))
			return ovf_attribute(n, "value");
		if ((found = property_of(n, key, depth - 1)))
			return found;
	}
	return NULL;
}

static char *capacity_text(const struct ovf *o, const xmlNode *node)
{
	AUTO_FREE char *text = ovf_attribute(node, "capacity"), *key = NULL;
	size_t len = text ? strlen(text) : 0;

	if (len < 4 || strncmp(text, "${", 2) || text[len - 1] != '}')
		return move_ptr(text);
	key = strndup(text + 2, len - 3);
	return key ? property_of(o->envelope, key, 6) : NULL;
}

static void set_problem(struct ovf_disk *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void set_problem(struct ovf_disk *d, const char *fmt, ...)
{
	va_list ap;

	free(d->problem);
	va_start(ap, fmt);
	if (vasprintf(&d->problem, fmt, ap) < 0)
		d->problem = NULL;
	va_end(ap);
}

static int read_disk(const struct ovf *o, const xmlNode *node, struct ovf_disk *d, struct error **err)
{
	AUTO_FREE char *capacity = capacity_text(o, node), *unit = ovf_attribute(node, "capacityAllocationUnits"),
		       *file = ovf_attribute(node, "fileRef"), *populated = ovf_attribute(node, "populatedSize"),
		       *parent = ovf_attribute(node, "parentRef"), *boot = ovf_attribute(node, "boot");

	d->file = OVF_NO_FILE;
	d->id = ovf_attribute(node, "diskId");
	if (!d->id)
		return error_set(err, ERROR_PERMANENT, "InvalidDescriptor", "a disk of the descriptor has no diskId");
	d->format = ovf_attribute(node, "format");
	d->interface = ovf_attribute(node, "disk-interface");
	d->boot = boot && !strcasecmp(boot, "true");
	if (!ovf_bytes(capacity, unit, 1, &d->capacity) || !d->capacity || d->capacity > INT64_MAX / 2)
		set_problem(d, "its capacity \"%.60s\" in units of \"%.60s\" is not understood", capacity ? capacity : "",
			    unit ? unit : "byte");
	/* populatedSize is in bytes (DSP0243 9.1); what is no number is as good as not there. */
	if (populated && !ovf_number(populated, &d->populated))
		d->populated = 0;
	if (parent)
		set_problem(d, "it holds only what differs from the disk %.100s (parentRef), which is not supported", parent);
	if (!file && !d->problem && d->capacity % 512)
		set_problem(d, "it is empty, and %llu bytes are no whole number of sectors", (unsigned long long)d->capacity);
	if (file && (d->file = find_file(o, file)) == OVF_NO_FILE)
		set_problem(d, "its file \"%.200s\" is not among the References", file);
	return 0;
}

static int read_disks(struct ovf *o, struct error **err)
{
	size_t count = 0;

	for (const xmlNode *s = ovf_section(o->envelope, "DiskSection", NULL); s; s = ovf_section(o->envelope, "DiskSection", s))
		count += count_children(s, "Disk");
	if (count > DISKS_MAX)
		return error_set(err, ERROR_PERMANENT, "InvalidDescriptor", "the descriptor has %zu disks, more than %d", count, DISKS_MAX);
	o->disks = calloc(count + 1, sizeof *o->disks);
	if (!o->disks)
		return error_set_errno(err, ENOMEM, "cannot read the descriptor");
	for (const xmlNode *s = ovf_section(o->envelope, "DiskSection", NULL); s; s = ovf_section(o->envelope, "DiskSection", s)) {
		for (const xmlNode *n = xml_child(s, "Disk"); n; n = xml_next(n, "Disk")) {
			struct ovf_disk *d = &o->disks[o->disk_count++];

			if (read_disk(o, n, d, err) < 0)
				return -1;
			for (size_t i = 0; i + 1 < o->disk_count; i++)
				if (!strcmp(o->disks[i].id, d->id))
					return error_set(err, ERROR_PERMANENT, "InvalidDescriptor",
							 "the descriptor has two disks of the id %s", d->id);
		}
	}
	return 0;
}

/* --- virtual systems --------------------------------------------------------------------------------------------------- */

static int collect_systems(struct ovf *o, const xmlNode *parent, struct error **err)
{
	for (const xmlNode *n = xml_first(parent); n; n = xml_next(n, NULL)) {
		if (is_section(n, "VirtualSystemCollection")) {
			if (collect_systems(o, n, err) < 0)
				return -1;
		} else if (is_section(n, "VirtualSystem")) {
			if (o->system_count == SYSTEMS_MAX)
				return error_set(err, ERROR_PERMANENT, "InvalidDescriptor",
						 "the descriptor has more than %d virtual systems", SYSTEMS_MAX);
			o->systems[o->system_count++] = n;
		}
	}
	return 0;
}

static int web_page(struct error **err)
{
	return error_set(err, ERROR_PERMANENT, "InvalidDescriptor",
			 "what came is a web page (HTML), and neither an OVA nor an .ovf: correct spec.url, and see whether the server "
			 "wants a login");
}

/* Pages are seldom XML: what is looked for is how they begin, whatever comments and spaces stand before. */
static bool is_web_page(const char *text, size_t len)
{
	char start[PAGE_START + 1];
	size_t n = len < PAGE_START ? len : PAGE_START;

	for (size_t i = 0; i < n; i++)
		start[i] = text[i] ? text[i] : ' ';
	start[n] = 0;
	return strcasestr(start, "<!doctype html") || strcasestr(start, "<html") || strcasestr(start, "<head");
}

static int read_envelope(struct ovf *o, struct error **err)
{
	o->envelope = xmlDocGetRootElement(o->doc);
	if (o->envelope && !strcasecmp((const char *)o->envelope->name, "html"))
		return web_page(err);
	if (!xml_named(o->envelope, "Envelope"))
		return error_set(err, ERROR_PERMANENT, "InvalidDescriptor", "the descriptor's outermost element is <%.60s>, not <Envelope>",
				 o->envelope ? (const char *)o->envelope->name : "");
	o->systems = calloc(SYSTEMS_MAX, sizeof *o->systems);
	if (!o->systems)
		return error_set_errno(err, ENOMEM, "cannot read the descriptor");
	if (read_files(o, err) < 0 || read_disks(o, err) < 0 || collect_systems(o, o->envelope, err) < 0)
		return -1;
	if (!o->system_count)
		return error_set(err, ERROR_PERMANENT, "InvalidDescriptor", "the descriptor holds no virtual system");
	return 0;
}

struct ovf *ovf_parse(const char *text, size_t len, struct error **err)
{
	AUTO_OVF struct ovf *o = calloc(1, sizeof *o);
	AUTO_ERROR struct error *why = NULL;

	if (!o) {
		error_set_errno(err, ENOMEM, "cannot read the descriptor");
		return NULL;
	}
	o->doc = len <= OVF_MAX_BYTES ? xml_parse(text, len, &why) : NULL;
	if (!o->doc && is_web_page(text, len)) {
		web_page(err);
		return NULL;
	}
	if (!o->doc) {
		error_set(err, ERROR_PERMANENT, "InvalidDescriptor", "the OVF descriptor cannot be read: %s",
			  why ? why->message : "it is larger than 16 MiB");
		return NULL;
	}
	return read_envelope(o, err) < 0 ? NULL : move_ptr(o);
}

void ovf_free(struct ovf *o)
{
	if (!o)
		return;
	for (size_t i = 0; i < o->file_count; i++) {
		free(o->files[i].id);
		free(o->files[i].href);
	}
	for (size_t i = 0; i < o->disk_count; i++) {
		free(o->disks[i].id);
		free(o->disks[i].format);
		free(o->disks[i].interface);
		free(o->disks[i].problem);
	}
	free(o->files);
	free(o->disks);
	free(o->systems);
	if (o->doc)
		xmlFreeDoc(o->doc);
	free(o);
}

size_t ovf_file_count(const struct ovf *o)
{
	return o->file_count;
}

const struct ovf_file *ovf_file(const struct ovf *o, size_t i)
{
	return &o->files[i];
}

const struct ovf_disk *ovf_disk(const struct ovf *o, const char *id)
{
	for (size_t i = 0; i < o->disk_count; i++)
		if (!strcmp(o->disks[i].id, id))
			return &o->disks[i];
	return NULL;
}

static bool system_is(const xmlNode *system, const char *name)
{
	AUTO_FREE char *id = ovf_attribute(system, "id"), *have = ovf_text(system, "Name");

	return (id && !strcmp(id, name)) || (have && !strcmp(have, name));
}

/* "web (vm-1), db": Names with ids where they differ; owned, NULL when memory is out. */
static char *system_names(const struct ovf *o)
{
	AUTO_BUFFER struct buffer b = { 0 };

	buffer_init(&b, NAMES_SHOWN);
	for (size_t i = 0; i < o->system_count; i++) {
		AUTO_FREE char *id = ovf_attribute(o->systems[i], "id"), *name = ovf_text(o->systems[i], "Name");
		bool both = id && name && strcmp(id, name);

		if (buffer_addf(&b, "%s%.200s%s%.200s%s", i ? ", " : "",
				name ? name
				: id ? id
				     : "(unnamed)",
				both ? " (" : "", both ? id : "", both ? ")" : "") < 0)
			break;
	}
	b.failed = false; /* what fits is told */
	return buffer_steal(&b);
}

static const xmlNode *choose_system(const struct ovf *o, const char *name, struct error **err)
{
	const xmlNode *found = NULL;
	AUTO_FREE char *names = NULL;
	size_t matches = 0;

	if (o->system_count == 1)
		return o->systems[0];
	for (size_t i = 0; i < o->system_count; i++) {
		if (!system_is(o->systems[i], name))
			continue;
		found = o->systems[i];
		matches++;
	}
	if (matches == 1)
		return found;
	names = system_names(o);
	if (matches)
		error_set(err, ERROR_PERMANENT, "VirtualMachineAmbiguous",
			  "%zu virtual systems of the package are named \"%.200s\"; it holds: %s", matches, name, names ? names : "");
	else
		error_set(
			err, ERROR_NOT_FOUND, "VirtualMachineNotFound",
			"the package holds several virtual systems, none of them named \"%.200s\"; set spec.virtualMachineName to one of: %s",
			name, names ? names : "");
	return NULL;
}

struct vm_model *ovf_model(const struct ovf *o, const char *name, struct error **err)
{
	AUTO_VM_MODEL struct vm_model *m = NULL;
	const xmlNode *system = choose_system(o, name ? name : "", err);

	if (!system)
		return NULL;
	m = calloc(1, sizeof *m);
	if (!m) {
		error_set_errno(err, ENOMEM, "cannot describe the machine");
		return NULL;
	}
	m->name = ovf_text(system, "Name");
	if (!m->name)
		m->name = ovf_attribute(system, "id");
	if (!m->name)
		m->name = strdup(name ? name : "");
	if (!m->name) {
		error_set_errno(err, ENOMEM, "cannot describe the machine");
		return NULL;
	}
	m->description = ovf_text(ovf_section(system, "AnnotationSection", NULL), "Annotation");
	m->power = VM_POWER_OFF;
	return ovf_read_hardware(o, system, m, err) < 0 ? NULL : move_ptr(m);
}
