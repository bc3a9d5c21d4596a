/* streamOptimized VMDK as a stream.
 *
 * Source of the format: VMware, "Virtual Disk Format 5.0" (2011), sections "Hosted Sparse Extents" and "Stream-Optimized Compressed
 * Sparse Extents". The stream is a header, an embedded descriptor, and then sector-aligned markers: compressed grains (a 64-bit sector
 * number, a 32-bit size, a zlib stream), and metadata (grain tables, grain directory, footer, end of stream). Writers differ: ESXi puts
 * each grain table behind its grains and ends with a footer; qemu-img puts all tables in front, where they are true from the beginning,
 * and ends without a marker. In both forms the tables tell how many grains there must be, which is how a cut stream is known, and where in
 * its table each belongs: a grain whose marker names another place, by a flipped bit, would be sound otherwise.
 * A marker of the kind 4 is not in the document: VMware's writers put it between grains to show that they are alive; nothing follows it. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "disk/bytes.h"
#include "disk/decoder.h"
#include "disk/digest.h"

#define SECTOR 512u
#define MAGIC 0x564d444bu /* "KDMV" */
#define GD_AT_END UINT64_MAX
#define FLAG_NEWLINES 1u
#define FLAG_COMPRESSED (1u << 16)
#define FLAG_MARKERS (1u << 17)
#define DESCRIPTOR_MAX (1u << 20)
#define LINE_MAX_KEPT 96 /* bytes of a descriptor's line that are looked at */
#define MARKER_HEAD 12u
#define TEXT_SHOWN 80   /* bytes of a text that came instead */
#define RUNS_MAX 16384u /* of tables in front that lie side by side: writers leave gaps at most where they round up */

enum marker { MARKER_END, MARKER_TABLE, MARKER_DIRECTORY, MARKER_FOOTER, MARKER_PROGRESS };

enum state {
	IN_HEADER,
	IN_FRONT,  /* descriptor and tables before the first marker */
	IN_MARKER, /* the first 512 bytes of a marker, of which a grain's data is a part */
	IN_GRAIN,
	IN_METADATA,
	AT_END, /* after the end-of-stream marker */
};

/* Tables in front that lie side by side. */
struct table_run {
	uint32_t sector, count;
};

struct vmdk {
	struct decoder decoder;
	struct piece_sink sink;
	enum state state;
	uint64_t at; /* offset in the stream of the next byte to come */

	unsigned char head[SECTOR];
	size_t head_len;

	uint64_t capacity; /* sectors */
	uint64_t grain;    /* sectors */
	uint32_t table_entries;
	uint64_t front_end; /* bytes: where the markers begin */

	uint64_t descriptor_at, descriptor_end; /* bytes */
	char line[LINE_MAX_KEPT];
	size_t line_len;

	/* Tables in front, read as they pass. Of the directory only the runs are kept, so that it may be of any length. */
	bool in_front;                        /* else they come behind their grains, and the directory at the end */
	uint64_t directory_at, directory_len; /* bytes; none, when the disk has no grains */
	uint64_t tables;                      /* that the directory has named */
	bool skips;                           /* but not from its first entry on: so which table is which is not known */
	struct table_run *runs;
	uint32_t run_count, run_room;
	uint32_t run, run_table; /* the table that passes */
	unsigned char entry[4];

	/* Grains, sums of their places in their tables, and of these tables' numbers (where those are known). */
	struct tally {
		uint64_t grains, places, tables;
	} expected, came; /* that the tables name; that came */
	uint64_t tables_passed;
	bool tables_seen, footer_seen;

	/* The grain that comes. */
	uint64_t grain_sector, grain_at;
	size_t grain_len, grain_padded;
	unsigned char *data;
	size_t data_len, data_cap;

	/* The metadata that passes. */
	enum marker kind;
	uint64_t metadata_left;
};

/* The error of the header, marker or table that is being read. */
static int broken(const struct vmdk *v, struct error **err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int broken(const struct vmdk *v, struct error **err, const char *fmt, ...)
{
	char *what = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&what, fmt, ap) < 0)
		what = NULL;
	va_end(ap);
	error_set(err, ERROR_PERMANENT, "InvalidVMDK", "the VMDK stream is broken at byte %llu: %s",
		  (unsigned long long)(v->at - v->head_len), what ? what : "");
	free(what);
	return -1;
}

/* With at least one byte in head: what came instead. */
static int not_a_vmdk(const struct vmdk *v, struct error **err)
{
	size_t shown = v->head_len < TEXT_SHOWN ? v->head_len : TEXT_SHOWN;
	char text[TEXT_SHOWN + 1];
	bool is_text = true;

	for (size_t i = 0; i < shown; i++) {
		unsigned char c = v->head[i];

		is_text = is_text && (isprint(c) || isspace(c) || c >= 0x80);
		text[i] = isprint(c) ? (char)c : ' ';
	}
	text[shown] = 0;
	if (v->head_len >= 11 && !memcmp(v->head, "# Disk Desc", 11))
		return error_set(err, ERROR_PERMANENT, "NotAStream", "this is the text descriptor of a VMDK, not a streamOptimized one");
	if (is_text) /* passing: what servers say while they are busy or start */
		return error_set(err, ERROR_TRANSIENT, "NotAVMDK", "a text came instead of a VMDK: \"%s\"", text);
	return error_set(err, ERROR_PERMANENT, "NotAVMDK", "the stream is no VMDK: it begins with the bytes %02x %02x %02x %02x",
			 v->head[0], v->head[1], v->head[2], v->head[3]);
}

static int check_header(struct vmdk *v, struct error **err)
{
	const unsigned char *h = v->head;
	uint32_t version = get_le32(h + 4), flags = get_le32(h + 8);
	uint64_t descriptor = get_le64(h + 28), descriptor_len = get_le64(h + 36), directory = get_le64(h + 56),
		 overhead = get_le64(h + 64);
	uint64_t bytes, tables, covered;

	if (get_le32(h) != MAGIC)
		return not_a_vmdk(v, err);
	if (version < 1 || version > 3)
		return broken(v, err, "version %u is not known", version);
	if (!(flags & FLAG_COMPRESSED) || !(flags & FLAG_MARKERS))
		return error_set(err, ERROR_PERMANENT, "NotAStream", "the VMDK is not streamOptimized (flags 0x%x)", flags);
	if (((flags & FLAG_NEWLINES) && memcmp(h + 73, "\n \r\n", 4)))
		return broken(v, err, "its line ends were changed on the way, as by a transfer in text mode");
	if ((h[77] | h[78] << 8) != 1)
		return broken(v, err, "compression method %u is not known", (unsigned)(h[77] | h[78] << 8));
	v->capacity = get_le64(h + 12);
	v->grain = get_le64(h + 20);
	v->table_entries = get_le32(h + 44);
	if (__builtin_mul_overflow(v->capacity, (uint64_t)SECTOR, &bytes) || bytes > INT64_MAX)
		return broken(v, err, "its capacity of %llu sectors is impossible", (unsigned long long)v->capacity);
	if (v->grain < 8 || v->grain > DISK_DIGEST_BLOCK / SECTOR || (v->grain & (v->grain - 1)))
		return broken(v, err, "a grain of %llu sectors is not supported (8 to 2048, a power of two)", (unsigned long long)v->grain);
	if (!v->table_entries || v->table_entries > 65536)
		return broken(v, err, "a grain table of %u entries is not supported", v->table_entries);
	if (overhead < 1 || overhead > (UINT64_C(1) << 40) || descriptor > overhead || descriptor_len > DESCRIPTOR_MAX / SECTOR ||
	    descriptor_len > overhead - descriptor)
		return broken(v, err, "the descriptor does not lie in the header's %llu sectors", (unsigned long long)overhead);
	v->front_end = overhead * SECTOR;
	v->descriptor_at = descriptor * SECTOR;
	v->descriptor_end = v->descriptor_at + descriptor_len * SECTOR;
	if (directory != GD_AT_END && directory != 0) {
		covered = v->grain * v->table_entries; /* at most 2^11 * 2^16 */
		tables = v->capacity / covered + (v->capacity % covered != 0);
		if (directory > overhead || tables > (v->front_end - directory * SECTOR) / 4)
			return broken(v, err, "the grain directory does not lie in the header's %llu sectors",
				      (unsigned long long)overhead);
		v->in_front = true;
		v->directory_at = directory * SECTOR;
		v->directory_len = tables * 4;
	}
	return v->sink.capacity(v->sink.arg, bytes, (uint32_t)(v->grain * SECTOR), err);
}

static int check_line(struct vmdk *v, struct error **err)
{
	const char *line = v->line, *value;

	v->line[v->line_len] = 0;
	v->line_len = 0;
	while (isspace((unsigned char)*line))
		line++;
	if (strncasecmp(line, "createType", 10) || !(value = strchr(line, '"')) || !strncasecmp(value, "\"streamOptimized\"", 17))
		return 0;
	return error_set(err, ERROR_PERMANENT, "NotAStream", "the VMDK is not streamOptimized: its descriptor says %s", line);
}

/* Looks at the descriptor's lines as they pass; only the type decides anything. */
static int read_descriptor(struct vmdk *v, const unsigned char *data, size_t len, struct error **err)
{
	uint64_t from = v->at < v->descriptor_at ? v->descriptor_at : v->at;
	uint64_t to = v->at + len < v->descriptor_end ? v->at + len : v->descriptor_end;

	for (uint64_t at = from; at < to; at++) {
		unsigned char c = data[at - v->at];

		if (c == '\n' || c == '\r' || !c) {
			if (v->line_len && check_line(v, err) < 0)
				return -1;
		} else if (v->line_len < sizeof v->line - 1) {
			v->line[v->line_len++] = (char)(isprint(c) ? c : '?');
		}
	}
	return 0;
}

static uint64_t table_sectors(const struct vmdk *v)
{
	return ((uint64_t)v->table_entries * 4 + SECTOR - 1) / SECTOR;
}

/* An entry of the directory in front, which ends at byte `at` of the stream. Tables lie behind the directory, in ascending order, in all
 * files that are written in one go. */
static int add_table(struct vmdk *v, uint64_t at, uint32_t sector, struct error **err)
{
	struct table_run *last = v->run_count ? &v->runs[v->run_count - 1] : NULL;
	uint64_t table_at = sector * (uint64_t)SECTOR,
		 least = last ? (last->sector + last->count * table_sectors(v)) * SECTOR : v->directory_at + v->directory_len;

	if (!sector)
		return 0;
	v->skips = v->skips || (at - v->directory_at) / 4 - 1 != v->tables++;
	if (table_at < least || table_at + (uint64_t)v->table_entries * 4 > v->front_end) {
		v->at = at;
		return broken(v, err, "grain table %llu is at sector %u, where it cannot be",
			      (unsigned long long)((at - v->directory_at) / 4 - 1), sector);
	}
	if (last && table_at == least) {
		last->count++;
		return 0;
	}
	if (v->run_count == RUNS_MAX) {
		v->at = at;
		return broken(v, err, "the grain tables in front lie in more than %u places", RUNS_MAX);
	}
	if (!v->runs || v->run_count == v->run_room) {
		uint32_t room = v->run_room ? 2 * v->run_room : 16;
		struct table_run *runs = reallocarray(v->runs, room, sizeof *runs);

		if (!runs)
			return error_set(err, ERROR_TRANSIENT, "OutOfMemory", "no memory for %u places of grain tables", room);
		v->runs = runs;
		v->run_room = room;
	}
	v->runs[v->run_count++] = (struct table_run){ sector, 1 };
	return 0;
}

/* Takes the byte at `at` of what consists of entries from `start` on; true when it was an entry's last. */
static bool take_entry(struct vmdk *v, uint64_t at, uint64_t start, unsigned char byte)
{
	v->entry[(at - start) % 4] = byte;
	return (at - start) % 4 == 3;
}

/* Counts the grain that a table's entry names, which is there now. */
static void expect(struct vmdk *v, uint64_t place)
{
	if (get_le32(v->entry) <= 1)
		return;
	v->expected.grains++;
	v->expected.places += place;
	v->expected.tables += v->tables_passed;
}

/* Counts the grains that the front's tables name. */
static int read_tables(struct vmdk *v, const unsigned char *data, size_t len, struct error **err)
{
	uint64_t end = v->directory_at + v->directory_len, table_len = (uint64_t)v->table_entries * 4, skip;

	for (size_t i = 0; v->in_front && i < len;) {
		uint64_t at = v->at + i, table_at;

		if (at >= v->directory_at && at < end) {
			if (take_entry(v, at, v->directory_at, data[i++]) && add_table(v, at + 1, get_le32(v->entry), err) < 0)
				return -1;
			continue;
		}
		if (at >= end && v->run == v->run_count)
			return 0;
		table_at = at < end ? v->directory_at : (v->runs[v->run].sector + v->run_table * table_sectors(v)) * (uint64_t)SECTOR;
		if (at < table_at) {
			skip = table_at - at;
			i += skip < len - i ? (size_t)skip : len - i;
			continue;
		}
		if (take_entry(v, at, table_at, data[i++]))
			expect(v, (at - table_at) / 4);
		if (at < table_at + table_len - 1)
			continue;
		v->tables_passed++;
		if (++v->run_table == v->runs[v->run].count) {
			v->run++;
			v->run_table = 0;
		}
	}
	return 0;
}

static void front_done(struct vmdk *v)
{
	v->tables_seen = v->in_front;
	free(v->runs);
	v->runs = NULL;
}

static int begin_grain(struct vmdk *v, uint64_t sector, uint32_t size, struct error **err)
{
	size_t bytes = (size_t)v->grain * SECTOR, limit = bytes + bytes / 4 + SECTOR;
	size_t padded = (MARKER_HEAD + (size_t)size + SECTOR - 1) / SECTOR * SECTOR;

	if (sector >= v->capacity)
		return broken(v, err, "a grain for sector %llu, beyond the disk's %llu", (unsigned long long)sector,
			      (unsigned long long)v->capacity);
	if (sector % v->grain)
		return broken(v, err, "a grain for sector %llu, which is not where a grain begins", (unsigned long long)sector);
	if (size > limit)
		return broken(v, err, "a grain of %u compressed bytes, more than its %zu can need", size, bytes);
	if (v->data_cap < padded) {
		unsigned char *data = realloc(v->data, padded);

		if (!data)
			return error_set(err, ERROR_TRANSIENT, "OutOfMemory", "no memory for a grain");
		v->data = data;
		v->data_cap = padded;
	}
	v->grain_sector = sector;
	v->grain_len = size;
	v->grain_padded = padded;
	v->grain_at = v->at - v->head_len;
	v->data_len = 0;
	v->state = IN_GRAIN;
	return 0;
}

/* With the grain's marker and data whole at `bytes`. */
static int emit_grain(struct vmdk *v, const unsigned char *bytes, struct error **err)
{
	uint64_t left = v->capacity - v->grain_sector, sectors = left < v->grain ? left : v->grain, grain = v->grain_sector / v->grain;

	v->came.grains++;
	v->came.places += grain % v->table_entries;
	v->came.tables += grain / v->table_entries;
	v->state = IN_MARKER;
	v->head_len = 0;
	return v->sink.piece(v->sink.arg, v->grain_sector * SECTOR, (size_t)sectors * SECTOR, bytes + MARKER_HEAD, v->grain_len, PIECE_ZLIB,
			     v->grain_at, err);
}

static int begin_metadata(struct vmdk *v, struct error **err)
{
	uint64_t sectors = get_le64(v->head);
	uint32_t kind = get_le32(v->head + MARKER_HEAD);

	if (kind == MARKER_END && !sectors) {
		v->head_len = 0;
		v->state = AT_END;
		return 0;
	}
	if (kind == MARKER_PROGRESS) {
		v->head_len = 0;
		v->state = IN_MARKER;
		return 0;
	}
	if (kind < MARKER_TABLE || kind > MARKER_FOOTER)
		return broken(v, err, "a marker of the unknown kind %u", kind);
	if (sectors > (UINT64_C(1) << 24) || (kind == MARKER_FOOTER && sectors != 1) ||
	    (kind == MARKER_TABLE && sectors != table_sectors(v)))
		return broken(v, err, "a marker of kind %u over %llu sectors", kind, (unsigned long long)sectors);
	v->head_len = 0;
	v->kind = (enum marker)kind;
	v->metadata_left = sectors * SECTOR;
	v->state = sectors ? IN_METADATA : IN_MARKER;
	return 0;
}

static int read_metadata(struct vmdk *v, const unsigned char *data, size_t len, struct error **err)
{
	uint64_t done = (v->kind == MARKER_TABLE ? table_sectors(v) : 1) * SECTOR - v->metadata_left;

	if (v->kind == MARKER_TABLE) {
		v->tables_seen = true;
		for (size_t i = 0; i < len && done + i < (uint64_t)v->table_entries * 4; i++) {
			v->entry[(done + i) % 4] = data[i];
			if ((done + i) % 4 == 3)
				expect(v, (done + i) / 4);
		}
	} else if (v->kind == MARKER_FOOTER) {
		memcpy(v->head + done, data, len);
		if (done + len == SECTOR && (get_le32(v->head) != MAGIC || get_le64(v->head + 12) != v->capacity))
			return broken(v, err, "the footer contradicts the header");
		v->footer_seen = true;
	}
	v->metadata_left -= len;
	if (!v->metadata_left) {
		v->state = IN_MARKER;
		v->head_len = 0;
	}
	return 0;
}

/* Takes bytes into head until it holds want; true when it does. */
static bool gather(struct vmdk *v, size_t want, const unsigned char **data, size_t *len)
{
	size_t n = want - v->head_len < *len ? want - v->head_len : *len;

	memcpy(v->head + v->head_len, *data, n);
	v->head_len += n;
	v->at += n;
	*data += n;
	*len -= n;
	return v->head_len == want;
}

static int step_marker(struct vmdk *v, const unsigned char **data, size_t *len, struct error **err)
{
	/* The usual case: marker and grain lie whole in what came, and need no copy. */
	if (!v->head_len && *len >= SECTOR && get_le32(*data + 8)) {
		const unsigned char *from = *data;

		if (begin_grain(v, get_le64(from), get_le32(from + 8), err) < 0)
			return -1;
		if (v->grain_padded > *len)
			return 0;
		v->at += v->grain_padded;
		*data += v->grain_padded;
		*len -= v->grain_padded;
		return emit_grain(v, from, err);
	}
	if (v->head_len < MARKER_HEAD && !gather(v, MARKER_HEAD, data, len))
		return 0;
	if (get_le32(v->head + 8)) {
		if (begin_grain(v, get_le64(v->head), get_le32(v->head + 8), err) < 0)
			return -1;
		memcpy(v->data, v->head, v->head_len);
		v->data_len = v->head_len;
		return 0;
	}
	return gather(v, SECTOR, data, len) ? begin_metadata(v, err) : 0;
}

static int step(struct vmdk *v, const unsigned char **data, size_t *len, struct error **err)
{
	size_t n;

	switch (v->state) {
	case IN_HEADER:
		if (gather(v, SECTOR, data, len)) {
			if (check_header(v, err) < 0)
				return -1;
			v->head_len = 0;
			v->state = IN_FRONT;
			if (v->at == v->front_end) {
				v->state = IN_MARKER;
				front_done(v);
			}
		}
		return 0;
	case IN_FRONT:
		n = v->front_end - v->at < *len ? (size_t)(v->front_end - v->at) : *len;
		if (read_descriptor(v, *data, n, err) < 0 || read_tables(v, *data, n, err) < 0)
			return -1;
		v->at += n;
		*data += n;
		*len -= n;
		if (v->at < v->front_end)
			return 0;
		v->state = IN_MARKER;
		front_done(v);
		return 0;
	case IN_MARKER:
		return step_marker(v, data, len, err);
	case IN_GRAIN:
		n = v->grain_padded - v->data_len < *len ? v->grain_padded - v->data_len : *len;
		memcpy(v->data + v->data_len, *data, n);
		v->data_len += n;
		v->at += n;
		*data += n;
		*len -= n;
		return v->data_len == v->grain_padded ? emit_grain(v, v->data, err) : 0;
	case IN_METADATA:
		n = v->metadata_left < *len ? (size_t)v->metadata_left : *len;
		v->at += n;
		if (read_metadata(v, *data, n, err) < 0)
			return -1;
		*data += n;
		*len -= n;
		return 0;
	case AT_END: /* what follows is of no meaning */
		v->at += *len;
		*len = 0;
		return 0;
	}
	return 0;
}

static int vmdk_push(struct decoder *decoder, const unsigned char *data, size_t len, struct error **err)
{
	struct vmdk *v = (struct vmdk *)decoder;

	while (len)
		if (step(v, &data, &len, err) < 0)
			return -1;
	return 0;
}

static int vmdk_finish(struct decoder *decoder, struct error **err)
{
	struct vmdk *v = (struct vmdk *)decoder;
	/* Without an end-of-stream marker only tables in front can vouch for the whole. A last grain may lack its padding. */
	bool ended = v->state == AT_END || (v->state == IN_MARKER && !v->head_len && v->tables_seen && v->in_front);

	if (v->state == IN_GRAIN && v->in_front && v->data_len >= MARKER_HEAD + v->grain_len) {
		if (emit_grain(v, v->data, err) < 0)
			return -1;
		ended = true;
	}
	/* Zeros in place of what is missing look like the end marker: where there is to be a footer, it must have come. */
	if (!v->in_front && !v->footer_seen)
		ended = false;
	if (v->state == IN_HEADER && v->head_len && memcmp(v->head, "KDMV", v->head_len < 4 ? v->head_len : 4))
		return not_a_vmdk(v, err);
	if (!ended)
		return error_set(err, ERROR_TRANSIENT, "StreamTruncated", "the VMDK stream ended at byte %llu, before its end",
				 (unsigned long long)v->at);
	if (v->came.grains > v->expected.grains)
		return broken(v, err, "%llu grains came, but its grain tables name %llu", (unsigned long long)v->came.grains,
			      (unsigned long long)v->expected.grains);
	if (v->came.grains < v->expected.grains)
		return error_set(err, ERROR_TRANSIENT, "StreamTruncated",
				 "the VMDK stream ended at byte %llu with %llu grains, but its grain tables name %llu",
				 (unsigned long long)v->at, (unsigned long long)v->came.grains, (unsigned long long)v->expected.grains);
	if (v->came.places != v->expected.places || (v->in_front && !v->skips && v->came.tables != v->expected.tables))
		return error_set(
			err, ERROR_TRANSIENT, "CorruptGrain",
			"a grain of the VMDK stream is marked as of another place of the disk than the grain tables tell: it was damaged on the way");
	return 0;
}

static void vmdk_free(struct decoder *decoder)
{
	struct vmdk *v = (struct vmdk *)decoder;

	if (!v)
		return;
	free(v->runs);
	free(v->data);
	free(v);
}

struct decoder *vmdk_stream_decoder_new(const struct piece_sink *sink)
{
	static const struct decoder_ops ops = { vmdk_push, vmdk_finish, vmdk_free };
	struct vmdk *v = calloc(1, sizeof *v);

	if (!v)
		return NULL;
	v->decoder.ops = &ops;
	v->sink = *sink;
	return &v->decoder;
}
