/* Sparse extents whose tables have entries of 32 bits, each the sector of a grain.
 *
 * Hosted ("KDMV"). Source: VMware, "Virtual Disk Format 5.0" (2011), "Hosted Sparse Extents" and "Stream-Optimized Compressed Sparse
 * Extents": a directory of the sectors of tables, tables of the sectors of grains; 0 is what the parent has; 1 is zeros where the header's flag
 * says that such entries are used. There may be a second directory with tables of its own. A compressed grain has a marker in front: the sector of
 * the disk (8 bytes) and the size (4).
 *
 * ESX ("COWD"). Source: the same, version 1.1 (2007), "ESX Server Sparse Extents": 4,096 entries a table, grains of mostly one sector, no second
 * directory, no compression. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk/bytes.h"
#include "disk/vmdk_layer.h"

#define MAGIC 0x564d444bu /* "KDMV" */
#define HEADER 512u
#define FLAG_NEWLINES 1u
#define FLAG_REDUNDANT 2u
#define FLAG_ZERO_GRAINS 4u
#define FLAG_COMPRESSED (1u << 16)
#define FLAG_MARKERS (1u << 17)
#define DIRECTORY_AT_END UINT64_MAX
#define FOOTER_FROM_END 1024u
#define GRAIN_MAX (UINT64_C(1) << 21)  /* sectors */
#define PACKED_MAX (UINT64_C(2) << 20) /* bytes of a grain that is compressed */
#define MARKER 12u
#define COWD_ENTRIES 4096u

struct sparse {
	struct layer layer;
	struct disk_image *image; /* for its problems */
	struct table_cache *cache;
	struct disk_input *in;
	const char *name;
	uint64_t size;  /* of the file */
	uint64_t grain; /* bytes */
	uint32_t entries;
	uint64_t table_count;
	uint64_t directories[2]; /* bytes; the second one is redundant, 0: there is none */
	bool zero_grains, packed;
	bool told_redundant;
	struct layer_sum tables, grains;
};

static int read_entry(struct sparse *s, uint64_t at, const char *what, uint32_t *value, struct error **err)
{
	unsigned char bytes[4];

	if (table_cache_read(s->cache, s->in, at, bytes, sizeof bytes, what, err) < 0)
		return -1;
	*value = get_le32(bytes);
	return 0;
}

/* The sector of grain g by one of the directories: 0 none, and *span, how many grains that is true of; also what is wrong. */
static int find_by(struct sparse *s, uint64_t directory, uint64_t g, uint32_t *sector, uint64_t *span, struct error **err)
{
	uint64_t t = g / s->entries, e = g % s->entries, at = directory + t * 4, table, more;
	uint32_t value;

	if (read_entry(s, at, "grain directory", &value, err) < 0)
		return -1;
	*sector = 0;
	*span = s->entries - e;
	if (!value) {
		more = table_cache_zeros(s->cache, at, 4, s->table_count - t);
		*span += (more ? more - 1 : 0) * s->entries;
		return 0;
	}
	table = value * (uint64_t)VMDK_SECTOR;
	if (table + s->entries * UINT64_C(4) > s->size)
		return image_too_short(s->name, at, table, s->entries * UINT64_C(4), s->size, err, "grain table %llu",
				       (unsigned long long)t);
	if (!layer_sum_add(&s->tables, t, 1, s->entries * UINT64_C(4), s->size))
		return image_broken(s->name, at, err,
				    "its directory names more tables than the file can hold: the same ones again and again");
	*span = 1;
	if (read_entry(s, table + e * 4, "grain table", &value, err) < 0)
		return -1;
	if (value > 1 && value * (uint64_t)VMDK_SECTOR >= s->size)
		return image_too_short(s->name, table + e * 4, value * (uint64_t)VMDK_SECTOR, s->packed ? MARKER : s->grain, s->size, err,
				       "grain %llu (byte %llu of the disk)", (unsigned long long)g, (unsigned long long)(g * s->grain));
	if (!value && (more = table_cache_zeros(s->cache, table + e * 4, 4, s->entries - e)))
		*span = more;
	*sector = value;
	return 0;
}

static int find(struct sparse *s, uint64_t g, uint32_t *sector, uint64_t *span, struct error **err)
{
	AUTO_ERROR struct error *why = NULL;
	uint64_t broken = 1;

	if (find_by(s, s->directories[0], g, sector, &broken, &why) == 0) {
		*span = broken;
		return 0;
	}
	if (!s->directories[1] || why->class != ERROR_PERMANENT || find_by(s, s->directories[1], g, sector, span, NULL) < 0)
		return error_move(err, move_ptr(why));
	if (!s->told_redundant)
		image_add_problem(s->image, "%s; its second grain directory is used there", why->message);
	s->told_redundant = true;
	*span = *span < broken ? *span : broken; /* of what follows the first one is asked again */
	return 0;
}

/* A compressed grain: its marker tells how long it is. */
static int look_packed(struct sparse *s, uint64_t g, uint64_t place, struct run *run, struct error **err)
{
	unsigned char marker[MARKER];
	uint32_t stored;

	if (table_cache_read(s->cache, s->in, place, marker, sizeof marker, "grain", err) < 0)
		return -1;
	stored = get_le32(marker + 8);
	if (get_le64(marker) != g * (s->grain / VMDK_SECTOR))
		return image_broken(s->name, place, err, "a grain of sector %llu is where one of sector %llu is to be",
				    (unsigned long long)get_le64(marker), (unsigned long long)(g * (s->grain / VMDK_SECTOR)));
	if (!stored || stored > s->grain + s->grain / 4 + VMDK_SECTOR)
		return image_broken(s->name, place, err, "a grain of %u compressed bytes, of which %llu are to come", stored,
				    (unsigned long long)s->grain);
	if (stored > s->size - place - MARKER)
		return image_too_short(s->name, place, place + MARKER, stored, s->size, err, "a grain of %u compressed bytes", stored);
	run->kind = RUN_PACKED;
	run->codec = PIECE_ZLIB;
	run->at = place + MARKER;
	run->stored = stored;
	run->whole_at = g * s->grain;
	run->whole_len = (uint32_t)s->grain;
	return 0;
}

static int sparse_look(struct layer *layer, uint64_t at, struct run *run, struct error **err)
{
	struct sparse *s = (struct sparse *)layer;
	uint64_t g = at / s->grain, within = at % s->grain, left = s->layer.capacity - g * s->grain, place, span, need;
	uint32_t sector;

	if (find(s, g, &sector, &span, err) < 0)
		return -1;
	*run = (struct run){ .kind = RUN_HOLE, .input = s->in, .name = s->name };
	if (__builtin_mul_overflow(span, s->grain, &run->len))
		run->len = UINT64_MAX;
	run->len -= within;
	if (!sector)
		return 0;
	place = sector * (uint64_t)VMDK_SECTOR;
	if (sector == 1) {
		if (!s->zero_grains)
			return image_broken(s->name, VMDK_SECTOR, err,
					    "grain %llu (byte %llu of the disk) is to be here, where no grain can be",
					    (unsigned long long)g, (unsigned long long)(g * s->grain));
		run->kind = RUN_ZERO;
		return 0;
	}
	need = left < s->grain ? left : s->grain;
	if (s->packed) {
		if (look_packed(s, g, place, run, err) < 0)
			return -1;
		need = run->stored;
	} else {
		if (need > s->size - place)
			return image_too_short(s->name, place, place, need, s->size, err, "grain %llu (byte %llu of the disk)",
					       (unsigned long long)g, (unsigned long long)(g * s->grain));
		run->kind = RUN_DATA;
		run->at = place + within;
	}
	if (!layer_sum_add(&s->grains, g, 1, need, s->size))
		return image_broken(s->name, place, err,
				    "grain %llu (byte %llu of the disk) is to be here, where another one is: the tables name more "
				    "than the file holds",
				    (unsigned long long)g, (unsigned long long)(g * s->grain));
	return 0;
}

static int sparse_map(struct layer *layer, uint64_t at, uint64_t most, struct run *run, struct error **err)
{
	return layer_map_entries(layer, sparse_look, at, most, run, err);
}

static void sparse_free(struct layer *layer)
{
	free(layer);
}

/* The common checks of capacity, grain and directory, which are in sectors; capacity 0 is an empty disk. */
static int set_geometry(struct sparse *s, uint64_t capacity, uint64_t grain, uint64_t directory, uint64_t redundant, struct error **err)
{
	uint64_t bytes, covered, tables;

	if (__builtin_mul_overflow(capacity, (uint64_t)VMDK_SECTOR, &bytes) || bytes > INT64_MAX)
		return image_broken(s->name, 12, err, "its capacity of %llu sectors is impossible", (unsigned long long)capacity);
	if (!grain || grain > GRAIN_MAX || (grain & (grain - 1)) || (s->packed && grain * VMDK_SECTOR > PACKED_MAX))
		return image_broken(s->name, 20, err, "a grain of %llu sectors is not supported (1 to %llu, a power of two)",
				    (unsigned long long)grain, (unsigned long long)(s->packed ? PACKED_MAX / VMDK_SECTOR : GRAIN_MAX));
	if (!s->entries || s->entries > 65536)
		return image_broken(s->name, 44, err, "a grain table of %u entries is not supported", s->entries);
	s->layer.capacity = bytes;
	s->grain = grain * VMDK_SECTOR;
	s->layer.grain = s->grain <= UINT32_MAX ? (uint32_t)s->grain : 0;
	covered = grain * s->entries; /* at most 2^21 * 2^16 */
	tables = capacity / covered + (capacity % covered != 0);
	s->table_count = tables;
	for (int i = 0; i < 2; i++) {
		uint64_t sector = i ? redundant : directory;

		if (i && !sector)
			break;
		if (sector <= s->size / VMDK_SECTOR && tables <= (s->size - sector * VMDK_SECTOR) / 4) {
			s->directories[i] = sector * VMDK_SECTOR;
			continue;
		}
		if (i) /* only the first one matters */
			break;
		if (!redundant)
			return image_broken(s->name, 56, err,
					    "a grain directory of %llu entries is to be at sector %llu, but the file has %llu bytes",
					    (unsigned long long)tables, (unsigned long long)sector, (unsigned long long)s->size);
		image_add_problem(s->image, "%s has no grain directory at sector %llu, where it is to be; its second one is used", s->name,
				  (unsigned long long)sector);
		directory = redundant;
		redundant = 0;
		i = -1;
	}
	return 0;
}

static struct sparse *new_sparse(struct disk_image *image, struct disk_input *in, const char *name, struct error **err)
{
	static const struct layer_ops ops = { .map = sparse_map, .free = sparse_free };
	struct sparse *s = calloc(1, sizeof *s);

	if (!s) {
		error_set_errno(err, ENOMEM, "cannot read %s", name);
		return NULL;
	}
	s->layer.ops = &ops;
	s->image = image;
	s->cache = image->cache;
	s->in = in;
	s->name = name;
	s->size = disk_input_size(in);
	return s;
}

static int read_header(struct disk_input *in, uint64_t at, unsigned char h[HEADER], struct error **err)
{
	if (disk_input_read(in, at, h, HEADER, err) < 0)
		return -1;
	return get_le32(h) == MAGIC ? 0 : image_broken(disk_input_name(in), at, err, "this is no header of a sparse extent");
}

static int check_header(struct sparse *s, unsigned char h[HEADER], struct vmdk_embedded *embedded, struct error **err)
{
	uint32_t version = get_le32(h + 4), flags = get_le32(h + 8);
	uint64_t descriptor = get_le64(h + 28), descriptor_len = get_le64(h + 36), capacity = get_le64(h + 12);
	uint64_t sectors = s->size / VMDK_SECTOR;

	if (version < 1 || version > 3)
		return image_broken(s->name, 4, err, "version %u is not known", version);
	if ((flags & FLAG_NEWLINES) && memcmp(h + 73, "\n \r\n", 4))
		return image_broken(s->name, 73, err, "its line ends were changed on the way, as by a transfer in text mode");
	if ((flags & FLAG_COMPRESSED) && (!(flags & FLAG_MARKERS) || h[77] != 1 || h[78]))
		return image_broken(s->name, 77, err, "compression method %u%s is not known", (unsigned)(h[77] | h[78] << 8),
				    flags & FLAG_MARKERS ? "" : " without markers");
	if (descriptor && (descriptor > sectors || descriptor_len > sectors - descriptor))
		return image_broken(s->name, 28, err, "its descriptor is to be %llu sectors at sector %llu, but the file has %llu bytes",
				    (unsigned long long)descriptor_len, (unsigned long long)descriptor, (unsigned long long)s->size);
	if (h[72])
		image_add_problem(s->image, "%s was not closed by the program that wrote it last: what that had not written yet is missing",
				  s->name);
	if (embedded)
		*embedded = (struct vmdk_embedded){ .at = descriptor * VMDK_SECTOR, .len = descriptor ? descriptor_len * VMDK_SECTOR : 0 };
	if (get_le64(h + 56) == DIRECTORY_AT_END) {
		if (s->size < HEADER + FOOTER_FROM_END ||
		    read_header(s->in, s->size / VMDK_SECTOR * VMDK_SECTOR - FOOTER_FROM_END, h, err) < 0)
			return s->size < HEADER + FOOTER_FROM_END ? image_broken(s->name, s->size, err, "its footer is missing")
								  : error_wrap(err, "reading the footer");
		if (get_le64(h + 12) != capacity || get_le64(h + 56) == DIRECTORY_AT_END)
			return image_broken(s->name, s->size - FOOTER_FROM_END, err, "the footer contradicts the header");
		flags = get_le32(h + 8);
	}
	s->zero_grains = flags & FLAG_ZERO_GRAINS;
	s->packed = flags & FLAG_COMPRESSED;
	s->entries = get_le32(h + 44);
	return set_geometry(s, capacity, get_le64(h + 20), get_le64(h + 56), flags & FLAG_REDUNDANT ? get_le64(h + 48) : 0, err);
}

struct layer *vmdk_hosted_layer_new(struct disk_image *image, struct disk_input *in, const char *name, struct vmdk_embedded *embedded,
				    struct error **err)
{
	struct sparse *s = new_sparse(image, in, name, err);
	unsigned char header[HEADER];

	if (s && read_header(in, 0, header, err) == 0 && check_header(s, header, embedded, err) == 0)
		return &s->layer;
	free(s);
	return NULL;
}

struct layer *vmdk_cowd_layer_new(struct disk_image *image, struct disk_input *in, const char *name, struct error **err)
{
	struct sparse *s = new_sparse(image, in, name, err);
	unsigned char h[HEADER];

	if (!s || disk_input_read(in, 0, h, sizeof h, err) < 0)
		goto fail;
	if (memcmp(h, "COWD", 4) || get_le32(h + 4) != 1) {
		image_broken(name, 0, err, "this is no header of an ESX sparse extent of version 1");
		goto fail;
	}
	s->entries = COWD_ENTRIES;
	if (set_geometry(s, get_le32(h + 12), get_le32(h + 16), get_le32(h + 20), 0, err) < 0)
		goto fail;
	if (get_le32(h + 24) < s->table_count) {
		image_broken(name, 24, err, "its grain directory has %u entries, %llu are needed", get_le32(h + 24),
			     (unsigned long long)s->table_count);
		goto fail;
	}
	return &s->layer;
fail:
	free(s);
	return NULL;
}
