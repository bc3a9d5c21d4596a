#include "source/ova/place.h"

#include <errno.h>
#include <string.h>

#include "net/stream_digest.h"

bool place_reads(enum disk_format format, const char **name)
{
	switch (format) {
	case DISK_QCOW2:
		*name = "qcow2";
		return true;
	case DISK_VMDK_SPARSE:
	case DISK_VMDK_DESCRIPTOR:
	case DISK_VMDK_COWD:
	case DISK_VMDK_SESPARSE:
		*name = "vmdk";
		return true;
	case DISK_VHD:
	case DISK_VHDX:
	case DISK_VDI:
	case DISK_QCOW1:
	case DISK_QED:
	case DISK_PARALLELS:
		*name = NULL; /* told by its content */
		return true;
	default:
		return false;
	}
}

void place_clear(struct place *p)
{
	free(p->url);
	remote_version_clear(&p->version);
	*p = (struct place){ 0 };
}

/* Bytes that are wanted, and no more. */
struct want {
	unsigned char *to;
	size_t room, got;
	bool enough; /* a server that sends all of the file */
};

static int take(void *arg, const void *data, size_t len, struct error **err)
{
	struct want *w = arg;
	size_t n = len < w->room - w->got ? len : w->room - w->got;

	memcpy(w->to + w->got, data, n);
	w->got += n;
	if (n == len)
		return 0;
	w->enough = true;
	return error_set(err, ERROR_CANCELLED, "Enough", "that is all that is wanted");
}

static bool copy_version(struct remote_version *to, const struct remote_version *from)
{
	*to = (struct remote_version){ .size = from->size, .ranges = from->ranges };
	to->etag = from->etag ? strdup(from->etag) : NULL;
	to->modified = from->modified ? strdup(from->modified) : NULL;
	return (to->etag || !from->etag) && (to->modified || !from->modified);
}

static int place_of_member(const struct package *package, const struct ovf_file *file, struct place *p, struct error **err)
{
	const struct tape_member *m = package_member(package, file->href);

	if (!package->version.ranges || !m)
		return 0;
	p->name = m->name;
	p->url = strdup(remote_url(package->remote));
	p->at = m->offset;
	p->size = m->size;
	return p->url && copy_version(&p->version, &package->version) ? 1 : error_set_errno(err, ENOMEM, "cannot read %s", m->name);
}

int place_find(const struct package *package, const struct ovf_file *file, struct place *p, void *head, size_t *len, struct cancel *cancel,
	       struct error **err)
{
	struct want w = { .to = head, .room = DISK_FORMAT_HEAD };
	AUTO_ERROR struct error *failed = NULL;
	int result;

	*p = (struct place){ .remote = package->remote, .name = file->href };
	*len = 0;
	if (file->gzip || file->chunk)
		return 0;
	if (package->beside)
		result = (p->url = remote_url_beside(package->remote, file->href))
				 ? 1
				 : error_set_errno(err, ENOMEM, "cannot read %s", file->href);
	else
		result = place_of_member(package, file, p, err);
	if (result > 0 && (package->beside || p->size) &&
	    remote_fetch(p->remote, p->url, p->at, package->beside || p->size > w.room ? w.room : p->size,
			 package->beside ? NULL : &p->version, package->beside ? &p->version : NULL, take, &w, cancel, &failed) < 0 &&
	    !w.enough && !(package->beside && w.got && w.got == p->version.size)) /* shorter than its beginning */
		result = error_move(err, move_ptr(failed));
	if (result > 0 && package->beside) {
		p->size = p->version.size;
		result = p->version.ranges && p->size;
	}
	*len = w.got;
	if (result <= 0)
		place_clear(p);
	return result;
}

/* --- the manifest -------------------------------------------------------------------------------------------------------- */

static int digest(void *arg, const void *data, size_t len, struct error **err)
{
	return stream_digest_add(arg, data, len, err);
}

int place_verify(const struct place *p, const struct manifest *manifest, struct cancel *cancel, struct error **err)
{
	const struct ovf_manifest_entry *e = ovf_manifest_find(manifest, p->name);
	unsigned char sum[EVP_MAX_MD_SIZE];
	struct stream_digest *d;
	int result;

	if (!e)
		return 0;
	d = stream_digest_new(e->algorithm, err);
	if (!d)
		return -1;
	result = p->size ? remote_fetch(p->remote, p->url, p->at, p->size, &p->version, NULL, digest, d, cancel, err) : 0;
	if (!result)
		result = stream_digest_finish(d, sum, err);
	stream_digest_free(d);
	return result < 0 ? -1 : ovf_manifest_check(e, sum, err);
}

/* --- reading ------------------------------------------------------------------------------------------------------------- */

struct reader {
	struct place place;
	struct cancel *cancel;
};

static void close_reader(void *arg)
{
	struct reader *r = arg;

	place_clear(&r->place);
	free(r);
}

static int fetch(void *arg, uint64_t offset, void *data, size_t len, struct error **err)
{
	const struct reader *r = arg;
	const struct place *p = &r->place;
	struct want w = { .to = data, .room = len };
	AUTO_ERROR struct error *failed = NULL;

	if (remote_fetch(p->remote, p->url, p->at + offset, len, &p->version, NULL, take, &w, r->cancel, &failed) < 0 && !w.enough)
		return error_move(err, move_ptr(failed));
	return w.got == len ? 0
			    : error_set(err, ERROR_TRANSIENT, "ConnectionLost", "the server sent less of %.200s than asked for", p->name);
}

struct disk_input *place_open(struct place *p, struct cancel *cancel, struct error **err)
{
	static const struct disk_fetch_ops ops = { .fetch = fetch, .close = close_reader };
	struct reader *r = calloc(1, sizeof *r);

	if (!r) {
		error_set_errno(err, ENOMEM, "cannot read %s", p->name);
		place_clear(p);
		return NULL;
	}
	*r = (struct reader){ .place = *p, .cancel = cancel };
	*p = (struct place){ 0 };
	return disk_input_fetched(r->place.name, r->place.size, &ops, r, err);
}
