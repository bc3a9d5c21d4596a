#include "source/ova/feed.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>

#include "net/stream_digest.h"
#include "source/ova/place.h"

#define OUT_SIZE (256u << 10)
#define START_SIZE DISK_FORMAT_HEAD

/* Digests of a part whose manifest is still to come: by each algorithm that one may use. */
struct part {
	char *name;
	unsigned char sha1[EVP_MAX_MD_SIZE], sha256[EVP_MAX_MD_SIZE];
	struct part *next;
};

struct feed {
	const struct package *package;
	const struct ovf_disk *disk;
	source_sink sink;
	void *sink_arg;

	/* The part that passes. */
	char *name;
	uint64_t size, passed;
	const struct ovf_manifest_entry *entry;
	struct stream_digest *digest, *sha1;
	struct part *parts; /* that passed */

	bool gzip, in_member, any_member;
	z_stream inflate;
	unsigned char *out;
	uint64_t received, unpacked;
	uint64_t most; /* what a VMDK of this disk can need, its tables included */

	unsigned char start[START_SIZE]; /* of what the decoder gets, until it is known for what it is */
	size_t start_len;
	bool looked;
};

struct feed *feed_new(const struct package *package, const struct ovf_disk *disk, source_sink sink, void *sink_arg, struct error **err)
{
	const struct ovf_file *file = ovf_file(package->ovf, disk->file);
	struct feed *f = calloc(1, sizeof *f);

	if (!f) {
		error_set_errno(err, ENOMEM, "cannot read the disk");
		return NULL;
	}
	f->package = package;
	f->disk = disk;
	f->sink = sink;
	f->sink_arg = sink_arg;
	f->most = disk->capacity + disk->capacity / 4 + (64u << 20);
	if (!file->gzip)
		return f;
	f->out = malloc(OUT_SIZE);
	f->gzip = f->out && inflateInit2(&f->inflate, 16 + MAX_WBITS) == Z_OK; /* 16: with a gzip header */
	if (f->gzip)
		return f;
	feed_free(f);
	error_set_errno(err, ENOMEM, "cannot unpack the disk");
	return NULL;
}

static void end_part(struct feed *f)
{
	stream_digest_free(f->digest);
	stream_digest_free(f->sha1);
	f->digest = f->sha1 = NULL;
	free(f->name);
	f->name = NULL;
}

void feed_free(struct feed *f)
{
	if (!f)
		return;
	end_part(f);
	while (f->parts) {
		struct part *p = f->parts;

		f->parts = p->next;
		free(p->name);
		free(p);
	}
	if (f->gzip)
		inflateEnd(&f->inflate);
	free(f->out);
	free(f);
}

/* --- parts ------------------------------------------------------------------------------------------------------------- */

int feed_begin(struct feed *f, const char *name, uint64_t size, struct error **err)
{
	end_part(f);
	f->name = strdup(name);
	f->size = size;
	f->passed = 0;
	if (!f->name)
		return error_set_errno(err, ENOMEM, "cannot read the disk");
	f->entry = ovf_manifest_find(f->package->manifest, name);
	if (f->entry)
		return (f->digest = stream_digest_new(f->entry->algorithm, err)) ? 0 : -1;
	if (f->package->manifest || f->package->complete)
		return 0;
	f->digest = stream_digest_new(EVP_sha256(), err);
	f->sha1 = f->digest ? stream_digest_new(EVP_sha1(), err) : NULL;
	return f->sha1 ? 0 : -1;
}

/* What is surely no disk that the decoders know; a raw disk would take anything. */
static int look(struct feed *f, struct error **err)
{
	const struct ovf_file *file = ovf_file(f->package->ovf, f->disk->file);
	enum disk_format format = disk_format_of(f->start, f->start_len);
	const char *name = f->name ? f->name : f->disk->id, *ignored;

	f->looked = true;
	if (disk_format_is_archive(format)) /* the descriptor says that it is a disk, and a disk may hold one */
		format = DISK_RAW;
	if (place_reads(format, &ignored)) /* and yet it came this way */
		return error_set(
			err, ERROR_PERMANENT, "UnknownFormat",
			"the disk file %.200s is a %s image, which cannot be read from %s; streamOptimized VMDKs and raw disks can", name,
			disk_format_name(format),
			file->gzip    ? "a compressed file"
			: file->chunk ? "a file in parts"
				      : "a server that does not send parts of files (range requests)");
	if (format != DISK_RAW && format != DISK_VMDK_STREAM && format != DISK_LUKS)
		return error_set(err, ERROR_PERMANENT, "UnknownFormat", "the disk file %.200s is no disk but %s%s", name,
				 disk_format_name(format), format == DISK_MARKUP ? "" : ", compressed as the descriptor does not say");
	if (!file->gzip && !file->chunk && f->size && f->size != f->disk->capacity && format != DISK_VMDK_STREAM)
		return error_set(
			err, ERROR_PERMANENT, "CapacityMismatch",
			"the disk file %.200s is no VMDK, and as a raw disk its %llu bytes are not the %llu that the descriptor says",
			file->href, (unsigned long long)f->size, (unsigned long long)f->disk->capacity);
	return f->start_len ? f->sink(f->sink_arg, f->start, f->start_len, err) : 0;
}

static int deliver(struct feed *f, const unsigned char *data, size_t len, struct error **err)
{
	if (!f->looked) {
		size_t room = START_SIZE - f->start_len, n = len < room ? len : room;

		memcpy(f->start + f->start_len, data, n);
		f->start_len += n;
		data += n;
		len -= n;
		if (f->start_len < START_SIZE)
			return 0;
		if (look(f, err) < 0)
			return -1;
	}
	return len ? f->sink(f->sink_arg, data, len, err) : 0;
}

/* Members may follow one another (RFC 1952 2.2); zeros behind them are padding. */
static int unpack(struct feed *f, const unsigned char *data, size_t len, struct error **err)
{
	bool more = false; /* zlib holds more than fitted into out */

	while (len || more) {
		size_t before;
		int result;

		if (!f->in_member) {
			if (f->any_member && !*data) {
				data++;
				len--;
				continue;
			}
			inflateReset(&f->inflate);
			f->in_member = true;
		}
		before = len < (1u << 30) ? len : 1u << 30;
		f->inflate.next_in = (unsigned char *)data;
		f->inflate.avail_in = (unsigned)before;
		f->inflate.next_out = f->out;
		f->inflate.avail_out = OUT_SIZE;
		result = inflate(&f->inflate, Z_NO_FLUSH);
		data += before - f->inflate.avail_in;
		len -= before - f->inflate.avail_in;
		if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
			return error_set(err, ERROR_PERMANENT, "InvalidArchive", "%.200s is no gzip file, or damaged: %s", f->name,
					 f->inflate.msg ? f->inflate.msg : "");
		f->unpacked += OUT_SIZE - f->inflate.avail_out;
		if (f->unpacked > f->most)
			return error_set(err, ERROR_PERMANENT, "StreamTooLong", "%.200s unpacks to more than a disk of %llu bytes can need",
					 f->name, (unsigned long long)f->disk->capacity);
		if (deliver(f, f->out, OUT_SIZE - f->inflate.avail_out, err) < 0)
			return -1;
		more = result != Z_STREAM_END && !f->inflate.avail_out;
		if (result == Z_STREAM_END) {
			f->in_member = false;
			f->any_member = true;
		}
	}
	return 0;
}

int feed_push(struct feed *f, const void *data, size_t len, struct error **err)
{
	f->passed += len;
	f->received += len;
	if (f->received > f->most)
		return error_set(err, ERROR_PERMANENT, "StreamTooLong", "%.200s is longer than a disk of %llu bytes can need", f->name,
				 (unsigned long long)f->disk->capacity);
	if (f->size && f->passed > f->size)
		return error_set(err, ERROR_PERMANENT, "InvalidArchive", "%.200s is longer than the %llu bytes that the descriptor says",
				 f->name, (unsigned long long)f->size);
	if (f->digest && stream_digest_add(f->digest, data, len, err) < 0)
		return -1;
	if (f->sha1 && stream_digest_add(f->sha1, data, len, err) < 0)
		return -1;
	return f->gzip ? unpack(f, data, len, err) : deliver(f, data, len, err);
}

static int keep_digests(struct feed *f, struct error **err)
{
	struct part *p = calloc(1, sizeof *p);

	if (!p)
		return error_set_errno(err, ENOMEM, "cannot read the disk");
	p->next = f->parts;
	f->parts = p;
	p->name = move_ptr(f->name);
	return stream_digest_finish(f->digest, p->sha256, err) < 0 || stream_digest_finish(f->sha1, p->sha1, err) < 0 ? -1 : 0;
}

int feed_end(struct feed *f, struct error **err)
{
	unsigned char digest[EVP_MAX_MD_SIZE];

	if (f->size && f->passed < f->size)
		return error_set(err, ERROR_PERMANENT, "InvalidArchive", "%.200s has %llu bytes, the descriptor says %llu", f->name,
				 (unsigned long long)f->passed, (unsigned long long)f->size);
	if (f->sha1)
		return keep_digests(f, err);
	if (!f->entry)
		return 0;
	return stream_digest_finish(f->digest, digest, err) < 0 ? -1 : ovf_manifest_check(f->entry, digest, err);
}

int feed_finish(struct feed *f, struct error **err)
{
	if (f->gzip && (f->in_member || !f->any_member))
		return error_set(err, ERROR_PERMANENT, "InvalidArchive", "%.200s ends in the middle of its compressed data",
				 ovf_file(f->package->ovf, f->disk->file)->href);
	return f->looked ? 0 : look(f, err);
}

int feed_verify(const struct feed *f, const struct manifest *manifest, struct error **err)
{
	for (const struct part *p = f->parts; p; p = p->next) {
		const struct ovf_manifest_entry *e = ovf_manifest_find(manifest, p->name);
		int bytes = e ? EVP_MD_get_size(e->algorithm) : 0;

		if (e && bytes != 20 && bytes != 32)
			return error_set(
				err, ERROR_PERMANENT, "ManifestMismatch",
				"the manifest stands behind the disks and has a %s of %.200s; only SHA-1 and SHA-256 are checked there",
				EVP_MD_get0_name(e->algorithm), p->name);
		if (e && ovf_manifest_check(e, bytes == 20 ? p->sha1 : p->sha256, err) < 0)
			return -1;
	}
	return 0;
}

/* --- an empty disk ----------------------------------------------------------------------------------------------------- */

static void put_le(unsigned char *p, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		p[i] = (unsigned char)(value >> (8 * i));
}

int feed_empty(uint64_t capacity, source_sink sink, void *sink_arg, struct error **err)
{
	enum { SECTOR = 512 };
	static const unsigned char line_ends[] = { '\n', ' ', '\r', '\n' }; /* by which damage in transfer is told */
	unsigned char image[4 * SECTOR] = { 'K', 'D', 'M', 'V' };           /* header, footer's marker, footer, end of stream */

	put_le(image + 4, 3, 4);       /* version */
	put_le(image + 8, 0x30001, 4); /* compressed grains, markers, line ends */
	put_le(image + 12, capacity / SECTOR, 8);
	put_le(image + 20, 128, 8);        /* sectors a grain */
	put_le(image + 44, 512, 4);        /* entries a table */
	put_le(image + 56, UINT64_MAX, 8); /* the directory is at the end */
	put_le(image + 64, 1, 8);          /* sectors of the header */
	memcpy(image + 73, line_ends, sizeof line_ends);
	put_le(image + 77, 1, 2); /* deflate */
	memcpy(image + 2 * SECTOR, image, SECTOR);
	put_le(image + SECTOR, 1, 8);      /* the footer's marker: one sector */
	put_le(image + SECTOR + 12, 3, 4); /* of the kind footer */
	return sink(sink_arg, image, sizeof image, err);
}
