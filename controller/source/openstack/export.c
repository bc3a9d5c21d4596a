#include "source/openstack/export.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "source/openstack/answer.h"
#include "source/openstack/artifact.h"
#include "source/openstack/download.h"
#include "source/openstack/fill.h"
#include "source/openstack/image_input.h"
#include "source/openstack/model.h"
#include "source/openstack/quota.h"
#include "json/codec.h"

#define GIB (UINT64_C(1) << 30)
#define ARTIFACTS 4
/* How long the end of a disk and of an export wait until the cloud has let go of what was made; the rest is the ledger's. */
#define UNDO_MS 15000
#define UNDO_PAUSE_MS 1000

struct export_disk {
	const char *id;
	uint64_t capacity;
	struct artifact made[ARTIFACTS]; /* in the order of their making */
	size_t made_count;
	json_t *image;  /* ready to be downloaded; NULL: not yet */
	bool no_ranges; /* its store gives no parts of images, and the qcow2 image could not be read without */
	bool stale;     /* another image must be made: so, or because this one is gone */
	struct source_disk *entry;
	struct quota_need share;
	bool has_share, stuck; /* stuck: nobody is to wait for the share */
};

struct openstack_export {
	struct source_export export;
	struct openstack_session *session;
	char *server;
	struct artifact_maker maker;
	pthread_mutex_t ledger_lock; /* one write at a time, I/O and all: they are of one object */
	struct quota *quota;
	atomic_bool no_direct; /* the cloud uploads no volume in use */
	struct export_disk *disks;
	struct source_disk *list;
	char *endpoint;
};

static struct openstack_export *self(struct source_export *e)
{
	return (struct openstack_export *)e;
}

static void export_free(struct openstack_export *x)
{
	if (!x)
		return;
	for (size_t i = 0; x->disks && i < x->export.disk_count; i++) {
		for (size_t k = 0; k < ARTIFACTS; k++)
			artifact_clear(&x->disks[i].made[k]);
		json_decref(x->disks[i].image);
	}
	quota_free(x->quota);
	pthread_mutex_destroy(&x->ledger_lock);
	free(x->disks);
	for (size_t i = 0; x->list && i < x->export.disk_count; i++)
		free((void *)x->list[i].id);
	free(x->list);
	free(x->server);
	free(x->endpoint);
	free(x);
}

DEFINE_CLEANUP(struct openstack_export, export_free_p, export_free)

struct source_export *openstack_export_begin(struct openstack_session *s, const struct source_ops *ops, const struct vm_model *model,
					     source_ledger ledger, void *ledger_arg, struct cancel *cancel, struct error **err)
{
	CLEANUP(export_free_p) struct openstack_export *x = calloc(1, sizeof *x);
	struct quota_need left;

	if (!x)
		goto memory;
	pthread_mutex_init(&x->ledger_lock, NULL);
	x->session = s;
	x->server = strdup(model->source_id);
	x->endpoint = openstack_host(s, OPENSTACK_IMAGE);
	x->disks = calloc(model->disk_count + 1, sizeof *x->disks);
	x->list = calloc(model->disk_count + 1, sizeof *x->list);
	if (!x->server || !x->endpoint || !x->disks || !x->list)
		goto memory;
	for (size_t i = 0; i < model->disk_count; i++) {
		const struct vm_disk *disk = &model->disks[i];

		x->list[i] = (struct source_disk){ .id = strdup(disk->id), .format = "raw", .capacity = disk->capacity };
		x->export.disk_count = i + 1;
		if (!x->list[i].id)
			goto memory;
		x->disks[i].id = x->list[i].id;
		x->disks[i].capacity = disk->capacity;
		x->disks[i].entry = &x->list[i];
	}
	x->maker = (struct artifact_maker){
		.session = s, .server = x->server, .ledger = ledger, .ledger_arg = ledger_arg, .ledger_lock = &x->ledger_lock
	};
	if (quota_ask(s, &left, cancel, err) < 0 || !(x->quota = quota_new(&left, err)))
		return NULL;
	x->export.ops = ops;
	x->export.endpoint = x->endpoint;
	x->export.disks = x->list;
	return &move_ptr(x)->export;
memory:
	error_set_errno(err, ENOMEM, "cannot begin the export");
	return NULL;
}

/* --- what a disk needs in the cloud ---------------------------------------------------------------------------------------- */

static void set_stuck(struct openstack_export *x, struct export_disk *d, bool stuck)
{
	stuck = stuck && d->has_share;
	if (stuck != d->stuck)
		quota_set_stuck(x->quota, &d->share, stuck);
	d->stuck = stuck;
}

static int undo(struct openstack_export *x, struct export_disk *d, struct poll *poll, struct error **err)
{
	json_decref(move_ptr(d->image));
	while (d->made_count) {
		if (artifact_undo(&x->maker, &d->made[d->made_count - 1], poll, err) < 0) {
			set_stuck(x, d, true); /* the other disks must not wait for it */
			return -1;
		}
		d->made_count--;
	}
	set_stuck(x, d, false);
	if (d->has_share)
		quota_give(x->quota, &d->share);
	d->has_share = false;
	return 0;
}

static int undo_now(struct openstack_export *x, struct export_disk *d, struct error **err)
{
	struct poll poll = poll_within(UNDO_MS, UNDO_PAUSE_MS);

	return undo(x, d, &poll, err);
}

/* Keeps what was made, for its removal; made even if it failed, so far as it has a name. */
static struct artifact *slot(struct export_disk *d)
{
	return &d->made[d->made_count];
}

static int keep(struct export_disk *d, int result)
{
	if (d->made[d->made_count].name)
		d->made_count++;
	return result;
}

static int share(struct openstack_export *x, struct export_disk *d, struct quota_need need, struct cancel *cancel, struct error **err)
{
	if (quota_take(x->quota, &need, cancel, err) < 0)
		return -1;
	d->share = need;
	d->has_share = true;
	return 0;
}

/* The bytes of a volume become an image. */
static int upload(struct openstack_export *x, struct export_disk *d, const char *volume, bool force, struct cancel *cancel,
		  struct error **err)
{
	if (keep(d, artifact_upload(&x->maker, volume, force, slot(d), err)) < 0)
		return -1;
	return artifact_wait(&x->maker, &d->made[d->made_count - 1], volume, cancel, err);
}

/* A volume of our own, just asked for, becomes an image. */
static int upload_own(struct openstack_export *x, struct export_disk *d, struct cancel *cancel, struct error **err)
{
	const struct artifact *volume = &d->made[d->made_count - 1];

	if (artifact_wait(&x->maker, volume, NULL, cancel, err) < 0)
		return -1;
	return upload(x, d, volume->id, false, cancel, err);
}

/* 1: done; 0: the cloud does not do that. */
static int try_direct(struct openstack_export *x, struct export_disk *d, bool in_use, struct cancel *cancel, struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;

	if (in_use && x->no_direct)
		return 0;
	if (upload(x, d, d->id, in_use, cancel, &failed) == 0)
		return 1;
	if (!d->made_count && failed->class == ERROR_PERMANENT) {
		x->no_direct = true;
		return 0;
	}
	return error_move(err, move_ptr(failed));
}

/* 1: the snapshot is there; 0: it is not to be had. */
static int try_snapshot(struct openstack_export *x, struct export_disk *d, uint64_t gib, struct cancel *cancel, struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;

	if (share(x, d, quota_by_snapshot(gib), cancel, &failed) == 0 &&
	    keep(d, artifact_snapshot(&x->maker, d->id, slot(d), &failed)) == 0 &&
	    artifact_wait(&x->maker, &d->made[0], NULL, cancel, &failed) == 0)
		return 1;
	if (failed->class != ERROR_PERMANENT && strcmp(failed->reason, "ArtifactFailed"))
		return error_move(err, move_ptr(failed));
	return undo_now(x, d, err);
}

/* What we made may have been removed by somebody else: then it is made anew. If it is the user's that is gone, the next try finds that out. */
static int made_anew(struct error **err)
{
	if (err && *err && (*err)->class == ERROR_NOT_FOUND)
		(*err)->class = ERROR_TRANSIENT;
	return -1;
}

static int copy_volume(struct openstack_export *x, struct export_disk *d, uint64_t gib, struct cancel *cancel, struct error **err)
{
	int snapshot = try_snapshot(x, d, gib, cancel, err);

	if (snapshot < 0)
		return -1;
	if (!snapshot && share(x, d, quota_by_copy(gib), cancel, err) < 0)
		return -1;
	if (keep(d, artifact_volume(&x->maker, snapshot ? d->made[0].id : NULL, snapshot ? NULL : d->id, NULL, gib, slot(d), err)) < 0)
		return -1;
	return upload_own(x, d, cancel, err);
}

static int prepare_volume(struct openstack_export *x, struct export_disk *d, struct cancel *cancel, struct error **err)
{
	AUTO_JSON json_t *answer = openstack_get(x->session, OPENSTACK_VOLUME, cancel, err, "/volumes/%s", d->id);
	const json_t *volume = json_object_get(answer, "volume");
	const char *status = answer_text(volume, "status");
	bool in_use = !status || strcasecmp(status, "available");
	uint64_t gib = 0;
	int done;

	if (!answer)
		return -1;
	if (answer_true(volume, "encrypted"))
		return error_set(err, ERROR_PERMANENT, "VolumeEncrypted", "the volume %s is encrypted", d->id);
	if (!answer_number(volume, "size", &gib) || gib > UINT64_MAX / GIB || gib * GIB != d->capacity)
		return error_set(err, ERROR_TRANSIENT, "SourceChanged", "the volume %s has another size than it had", d->id);
	/* Others may write to a shared one while it is read. */
	done = in_use && answer_true(volume, "multiattach") ? 0 : try_direct(x, d, in_use, cancel, err);
	if (done > 0 || (done == 0 && copy_volume(x, d, gib, cancel, err) == 0))
		return 0;
	return made_anew(err);
}

static json_t *get_image(struct openstack_export *x, const struct export_disk *d, struct cancel *cancel, struct error **err)
{
	return openstack_get(x->session, OPENSTACK_IMAGE, cancel, err, "/images/%s", d->made[d->made_count - 1].id);
}

static int check_container(const json_t *image, struct error **err)
{
	const char *container = answer_text(image, "container_format"), *id = answer_text(image, "id");

	if (container && strcmp(container, "bare"))
		return error_set(err, ERROR_PERMANENT, "UnknownFormat",
				 "the image %s has the container format %s; only \"bare\" can be imported", answer_shown(id).text,
				 answer_shown(container).text);
	return 0;
}

/* A qcow2 image of exactly the disk's size is read as it is. */
static bool read_by_place(const struct export_disk *d, const json_t *image)
{
	const char *format = answer_text(image, "disk_format");
	uint64_t bytes = 0, size = 0;

	return format && !strcmp(format, "qcow2") && !d->no_ranges && answer_number(image, "virtual_size", &bytes) &&
	       bytes == d->capacity && answer_number(image, "size", &size) && size;
}

static int prepare_root(struct openstack_export *x, struct export_disk *d, struct cancel *cancel, struct error **err)
{
	AUTO_JSON json_t *image = NULL;
	uint64_t bytes = 0, min_gib = 0, gib;
	const char *format;

	if (keep(d, artifact_create_image(&x->maker, slot(d), err)) < 0)
		return -1;
	if (artifact_wait(&x->maker, &d->made[0], NULL, cancel, err) < 0 || !(image = get_image(x, d, cancel, err)) ||
	    check_container(image, err) < 0)
		return made_anew(err);
	format = answer_text(image, "disk_format");
	if ((format && !strcmp(format, "raw")) || read_by_place(d, image))
		return 0;
	answer_number(image, "virtual_size", &bytes);
	answer_number(image, "min_disk", &min_gib);
	bytes = bytes > d->capacity ? bytes : d->capacity;
	gib = bytes / GIB + (bytes % GIB != 0);
	gib = gib < min_gib ? min_gib : gib;
	if (share(x, d, quota_by_copy(gib), cancel, err) < 0 ||
	    keep(d, artifact_volume(&x->maker, NULL, NULL, d->made[0].id, gib, slot(d), err)) < 0 || upload_own(x, d, cancel, err) < 0)
		return made_anew(err);
	return 0;
}

static int prepare(struct openstack_export *x, struct export_disk *d, struct cancel *cancel, struct error **err)
{
	/* What an earlier try could not remove. */
	if (undo_now(x, d, err) < 0)
		return -1;
	d->stale = false;
	if ((strcmp(d->id, OPENSTACK_ROOT) ? prepare_volume(x, d, cancel, err) : prepare_root(x, d, cancel, err)) == 0) {
		if ((d->image = get_image(x, d, cancel, err)) && check_container(d->image, err) == 0)
			return 0;
		made_anew(err);
	}
	if (!cancel_requested(cancel))
		undo_now(x, d, NULL); /* else the end of the export does it */
	return -1;
}

/* The way in which the disk comes from now on. */
static void set_way(struct export_disk *d, bool by_place)
{
	d->entry->by_place = d->entry->whole = by_place;
	d->entry->format = by_place ? "qcow2" : "raw";
}

static void unusable(void *arg, const char *reason)
{
	struct export_disk *d = arg;

	d->stale = true;
	d->no_ranges = d->no_ranges || !strcmp(reason, NO_RANGES);
	set_way(d, false);
}

int openstack_export_stream(struct source_export *e, size_t i, source_sink sink, void *arg, struct cancel *cancel, struct error **err)
{
	struct openstack_export *x = self(e);
	struct export_disk *d = &x->disks[i];
	struct fill fill = { .sink = sink, .arg = arg, .capacity = d->capacity };

	if (!strcmp(d->id, OPENSTACK_EPHEMERAL))
		return fill_rest(&fill, cancel, err);
	if (!strcmp(d->id, OPENSTACK_SWAP))
		return fill_swap(&fill, cancel, err);
	set_stuck(x, d, false);
	if ((!d->image || d->stale) && prepare(x, d, cancel, err) < 0)
		return -1;
	if (read_by_place(d, d->image)) {
		set_way(d, true);
		return error_set(err, ERROR_TRANSIENT, "FormatFound", "the root disk's image is in the format qcow2");
	}
	if (openstack_download(x->session, d->image, fill_push, &fill, cancel, err) < 0 || fill_rest(&fill, cancel, err) < 0) {
		set_stuck(x, d, true); /* this may have been the last try, and its share stays until the export's end */
		d->stale = err && *err && !strcmp((*err)->reason, IMAGE_GONE);
		return made_anew(err);
	}
	undo_now(x, d, NULL); /* what stays is tried again at the end */
	return 0;
}

struct disk_input *openstack_export_open(struct source_export *e, size_t i, const char *name, struct cancel *cancel, struct error **err)
{
	struct openstack_export *x = self(e);
	struct export_disk *d = &x->disks[i];

	if (name) {
		error_set(err, ERROR_PERMANENT, "NameRefused", "the image names another file, \"%s\", which it must not",
			  answer_shown(name).text);
		return NULL;
	}
	if (!d->image) {
		error_set(err, ERROR_TRANSIENT, "NotPrepared", "the image of the disk is not there");
		return NULL;
	}
	return openstack_image_input(x->session, d->image, unusable, d, cancel, err);
}

void openstack_export_progress(struct source_export *e, unsigned percent)
{
	(void)e;
	(void)percent;
}

int openstack_export_end(struct source_export *e, bool ok, struct error **err)
{
	struct openstack_export *x = self(e);
	struct poll poll = poll_within(UNDO_MS, UNDO_PAUSE_MS);
	AUTO_ERROR struct error *first = NULL;

	(void)ok;
	for (size_t i = 0; i < e->disk_count; i++) {
		AUTO_ERROR struct error *failed = NULL;

		if (undo(x, &x->disks[i], &poll, &failed) < 0 && !first)
			first = move_ptr(failed);
		if (first && first->class == ERROR_TRANSIENT && strcmp(first->reason, "SourceBusy"))
			break; /* the cloud does not answer: each try would take its time */
	}
	export_free(x);
	return first ? error_move(err, move_ptr(first)) : 0;
}
