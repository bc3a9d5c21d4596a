/* The space-efficient sparse extents that ESXi writes for snapshots (VMFS 6, and disks above 2 TiB) and for linked clones.
 *
 * There is no public specification; the layout is the one that QEMU's driver for them has been reading since 4.1 (block/vmdk.c, structs
 * VMDKSESparseConstHeader and VMDKSESparseVolatileHeader, and its checks), here with 64-bit little-endian numbers, offsets and sizes in sectors:
 *
 *   constant header   0 magic 0xcafebabe   8 version 0x2'00000001   16 capacity   24 grain size: 8   32 table size: 64   40 flags: 0
 *                     80 volatile header   96 journal header   112 journal   128 directory (136 its size)   144 tables (152)   192 grains (200)
 *   volatile header   0 magic 0xcafecafe   24 not zero: the journal was not carried out
 *   directory entry   0: nothing there; else 0x1 in the top 4 bits, the table's number in the low 32
 *   table entry       by the top 4 bits: 0 nothing there (all of it is 0), 1 unmapped and 2 zero: zeros, 3 a grain, whose number has its low 12 bits
 *                     in bits 48 to 59 and the others in bits 0 to 47 */
#include <errno.h>
#include <stdlib.h>

#include "disk/bytes.h"
#include "disk/vmdk_layer.h"

#define HEADER 512u
#define MAGIC UINT64_C(0xcafebabe)
#define VERSION UINT64_C(0x200000001)
#define VOLATILE_MAGIC UINT64_C(0xcafecafe)
#define GRAIN_SECTORS 8u
#define GRAIN ((uint64_t)GRAIN_SECTORS * VMDK_SECTOR)
#define TABLE_SECTORS 64u
#define TABLE ((uint64_t)TABLE_SECTORS * VMDK_SECTOR)
#define ENTRIES (TABLE / 8)

struct sesparse {
	struct layer layer;
	struct table_cache *cache;
	struct disk_input *in;
	const char *name;
	uint64_t size;                      /* of the file */
	uint64_t directory, tables, grains; /* bytes */
	uint64_t needed;                    /* entries of the directory */
	uint64_t table_count, grain_count;
	struct layer_sum table_sum, grain_sum;
};

static int read_entry(struct sesparse *s, uint64_t at, const char *what, uint64_t *value, struct error **err)
{
	unsigned char bytes[8];

	if (table_cache_read(s->cache, s->in, at, bytes, sizeof bytes, what, err) < 0)
		return -1;
	*value = get_le64(bytes);
	return 0;
}

static int look(struct layer *layer, uint64_t at, struct run *run, struct error **err)
{
	struct sesparse *s = (struct sesparse *)layer;
	uint64_t g = at / GRAIN, t = g / ENTRIES, e = g % ENTRIES, within = at % GRAIN, table, entry, place, more;

	*run = (struct run){ .kind = RUN_HOLE, .len = (ENTRIES - e) * GRAIN - within, .input = s->in, .name = s->name };
	if (read_entry(s, s->directory + t * 8, "grain directory", &table, err) < 0)
		return -1;
	if (!table) {
		more = table_cache_zeros(s->cache, s->directory + t * 8, 8, s->needed - t);
		run->len += (more ? more - 1 : 0) * ENTRIES * GRAIN;
		return 0;
	}
	if (table >> 32 != UINT64_C(0x10000000) || (table & UINT32_MAX) >= s->table_count)
		return image_broken(s->name, s->directory + t * 8, err,
				    "the directory's entry %llu is 0x%llx, which names none of %llu tables", (unsigned long long)t,
				    (unsigned long long)table, (unsigned long long)s->table_count);
	if (!layer_sum_add(&s->table_sum, t, 1, 1, s->table_count))
		return image_broken(s->name, s->directory + t * 8, err, "the directory names the same grain tables again and again");
	place = s->tables + (table & UINT32_MAX) * TABLE + e * 8;
	if (read_entry(s, place, "grain table", &entry, err) < 0)
		return -1;
	run->len = GRAIN - within;
	switch (entry >> 60) {
	case 0:
		if (entry)
			break;
		more = table_cache_zeros(s->cache, place, 8, ENTRIES - e);
		run->len += (more ? more - 1 : 0) * GRAIN;
		return 0;
	case 1:
	case 2:
		run->kind = RUN_ZERO;
		return 0;
	case 3:
		entry = (entry >> 48 & 0xfff) | (entry & UINT64_C(0xffffffffffff)) << 12;
		if (entry >= s->grain_count)
			return image_broken(s->name, place, err, "grain %llu (byte %llu of the disk) is to be number %llu of %llu",
					    (unsigned long long)g, (unsigned long long)(g * GRAIN), (unsigned long long)entry,
					    (unsigned long long)s->grain_count);
		if (!layer_sum_add(&s->grain_sum, g, 1, 1, s->grain_count))
			return image_broken(s->name, place, err,
					    "grain %llu (byte %llu of the disk) is to be where another one is: the tables name more "
					    "than the file holds",
					    (unsigned long long)g, (unsigned long long)(g * GRAIN));
		run->kind = RUN_DATA;
		run->at = s->grains + entry * GRAIN + within;
		return 0;
	}
	return image_broken(s->name, place, err, "the table's entry 0x%llx is not known", (unsigned long long)entry);
}

static int sesparse_map(struct layer *layer, uint64_t at, uint64_t most, struct run *run, struct error **err)
{
	return layer_map_entries(layer, look, at, most, run, err);
}

static void sesparse_free(struct layer *layer)
{
	free(layer);
}

/* A part of the file by its place and size in sectors, at p: in bytes, within the file. */
static int part(struct sesparse *s, const unsigned char *header, unsigned p, const char *what, uint64_t *at, uint64_t *len,
		struct error **err)
{
	uint64_t sector = get_le64(header + p), sectors = get_le64(header + p + 8), all = s->size / VMDK_SECTOR;

	if (sector > all)
		return image_broken(s->name, p, err, "its %s is to be at sector %llu, but the file has %llu bytes", what,
				    (unsigned long long)sector, (unsigned long long)s->size);
	*at = sector * VMDK_SECTOR;
	/* Tables and grains are reserved for all of the disk; the file ends with what it has of them. */
	*len = (sectors < all - sector ? sectors : all - sector) * VMDK_SECTOR;
	return 0;
}

static int read_headers(struct sesparse *s, struct error **err)
{
	unsigned char h[HEADER], v[HEADER];
	uint64_t capacity, directory_len = 0, tables_len = 0, grains_len = 0, volatile_at = 0, volatile_len = 0;

	if (disk_input_read(s->in, 0, h, sizeof h, err) < 0)
		return -1;
	if (get_le64(h) != MAGIC || get_le64(h + 8) != VERSION)
		return image_broken(s->name, 0, err, "this is no header of an seSparse extent of version 2.1 (0x%llx)",
				    (unsigned long long)get_le64(h + 8));
	if (get_le64(h + 24) != GRAIN_SECTORS || get_le64(h + 32) != TABLE_SECTORS || get_le64(h + 40))
		return image_broken(s->name, 24, err, "grains of %llu sectors, tables of %llu and flags 0x%llx are not supported",
				    (unsigned long long)get_le64(h + 24), (unsigned long long)get_le64(h + 32),
				    (unsigned long long)get_le64(h + 40));
	if (__builtin_mul_overflow(get_le64(h + 16), (uint64_t)VMDK_SECTOR, &capacity) || capacity > INT64_MAX)
		return image_broken(s->name, 16, err, "its capacity of %llu sectors is impossible", (unsigned long long)get_le64(h + 16));
	if (part(s, h, 80, "volatile header", &volatile_at, &volatile_len, err) < 0 ||
	    part(s, h, 128, "grain directory", &s->directory, &directory_len, err) < 0 ||
	    part(s, h, 144, "grain tables", &s->tables, &tables_len, err) < 0 ||
	    part(s, h, 192, "grains", &s->grains, &grains_len, err) < 0)
		return -1;
	s->needed = capacity / (ENTRIES * GRAIN) + (capacity % (ENTRIES * GRAIN) != 0);
	if (directory_len / 8 < s->needed)
		return image_broken(s->name, 136, err, "its grain directory has %llu entries, %llu are needed",
				    (unsigned long long)(directory_len / 8), (unsigned long long)s->needed);
	if (disk_input_read(s->in, volatile_at, v, sizeof v, err) < 0)
		return -1;
	if (get_le64(v) != VOLATILE_MAGIC)
		return image_broken(s->name, volatile_at, err, "this is no volatile header of an seSparse extent");
	if (get_le64(v + 24))
		return error_set(
			err, ERROR_PERMANENT, "JournalNotReplayed",
			"%s was not closed by the host that wrote it: its journal holds changes that are missing in its tables; start and stop "
			"the machine once, or consolidate its snapshots",
			s->name);
	s->layer.capacity = capacity;
	s->layer.grain = GRAIN;
	s->table_count = tables_len / TABLE;
	s->grain_count = grains_len / GRAIN;
	return 0;
}

struct layer *vmdk_sesparse_layer_new(struct disk_image *image, struct disk_input *in, const char *name, struct error **err)
{
	static const struct layer_ops ops = { .map = sesparse_map, .free = sesparse_free };
	struct sesparse *s = calloc(1, sizeof *s);

	if (!s) {
		error_set_errno(err, ENOMEM, "cannot read %s", name);
		return NULL;
	}
	*s = (struct sesparse){ .layer = { .ops = &ops }, .cache = image->cache, .in = in, .name = name, .size = disk_input_size(in) };
	if (read_headers(s, err) == 0)
		return &s->layer;
	free(s);
	return NULL;
}
