// links: source/ova api json base xml PkgConfig::jansson
/* Whole OVAs: the archive, the descriptor, the manifest, and each disk's bytes as they go to the decoder. */
#include <stdint.h>
#include <string.h>

#include "source/ova/feed.h"
#include "source/ova/package.h"

struct taken {
	uint64_t bytes;
};

static int take(void *arg, const void *data, size_t len, struct error **err)
{
	struct taken *t = arg;

	(void)data;
	t->bytes += len;
	/* What gzip makes of a little is not what is looked for here. */
	return t->bytes < (8u << 20) ? 0 : error_set(err, ERROR_PERMANENT, "Enough", "enough");
}

static void check_error(const struct error *err)
{
	if (!err || !*err->message || !*err->reason)
		abort();
}

DEFINE_CLEANUP(struct feed, feed_free_p, feed_free)

/* As export.c does with an OVA of which parts can be had. */
static int stream(const struct package *p, const struct ovf_disk *disk, const uint8_t *data, size_t size, struct error **err)
{
	const struct ovf_file *file = ovf_file(p->ovf, disk->file);
	struct taken taken = { 0 };
	CLEANUP(feed_free_p) struct feed *feed = NULL;
	size_t count;

	if (package_check_file(p, file, err) < 0 || !(feed = feed_new(p, disk, take, &taken, err)))
		return -1;
	count = package_part_count(p, file);
	for (size_t n = 0; n < count; n++) {
		AUTO_FREE char *name = package_part_name(file, n);
		const struct tape_member *m = name ? package_member(p, name) : NULL;

		if (!m)
			abort(); /* checked above */
		if (feed_begin(feed, m->name, m->size, err) < 0)
			return -1;
		if (m->offset > size || m->size > size - m->offset)
			return error_set(err, ERROR_TRANSIENT, "ConnectionLost", "the archive ends");
		for (uint64_t at = 0; at < m->size; at += 1000) {
			uint64_t left = m->size - at;

			if (feed_push(feed, data + m->offset + at, left < 1000 ? left : 1000, err) < 0)
				return -1;
		}
		if (feed_end(feed, err) < 0)
			return -1;
	}
	return feed_finish(feed, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_ERROR struct error *err = NULL, *no_model = NULL;
	AUTO_PACKAGE struct package *p = package_open_memory(data, size, &err);
	AUTO_VM_MODEL struct vm_model *m = p ? ovf_model(p->ovf, "vm", &no_model) : NULL;

	if (!p)
		check_error(err);
	else if (!m)
		check_error(no_model);
	for (size_t i = 0; m && i < m->disk_count; i++) {
		const struct ovf_disk *disk = ovf_disk(p->ovf, m->disks[i].id);
		AUTO_ERROR struct error *failed = NULL;

		if (!disk)
			abort();
		if (disk->file != OVF_NO_FILE && stream(p, disk, data, size, &failed) < 0)
			check_error(failed);
	}
	return 0;
}
