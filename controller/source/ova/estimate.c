#include "source/ova/estimate.h"

#include <errno.h>
#include <string.h>

#include "disk/format.h"
#include "source/ova/place.h"

#define AT_ONCE 4 /* streams of the disks' files, where the server sends parts or they lie beside the descriptor */

/* NULL: the disk is none that is in a file. */
static const struct ovf_file *file_of(const struct package *p, const struct vm_disk *d)
{
	const struct ovf_disk *disk = ovf_disk(p->ovf, d->id);

	return disk && disk->file != OVF_NO_FILE ? ovf_file(p->ovf, disk->file) : NULL;
}

/* The bytes of a file with all its parts; 0: not known. */
static uint64_t members_size(const struct package *p, const struct ovf_file *file)
{
	size_t count = package_part_count(p, file);
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++) {
		AUTO_FREE char *name = package_part_name(file, i);
		const struct tape_member *m = name ? package_member(p, name) : NULL;

		if (!m || __builtin_add_overflow(sum, m->size, &sum))
			return 0;
	}
	return sum;
}

/* What is to be fetched of a disk; 0: not known. What is read by place and named by a manifest is read for that, too. */
static int disk_load(const struct package *p, const struct ovf_file *file, uint64_t *bytes, struct cancel *cancel, struct error **err)
{
	unsigned char head[DISK_FORMAT_HEAD];
	struct place place;
	const char *name;
	size_t len;
	int found = place_find(p, file, &place, head, &len, cancel, err);

	if (found < 0)
		return -1;
	*bytes = found ? place.size : p->beside ? file->size : members_size(p, file);
	if (found && place_reads(disk_format_of(head, len), &name) && ovf_manifest_find(p->manifest, place.name) &&
	    __builtin_mul_overflow(*bytes, UINT64_C(2), bytes))
		*bytes = 0;
	place_clear(&place);
	return 0;
}

int ova_load(const struct package *p, const struct vm_model *m, struct source_load *out, struct cancel *cancel, struct error **err)
{
	struct source_load load = { .streams = AT_ONCE };

	if (!p->beside && !p->version.ranges) { /* one pass over all of it */
		if (!p->version.size)
			return error_set(err, ERROR_PERMANENT, "SizeUnknown", "the server does not tell how large the OVA is");
		*out = (struct source_load){ .bytes = p->version.size, .largest = p->version.size, .streams = 1 };
		return 0;
	}
	for (size_t i = 0; i < m->disk_count; i++) {
		const struct ovf_file *file = file_of(p, &m->disks[i]);
		uint64_t bytes = 0;

		if (!file)
			continue;
		if (disk_load(p, file, &bytes, cancel, err) < 0)
			return -1;
		if (!bytes || __builtin_add_overflow(load.bytes, bytes, &load.bytes))
			return error_set(err, ERROR_PERMANENT, "SizeUnknown",
					 "neither the server nor the descriptor tells how large %.200s is", file->href);
		load.largest = bytes > load.largest ? bytes : load.largest;
	}
	*out = load;
	return 0;
}

int ova_sample(const struct package *p, const struct vm_model *m, uint64_t *rate, struct cancel *cancel, struct error **err)
{
	for (size_t i = 0; i < m->disk_count; i++) {
		const struct ovf_file *file = file_of(p, &m->disks[i]);
		AUTO_FREE char *name = file ? package_part_name(file, 0) : NULL, *url = NULL;
		const struct tape_member *member = name && !p->beside ? package_member(p, name) : NULL;

		if (!name || (!p->beside && p->version.ranges && (!member || !member->size)))
			continue;
		url = p->beside ? remote_url_beside(p->remote, name) : strdup(remote_url(p->remote));
		if (!url)
			return error_set_errno(err, ENOMEM, "cannot read %.200s", name);
		if (member && p->version.ranges)
			return remote_sample(p->remote, url, member->offset, member->size, rate, cancel, err);
		return remote_sample(p->remote, url, 0, 0, rate, cancel, err);
	}
	return error_set(err, ERROR_PERMANENT, "NoSample", "none of the disks is in a file that could be read");
}

int ova_check_capacity(const struct package *p, const struct ovf_disk *disk, struct cancel *cancel, struct error **err)
{
	const struct ovf_file *file = ovf_file(p->ovf, disk->file);
	unsigned char head[DISK_FORMAT_HEAD];
	enum disk_format format;
	struct place place;
	uint64_t says = 0;
	size_t len;
	int found = place_find(p, file, &place, head, &len, cancel, err);

	if (found < 0)
		return -1;
	format = disk_format_of(head, len);
	if (len)
		says = format == DISK_RAW && found ? place.size : disk_format_capacity(format, head, len);
	place_clear(&place);
	if (!says || says == disk->capacity)
		return 0;
	return error_set(err, ERROR_PERMANENT, "WrongCapacity",
			 "the descriptor gives the disk %.200s %llu bytes, but its file %.200s is a %s image of %llu bytes: correct "
			 "ovf:capacity, or export the machine again",
			 disk->id, (unsigned long long)disk->capacity, file->href, disk_format_name(format), (unsigned long long)says);
}
