/* Sources: the magic numbers of each format's specification: VMware "Virtual Disk Format 5.0"; QEMU docs/interop/qcow2.txt, qed_spec.txt,
 * parallels.txt; Microsoft "Virtual Hard Disk Image Format" 1.0 and [MS-VHDX] 2.2.1; VirtualBox VDI; LUKS; RFC 1952, RFC 8878; xz, bzip2;
 * tar: POSIX.1-2017 pax(1) "ustar Interchange Format", GNU tar "Basic Tar Format"; ZIP: APPNOTE.TXT 4.3.7; OVF 1.1 (DSP0243) 5.3. */
#include "disk/format.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "disk/bytes.h"

static const struct {
	enum disk_format format;
	unsigned char at, len;
	const char *magic;
} magics[] = {
	{ DISK_VMDK_SPARSE, 0, 4, "KDMV" },
	{ DISK_VMDK_COWD, 0, 4, "COWD" },
	{ DISK_VMDK_SESPARSE, 0, 8, "\xbe\xba\xfe\xca\0\0\0\0" },
	{ DISK_VMDK_DESCRIPTOR, 0, 14, "\xff\xfe#\0 \0D\0i\0s\0k\0" }, /* in UTF-16, by an editor: refused where it is read */
	{ DISK_QCOW2, 0, 8, "QFI\xfb\0\0\0\2" },
	{ DISK_QCOW2, 0, 8, "QFI\xfb\0\0\0\3" },
	{ DISK_QCOW1, 0, 8, "QFI\xfb\0\0\0\1" },
	{ DISK_QCOW2, 0, 4, "QFI\xfb" }, /* of a version yet to come: refused where it is read */
	{ DISK_VHD, 0, 8, "conectix" },
	{ DISK_VHDX, 0, 8, "vhdxfile" },
	{ DISK_VDI, 64, 4, "\x7f\x10\xda\xbe" },
	{ DISK_QED, 0, 4, "QED\0" },
	{ DISK_PARALLELS, 0, 16, "WithoutFreeSpace" },
	{ DISK_PARALLELS, 0, 16, "WithouFreSpacExt" },
	{ DISK_MARKUP, 0, 5, "<html" },
	{ DISK_MARKUP, 0, 5, "<HTML" },
	{ DISK_MARKUP, 0, 5, "<!DOC" },
	{ DISK_MARKUP, 0, 5, "<!doc" },
	{ DISK_MARKUP, 0, 5, "<?xml" },
	{ DISK_LUKS, 0, 6, "LUKS\xba\xbe" },
	{ DISK_GZIP, 0, 3, "\x1f\x8b\x08" },
	{ DISK_XZ, 0, 6,
	  "\xfd"
	  "7zXZ\0" },
	{ DISK_BZIP2, 0, 4, "BZh9" },
	{ DISK_ZSTD, 0, 4, "\x28\xb5\x2f\xfd" },
	{ DISK_ZIP, 0, 4, "PK\3\4" },
};

/* VMware writes "# Disk DescriptorFile" first; others put comments and empty lines before it, or have only the version. Editors put a mark
 * in front that the text is UTF-8. */
static bool is_descriptor(const char *text, size_t len)
{
	static const char mark[] = "# Disk DescriptorFile", version[] = "version=";
	const char *end = text + len;

	if (len > 3 && !memcmp(text, "\xef\xbb\xbf", 3))
		text += 3;
	while (text < end) {
		const char *line = text, *stop = memchr(text, '\n', (size_t)(end - text));
		size_t n = (size_t)((stop ? stop : end) - line);

		if (n >= sizeof mark - 1 && !strncasecmp(line, mark, sizeof mark - 1))
			return true;
		if (n >= sizeof version && !strncasecmp(line, version, sizeof version - 1) && line[n - (line[n - 1] == '\r') - 1] >= '1')
			return true;
		while (n && isspace((unsigned char)*line)) {
			line++;
			n--;
		}
		if (n && *line != '#')
			return false;
		text = stop ? stop + 1 : end;
	}
	return false;
}

/* A hosted sparse extent whose flags say that it is compressed and has markers. */
static bool is_stream(const unsigned char *head, size_t len)
{
	return len >= 12 && (head[10] & 3) == 3;
}

#define TAR_HEADER 512
enum { TAR_NAME = 100, TAR_SUM = 148, TAR_SUM_LEN = 8, TAR_MAGIC = 257 };

/* Its magic stands where a boot sector may have anything, so that the checksum has to be right too: of all bytes, its own as spaces. */
static bool is_tar(const unsigned char *head, size_t len)
{
	unsigned long sum = 0, said = 0;
	int at = TAR_SUM, end = TAR_SUM + TAR_SUM_LEN;

	if (len < TAR_HEADER || memcmp(head + TAR_MAGIC, "ustar", 5))
		return false;
	for (int i = 0; i < TAR_HEADER; i++)
		sum += i >= TAR_SUM && i < end ? ' ' : head[i];
	while (at < end && head[at] == ' ')
		at++;
	for (; at < end && head[at] >= '0' && head[at] <= '7'; at++)
		said = said * 8 + (unsigned long)(head[at] - '0');
	return said == sum;
}

/* The descriptor comes first in an OVA. */
static bool begins_with_ovf(const char *head)
{
	size_t len = strnlen(head, TAR_NAME);

	return len > 4 && !strncasecmp(head + len - 4, ".ovf", 4);
}

enum disk_format disk_format_of(const void *head, size_t len)
{
	const char *p = head;

	for (size_t i = 0; i < sizeof magics / sizeof *magics; i++)
		if (len >= (size_t)magics[i].at + magics[i].len && !memcmp(p + magics[i].at, magics[i].magic, magics[i].len))
			return magics[i].format == DISK_VMDK_SPARSE && is_stream(head, len) ? DISK_VMDK_STREAM : magics[i].format;
	if (is_tar(head, len))
		return begins_with_ovf(p) ? DISK_OVA : DISK_TAR;
	return is_descriptor(p, len) ? DISK_VMDK_DESCRIPTOR : DISK_RAW;
}

bool disk_format_is_image(enum disk_format format)
{
	return format > DISK_RAW && format < DISK_LUKS;
}

bool disk_format_is_archive(enum disk_format format)
{
	return format == DISK_TAR || format == DISK_OVA || format == DISK_ZIP;
}

uint64_t disk_format_capacity(enum disk_format format, const void *head, size_t len)
{
	const unsigned char *bytes = head;
	uint64_t capacity;

	switch (format) {
	case DISK_VMDK_SPARSE: /* "capacity" of SparseExtentHeader, in sectors */
	case DISK_VMDK_STREAM:
		if (len < 20 || __builtin_mul_overflow(get_le64(bytes + 12), UINT64_C(512), &capacity))
			return 0;
		break;
	case DISK_QCOW2: /* "size", in bytes */
		if (len < 32)
			return 0;
		capacity = get_be64(bytes + 24);
		break;
	default:
		return 0;
	}
	return capacity > INT64_MAX ? 0 : capacity;
}

int disk_format_refuse(enum disk_format format, const char *name, struct error **err)
{
	const char *what, *advice = "unpack it first";

	switch (format) {
	case DISK_TAR:
		what = "a tar archive";
		break;
	case DISK_ZIP:
		what = "a ZIP archive";
		break;
	case DISK_OVA:
		what = "an OVA, the archive of a machine";
		advice = "import it with an OvaSource, or unpack it first and give one of its disks";
		break;
	case DISK_LUKS:
		what = "encrypted (LUKS)";
		advice = "decrypt it first";
		break;
	case DISK_MARKUP:
		what = "HTML or XML";
		advice = "perhaps a server sent it instead of the disk";
		break;
	default:
		what = disk_format_name(format);
		if (disk_format_is_image(format)) /* as another's parent */
			advice = "convert it first";
	}
	return error_set(err, ERROR_PERMANENT, "UnsupportedFormat",
			 "%s is %s, which is not read here; %s (or --format raw to take it as a raw disk)", name, what, advice);
}

const char *disk_format_name(enum disk_format format)
{
	static const char *const names[DISK_FORMATS] = {
		[DISK_RAW] = "raw",
		[DISK_VMDK_SPARSE] = "vmdk",
		[DISK_VMDK_DESCRIPTOR] = "vmdk",
		[DISK_VMDK_COWD] = "vmdk",
		[DISK_VMDK_SESPARSE] = "vmdk",
		[DISK_QCOW2] = "qcow2",
		[DISK_QCOW1] = "qcow",
		[DISK_VHD] = "vhd",
		[DISK_VHDX] = "vhdx",
		[DISK_VDI] = "vdi",
		[DISK_QED] = "qed",
		[DISK_PARALLELS] = "parallels",
		[DISK_LUKS] = "luks",
		[DISK_VMDK_STREAM] = "vmdk",
		[DISK_MARKUP] = "HTML or XML",
		[DISK_GZIP] = "gzip",
		[DISK_XZ] = "xz",
		[DISK_BZIP2] = "bzip2",
		[DISK_ZSTD] = "zstd",
		[DISK_TAR] = "tar",
		[DISK_OVA] = "ova",
		[DISK_ZIP] = "zip",
	};

	return names[format];
}
