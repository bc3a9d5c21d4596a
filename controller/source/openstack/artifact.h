/* What an export makes in the cloud: snapshots, volumes, images. Each is in the ledger before it is asked for, under a name that nothing
 * else has, for its id is known only afterwards; so it is found and removed by whoever comes after a crash. Snapshots, volumes and images
 * carry the metadata ARTIFACT_KEY with the server's id as well.
 *
 * Sources: Block Storage API v3 (snapshots, volumes, os-volume_upload_image), Compute API (createImage), Image API v2. */
#pragma once

#include <pthread.h>

#include "source/openstack/poll.h"
#include "source/openstack/session.h"

enum artifact_kind { ARTIFACT_SNAPSHOT, ARTIFACT_VOLUME, ARTIFACT_IMAGE };

#define ARTIFACT_KEY "vm_import_controller"

struct artifact {
	enum artifact_kind kind;
	char *name;
	char *id;       /* NULL: not known */
	bool of_server; /* an image that Nova makes, perhaps with snapshots of its own */
};

/* Who makes them. */
struct artifact_maker {
	struct openstack_session *session;
	const char *server; /* id */
	source_ledger ledger;
	void *ledger_arg;
	pthread_mutex_t *ledger_lock; /* its callback is called by one thread at a time */
};

/* "Snapshot", "Volume", "Image": as they are in the ledger. */
const char *artifact_kind_name(enum artifact_kind kind);
bool artifact_kind_of(const char *name, enum artifact_kind *kind);
void artifact_clear(struct artifact *a);

/* The POST that makes one; its body is made by the callers below. Each fills *out, also on failure when something may be there: then
 * out->name is set. */
int artifact_snapshot(const struct artifact_maker *m, const char *volume, struct artifact *out, struct error **err);
/* Of a snapshot, as a copy of a volume, or of an image: exactly one is not NULL. */
int artifact_volume(const struct artifact_maker *m, const char *snapshot, const char *volume, const char *image, uint64_t gib,
		    struct artifact *out, struct error **err);
/* The bytes of a volume, raw. force: of one that is in use. */
int artifact_upload(const struct artifact_maker *m, const char *volume, bool force, struct artifact *out, struct error **err);
/* The root disk of a server. */
int artifact_create_image(const struct artifact_maker *m, struct artifact *out, struct error **err);

/* Follows it until it can be used. volume: of an upload, the volume whose bytes go there; else NULL. A snapshot or volume in an error state
 * is transient ArtifactFailed, and so is an image that was given up. */
int artifact_wait(const struct artifact_maker *m, const struct artifact *a, const char *volume, struct cancel *cancel, struct error **err);

/* Removes what has this name, and waits until it is gone; success when there is nothing. Also the snapshots that Nova makes along with an
 * image. Not there a few seconds after its name was made: looked for until then, for its making may be on its way. SourceBusy (transient)
 * when the cloud does not yet let it go. */
int artifact_remove(struct openstack_session *s, enum artifact_kind kind, const char *name, struct poll *poll, struct cancel *cancel,
		    struct error **err);
/* The same, and takes it out of the ledger. */
int artifact_undo(const struct artifact_maker *m, struct artifact *a, struct poll *poll, struct error **err);
