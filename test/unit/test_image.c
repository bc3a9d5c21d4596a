// links: disk base PkgConfig::deflate
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <libdeflate.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disk/vmdk_descriptor.h"
#include "image_files.h"

/* --- hosted sparse: header, directory at sector 2, one table of 128 entries at sector 3, grains of 8 sectors from sector 8 on --- */

#define GRAIN 4096u

static void hosted_header(unsigned char *h, uint64_t sectors, unsigned directory_sector)
{
	memcpy(h, "KDMV", 4);
	put_le(h + 4, 1, 4);
	put_le(h + 8, 1, 4);
	put_le(h + 12, sectors, 8);
	put_le(h + 20, 8, 8);
	put_le(h + 44, 128, 4);
	put_le(h + 56, directory_sector, 8);
	put_le(h + 64, 8, 8);
	memcpy(h + 73, "\n \r\n", 4);
}

static unsigned char *hosted(const char *name, uint64_t sectors, unsigned grains)
{
	unsigned char *h = add_file(name, GRAIN * (1 + grains));

	hosted_header(h, sectors, 2);
	put_le(h + 1024, 3, 4);
	for (unsigned i = 0; i < grains; i++) {
		put_le(h + 1536 + 4 * (size_t)i, 8 + 8 * i, 4);
		memset(h + GRAIN * (1 + i), (int)i + 1, GRAIN);
	}
	return h;
}

/* A second directory at sector 5, with its table at sector 6. */
static void add_redundant(unsigned char *h)
{
	put_le(h + 8, 3, 4);
	put_le(h + 48, 5, 8);
	put_le(h + 2560, 6, 4);
	memcpy(h + 3072, h + 1536, 512);
}

static void test_hosted(void **state)
{
	AUTO_ERROR struct error *err = NULL;
	uint64_t size;

	(void)state;
	hosted("x", 20, 3);
	unsigned char *bytes = read_image("x", &size, &err);
	assert_non_null(bytes);
	assert_int_equal(size, 20 * 512);
	assert_int_equal(bytes[0], 1);
	assert_int_equal(bytes[4096], 2);
	assert_int_equal(bytes[20 * 512 - 1], 3);
	free(bytes);
}

static void test_hosted_broken(void **state)
{
	unsigned char *h;

	(void)state;
	h = hosted("grain-outside", 24, 3);
	put_le(h + 1536 + 4, 100, 4);
	refused("grain-outside", "InvalidImage", "at byte 1540", "which needs bytes up to 55296, but the file has 16384 bytes: it was cut");
	h = hosted("grain-half-outside", 24, 3);
	put_le(h + 1536 + 4, 25, 4);
	refused("grain-half-outside", "InvalidImage", "at byte 12800", "16384 bytes");
	clear_files(NULL);
	h = hosted("grains-twice", 48, 2);
	for (int i = 0; i < 6; i++)
		put_le(h + 1536 + 4 * i, 8, 4);
	refused("grains-twice", "InvalidImage", "where another one is", "byte 4096:");
	h = hosted("grain-in-header", 8, 1);
	put_le(h + 1536, 1, 4);
	refused("grain-in-header", "InvalidImage", "where no grain can be", "byte 512");
	h = hosted("table-outside", 8, 1);
	put_le(h + 1024, UINT32_MAX, 4);
	refused("table-outside", "InvalidImage", "at byte 1024", "byte 2199023255040");
	clear_files(NULL);
	h = hosted("capacity-2^63", 8, 1);
	put_le(h + 12, UINT64_C(1) << 63, 8);
	refused("capacity-2^63", "InvalidImage", "at byte 12", "9223372036854775808 sectors");
	h = hosted("directory-2^32", 8, 1);
	put_le(h + 12, (UINT64_C(1) << 32) * 8 * 128, 8);
	refused("directory-2^32", "InvalidImage", "at byte 56", "4294967296 entries");
	h = hosted("directory-outside", 8, 1);
	put_le(h + 56, UINT64_MAX - 1, 8);
	refused("directory-outside", "InvalidImage", "at byte 56", "8192 bytes");
	h = hosted("grain-of-9", 8, 1);
	put_le(h + 20, 9, 8);
	refused("grain-of-9", "InvalidImage", "at byte 20", "9 sectors");
	clear_files(NULL);
	h = hosted("no-entries", 8, 1);
	put_le(h + 44, 0, 4);
	refused("no-entries", "InvalidImage", "at byte 44", "0 entries");
	h = hosted("version-4", 8, 1);
	put_le(h + 4, 4, 4);
	refused("version-4", "InvalidImage", "at byte 4", "version 4");
	h = hosted("text-mode", 8, 1);
	h[75] = '\n';
	refused("text-mode", "InvalidImage", "at byte 73", "text mode");
	h = hosted("descriptor-outside", 8, 1);
	put_le(h + 28, 1, 8);
	put_le(h + 36, UINT64_MAX, 8);
	refused("descriptor-outside", "InvalidImage", "at byte 28", "descriptor");
	h = hosted("no-footer", 8, 0);
	put_le(h + 56, UINT64_MAX, 8);
	refused("no-footer", "InvalidImage", "no header", "footer");
	h = hosted("other-compression", 8, 1);
	put_le(h + 8, 0x30001, 4);
	h[77] = 2;
	refused("other-compression", "InvalidImage", "at byte 77", "compression method 2");
}

static void test_hosted_redundant(void **state)
{
	AUTO_ERROR struct error *err = NULL;
	struct disk_image *image;
	unsigned char *h, *bytes;
	uint64_t size;

	(void)state;
	h = hosted("x", 24, 3);
	add_redundant(h);
	put_le(h + 1024, 999, 4); /* the first directory is damaged */
	bytes = read_image("x", &size, &err);
	assert_non_null(bytes);
	assert_int_equal(bytes[8192], 3);
	free(bytes);
	put_le(h + 1024, 3, 4);
	put_le(h + 1536 + 4, 999, 4); /* a table of it is */
	bytes = read_image("x", &size, &err);
	assert_non_null(bytes);
	assert_int_equal(bytes[4096], 2);
	free(bytes);
	/* only for what is damaged: the second one has no table, and so no grains */
	put_le(h + 2560, 0, 4);
	bytes = read_image("x", &size, &err);
	assert_non_null(bytes);
	assert_true(bytes[0] == 1 && bytes[4096] == 0 && bytes[8192] == 3);
	free(bytes);
	put_le(h + 2560, 6, 4);
	put_le(h + 56, 1000000, 8); /* it is not there at all */
	image = open_image("x", NULL, &err);
	assert_non_null(image);
	assert_int_equal(disk_image_info(image)->problem_count, 2); /* and there is no descriptor */
	assert_non_null(strstr(disk_image_info(image)->problems[0], "sector 1000000"));
	disk_image_close(image);
	put_le(h + 3072 + 4, 999, 4); /* and the second one is damaged */
	refused("x", "InvalidImage", "at byte 511488, which needs", NULL);
}

/* All of the first directory is damaged, and the second one is empty: what is found out of one table's grain is true of all, or it would never end. */
static void test_hosted_redundant_large(void **state)
{
	const uint64_t tables = 65536, entries = 65536, sectors = tables * entries * 8;
	AUTO_ERROR struct error *err = NULL;
	struct disk_image *image;
	unsigned char *h;
	uint64_t bytes;

	(void)state;
	h = hosted("x", sectors, 2 * tables * 4 / GRAIN);
	put_le(h + 8, 3, 4);
	put_le(h + 44, entries, 4);
	put_le(h + 48, GRAIN / 512 + tables * 4 / 512, 8);
	put_le(h + 56, GRAIN / 512, 8);
	memset(h + GRAIN, 0xff, tables * 4);
	memset(h + GRAIN + tables * 4, 0, tables * 4);
	image = open_image("x", NULL, &err);
	assert_non_null(image);
	assert_int_equal(disk_image_allocated(image, &bytes, NULL, &err), 0);
	assert_int_equal(bytes, 0);
	disk_image_close(image);
}

/* Deflates len bytes of this value to where it points; the marker is in front. */
static size_t pack(unsigned char *to, uint64_t sector, int value, size_t len)
{
	struct libdeflate_compressor *deflate = libdeflate_alloc_compressor(1);
	unsigned char *plain = malloc(len);
	size_t n;

	assert_non_null(plain);
	memset(plain, value, len);
	n = libdeflate_zlib_compress(deflate, plain, len, to + 12, 4096);
	assert_true(n);
	put_le(to, sector, 8);
	put_le(to + 8, n, 4);
	libdeflate_free_compressor(deflate);
	free(plain);
	return n;
}

static unsigned char *packed(const char *name, uint64_t sectors, size_t inflated)
{
	unsigned char *h = hosted(name, sectors, 3);

	put_le(h + 8, 0x30001, 4);
	h[77] = 1;
	memset(h + GRAIN, 0, (size_t)3 * GRAIN);
	for (unsigned i = 0; i < 3; i++)
		pack(h + GRAIN * (1 + i), 8 * (uint64_t)i, (int)i + 1, inflated);
	return h;
}

static void test_packed(void **state)
{
	AUTO_ERROR struct error *err = NULL;
	unsigned char *h, *bytes;
	uint64_t size;

	(void)state;
	packed("x", 20, GRAIN); /* the last grain is whole, though the disk ends in it */
	bytes = read_image("x", &size, &err);
	assert_non_null(bytes);
	assert_true(size == 20 * 512 && bytes[0] == 1 && bytes[4096] == 2 && bytes[8192] == 3);
	free(bytes);
	packed("more", 24, GRAIN + 1);
	refused("more", "CorruptGrain", "inflates to more", "at byte 4108 of more");
	packed("bomb", 24, 3000000);
	refused("bomb", "CorruptGrain", "inflates to more", NULL);
	packed("less", 24, GRAIN - 1);
	refused("less", "CorruptGrain", "inflates to less", NULL);
	h = packed("corrupt", 24, GRAIN);
	h[2 * GRAIN + 12 + 9] ^= 0xff;
	refused("corrupt", "CorruptGrain", "byte 4096 of the disk", "at byte 8204 of corrupt");
	h = packed("backwards", 24, GRAIN);
	put_le(h + 1536, 16, 4);
	put_le(h + 1540, 8, 4);
	refused("backwards", "InvalidImage", "a grain of sector 8", "one of sector 0");
	clear_files(NULL);
	h = packed("size-0", 24, GRAIN);
	put_le(h + GRAIN + 8, 0, 4);
	refused("size-0", "InvalidImage", "of 0 compressed bytes", "at byte 4096");
	h = packed("size-2^32", 24, GRAIN);
	put_le(h + GRAIN + 8, UINT32_MAX, 4);
	refused("size-2^32", "InvalidImage", "of 4294967295 compressed bytes", "at byte 4096");
	h = packed("over-the-end", 24, GRAIN);
	put_le(h + 1536 + 8, 31, 4);
	put_le(h + 31 * 512, 16, 8);
	put_le(h + 31 * 512 + 8, 3000, 4);
	refused("over-the-end", "InvalidImage", "3000 compressed bytes", "16384 bytes");
}

/* --- descriptors --- */

#define HEAD "# Disk DescriptorFile\nversion=1\nCID=00000001\nparentCID=ffffffff\ncreateType=\"custom\"\n"

static void test_descriptor(void **state)
{
	static const char text[] =
		"# a comment\r\n# Disk DescriptorFile\r\n  VERSION = 1\r\ncid=ABCDEF01\r\nCID=7\r\nParentCID = \"2\"\r\nparentFileNameHint=\"a "
		"b.vmdk\"\r\ncreateType= twoGbMaxExtentFlat \r\nRW 10 FLAT \"x \"y\".vmdk\" 5\r\nrdonly 3 zero\r\nRW 7 VMFS \"z\"\r\nddb.x = \"y\"\r\n";
	AUTO_ERROR struct error *err = NULL;
	struct vmdk_descriptor d;

	(void)state;
	assert_int_equal(vmdk_descriptor_parse(text, sizeof text - 1, "t", &d, &err), 0);
	assert_true(d.has_cid && d.cid == 0xabcdef01 && d.parent_cid == 2);
	assert_string_equal(d.parent, "a b.vmdk");
	assert_string_equal(d.create_type, "twoGbMaxExtentFlat");
	assert_int_equal(d.extent_count, 3);
	assert_int_equal(d.sectors, 20);
	assert_string_equal(d.extents[0].file, "x \"y\".vmdk");
	assert_int_equal(d.extents[0].offset, 5);
	assert_true(d.extents[1].type == VMDK_ZERO && !d.extents[1].file);
	assert_true(d.extents[2].type == VMDK_VMFS && !d.extents[2].offset);
	vmdk_descriptor_clear(&d);
}

static void descriptor_refused(const char *line, const char *part)
{
	AUTO_FREE char *text = NULL;

	assert_true(asprintf(&text, HEAD "%s\n", line) > 0);
	add_text("d", text);
	refused("d", "InvalidImage", part, "line 6");
	clear_files(NULL);
}

static void test_descriptor_broken(void **state)
{
	(void)state;
	descriptor_refused("RW x FLAT \"f\" 0", "number of its sectors");
	descriptor_refused("RW 99999999999999999999 FLAT \"f\" 0", "number of its sectors");
	descriptor_refused("RW -1 FLAT \"f\" 0", "number of its sectors");
	descriptor_refused("RW 18014398509481985 FLAT \"f\" 0", "larger than any can be");
	descriptor_refused("RW 8 FLAT \"f\" 18014398509481985", "larger than any can be");
	descriptor_refused("RW 8 FLAT \"f\" -3", "sector where the extent begins");
	descriptor_refused("RW 8 FLAT f 0", "in quotation marks");
	descriptor_refused("RW 8 FLAT \"f", "close its quotation marks");
	descriptor_refused("RW 8 FLAT \"f\033[2J\" 0", "control characters");
	descriptor_refused("RW 8 VMFSRDM \"f\"", "raw device mappings");
	add_text("cid", "# Disk DescriptorFile\nCID=xyz\nRW 8 FLAT \"f\" 0\n");
	refused("cid", "InvalidImage", "line 2", "hexadecimal");
	add_text("none", HEAD);
	refused("none", "InvalidImage", "names no extents", NULL);
	add_text("empty", HEAD "# The Disk Data Base\nddb.adapterType = \"ide\"\n");
	uint64_t size = 1;
	free(read_image("empty", &size, NULL));
	assert_int_equal(size, 0);
	add_text("marked", "\xef\xbb\xbf" HEAD "RW 8 ZERO\n");
	free(read_image("marked", &size, NULL));
	assert_int_equal(size, 4096);
	memcpy(add_file("wide", 512), "\xff\xfe#\0 \0D\0i\0s\0k\0 \0D", 17);
	refused("wide", "InvalidImage", "is in UTF-16", NULL);
	add_text("no-parent", "# Disk DescriptorFile\nCID=1\nparentCID=2\nRW 8 ZERO\n");
	refused("no-parent", "InvalidImage", "does not say where that is", "00000002");
	memcpy(add_file("long", (1 << 20) + 1), HEAD, sizeof HEAD);
	refused("long", "InvalidImage", "1048577 bytes", NULL);
}

/* What is known of each extent is kept, so there is a limit to them; of all layers together, too. */
static void test_many_extents(void **state)
{
	static const char lines[] = "RW 1 ZERO\n";
	AUTO_FREE char *many = calloc(VMDK_EXTENTS_MAX + 1, sizeof lines), *text = NULL;
	size_t used = 0;

	(void)state;
	assert_non_null(many);
	for (size_t i = 0; i < VMDK_EXTENTS_MAX; i++, used += sizeof lines - 1)
		memcpy(many + used, lines, sizeof lines);
	assert_true(asprintf(&text, HEAD "%s%s", many, "RW 1 ZERO\n") > 0);
	add_text("one-more", text);
	refused("one-more", "InvalidImage", "line 8198", "8192");
	text[strlen(text) - strlen("RW 1 ZERO\n")] = 0;
	add_text("just", text);
	uint64_t size = 0;
	free(read_image("just", &size, NULL));
	assert_int_equal(size, VMDK_EXTENTS_MAX * 512);
	free(text);
	assert_true(asprintf(&text, "# Disk DescriptorFile\nCID=2\nparentCID=1\nparentFileNameHint=\"just\"\n%s", many) > 0);
	add_text("two-layers", text);
	AUTO_ERROR struct error *err = NULL;
	assert_null(open_image("two-layers", NULL, &err));
	assert_string_equal(err->reason, "InvalidImage");
	assert_non_null(strstr(err->message, "one more than the"));
}

static void test_extents(void **state)
{
	AUTO_ERROR struct error *err = NULL;
	unsigned char *bytes;
	uint64_t size;

	(void)state;
	add_text("d", HEAD "RW 3 FLAT \"f\" 1\nRW 0 FLAT \"nowhere\" 0\nRW 5 ZERO\nRW 20 SPARSE \"s\"\nRW 2 VMFS \"f\"\n");
	memset(add_file("f", 4 * 512), 9, 4 * 512);
	files[1].data[0] = 8;
	hosted("s", 24, 3);
	bytes = read_image("d", &size, &err);
	assert_non_null(bytes);
	assert_int_equal(size, 30 * 512);
	assert_true(bytes[0] == 9 && bytes[3 * 512 - 1] == 9 && !bytes[3 * 512] && !bytes[8 * 512 - 1]);
	assert_true(bytes[8 * 512] == 1 && bytes[16 * 512] == 2 && bytes[28 * 512 - 1] == 3 && bytes[28 * 512] == 8 &&
		    bytes[28 * 512 + 1] == 9);
	free(bytes);
	add_text("short", HEAD "RW 25 SPARSE \"s\"\n");
	refused("short", "InvalidImage", "12800", "12288");
	add_text("cut", HEAD "RW 4 FLAT \"f\" 1\n");
	refused("cut", "FileTruncated", "2048 bytes", "from byte 512");
	add_text("not-there", HEAD "RW 4 FLAT \"nowhere\" 1\n");
	refused("not-there", "NoFile", "nowhere", NULL);
}

/* --- ESX --- */

static void test_cowd_broken(void **state)
{
	static const char text[] = HEAD "RW 8 VMFSSPARSE \"delta\"\n";
	unsigned char *h;

	(void)state;
	add_text("x", text);
	h = add_file("delta", 512 * 64);
	memcpy(h, "COWD", 4);
	refused("x", "InvalidImage", "delta is broken at byte 0", NULL);
	put_le(h + 4, 1, 4);
	put_le(h + 12, 8, 4);
	refused("x", "InvalidImage", "at byte 20", "a grain of 0 sectors");
	put_le(h + 16, 1, 4);
	put_le(h + 20, 4, 4);
	refused("x", "InvalidImage", "at byte 24", "has 0 entries, 1 are needed");
	put_le(h + 24, 1, 4);
	put_le(h + 2048, 50, 4);
	refused("x", "InvalidImage", "at byte 2048", "grain table 0");
	put_le(h + 2048, 5, 4);
	put_le(h + 2560, 64, 4);
	refused("x", "InvalidImage", "at byte 2560", "byte 32768");
	put_le(h + 2560, 63, 4);
	uint64_t size;
	free(read_image("x", &size, NULL));
	assert_int_equal(size, 4096);
	/* by itself it is only a part of a disk */
	refused("delta", "NeedsDescriptor", "vmfsSparse", NULL);
	/* more than the file holds */
	add_text("grains-twice", HEAD "RW 80 VMFSSPARSE \"delta\"\n");
	put_le(h + 12, 80, 4);
	for (int i = 0; i < 80; i++)
		put_le(h + 2560 + 4 * (size_t)i, 63, 4);
	refused("grains-twice", "InvalidImage", "where another one is", "at byte 32256");
	memset(h + 2560, 0, 320);
	put_le(h + 12, 3 * 4096, 4);
	put_le(h + 24, 3, 4);
	for (int i = 0; i < 3; i++)
		put_le(h + 2048 + 4 * (size_t)i, 5, 4);
	add_text("tables-twice", HEAD "RW 12288 VMFSSPARSE \"delta\"\n");
	refused("tables-twice", "InvalidImage", "again and again", "at byte 2056");
	put_le(h + 12, UINT32_MAX, 4); /* the largest that it can say */
	put_le(h + 20, 64, 4);
	refused("tables-twice", "InvalidImage", "a grain directory of 1048576 entries", "at byte 56");
}

/* Of 16 sectors, both of its grains in the file. */
static unsigned char *sesparse(const char *name)
{
	unsigned char *h = add_file(name, 512 * 83);
	static const struct {
		size_t at;
		uint64_t value;
	} fields[] = {
		{ 0, 0xcafebabe },
		{ 8, UINT64_C(0x200000001) },
		{ 16, 16 },
		{ 24, 8 },
		{ 32, 64 },
		{ 80, 1 },
		{ 88, 1 },
		{ 128, 2 },
		{ 136, 1 },
		{ 144, 3 },
		{ 152, 64 },
		{ 192, 67 },
		{ 200, 16 },
		{ 512, 0xcafecafe },
		{ 1024, UINT64_C(0x1000000000000000) },
		{ 1536, UINT64_C(0x3001000000000000) },
		{ 1544, UINT64_C(0x3000000000000000) },
	};

	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
		put_le(h + fields[i].at, fields[i].value, 8);
	memset(h + 67 * 512, 2, 4096);
	memset(h + 75 * 512, 1, 4096);
	return h;
}

static void test_sesparse_names_too_much(void **state)
{
	AUTO_ERROR struct error *err = NULL;
	unsigned char *h, *bytes;
	uint64_t size;

	(void)state;
	add_text("x", HEAD "RW 16 SESPARSE \"delta\"\n");
	h = sesparse("delta");
	bytes = read_image("x", &size, &err);
	assert_non_null(bytes);
	assert_true(size == 8192 && bytes[0] == 1 && bytes[4095] == 1 && bytes[4096] == 2 && bytes[8191] == 2);
	free(bytes);
	add_text("grains-twice", HEAD "RW 24 SESPARSE \"delta\"\n");
	put_le(h + 16, 24, 8);
	put_le(h + 1552, UINT64_C(0x3000000000000000), 8);
	refused("grains-twice", "InvalidImage", "where another one is", "at byte 1552");
	add_text("tables-twice", HEAD "RW 65536 SESPARSE \"delta\"\n");
	memset(h + 1536, 0, 24);
	put_le(h + 16, 65536, 8);
	put_le(h + 1032, UINT64_C(0x1000000000000000), 8);
	refused("tables-twice", "InvalidImage", "again and again", "at byte 1032");
	put_le(h + 16, (UINT64_C(1) << 32) * 4096 * 8, 8);
	refused("tables-twice", "InvalidImage", "has 64 entries, 4294967296 are needed", "at byte 136");
	put_le(h + 16, UINT64_C(1) << 54, 8); /* 2^63 bytes */
	refused("tables-twice", "InvalidImage", "at byte 16", "18014398509481984 sectors");
}

static void test_sesparse_broken(void **state)
{
	unsigned char *h;
	uint64_t size = 0;

	(void)state;
	add_text("x", HEAD "RW 8 SESPARSE \"delta\"\n");
	h = add_file("delta", 512 * 80);
	put_le(h, 0xcafebabe, 8);
	refused("x", "InvalidImage", "delta is broken at byte 0", NULL);
	put_le(h + 8, UINT64_C(0x200000001), 8);
	refused("x", "InvalidImage", "at byte 24", "grains of 0 sectors");
	put_le(h + 24, 8, 8);
	put_le(h + 32, 64, 8);
	put_le(h + 16, UINT64_MAX, 8);
	refused("x", "InvalidImage", "at byte 16", "18446744073709551615 sectors");
	put_le(h + 16, 8, 8);
	put_le(h + 128, 1000, 8);
	refused("x", "InvalidImage", "at byte 128", "sector 1000");
	put_le(h + 80, 1, 8);
	put_le(h + 88, 1, 8);
	put_le(h + 128, 2, 8);
	refused("x", "InvalidImage", "at byte 136", "has 0 entries, 1 are needed");
	put_le(h + 136, UINT64_MAX, 8);
	put_le(h + 144, 3, 8);
	put_le(h + 152, 64, 8);
	put_le(h + 192, 67, 8);
	put_le(h + 200, 8, 8);
	refused("x", "InvalidImage", "at byte 512", "volatile header");
	put_le(h + 512, 0xcafecafe, 8);
	put_le(h + 512 + 24, 1, 8);
	refused("delta", "NeedsDescriptor", "seSparse", NULL);
	AUTO_ERROR struct error *err = NULL;
	assert_null(open_image("x", NULL, &err));
	assert_string_equal(err->reason, "JournalNotReplayed");
	put_le(h + 512 + 24, 0, 8);
	put_le(h + 1024, 7, 8);
	refused("x", "InvalidImage", "at byte 1024", "0x7");
	put_le(h + 1024, UINT64_C(0x1000000000000001), 8);
	refused("x", "InvalidImage", "at byte 1024", "none of 1 tables");
	put_le(h + 1024, UINT64_C(0x1000000000000000), 8);
	put_le(h + 1536, 5, 8);
	refused("x", "InvalidImage", "at byte 1536", "0x5");
	put_le(h + 1536, UINT64_C(0x3001000000000000), 8);
	refused("x", "InvalidImage", "at byte 1536", "number 1 of 1");
	put_le(h + 1536, UINT64_C(0x3000000000000000), 8);
	h[67 * 512] = 5;
	unsigned char *bytes = read_image("x", &size, NULL);
	assert_non_null(bytes);
	assert_true(size == 4096 && bytes[0] == 5);
	free(bytes);
}

static void test_cut(void **state)
{
	unsigned char *h;

	(void)state;
	hosted("x", 24, 3);
	cut_everywhere("x", 24 * 512);
	packed("x", 24, GRAIN);
	cut_everywhere("x", 24 * 512);
	add_text("d", HEAD "RW 3 FLAT \"f\" 1\n");
	memset(add_file("f", 2048), 1, 2048);
	cut_everywhere("f", 1536);
	add_text("d", HEAD "RW 8 VMFSSPARSE \"delta\"\n");
	h = add_file("delta", 512 * 40);
	memcpy(h, "COWD", 4);
	put_le(h + 4, 1, 4);
	put_le(h + 12, 8, 4);
	put_le(h + 16, 1, 4);
	put_le(h + 20, 4, 4);
	put_le(h + 24, 1, 4);
	put_le(h + 2048, 5, 4);
	put_le(h + 2560, 39, 4);
	h[39 * 512] = 1;
	cut_everywhere("delta", 4096);
	add_text("d", HEAD "RW 16 SESPARSE \"delta\"\n");
	sesparse("delta");
	cut_everywhere("delta", 8192);
}

/* What was found to be named twice is not forgotten. */
static void test_twice_again(void **state)
{
	AUTO_ERROR struct error *err = NULL, *again = NULL;
	struct disk_image *image;
	unsigned char *h = hosted("x", 48, 2);
	uint64_t bytes;

	(void)state;
	for (int i = 0; i < 6; i++)
		put_le(h + 1536 + 4 * i, 8, 4);
	image = open_image("x", NULL, &err);
	assert_non_null(image);
	assert_int_equal(disk_image_allocated(image, &bytes, NULL, &err), -1);
	assert_int_equal(disk_image_allocated(image, &bytes, NULL, &again), -1);
	assert_string_equal(again->reason, "InvalidImage");
	disk_image_close(image);
}

/* A snapshot with all of its tables and nothing in them, upon a disk in many pieces: it is not looked through again for each. */
static void test_an_empty_layer_above(void **state)
{
	enum { TABLES = 1024, PIECES = 64, PAGE = 16384 };
	AUTO_ERROR struct error *err = NULL;
	uint64_t sectors = TABLES * 128 * 8, bytes = 1;
	unsigned char *above = add_file("above-s001", 8192 + TABLES * 512), *below = add_file("below-s001", 8192 + 512);
	const struct file *file = &files[0];
	struct disk_image *image;

	(void)state;
	hosted_header(above, sectors, 8);
	for (unsigned t = 0; t < TABLES; t++)
		put_le(above + GRAIN + 4 * (size_t)t, 16 + t, 4);
	hosted_header(below, sectors, 8);
	put_le(below + 8, 5, 4); /* entries of 1 are zeros */
	put_le(below + GRAIN, 16, 4);
	for (unsigned e = 0; e < 2 * PIECES; e += 2)
		put_le(below + 8192 + 4 * (size_t)e, 1, 4);
	add_text("below", HEAD "RW 1048576 SPARSE \"below-s001\"\n");
	add_text("above", "# Disk DescriptorFile\nCID=2\nparentCID=1\nparentFileNameHint=\"below\"\nRW 1048576 SPARSE \"above-s001\"\n");
	image = open_image("above", NULL, &err);
	assert_non_null(image);
	assert_int_equal(disk_image_info(image)->layers, 2);
	assert_int_equal(disk_image_allocated(image, &bytes, NULL, &err), 0);
	assert_int_equal(bytes, 0);
	if (file->reads > 2 * (file->size / PAGE + 1))
		fail_msg("%u reads of the layer above", file->reads);
	disk_image_close(image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_hosted, clear_files),
		cmocka_unit_test_teardown(test_hosted_broken, clear_files),
		cmocka_unit_test_teardown(test_hosted_redundant, clear_files),
		cmocka_unit_test_teardown(test_hosted_redundant_large, clear_files),
		cmocka_unit_test_teardown(test_twice_again, clear_files),
		cmocka_unit_test_teardown(test_packed, clear_files),
		cmocka_unit_test_teardown(test_descriptor, clear_files),
		cmocka_unit_test_teardown(test_descriptor_broken, clear_files),
		cmocka_unit_test_teardown(test_many_extents, clear_files),
		cmocka_unit_test_teardown(test_extents, clear_files),
		cmocka_unit_test_teardown(test_cowd_broken, clear_files),
		cmocka_unit_test_teardown(test_sesparse_broken, clear_files),
		cmocka_unit_test_teardown(test_sesparse_names_too_much, clear_files),
		cmocka_unit_test_teardown(test_cut, clear_files),
		cmocka_unit_test_teardown(test_an_empty_layer_above, clear_files),
	};

	return cmocka_run_group_tests(tests, disks_begin, disks_end);
}
