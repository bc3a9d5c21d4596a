#include "source/openstack/artifact.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "source/openstack/answer.h"
#include "json/codec.h"

#define CREATE_TRIES 4
/* How long after its name was made something may still appear: a request that was on its way when its sender died. */
#define YOUNG_S 10
#define YOUNG_PAUSE_MS 500
#define NAME_PREFIX "vm-import-"
#define NOVA_SNAPSHOT "snapshot for " /* and the image's name: so Nova calls those it makes for createImage */

static const struct {
	const char *name, *suffix, *path, *member, *list;
	enum openstack_service service;
} kinds[] = {
	[ARTIFACT_SNAPSHOT] = { "Snapshot", "snapshot", "/snapshots", "snapshot", "snapshots", OPENSTACK_VOLUME },
	[ARTIFACT_VOLUME] = { "Volume", "volume", "/volumes", "volume", "volumes", OPENSTACK_VOLUME },
	[ARTIFACT_IMAGE] = { "Image", "image", "/images", NULL, "images", OPENSTACK_IMAGE },
};

static int no_memory(struct error **err)
{
	return error_set_errno(err, ENOMEM, "cannot make the request");
}

const char *artifact_kind_name(enum artifact_kind kind)
{
	return kinds[kind].name;
}

bool artifact_kind_of(const char *name, enum artifact_kind *kind)
{
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		if (!strcmp(name, kinds[i].name)) {
			*kind = (enum artifact_kind)i;
			return true;
		}
	}
	return false;
}

void artifact_clear(struct artifact *a)
{
	free(a->name);
	free(a->id);
	*a = (struct artifact){ 0 };
}

/* "vm-import-<when, hex>-<random, hex>-snapshot" */
static char *new_name(enum artifact_kind kind)
{
	uint32_t a = backoff_random(UINT32_MAX), b = backoff_random(UINT32_MAX);
	char *name = NULL;

	if (asprintf(&name, NAME_PREFIX "%08" PRIx64 "-%08" PRIx32 "%08" PRIx32 "-%s", (uint64_t)clock_unix(), a, b, kinds[kind].suffix) <
	    0)
		return NULL;
	return name;
}

/* One that was made less than YOUNG_S seconds ago. Names that are none of ours are not. */
static bool is_young(const char *name)
{
	uint64_t made;
	int64_t now = clock_unix();

	if (strncmp(name, NAME_PREFIX, strlen(NAME_PREFIX)) || sscanf(name + strlen(NAME_PREFIX), "%16" SCNx64 "-", &made) != 1)
		return false;
	return now >= 0 && made <= (uint64_t)now + YOUNG_S && (uint64_t)now < made + YOUNG_S;
}

static int tell_ledger(const struct artifact_maker *m, bool made, const struct artifact *a, struct error **err)
{
	LOCK_GUARD(m->ledger_lock);
	return m->ledger(m->ledger_arg, made, kinds[a->kind].name, a->name, err);
}

/* --- finding by name ------------------------------------------------------------------------------------------------------- */

/* The objects of exactly this name: an array of new references. Names of ours need no escapes in a URL but for the blanks of Nova's. */
static json_t *find(struct openstack_session *s, enum artifact_kind kind, const char *name, struct cancel *cancel, struct error **err)
{
	AUTO_FREE char *path = NULL;
	AUTO_JSON json_t *list = NULL, *found = json_array();
	AUTO_ERROR struct error *failed = NULL;
	json_t *item;
	size_t i;
	int len = asprintf(&path, "%s%s?name=%s", kinds[kind].path, kind == ARTIFACT_IMAGE ? "" : "/detail", name);

	if (len < 0)
		path = NULL;
	if (!path || !found)
		return no_memory(err), NULL;
	for (char *p; (p = strchr(path, ' '));)
		*p = '+';
	list = openstack_list(s, kinds[kind].service, path, kinds[kind].list, cancel, &failed);
	if (!list && failed->code == 400) { /* an operator may have taken the name out of Cinder's filters: then all of them */
		error_free(move_ptr(failed));
		*strchr(path, '?') = 0;
		list = openstack_list(s, kinds[kind].service, path, kinds[kind].list, cancel, &failed);
	}
	if (!list) {
		error_move(err, move_ptr(failed));
		return NULL;
	}
	json_array_foreach (list, i, item) {
		const char *other = answer_text(item, "name");

		if (other && !strcmp(other, name) && answer_id(item, "id"))
			json_array_append(found, item);
	}
	return move_ptr(found);
}

/* --- making ---------------------------------------------------------------------------------------------------------------- */

/* The id of what was made, out of the answer or the Location header; owned, or NULL. */
static char *id_of(const struct artifact *a, const json_t *answer, const char *location)
{
	const char *id = NULL, *last = location ? strrchr(location, '/') : NULL;

	if (kinds[a->kind].member)
		id = answer_id(json_object_get(answer, kinds[a->kind].member), "id");
	if (!id)
		id = answer_id(json_object_get(answer, "os-volume_upload_image"), "image_id");
	if (!id)
		id = answer_id(answer, "image_id"); /* createImage since 2.45 */
	if (!id && last && answer_is_id(last + 1))
		id = last + 1;
	return id ? strdup(id) : NULL;
}

/* Marks an image as ours; createImage and uploads leave little to say of it. What fails here is no harm: its name is in the ledger. */
static void mark_image(const struct artifact_maker *m, const struct artifact *a)
{
	AUTO_JSON json_t *patch = json_pack("[{s:s, s:s, s:s}]", "op", "add", "path", "/" ARTIFACT_KEY, "value", m->server);
	AUTO_FREE char *path = NULL;
	bool unknown;

	if (!patch || asprintf(&path, "/images/%s", a->id) < 0) {
		path = NULL;
		return;
	}
	struct openstack_deed deed = { .service = OPENSTACK_IMAGE,
				       .method = "PATCH",
				       .path = path,
				       .body = patch,
				       .content_type = "application/openstack-images-v2.1-json-patch" };
	openstack_do(m->session, &deed, NULL, &unknown, NULL);
}

/* Enters it in the ledger, then makes it. body is made for this name already. */
static int make(const struct artifact_maker *m, struct artifact *a, const struct openstack_deed *deed, struct error **err)
{
	struct backoff backoff = { .base_ms = 1000, .cap_ms = 8000 };

	if (tell_ledger(m, true, a, err) < 0)
		return -1;
	for (unsigned attempt = 1;; attempt++) {
		AUTO_JSON json_t *answer = NULL, *found = NULL;
		AUTO_FREE char *location = NULL;
		AUTO_ERROR struct error *failed = NULL;
		struct openstack_deed d = *deed;
		bool unknown = false;

		d.location = &location;
		if (openstack_do(m->session, &d, &answer, &unknown, &failed) == 0) {
			a->id = id_of(a, answer, location);
			if (!a->id)
				return error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the answer to %s %s names no %s", deed->method,
						 deed->path, kinds[a->kind].suffix);
			return 0;
		}
		if (!unknown) {
			AUTO_ERROR struct error *ignored = NULL;

			/* Refused: there is nothing to remember. */
			if (tell_ledger(m, false, a, &ignored) == 0)
				artifact_clear(a);
			return error_move(err, move_ptr(failed));
		}
		cancel_wait(NULL, backoff_next(&backoff));
		found = find(m->session, a->kind, a->name, NULL, NULL);
		if (json_array_size(found)) {
			a->id = strdup(answer_id(json_array_get(found, 0), "id"));
			return a->id ? 0 : no_memory(err);
		}
		if (!found || attempt == CREATE_TRIES)
			return error_move(err, move_ptr(failed));
	}
}

static int begin(enum artifact_kind kind, struct artifact *out, struct error **err)
{
	*out = (struct artifact){ .kind = kind, .name = new_name(kind) };
	return out->name ? 0 : no_memory(err);
}

int artifact_snapshot(const struct artifact_maker *m, const char *volume, struct artifact *out, struct error **err)
{
	AUTO_JSON json_t *body = NULL;

	if (begin(ARTIFACT_SNAPSHOT, out, err) < 0)
		return -1;
	/* Of a volume in use only with force. */
	body = json_pack("{s:{s:s, s:s, s:b, s:{s:s}}}", "snapshot", "volume_id", volume, "name", out->name, "force", 1, "metadata",
			 ARTIFACT_KEY, m->server);
	if (!body)
		return no_memory(err);
	struct openstack_deed deed = { .service = OPENSTACK_VOLUME, .method = "POST", .path = "/snapshots", .body = body };
	return make(m, out, &deed, err);
}

int artifact_volume(const struct artifact_maker *m, const char *snapshot, const char *volume, const char *image, uint64_t gib,
		    struct artifact *out, struct error **err)
{
	AUTO_JSON json_t *body = NULL;

	if (begin(ARTIFACT_VOLUME, out, err) < 0)
		return -1;
	body = json_pack("{s:{s:s, s:I, s:{s:s}, s:s*, s:s*, s:s*}}", "volume", "name", out->name, "size", (json_int_t)gib, "metadata",
			 ARTIFACT_KEY, m->server, "snapshot_id", snapshot, "source_volid", volume, "imageRef", image);
	if (!body)
		return no_memory(err);
	/* Cinder reads the image with our token. */
	struct openstack_deed deed = { .service = OPENSTACK_VOLUME, .method = "POST", .path = "/volumes", .body = body, .lasting = image };
	return make(m, out, &deed, err);
}

int artifact_upload(const struct artifact_maker *m, const char *volume, bool force, struct artifact *out, struct error **err)
{
	AUTO_JSON json_t *body = NULL;
	AUTO_FREE char *path = NULL;
	json_t *details;

	if (begin(ARTIFACT_IMAGE, out, err) < 0)
		return -1;
	body = json_pack("{s:{s:s, s:s, s:s, s:b}}", "os-volume_upload_image", "image_name", out->name, "disk_format", "raw",
			 "container_format", "bare", "force", (int)force);
	details = json_object_get(body, "os-volume_upload_image");
	if (openstack_minor(m->session, OPENSTACK_VOLUME) >= 1)
		json_object_set_new(details, "visibility", json_string("private"));
	if (!body || asprintf(&path, "/volumes/%s/action", volume) < 0) {
		path = NULL;
		return no_memory(err);
	}
	struct openstack_deed deed = { .service = OPENSTACK_VOLUME, .method = "POST", .path = path, .body = body, .lasting = true };
	if (make(m, out, &deed, err) < 0)
		return -1;
	mark_image(m, out);
	return 0;
}

int artifact_create_image(const struct artifact_maker *m, struct artifact *out, struct error **err)
{
	AUTO_JSON json_t *body = NULL;
	AUTO_FREE char *path = NULL;

	if (begin(ARTIFACT_IMAGE, out, err) < 0)
		return -1;
	out->of_server = true;
	body = json_pack("{s:{s:s, s:{s:s}}}", "createImage", "name", out->name, "metadata", ARTIFACT_KEY, m->server);
	if (!body || asprintf(&path, "/servers/%s/action", m->server) < 0) {
		path = NULL;
		return no_memory(err);
	}
	struct openstack_deed deed = { .service = OPENSTACK_COMPUTE, .method = "POST", .path = path, .body = body, .lasting = true };
	return make(m, out, &deed, err);
}

/* --- following ------------------------------------------------------------------------------------------------------------- */

/* The object, or NULL: an error, or (not-found) it is gone. */
static json_t *look(struct openstack_session *s, enum artifact_kind kind, const char *id, struct cancel *cancel, struct error **err)
{
	AUTO_JSON json_t *answer = openstack_get(s, kinds[kind].service, cancel, err, "%s/%s", kinds[kind].path, id);
	json_t *object = kinds[kind].member ? json_object_get(answer, kinds[kind].member) : answer;

	if (answer && !json_is_object(object))
		error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the answer to GET %s/%s has no %s", kinds[kind].path, id,
			  kinds[kind].suffix);
	return json_incref(object);
}

static bool one_of(const char *text, const char *const *words)
{
	for (; *words; words++)
		if (!strcasecmp(text, *words))
			return true;
	return false;
}

/* Whether the upload into the image was given up: the volume is no longer at it, though the image never got anything. */
static bool given_up(struct openstack_session *s, const char *volume, struct cancel *cancel)
{
	AUTO_JSON json_t *object = look(s, ARTIFACT_VOLUME, volume, cancel, NULL);
	const char *status = answer_text(object, "status");

	return status && strcasecmp(status, "uploading");
}

int artifact_wait(const struct artifact_maker *m, const struct artifact *a, const char *volume, struct cancel *cancel, struct error **err)
{
	static const char *const bad[] = { "error", "error_deleting", "killed", "deleted", "pending_delete", "deactivated", NULL };
	const char *good = a->kind == ARTIFACT_IMAGE ? "active" : "available";
	struct poll poll = poll_start(m->session);
	unsigned idle = 0;

	for (;;) {
		AUTO_ERROR struct error *failed = NULL;
		AUTO_JSON json_t *object = look(m->session, a->kind, a->id, cancel, &failed);
		const char *status = answer_text(object, "status");

		if (failed && failed->class == ERROR_NOT_FOUND)
			return error_set(err, ERROR_TRANSIENT, "ArtifactFailed", "the cloud gave up making the %s %s: it is gone",
					 kinds[a->kind].suffix, a->name);
		if (failed && failed->class != ERROR_TRANSIENT)
			return error_move(err, move_ptr(failed));
		if (status && !strcasecmp(status, good))
			return 0;
		if (status && one_of(status, bad))
			return error_set(err, ERROR_TRANSIENT, "ArtifactFailed", "the cloud could not make the %s %s: its status is %s",
					 kinds[a->kind].suffix, a->name, answer_shown(status).text);
		/* Seen twice, for the image may have become active in between. */
		if (status && volume && !strcasecmp(status, "queued") && given_up(m->session, volume, cancel) && ++idle == 2)
			return error_set(err, ERROR_TRANSIENT, "ArtifactFailed",
					 "the cloud gave up the upload of the volume %s into the image %s", volume, a->name);
		if (poll_wait(&poll, cancel, err) < 0)
			return error_wrap(err, "the %s %s has the status %s", kinds[a->kind].suffix, a->name,
					  status   ? status
					  : failed ? "unknown"
						   : "none");
	}
}

/* --- removing -------------------------------------------------------------------------------------------------------------- */

/* What the cloud answered, without the request: that this is the removal of which object was said. */
static const char *answer_of(const struct error *failed)
{
	const char *mark = " answered with ", *at = strstr(failed->message, mark);

	return at ? at + strlen(mark) : failed->message;
}

static int delete_one(struct openstack_session *s, enum artifact_kind kind, const char *id, struct poll *poll, struct cancel *cancel,
		      struct error **err)
{
	AUTO_FREE char *path = NULL;

	if (asprintf(&path, "%s/%s", kinds[kind].path, id) < 0) {
		path = NULL;
		return no_memory(err);
	}
	for (bool asked = false;;) {
		AUTO_ERROR struct error *failed = NULL, *gone = NULL;
		AUTO_JSON json_t *object = NULL;
		const char *status;

		/* Refused (400, 403, 409) as long as something else is done with it. */
		if (!asked && openstack_delete(s, kinds[kind].service, path, &failed) < 0 && failed->code != 400 && failed->code != 403 &&
		    failed->code != 409)
			return error_move(err, move_ptr(failed));
		object = look(s, kind, id, cancel, &gone);
		if (!object && gone->class == ERROR_NOT_FOUND)
			return 0;
		status = answer_text(object, "status");
		asked = status && strcasestr(status, "delet") && !strcasestr(status, "error");
		if (poll_wait(poll, cancel, NULL) < 0) {
			if (cancel_check(cancel, err) < 0)
				return -1;
			return error_set(err, ERROR_TRANSIENT, "SourceBusy", "the %s %s cannot be removed yet (its status is %s)%s%s",
					 kinds[kind].suffix, id, answer_shown(status ? status : "unknown").text,
					 failed ? ": the cloud answered with " : "", failed ? answer_of(failed) : "");
		}
	}
}

static int delete_all(struct openstack_session *s, enum artifact_kind kind, const json_t *list, struct poll *poll, struct cancel *cancel,
		      struct error **err)
{
	const json_t *item;
	size_t i;

	json_array_foreach (list, i, item)
		if (delete_one(s, kind, answer_id(item, "id"), poll, cancel, err) < 0)
			return -1;
	return 0;
}

/* The snapshots that an image of Nova's names: {"block_device_mapping": "[{\"snapshot_id\": …}]"}. */
static json_t *snapshots_of(const json_t *images)
{
	json_t *all = json_array();
	const json_t *image, *device;
	size_t i, k;

	json_array_foreach (images, i, image) {
		const char *text = answer_text(image, "block_device_mapping");
		AUTO_JSON json_t *mapping = text ? json_loads(text, 0, NULL) : NULL;

		json_array_foreach (mapping, k, device) {
			const char *id = answer_id(device, "snapshot_id");

			if (id)
				json_array_append_new(all, json_pack("{s:s}", "id", id));
		}
	}
	return all;
}

static int delete_nova_snapshots(struct openstack_session *s, const char *image_name, const json_t *images, struct poll *poll,
				 struct cancel *cancel, struct error **err)
{
	AUTO_JSON json_t *named = snapshots_of(images), *found = NULL;
	AUTO_FREE char *name = NULL;

	if (asprintf(&name, NOVA_SNAPSHOT "%s", image_name) < 0)
		name = NULL;
	if (!name || !named)
		return no_memory(err);
	if (delete_all(s, ARTIFACT_SNAPSHOT, named, poll, cancel, err) < 0)
		return -1;
	found = find(s, ARTIFACT_SNAPSHOT, name, cancel, err);
	return found ? delete_all(s, ARTIFACT_SNAPSHOT, found, poll, cancel, err) : -1;
}

int artifact_remove(struct openstack_session *s, enum artifact_kind kind, const char *name, struct poll *poll, struct cancel *cancel,
		    struct error **err)
{
	for (;;) {
		AUTO_JSON json_t *found = find(s, kind, name, cancel, err);
		bool any = json_array_size(found);

		if (!found || delete_all(s, kind, found, poll, cancel, err) < 0)
			return -1;
		if (kind == ARTIFACT_IMAGE && delete_nova_snapshots(s, name, found, poll, cancel, err) < 0)
			return -1;
		if (any || !is_young(name))
			return 0;
		if (cancel_wait(cancel, YOUNG_PAUSE_MS))
			return cancel_check(cancel, err);
	}
}

int artifact_undo(const struct artifact_maker *m, struct artifact *a, struct poll *poll, struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;

	if (!a->name)
		return 0;
	/* Where its id is known it need not be waited for; but something between us and the cloud may have asked for it twice. */
	if (a->id && !a->of_server) {
		AUTO_JSON json_t *twins = NULL;

		if (delete_one(m->session, a->kind, a->id, poll, NULL, &failed) < 0 ||
		    !(twins = find(m->session, a->kind, a->name, NULL, &failed)) ||
		    delete_all(m->session, a->kind, twins, poll, NULL, &failed) < 0)
			return error_move(err, move_ptr(failed));
	} else if (artifact_remove(m->session, a->kind, a->name, poll, NULL, &failed) < 0) {
		return error_move(err, move_ptr(failed));
	}
	if (tell_ledger(m, false, a, &failed) < 0 && failed->class != ERROR_CANCELLED)
		return error_move(err, move_ptr(failed));
	artifact_clear(a);
	return 0;
}
