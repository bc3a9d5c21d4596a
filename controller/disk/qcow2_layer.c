/* Source of the format: QEMU, docs/interop/qcow2.txt ("Header", "Cluster mapping", "Standard Cluster Descriptor", "Compressed Clusters Descriptor",
 * "Extended L2 Entries", "Header extensions"). Numbers are big-endian. */
#include "disk/qcow2_layer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disk/bytes.h"

#define HEADER_V2 72u
#define HEADER_V3 104u
#define INCOMPATIBLE_DIRTY 1u
#define INCOMPATIBLE_CORRUPT 2u
#define INCOMPATIBLE_DATA_FILE 4u
#define INCOMPATIBLE_COMPRESSION 8u
#define INCOMPATIBLE_EXTENDED_L2 16u
#define INCOMPATIBLE_KNOWN 31u
#define EXTENSION_BACKING_FORMAT 0xe2792acau
#define EXTENSIONS_MAX 64
#define BACKING_NAME_MAX 1023u
#define OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define ENTRY_COMPRESSED (UINT64_C(1) << 62)
#define ENTRY_ZERO 1u
#define L1_RESERVED UINT64_C(0x7f000000000001ff)
#define L2_RESERVED UINT64_C(0x3f000000000001fe)
#define SUBCLUSTERS 32u

struct qcow2 {
	struct layer layer;
	struct table_cache *cache;
	struct disk_input *in;
	const char *name;
	uint64_t size; /* of the file */
	uint32_t version, cluster_bits, entry_bytes;
	uint64_t cluster, l2_entries;
	uint64_t l1;         /* bytes */
	uint64_t l1_entries; /* that the disk needs */
	enum piece_codec codec;
	bool extended;
	struct layer_sum tables, clusters;
};

static int read_entry(struct qcow2 *q, uint64_t at, const char *what, uint64_t *value, struct error **err)
{
	unsigned char bytes[8];

	if (table_cache_read(q->cache, q->in, at, bytes, sizeof bytes, what, err) < 0)
		return -1;
	*value = get_be64(bytes);
	return 0;
}

/* A cluster's place must be one. */
static int check_place(struct qcow2 *q, uint64_t entry_at, const char *what, uint64_t place, uint64_t need, struct error **err)
{
	if (place % q->cluster)
		return image_broken(q->name, entry_at, err, "a %s is to be at byte %llu, where no cluster begins", what,
				    (unsigned long long)place);
	if (place < q->cluster)
		return image_broken(q->name, entry_at, err, "a %s is to be at byte %llu, where the header is", what,
				    (unsigned long long)place);
	if (place > q->size || need > q->size - place)
		return image_too_short(q->name, entry_at, place, need, q->size, err, "a %s", what);
	return 0;
}

static int look_packed(struct qcow2 *q, uint64_t entry, uint64_t entry_at, uint64_t c, struct run *run, struct error **err)
{
	unsigned shift = 62 - (q->cluster_bits - 8);
	uint64_t place = entry & ((UINT64_C(1) << shift) - 1), sectors = entry >> shift & ((UINT64_C(1) << (q->cluster_bits - 8)) - 1);
	uint64_t stored = (sectors + 1) * 512 - place % 512;

	if (place < q->cluster)
		return image_broken(q->name, entry_at, err, "a compressed cluster is to be at byte %llu, where the header is",
				    (unsigned long long)place);
	if (place >= q->size)
		return image_too_short(q->name, entry_at, place, 1, q->size, err, "a compressed cluster");
	/* The sectors of neighbours overlap, and the last one need not be whole. */
	run->stored = (uint32_t)(stored < q->size - place ? stored : q->size - place);
	if (!layer_sum_add(&q->clusters, c, 1, sectors * 512, q->size))
		return image_broken(q->name, entry_at, err, "its compressed clusters are more than the file holds: one is named twice");
	run->kind = RUN_PACKED;
	run->codec = q->codec;
	run->at = place;
	run->whole_at = c * q->cluster;
	run->whole_len = (uint32_t)q->cluster;
	return 0;
}

static int look_data(struct qcow2 *q, uint64_t entry_at, uint64_t place, uint64_t at, struct run *run, struct error **err)
{
	uint64_t c = at / q->cluster, within = at % q->cluster, left = q->layer.capacity - at;

	if (check_place(q, entry_at, "cluster", place, within + (run->len < left ? run->len : left), err) < 0)
		return -1;
	if (!layer_sum_add(&q->clusters, c, 1, q->layer.capacity - c * q->cluster < q->cluster ? 0 : q->cluster, q->size + q->cluster))
		return image_broken(
			q->name, entry_at, err,
			"cluster %llu (byte %llu of the disk) is to be where another one is: the tables name more than the file holds",
			(unsigned long long)c, (unsigned long long)(c * q->cluster));
	run->kind = RUN_DATA;
	run->at = place + within;
	return 0;
}

/* A cluster with states of its own for each 32nd part of it. */
static int look_extended(struct qcow2 *q, uint64_t entry, uint64_t entry_at, uint64_t at, struct run *run, struct error **err)
{
	uint64_t sub = q->cluster / SUBCLUSTERS, i = at % q->cluster / sub, bits;
	bool data, zero;

	if (read_entry(q, entry_at + 8, "L2 table", &bits, err) < 0)
		return -1;
	data = bits >> i & 1;
	zero = bits >> (32 + i) & 1;
	if (data && zero)
		return image_broken(q->name, entry_at + 8, err, "part %llu of a cluster is both data and zero", (unsigned long long)i);
	run->len = sub - at % sub;
	run->kind = zero ? RUN_ZERO : RUN_HOLE;
	return data ? look_data(q, entry_at, entry & OFFSET_MASK, at, run, err) : 0;
}

/* Of a cluster that is not compressed. What is damaged must not pass for zeros. */
static int check_entry(struct qcow2 *q, uint64_t entry, uint64_t entry_at, struct error **err)
{
	uint64_t reserved = q->extended ? L2_RESERVED | ENTRY_ZERO : L2_RESERVED, place = entry & OFFSET_MASK;

	if (entry & reserved)
		return image_broken(q->name, entry_at, err, "the entry 0x%llx of an L2 table is not known", (unsigned long long)entry);
	if (place % q->cluster)
		return image_broken(q->name, entry_at, err, "a cluster is to be at byte %llu, where no cluster begins",
				    (unsigned long long)place);
	return 0;
}

static int qcow2_look(struct layer *layer, uint64_t at, struct run *run, struct error **err)
{
	struct qcow2 *q = (struct qcow2 *)layer;
	uint64_t c = at / q->cluster, t = c / q->l2_entries, e = c % q->l2_entries, l1_at = q->l1 + t * 8, table, entry, entry_at, more;

	*run = (struct run){ .kind = RUN_HOLE, .input = q->in, .name = q->name };
	run->len = (q->l2_entries - e) * q->cluster - at % q->cluster;
	if (read_entry(q, l1_at, "L1 table", &table, err) < 0)
		return -1;
	if (table & L1_RESERVED)
		return image_broken(q->name, l1_at, err, "the entry 0x%llx of the L1 table is not known", (unsigned long long)table);
	table &= OFFSET_MASK;
	if (!table) {
		more = table_cache_zeros(q->cache, l1_at, 8, q->l1_entries - t);
		run->len += (more ? more - 1 : 0) * q->l2_entries * q->cluster;
		return 0;
	}
	if (check_place(q, l1_at, "table", table, q->cluster, err) < 0)
		return -1;
	if (!layer_sum_add(&q->tables, t, 1, q->cluster, q->size))
		return image_broken(q->name, l1_at, err,
				    "the L1 table names more tables than the file can hold: the same ones again and again");
	entry_at = table + e * q->entry_bytes;
	if (read_entry(q, entry_at, "L2 table", &entry, err) < 0)
		return -1;
	run->len = q->cluster - at % q->cluster;
	if (!entry && (more = table_cache_zeros(q->cache, entry_at, q->entry_bytes, q->l2_entries - e))) {
		run->len += (more - 1) * q->cluster;
		return 0;
	}
	if (entry & ENTRY_COMPRESSED)
		return look_packed(q, entry, entry_at, c, run, err);
	if (check_entry(q, entry, entry_at, err) < 0)
		return -1;
	if (q->extended)
		return look_extended(q, entry, entry_at, at, run, err);
	if (entry & ENTRY_ZERO) {
		if (q->version < 3)
			return image_broken(q->name, entry_at, err, "a cluster is marked as zero, which version 2 does not know");
		run->kind = RUN_ZERO;
		return 0;
	}
	return entry & OFFSET_MASK ? look_data(q, entry_at, entry & OFFSET_MASK, at, run, err) : 0;
}

static int qcow2_map(struct layer *layer, uint64_t at, uint64_t most, struct run *run, struct error **err)
{
	return layer_map_entries(layer, qcow2_look, at, most, run, err);
}

static void qcow2_free(struct layer *layer)
{
	free(layer);
}

static int refuse(const struct qcow2 *q, const char *reason, struct error **err, const char *what)
{
	return error_set(err, ERROR_PERMANENT, reason, "%s %s", q->name, what);
}

static int check_features(struct disk_image *image, struct qcow2 *q, const unsigned char *h, uint32_t header_len, struct error **err)
{
	uint64_t features = get_be64(h + 72);
	unsigned compression = header_len > HEADER_V3 ? h[HEADER_V3] : 0;

	if (features & ~(uint64_t)INCOMPATIBLE_KNOWN)
		return error_set(err, ERROR_PERMANENT, "UnsupportedFormat", "%s needs features that are not known here (bits 0x%llx)",
				 q->name, (unsigned long long)(features & ~(uint64_t)INCOMPATIBLE_KNOWN));
	if (features & INCOMPATIBLE_DATA_FILE)
		return refuse(q, "NameRefused", err, "keeps its data in another file, which is not read; convert it with qemu-img first");
	if (features & INCOMPATIBLE_DIRTY)
		image_add_problem(image, "%s was in use, or not closed by the program that wrote it last", q->name);
	if (features & INCOMPATIBLE_CORRUPT)
		image_add_problem(image, "%s is marked as damaged by the program that wrote it last (qemu-img check tells how)", q->name);
	if (compression > 1 || (compression && !(features & INCOMPATIBLE_COMPRESSION)))
		return error_set(err, ERROR_PERMANENT, "UnsupportedFormat", "%s has clusters of the unknown compression method %u", q->name,
				 compression);
	q->codec = compression ? PIECE_ZSTD : PIECE_DEFLATE;
	q->extended = features & INCOMPATIBLE_EXTENDED_L2;
	return 0;
}

static int check_tables(struct qcow2 *q, const unsigned char *h, struct error **err)
{
	uint64_t covered, needed, capacity = get_be64(h + 24), l1_entries = get_be32(h + 36);

	q->entry_bytes = q->extended ? 16 : 8;
	if (q->extended && q->cluster_bits < 14)
		return image_broken(q->name, 20, err, "clusters of %llu bytes cannot have subclusters", (unsigned long long)q->cluster);
	q->cluster = UINT64_C(1) << q->cluster_bits;
	q->l2_entries = q->cluster / q->entry_bytes;
	q->l1 = get_be64(h + 40);
	covered = q->cluster * q->l2_entries; /* at most 2^21 * 2^18 */
	if (capacity > INT64_MAX || capacity % 512)
		return image_broken(q->name, 24, err, "a disk of %llu bytes is impossible", (unsigned long long)capacity);
	needed = capacity / covered + (capacity % covered != 0);
	if (l1_entries < needed)
		return image_broken(q->name, 36, err, "its L1 table has %llu entries, %llu are needed", (unsigned long long)l1_entries,
				    (unsigned long long)needed);
	if (needed && (q->l1 % q->cluster || q->l1 > q->size || needed > (q->size - q->l1) / 8))
		return image_broken(q->name, 40, err, "its L1 table of %llu entries is to be at byte %llu, but the file has %llu bytes",
				    (unsigned long long)needed, (unsigned long long)q->l1, (unsigned long long)q->size);
	q->l1_entries = needed;
	q->layer.capacity = capacity;
	q->layer.grain = (uint32_t)q->cluster;
	return 0;
}

/* The format of the backing file, from the extensions that begin at `at`. */
static int read_extensions(struct qcow2 *q, uint64_t at, struct parent *parent, struct error **err)
{
	for (unsigned n = 0; n < EXTENSIONS_MAX && q->cluster - at >= 8; n++) {
		unsigned char head[8], name[32] = { 0 };
		uint32_t type, len;

		if (table_cache_read(q->cache, q->in, at, head, sizeof head, "header extension", err) < 0)
			return -1;
		type = get_be32(head);
		len = get_be32(head + 4);
		at += 8;
		if (!type)
			return 0;
		if (len > q->cluster - at)
			return image_broken(q->name, at - 8, err, "a header extension of %u bytes does not fit into the first cluster",
					    len);
		if (type == EXTENSION_BACKING_FORMAT) {
			if (len >= sizeof name)
				return image_broken(q->name, at - 8, err, "the format of the backing file has a name of %u bytes", len);
			if (table_cache_read(q->cache, q->in, at, name, len, "header extension", err) < 0)
				return -1;
			free(parent->format);
			parent->format = strdup((char *)name);
			if (!parent->format)
				return error_set_errno(err, ENOMEM, "cannot read %s", q->name);
		}
		at += (len + 7) & ~UINT64_C(7);
		if (at > q->cluster)
			return 0;
	}
	return 0;
}

static int read_backing(struct qcow2 *q, const unsigned char *h, uint32_t header_len, struct parent *parent, struct error **err)
{
	uint64_t at = get_be64(h + 8);
	uint32_t len = get_be32(h + 16);
	AUTO_FREE char *name = NULL;

	if (!at)
		return 0;
	if (len > BACKING_NAME_MAX || at > q->cluster || len > q->cluster - at)
		return image_broken(q->name, 8, err,
				    "the name of its backing file is to be %u bytes at byte %llu, outside the first cluster", len,
				    (unsigned long long)at);
	if (!len)
		return 0;
	name = calloc(1, len + 1);
	if (!name)
		return error_set_errno(err, ENOMEM, "cannot read %s", q->name);
	if (table_cache_read(q->cache, q->in, at, name, len, "name of the backing file", err) < 0 ||
	    read_extensions(q, header_len, parent, err) < 0)
		return -1;
	if (strlen(name) != len)
		return image_broken(q->name, at, err, "the name of its backing file has a zero byte in it");
	for (const char *p = name; *p; p++) /* it goes into messages, and these to terminals */
		if ((unsigned char)*p < ' ')
			return image_broken(q->name, at, err, "the name of its backing file has control characters in it");
	parent->name = move_ptr(name);
	return 0;
}

static int read_header(struct disk_image *image, struct qcow2 *q, struct parent *parent, struct error **err)
{
	unsigned char h[HEADER_V3 + 8] = { 0 };
	size_t len = q->size < sizeof h ? (size_t)q->size : sizeof h;
	uint32_t header_len = HEADER_V2, snapshots;

	if (len < HEADER_V2)
		return image_broken(q->name, q->size, err, "its header ends here");
	if (disk_input_read(q->in, 0, h, len, err) < 0)
		return -1;
	q->version = get_be32(h + 4);
	q->cluster_bits = get_be32(h + 20);
	q->cluster = UINT64_C(1) << (q->cluster_bits & 31);
	q->codec = PIECE_DEFLATE;
	if (q->version != 2 && q->version != 3)
		return error_set(err, ERROR_PERMANENT, "UnsupportedFormat", "%s is a qcow2 image of version %u; 2 and 3 can be read",
				 q->name, q->version);
	if (q->cluster_bits < 9 || q->cluster_bits > 21)
		return image_broken(q->name, 20, err, "clusters of 2^%u bytes are not supported (2^9 to 2^21)", q->cluster_bits);
	if (q->version == 3) {
		header_len = get_be32(h + 100);
		if (len < HEADER_V3 || header_len < HEADER_V3 || header_len > q->cluster || header_len % 8)
			return image_broken(q->name, 100, err, "a header of %u bytes is impossible", header_len);
		if (check_features(image, q, h, header_len, err) < 0)
			return -1;
	}
	if (get_be32(h + 32))
		return refuse(q, "Encrypted", err, "is encrypted; decrypt it with qemu-img convert first");
	snapshots = get_be32(h + 60);
	if (snapshots)
		image_add_problem(image, "%s has %u snapshots inside, which are left out", q->name, snapshots);
	if (!image->layer_count)
		snprintf(image->info.subformat, sizeof image->info.subformat, "v%u %s%s", q->version,
			 q->codec == PIECE_ZSTD ? "zstd" : "zlib", q->extended ? " extended_l2" : "");
	return check_tables(q, h, err) < 0 ? -1 : read_backing(q, h, header_len, parent, err);
}

struct layer *qcow2_layer_open(struct disk_image *image, struct disk_input *in, struct parent *parent, struct error **err)
{
	static const struct layer_ops ops = { .map = qcow2_map, .free = qcow2_free };
	struct qcow2 *q = calloc(1, sizeof *q);
	CLEANUP(layer_free_p) struct layer *layer = q ? &q->layer : NULL;

	if (!q) {
		error_set_errno(err, ENOMEM, "cannot read %s", disk_input_name(in));
		return NULL;
	}
	*q = (struct qcow2){ .layer = { .ops = &ops }, .cache = image->cache, .in = in, .size = disk_input_size(in) };
	q->name = image_add_file(image, disk_input_name(in), "qcow2", 0, q->size, err);
	if (!q->name || read_header(image, q, parent, err) < 0)
		return NULL;
	image->files[image->info.file_count - 1].capacity = q->layer.capacity;
	return move_ptr(layer);
}
