#include "source/vmware/folder.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "disk/input.h"
#include "disk/vmdk_descriptor.h"
#include "source/vmware/power.h"
#include "source/vmware/property.h"

#define STALL_MS 120000
#define READ_MS 120000 /* for a part that is kept in memory */
#define DESCRIPTOR_MAX (64u << 10)
#define SAMPLE_BYTES (16u << 20)
#define SAMPLE_MS 2000
#define SAMPLE_PATIENCE_MS 5000
#define DESCRIPTOR_MS 20000

struct folder_disk {
	char *datastore, *directory, *descriptor; /* "datastore1", "web", "web.vmdk" */
	char *flat;                               /* the one extent, when it is all the disk; else NULL */
	uint64_t capacity;
	char *label;
};

struct folder {
	struct vmware_session *session;
	char *dc_path, *base; /* base: "https://host/folder/" */
	char *vm, *vm_ref;
	struct folder_disk *disks;
	size_t count;
};

/* --- names and URLs ------------------------------------------------------------------------------------------------------ */

/* Percent-encodes all but what no part of a URL takes for its own (RFC 3986, section 2.3), and slashes where they are kept. */
static void add_encoded(struct buffer *b, const char *text, bool keep_slashes)
{
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		if (isalnum(*c) || strchr("-._~", *c) || (keep_slashes && *c == '/'))
			buffer_add(b, c, 1);
		else
			buffer_addf(b, "%%%02X", *c);
	}
}

/* The URL of a file beside the disk's descriptor; owned, NULL when memory is out. */
static char *url_of(const struct folder *f, const struct folder_disk *d, const char *name)
{
	struct buffer b;

	buffer_init(&b, 16384);
	buffer_add_string(&b, f->base);
	if (*d->directory) {
		add_encoded(&b, d->directory, true);
		buffer_add_string(&b, "/");
	}
	add_encoded(&b, name, false);
	buffer_add_string(&b, "?dcPath=");
	add_encoded(&b, f->dc_path, false);
	buffer_add_string(&b, "&dsName=");
	add_encoded(&b, d->datastore, false);
	return buffer_steal(&b);
}

/* "[datastore1] web/web.vmdk" */
static int split_path(struct folder_disk *d, const char *file)
{
	const char *close = *file == '[' ? strchr(file, ']') : NULL, *path, *slash;

	if (!close)
		return -1;
	path = close + 1 + strspn(close + 1, " ");
	slash = strrchr(path, '/');
	d->datastore = strndup(file + 1, (size_t)(close - file - 1));
	d->directory = slash ? strndup(path, (size_t)(slash - path)) : strdup("");
	d->descriptor = strdup(slash ? slash + 1 : path);
	if (!d->datastore || !d->directory || !d->descriptor || !*d->datastore || !*d->descriptor)
		return -1;
	/* A path that climbs is none that vSphere ever gives. */
	return strstr(d->directory, "..") || !strcmp(d->descriptor, "..") ? -1 : 0;
}

/* --- fetching ------------------------------------------------------------------------------------------------------------ */

/* A part of a file on its way. */
struct part {
	const char *url;
	uint64_t from, len;  /* len 0: to the end */
	unsigned timeout_ms; /* 0: as long as bytes come */
	uint64_t total;      /* what the file must have; 0: not known, and then told here */
	source_sink sink;
	void *arg;
	bool refused; /* the sink did not take it */
};

/* "Content-Range: bytes FROM-TO/TOTAL" (RFC 9110, section 14.4). */
static bool range_of(const struct http_response *head, uint64_t *from, uint64_t *total)
{
	AUTO_FREE char *value = http_response_header(head, "Content-Range");
	uint64_t to;

	return value && sscanf(value, "bytes %" SCNu64 "-%" SCNu64 "/%" SCNu64, from, &to, total) == 3 && *from <= to && to < *total;
}

static int check_head(void *arg, const struct http_response *head, struct error **err)
{
	struct part *p = arg;
	bool ranged = p->from || p->len;
	uint64_t from = 0, total = head->content_length > 0 ? (uint64_t)head->content_length : 0;

	if (ranged && (head->status != 206 || !range_of(head, &from, &total) || from != p->from))
		return error_set(err, ERROR_PERMANENT, "NoRanges", "the datastore browser sends no parts of files");
	if (!total && !ranged)
		return 0; /* it does not say; the end will show it */
	if (p->total && total != p->total)
		return error_set(err, ERROR_TRANSIENT, "FileChanged", "the file has %" PRIu64 " bytes, expected %" PRIu64, total, p->total);
	p->total = total;
	return 0;
}

static int take(void *arg, const void *data, size_t len, struct error **err)
{
	struct part *p = arg;

	p->refused = p->sink(p->arg, data, len, err) < 0;
	return p->refused ? -1 : 0;
}

/* One try. *expired: the session is not good any more. */
static int fetch_once(struct folder *f, struct part *p, bool *expired, struct cancel *cancel, struct error **err)
{
	AUTO_FREE char *cookie = vmware_session_cookie(f->session), *header = NULL;
	char range[64];
	AUTO_RESPONSE struct http_response response = { 0 };
	AUTO_ERROR struct error *failed = NULL;

	if (!cookie || asprintf(&header, "Cookie: %s", cookie) < 0) {
		header = NULL;
		return error_set_errno(err, ENOMEM, "cannot ask for a file");
	}
	if (p->len)
		snprintf(range, sizeof range, "Range: bytes=%" PRIu64 "-%" PRIu64, p->from, p->from + p->len - 1);
	else
		snprintf(range, sizeof range, "Range: bytes=%" PRIu64 "-", p->from);
	const char *headers[] = { header, p->from || p->len ? range : NULL, NULL };
	struct http_request request = { .url = p->url,
					.headers = headers,
					.stall_timeout_ms = STALL_MS,
					.timeout_ms = p->timeout_ms,
					.begin = check_head,
					.sink = take,
					.sink_arg = p,
					.cancel = cancel };
	if (http_fetch(vmware_session_http(f->session), &request, &response, &failed) == 0)
		return 0;
	*expired = !p->refused && !strcmp(failed->reason, "HTTPStatus") && (failed->code == 401 || failed->code == 403);
	if (failed->class == ERROR_NOT_FOUND && !strcmp(failed->reason, "HTTPStatus"))
		failed->class = ERROR_PERMANENT;
	return error_move(err, move_ptr(failed));
}

static int fetch(struct folder *f, struct part *p, struct cancel *cancel, struct error **err)
{
	AUTO_ERROR struct error *failed = NULL, *lost = NULL;
	bool expired = false;

	if (fetch_once(f, p, &expired, cancel, &failed) == 0)
		return 0;
	if (expired) {
		enum vm_power power;

		/* Any call logs in again when that is what is missing. */
		if (vmware_power_state(f->session, &(struct vm_model){ .source_id = f->vm_ref }, &power, cancel, &lost) < 0)
			return error_move(err, move_ptr(lost));
		error_free(move_ptr(failed));
		if (fetch_once(f, p, &expired, cancel, &failed) == 0)
			return 0;
	}
	if (!p->refused)
		error_wrap(&failed, "cannot read a file of %s by the datastore browser", f->vm);
	return error_move(err, move_ptr(failed));
}

static int keep(void *arg, const void *data, size_t len, struct error **err)
{
	if (buffer_add(arg, data, len) == 0)
		return 0;
	return error_set(err, ERROR_PERMANENT, "AnswerTooLarge", "the answer is larger than what was asked for");
}

/* --- descriptors --------------------------------------------------------------------------------------------------------- */

/* A name that is one of the descriptor's own directory. */
static bool is_plain(const char *name)
{
	return *name && !strchr(name, '/') && !strchr(name, '\\') && strcmp(name, ".") && strcmp(name, "..");
}

/* A flat disk is one extent of all its sectors and has no parent: sets d->flat. Anything else is left to who reads by place. */
static int read_descriptor(struct folder_disk *d, const struct buffer *text, struct error **err)
{
	CLEANUP(vmdk_descriptor_clear) struct vmdk_descriptor v = { .parent_cid = VMDK_NO_PARENT };
	const struct vmdk_extent *e;

	if (vmdk_descriptor_parse(text->data ? text->data : "", text->len, d->descriptor, &v, err) < 0)
		return -1;
	e = v.extent_count == 1 && v.parent_cid == VMDK_NO_PARENT ? v.extents : NULL;
	if (!e || (e->type != VMDK_VMFS && e->type != VMDK_FLAT) || e->offset || e->sectors * 512 != d->capacity || !e->file ||
	    !is_plain(e->file))
		return 0;
	d->flat = strdup(e->file);
	return d->flat ? 0 : error_set_errno(err, ENOMEM, "cannot read the disks");
}

static int load_descriptor(struct folder *f, struct folder_disk *d, struct cancel *cancel, struct error **err)
{
	AUTO_FREE char *url = url_of(f, d, d->descriptor);
	CLEANUP(buffer_free) struct buffer text;
	struct part part = { .url = url, .timeout_ms = DESCRIPTOR_MS, .sink = keep, .arg = &text };

	buffer_init(&text, DESCRIPTOR_MAX);
	if (!url)
		return error_set_errno(err, ENOMEM, "cannot read the disks of %s", f->vm);
	if (fetch(f, &part, cancel, err) < 0)
		return -1;
	return read_descriptor(d, &text, err);
}

/* --- opening ------------------------------------------------------------------------------------------------------------- */

static const xmlNode *device_of(const xmlNode *list, int64_t key)
{
	for (const xmlNode *n = xml_first(list); n; n = xml_next(n, NULL))
		if (xml_path_number(n, "key", -1) == key)
			return n;
	return NULL;
}

static int find_files(struct folder *f, const struct vm_model *model, struct cancel *cancel, struct error **err)
{
	static const char *const paths[] = { "config.hardware.device", NULL };
	xmlNode *o = NULL;
	AUTO_XML xmlDoc *doc = vmware_properties(f->session, (struct vmware_ref){ "VirtualMachine", f->vm_ref }, paths, &o, cancel, err);

	if (!doc)
		return -1;
	for (size_t i = 0; i < model->disk_count; i++) {
		const struct vm_disk *disk = &model->disks[i];
		const xmlNode *device =
			device_of(vmware_property(o, "config.hardware.device"), disk->id ? strtoll(disk->id, NULL, 10) : -1);
		AUTO_FREE char *file = xml_path_text(device, "backing/fileName"), *type = xml_type(xml_child(device, "backing"));
		struct folder_disk *d = &f->disks[i];

		d->capacity = disk->capacity;
		d->label = strdup(disk->label ? disk->label : "a disk");
		f->count++;
		if (type && strstr(type, "RawDiskMapping"))
			return error_set(err, ERROR_PERMANENT, "RawDevice", "%s of %s is a raw device, which has no file of its own",
					 d->label ? d->label : "a disk", f->vm);
		if (!d->label || !file || split_path(d, file) < 0)
			return error_set(err, ERROR_PERMANENT, "NoFile", "%s of %s has no file in a datastore",
					 d->label ? d->label : "a disk", f->vm);
	}
	return 0;
}

void folder_free(struct folder *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < f->count; i++) {
		free(f->disks[i].datastore);
		free(f->disks[i].directory);
		free(f->disks[i].descriptor);
		free(f->disks[i].flat);
		free(f->disks[i].label);
	}
	free(f->disks);
	free(f->dc_path);
	free(f->base);
	free(f->vm);
	free(f->vm_ref);
	free(f);
}

DEFINE_CLEANUP(struct folder, folder_free_p, folder_free)

struct folder *folder_open(struct vmware_session *session, const char *dc_path, const struct vm_model *model, struct cancel *cancel,
			   struct error **err)
{
	CLEANUP(folder_free_p) struct folder *f = calloc(1, sizeof *f);

	if (!f)
		goto memory;
	f->session = session;
	f->dc_path = strdup(dc_path + (*dc_path == '/'));
	f->vm = strdup(model->name);
	f->vm_ref = strdup(model->source_id);
	f->disks = calloc(model->disk_count + 1, sizeof *f->disks);
	if (asprintf(&f->base, "https://%s/folder/", vmware_session_host(session)) < 0)
		f->base = NULL;
	if (!f->dc_path || !f->vm || !f->vm_ref || !f->disks || !f->base)
		goto memory;
	if (find_files(f, model, cancel, err) < 0)
		return NULL;
	for (size_t i = 0; i < f->count; i++)
		if (load_descriptor(f, &f->disks[i], cancel, err) < 0)
			return NULL;
	return move_ptr(f);
memory:
	error_set_errno(err, ENOMEM, "cannot read the disks of %s", model->name);
	return NULL;
}

bool folder_is_flat(const struct folder *f, size_t i)
{
	return f->disks[i].flat != NULL;
}

/* Nothing holds the machine while its files are read: that it still is off at the end says that what was read is of one state. */
static int still_off(struct folder *f, bool *started, struct cancel *cancel, struct error **err)
{
	enum vm_power power;

	if (vmware_power_state(f->session, &(struct vm_model){ .source_id = f->vm_ref }, &power, cancel, err) < 0)
		return -1;
	if (power == VM_POWER_OFF)
		return 0;
	*started = true;
	return error_set(err, ERROR_TRANSIENT, "NotPoweredOff", "%s was started while its disks were read", f->vm);
}

int folder_stream(struct folder *f, size_t i, uint64_t offset, bool *started, source_sink sink, void *arg, struct cancel *cancel,
		  struct error **err)
{
	struct folder_disk *d = &f->disks[i];
	AUTO_FREE char *url = url_of(f, d, d->flat);
	struct part part = { .url = url, .from = offset, .total = d->capacity, .sink = sink, .arg = arg };

	if (!url)
		return error_set_errno(err, ENOMEM, "cannot read the disks of %s", f->vm);
	if (offset < d->capacity && fetch(f, &part, cancel, err) < 0)
		return -1;
	return still_off(f, started, cancel, err);
}

/* What a sample has read. */
struct sample {
	uint64_t begun, bytes; /* since the first of them, monotonic milliseconds */
	bool enough;
};

static int count(void *arg, const void *data, size_t len, struct error **err)
{
	struct sample *s = arg;

	(void)data;
	s->begun = s->begun ? s->begun : clock_monotonic_ms();
	s->bytes += len;
	s->enough = clock_monotonic_ms() - s->begun >= SAMPLE_MS;
	return s->enough ? error_set(err, ERROR_CANCELLED, "Enough", "enough was read") : 0;
}

int folder_sample(struct folder *f, uint64_t *rate, struct cancel *cancel, struct error **err)
{
	struct sample s = { 0 };
	AUTO_ERROR struct error *failed = NULL;
	size_t i = 0;

	while (i < f->count && !f->disks[i].flat)
		i++;
	if (i == f->count)
		return error_set(err, ERROR_PERMANENT, "NoSample", "none of the disks of %s is a flat file", f->vm);
	struct folder_disk *d = &f->disks[i];
	AUTO_FREE char *url = url_of(f, d, d->flat);
	struct part part = { .url = url, .timeout_ms = SAMPLE_PATIENCE_MS, .total = d->capacity, .sink = count, .arg = &s };
	part.len = d->capacity < SAMPLE_BYTES ? d->capacity : SAMPLE_BYTES;
	if (!url)
		return error_set_errno(err, ENOMEM, "cannot read the disks of %s", f->vm);
	if (fetch(f, &part, cancel, &failed) < 0 && !s.enough)
		return error_move(err, move_ptr(failed));
	uint64_t took = clock_monotonic_ms() - s.begun;
	*rate = s.bytes * 1000 / (took ? took : 1);
	return 0;
}

/* --- by place ------------------------------------------------------------------------------------------------------------ */

struct remote_file {
	struct folder *folder;
	struct cancel *cancel;
	char *url;
	uint64_t size;
	bool *started; /* NULL: a file beside the descriptor, which answers for none but itself */
};

static void close_file(void *arg)
{
	struct remote_file *r = arg;

	free(r->url);
	free(r);
}

/* Where the bytes of a part go. */
struct room {
	unsigned char *to;
	size_t left;
};

static int put(void *arg, const void *data, size_t len, struct error **err)
{
	struct room *room = arg;

	if (len > room->left)
		return error_set(err, ERROR_PERMANENT, "AnswerTooLarge", "the answer is larger than what was asked for");
	memcpy(room->to, data, len);
	room->to += len;
	room->left -= len;
	return 0;
}

static int fetch_file(void *arg, uint64_t offset, void *data, size_t len, struct error **err)
{
	struct remote_file *r = arg;
	struct room room = { data, len };
	struct part part = {
		.url = r->url, .from = offset, .len = len, .timeout_ms = READ_MS, .total = r->size, .sink = put, .arg = &room
	};

	if (fetch(r->folder, &part, r->cancel, err) < 0)
		return -1;
	r->size = part.total;
	return room.left ? error_set(err, ERROR_TRANSIENT, "FileTruncated",
				     "the datastore browser sent less of a file of %s than asked for", r->folder->vm)
			 : 0;
}

static int finish_file(void *arg, struct error **err)
{
	struct remote_file *r = arg;

	return r->started ? still_off(r->folder, r->started, r->cancel, err) : 0;
}

struct disk_input *folder_input(struct folder *f, size_t i, const char *name, bool *started, struct cancel *cancel, struct error **err)
{
	static const struct disk_fetch_ops ops = { .fetch = fetch_file, .finish = finish_file, .close = close_file };
	struct folder_disk *d = &f->disks[i];
	struct remote_file *r;
	unsigned char first;

	if (name && !is_plain(name)) {
		error_set(err, ERROR_PERMANENT, "NameRefused",
			  "%s of %s is made of the file \"%.200s\", which is not in the directory of the disk", d->label, f->vm, name);
		return NULL;
	}
	r = calloc(1, sizeof *r);
	if (!r || !(r->url = url_of(f, d, name ? name : d->descriptor))) {
		free(r);
		error_set_errno(err, ENOMEM, "cannot read the disks of %s", f->vm);
		return NULL;
	}
	r->folder = f;
	r->cancel = cancel;
	r->started = name ? NULL : started;
	if (fetch_file(r, 0, &first, 1, err) < 0) { /* tells its size */
		close_file(r);
		return NULL;
	}
	return disk_input_fetched(name ? name : d->descriptor, r->size, &ops, r, err);
}
