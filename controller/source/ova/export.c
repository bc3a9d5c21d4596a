#include "source/ova/export.h"

#include <errno.h>
#include <string.h>

#include "base/backoff.h"
#include "disk/format.h"
#include "source/ova/feed.h"
#include "source/ova/pass.h"
#include "source/ova/place.h"

/* How often a transfer that breaks is taken up again where it was, without a byte in between. */
#define RESUMES 5

struct ova_export {
	struct source_export export;
	struct package *package;
	struct cancel *cancel;
	struct source_disk *list;
	const struct ovf_disk **disks; /* of the package, in the model's order */
	struct pass *pass;             /* where the server sends no parts of files */
};

static struct ova_export *self(struct source_export *e)
{
	return (struct ova_export *)e;
}

static void export_free(struct ova_export *x)
{
	if (!x)
		return;
	if (x->cancel)
		cancel_request(x->cancel);
	pass_free(x->pass);
	package_free(x->package);
	cancel_free(x->cancel);
	free(x->disks);
	free(x->list);
	free(x);
}

DEFINE_CLEANUP(struct ova_export, export_free_p, export_free)

/* A disk in a format that is not made to be read from its beginning to its end is read by place, where the server lets us. */
static int find_place(struct ova_export *x, size_t i, const struct ovf_file *file, struct cancel *cancel, struct error **err)
{
	unsigned char head[DISK_FORMAT_HEAD];
	struct place place;
	size_t len;
	int result = place_find(x->package, file, &place, head, &len, cancel, err);

	if (result <= 0)
		return result;
	place_clear(&place);
	x->list[i].by_place = place_reads(disk_format_of(head, len), &x->list[i].format);
	return 0;
}

/* Finds the model's disks in the package as it is now. */
static int match_disks(struct ova_export *x, const struct vm_model *model, struct cancel *cancel, struct error **err)
{
	for (size_t i = 0; i < model->disk_count; i++) {
		const struct vm_disk *want = &model->disks[i];
		const struct ovf_disk *have = ovf_disk(x->package->ovf, want->id);
		const struct ovf_file *file = have && have->file != OVF_NO_FILE ? ovf_file(x->package->ovf, have->file) : NULL;

		if (!have || have->problem || have->capacity != want->capacity)
			return error_set(err, ERROR_TRANSIENT, "SourceChanged",
					 "the package was changed: the disk %.200s is not the one that was there", want->id);
		if (file && package_check_file(x->package, file, err) < 0)
			return -1;
		x->disks[i] = have;
		x->list[i] = (struct source_disk){
			.id = have->id,
			.file = file ? file->href : NULL,
			.format = file ? NULL : "vmdk-stream",
			.capacity = have->capacity,
			.stored = true,
		};
		if (file && find_place(x, i, file, cancel, err) < 0)
			return -1;
	}
	return 0;
}

/* What was fetched of the model's disks before is of the state of the package that the model was made from. A server that sends no parts of
 * files may be a program that makes the file anew for each request: then all disks come of one pass in any case. */
static int check_state(const struct package *package, const struct vm_model *model, struct cancel *cancel, struct error **err)
{
	AUTO_FREE char *now = NULL;

	if (!package->beside && !package->version.ranges)
		return 0;
	now = package_identity(package, cancel, err);
	if (!now)
		return -1;
	return !strcmp(now, model->source_id) ? 0
					      : error_set(err, ERROR_TRANSIENT, "SourceChanged",
							  "the package was replaced at the server since the machine was looked at");
}

struct source_export *ova_export_begin(const struct source_ops *ops, const struct remote *remote, const struct vm_model *model,
				       struct cancel *cancel, struct error **err)
{
	CLEANUP(export_free_p) struct ova_export *x = calloc(1, sizeof *x);

	if (!x)
		goto no_memory;
	x->cancel = cancel_new(cancel);
	x->disks = calloc(model->disk_count + 1, sizeof *x->disks);
	x->list = calloc(model->disk_count + 1, sizeof *x->list);
	if (!x->cancel || !x->disks || !x->list)
		goto no_memory;
	x->package = package_open(remote, cancel, err);
	if (!x->package || check_state(x->package, model, cancel, err) < 0 || match_disks(x, model, cancel, err) < 0)
		return NULL;
	if (!x->package->beside && !x->package->version.ranges &&
	    !(x->pass = pass_new(x->package, x->disks, model->disk_count, x->cancel, err)))
		return NULL;
	x->export = (struct source_export){ .ops = ops, .disks = x->list, .disk_count = model->disk_count };
	return &move_ptr(x)->export;
no_memory:
	error_set_errno(err, ENOMEM, "cannot begin the export");
	return NULL;
}

/* --- where the server sends parts of files, and files beside the descriptor ----------------------------------------------- */

struct piece {
	struct feed *feed;
	uint64_t passed;
	bool refused; /* the feed did not take it: the connection is not to blame */
};

static int push(void *arg, const void *data, size_t len, struct error **err)
{
	struct piece *p = arg;

	if (feed_push(p->feed, data, len, err) < 0) {
		p->refused = true;
		return -1;
	}
	p->passed += len;
	return 0;
}

/* Bytes [at, at + len) of a file into the feed (len 0: all of it), taken up again where they broke off. */
static int fetch(const struct ova_export *x, struct feed *feed, const char *url, uint64_t at, uint64_t len,
		 const struct remote_version *known, struct cancel *cancel, struct error **err)
{
	struct backoff backoff = { .base_ms = 200, .cap_ms = 5000 };
	struct piece p = { .feed = feed };
	struct remote_version seen = { 0 };
	int result;

	for (unsigned tries = 0;; tries++) {
		AUTO_ERROR struct error *failed = NULL;
		uint64_t before = p.passed;
		bool again;

		result = remote_fetch(x->package->remote, url, at + p.passed, len ? len - p.passed : 0,
				      known         ? known
				      : seen.ranges ? &seen
						    : NULL,
				      &seen, push, &p, cancel, &failed);
		/* It ended where the last byte was the file's last, too. */
		if (result < 0 && len && p.passed == len && !p.refused)
			result = 0;
		if (result == 0)
			break;
		if (p.passed > before) {
			tries = 0;
			backoff_reset(&backoff);
		}
		again = !p.refused && failed->class == ERROR_TRANSIENT && strcmp(failed->reason, "SourceChanged") && tries < RESUMES &&
			(!p.passed || known || seen.ranges);
		if (again && !cancel_wait(cancel, backoff_next(&backoff)))
			continue;
		error_move(err, move_ptr(failed));
		break;
	}
	remote_version_clear(&seen);
	return result;
}

/* 1: the part is through; 0: there is no such part, which is how a file of an unknown number of parts ends. */
static int stream_part(const struct ova_export *x, struct feed *feed, const struct ovf_file *file, size_t n, struct cancel *cancel,
		       struct error **err)
{
	AUTO_FREE char *name = package_part_name(file, n), *url = NULL;
	AUTO_ERROR struct error *failed = NULL;
	const struct tape_member *m = name && !x->package->beside ? package_member(x->package, name) : NULL;
	uint64_t size = m ? m->size : 0;
	int result;

	if (!name || (!m && !x->package->beside))
		return error_set(err, ERROR_PERMANENT, "InvalidArchive", "the OVA lacks the file %.200s", name ? name : file->href);
	if (!m && !(url = remote_url_beside(x->package->remote, name)))
		return error_set_errno(err, ENOMEM, "cannot fetch %s", name);
	if (feed_begin(feed, m ? m->name : name, size, err) < 0)
		return -1;
	if (m && !m->size)
		result = 0;
	else
		result = fetch(x, feed, m ? remote_url(x->package->remote) : url, m ? m->offset : 0, m ? m->size : 0,
			       m ? &x->package->version : NULL, cancel, &failed);
	if (result < 0 && failed->class == ERROR_NOT_FOUND && file->chunk && !file->size && n)
		return 0;
	if (result < 0)
		return error_move(err, move_ptr(failed));
	return feed_end(feed, err) < 0 ? -1 : 1;
}

DEFINE_CLEANUP(struct feed, feed_free_p, feed_free)

static int stream_parts(const struct ova_export *x, const struct ovf_disk *disk, source_sink sink, void *arg, struct cancel *cancel,
			struct error **err)
{
	const struct ovf_file *file = ovf_file(x->package->ovf, disk->file);
	CLEANUP(feed_free_p) struct feed *feed = feed_new(x->package, disk, sink, arg, err);
	size_t count = package_part_count(x->package, file);
	int more = 1;

	if (!feed)
		return -1;
	for (size_t n = 0; more > 0 && (!count || n < count); n++)
		more = stream_part(x, feed, file, n, cancel, err);
	return more < 0 ? -1 : feed_finish(feed, err);
}

int ova_export_stream(struct source_export *e, size_t i, source_sink sink, void *arg, struct cancel *cancel, struct error **err)
{
	struct ova_export *x = self(e);
	const struct ovf_disk *disk = x->disks[i];

	if (disk->file == OVF_NO_FILE)
		return feed_empty(disk->capacity, sink, arg, err);
	if (x->pass)
		return pass_stream(x->pass, i, sink, arg, err);
	return stream_parts(x, disk, sink, arg, cancel, err);
}

/* A file of the package by the name that a disk's descriptor has for it. */
static const struct ovf_file *named_file(const struct package *package, const char *name)
{
	for (size_t i = 0; i < ovf_file_count(package->ovf); i++)
		if (ovf_href_is(ovf_file(package->ovf, i)->href, name))
			return ovf_file(package->ovf, i);
	return NULL;
}

struct disk_input *ova_export_open(struct source_export *e, size_t i, const char *name, struct cancel *cancel, struct error **err)
{
	struct ova_export *x = self(e);
	const struct ovf_file *file = name ? named_file(x->package, name) : ovf_file(x->package->ovf, x->disks[i]->file);
	unsigned char head[DISK_FORMAT_HEAD];
	struct place place;
	size_t len;
	int found;

	if (!file) {
		error_set(err, ERROR_PERMANENT, "NameRefused",
			  "the disk %.200s is made of the file \"%.200s\", which is not among the descriptor's References", x->disks[i]->id,
			  name);
		return NULL;
	}
	found = place_find(x->package, file, &place, head, &len, cancel, err);
	if (found == 0)
		error_set(err, ERROR_PERMANENT, "NoRanges",
			  "%.200s cannot be read in parts (range requests), as its format needs; put it on a web server that sends "
			  "them, or make the disk a streamOptimized VMDK",
			  file->href);
	if (found <= 0)
		return NULL;
	if (place_verify(&place, x->package->manifest, cancel, err) == 0)
		return place_open(&place, cancel, err);
	place_clear(&place);
	return NULL;
}

void ova_export_progress(struct source_export *e, unsigned percent)
{
	(void)e;
	(void)percent;
}

int ova_export_end(struct source_export *e, bool ok, struct error **err)
{
	(void)ok;
	(void)err;
	export_free(self(e));
	return 0;
}
