// links: source/ova net api json base xml PkgConfig::jansson
/* Quantities, names, manifests and descriptors of OVF packages, and packages in memory cut at every place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "net/stream_digest.h"
#include "source/ova/feed.h"
#include "source/ova/manifest.h"
#include "source/ova/ovf.h"
#include "source/ova/package.h"
#include "source/ova/unit.h"

static void quantities(void **state)
{
	static const struct {
		const char *quantity, *unit;
		uint64_t fallback, bytes; /* 0: not understood */
	} cases[] = {
		{ "512", "byte * 2^20", 1, 512u << 20 },
		{ "512", "byte*2^20", 1, 512u << 20 },
		{ " 512 ", " byte * 2 ^ 20 ", 1, 512u << 20 },
		{ "2", "MegaBytes", 1, 2u << 20 },
		{ "2", "megabytes", 1, 2u << 20 },
		{ "2", "MB", 1, 2u << 20 },
		{ "3", "GB", 1, UINT64_C(3) << 30 },
		{ "1", "GigaBytes", 1, UINT64_C(1) << 30 },
		{ "1", "TB", 1, UINT64_C(1) << 40 },
		{ "7", "KB * 2", 1, 14u << 10 },
		{ "7", "MByte", 1, 7u << 20 },
		{ "7", "byte * 1024 * 1024", 1, 7u << 20 },
		{ "7", "byte * 1024^2", 1, 7u << 20 },
		{ "7", "Kibibytes", 1, 7u << 10 },
		{ "7", NULL, 1u << 20, 7u << 20 },
		{ "7", "", 1, 7 },
		{ "1", "byte * 10^6", 1, 1000000 },
		{ "9223372036854775807", "byte", 1, INT64_MAX },
		{ "9223372036854775808", "byte", 1, 0 },
		{ "18446744073709551616", "byte", 1, 0 },
		{ "8796093022208", "byte * 2^20", 1, 0 },
		{ "1", "byte * 2^64", 1, 0 },
		{ "1", "byte * 2^9999999999", 1, 0 },
		{ "1", "byte * 99999999999 * 99999999999", 1, 0 },
		{ "-1", "byte", 1, 0 },
		{ "+1", "byte", 1, 0 },
		{ "1.5", "GB", 1, 0 },
		{ "0x10", "byte", 1, 0 },
		{ "", "byte", 1, 0 },
		{ NULL, "byte", 1, 0 },
		{ "1 2", "byte", 1, 0 },
		{ "1", "parsec", 1, 0 },
		{ "1", "byte *", 1, 0 },
		{ "1", "byte * 2^", 1, 0 },
		{ "1", "byte + 1", 1, 0 },
		{ "1", "2^20", 1, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint64_t bytes = 12345;
		bool understood = ovf_bytes(cases[i].quantity, cases[i].unit, cases[i].fallback, &bytes);

		if (understood != (cases[i].bytes != 0) || bytes != (understood ? cases[i].bytes : 12345))
			fail_msg("%s of %s: %llu", cases[i].quantity, cases[i].unit, (unsigned long long)bytes);
	}
}

static void names(void **state)
{
	static const struct {
		const char *name, *safe;
	} cases[] = {
		{ "a.vmdk", "a.vmdk" }, { "./a.vmdk", "a.vmdk" }, { ".//./a", "a" },    { "d/a.vmdk", "d/a.vmdk" },
		{ "..a", "..a" },       { "a..", "a.." },         { "a/..b", "a/..b" }, { "/a", NULL },
		{ "..", NULL },         { "../a", NULL },         { "a/..", NULL },     { "a/../b", NULL },
		{ "./../a", NULL },     { "a\\b", NULL },         { "a\nb", NULL },     { "a\177", NULL },
		{ "", NULL },           { "./", NULL },           { ".//etc", "etc" },  { "d/./../x", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *safe = ovf_safe_name(cases[i].name);

		if (!safe != !cases[i].safe || (safe && strcmp(safe, cases[i].safe) != 0))
			fail_msg("\"%s\" became \"%s\"", cases[i].name, safe ? safe : "(refused)");
	}
	assert_true(ovf_href_is("my%20disk.vmdk", "my disk.vmdk"));
	assert_true(ovf_href_is("100%.vmdk", "100%.vmdk"));
	assert_true(ovf_href_is("a%2Fb", "a/b"));
	assert_false(ovf_href_is("a%00b", "a"));
	assert_false(ovf_href_is("a", "b"));
}

#define SHA256_OF_ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define SHA1_OF_ABC "a9993e364706816aba3e25717850c26c9cd0d89d"

static void expect_manifest(const char *text, const char *message)
{
	AUTO_ERROR struct error *err = NULL;
	AUTO_MANIFEST struct manifest *m = ovf_manifest_parse(text, strlen(text), &err);

	assert_null(m);
	assert_string_equal(err->reason, "InvalidManifest");
	if (!strstr(err->message, message))
		fail_msg("\"%s\" is not in \"%s\"", message, err->message);
}

/* Its length is all that ends it, in upper case too. */
static void manifest_of_bytes(void **state)
{
	static const char line[] = "SHA1(a)= A9993E364706816ABA3E25717850C26C9CD0D89D";
	size_t len = strlen(line);
	AUTO_FREE char *text = malloc(len); /* no NUL behind it, for the sanitizer */
	AUTO_ERROR struct error *err = NULL;
	unsigned char sum[EVP_MAX_MD_SIZE];
	AUTO_MANIFEST struct manifest *m = NULL;

	(void)state;
	memcpy(text, line, len);
	m = ovf_manifest_parse(text, len, &err);
	assert_non_null(m);
	assert_true(EVP_Digest("abc", 3, sum, NULL, EVP_sha1(), NULL));
	assert_int_equal(ovf_manifest_check(ovf_manifest_find(m, "a"), sum, &err), 0);
}

static void manifests(void **state)
{
	static const char text[] = "SHA256(vm.ovf)= " SHA256_OF_ABC "\r\n\n"
				   "SHA1 (./disk (1).vmdk) = " SHA1_OF_ABC "\n"
				   "sha256(last)=" SHA256_OF_ABC; /* without a line end */
	AUTO_ERROR struct error *err = NULL;
	AUTO_MANIFEST struct manifest *m = ovf_manifest_parse(text, strlen(text), &err);
	unsigned char digest[EVP_MAX_MD_SIZE];
	struct stream_digest *d;

	(void)state;
	assert_non_null(m);
	assert_non_null(ovf_manifest_find(m, "vm.ovf"));
	assert_non_null(ovf_manifest_find(m, "disk (1).vmdk"));
	assert_non_null(ovf_manifest_find(m, "last"));
	assert_null(ovf_manifest_find(m, "disk"));
	d = stream_digest_new(ovf_manifest_find(m, "vm.ovf")->algorithm, &err);
	assert_int_equal(stream_digest_add(d, "ab", 2, &err), 0);
	assert_int_equal(stream_digest_add(d, "c", 1, &err), 0);
	assert_int_equal(stream_digest_finish(d, digest, &err), 0);
	stream_digest_free(d);
	assert_int_equal(ovf_manifest_check(ovf_manifest_find(m, "vm.ovf"), digest, &err), 0);
	digest[31] ^= 1;
	assert_int_equal(ovf_manifest_check(ovf_manifest_find(m, "last"), digest, &err), -1);
	assert_string_equal(err->reason, "ManifestMismatch");
	assert_non_null(strstr(err->message, SHA256_OF_ABC));

	expect_manifest("SHA256(a)= 12\n", "line 1");
	expect_manifest("SHA256(a)= " SHA1_OF_ABC "\n", "line 1");
	expect_manifest("\nMD5(a)= d41d8cd98f00b204e9800998ecf8427e\n", "line 2");
	expect_manifest("SHA256 a = " SHA256_OF_ABC, "line 1");
	expect_manifest("SHA256(a= " SHA256_OF_ABC, "line 1");
	expect_manifest("SHA256()", "line 1");
	expect_manifest("SHA1(a)= " SHA1_OF_ABC "\nSHA1(./a)= " SHA1_OF_ABC "\n", "two digests of a");
	expect_manifest("SHA1(a)= zz993e364706816aba3e25717850c26c9cd0d89d\n", "line 1");
}

/* --- descriptors --------------------------------------------------------------------------------------------------------- */

#define HEAD                                                                                                           \
	"<Envelope xmlns='http://schemas.dmtf.org/ovf/envelope/1' xmlns:ovf='http://schemas.dmtf.org/ovf/envelope/1' " \
	"xmlns:rasd='r' xmlns:vmw='v'><References><File ovf:id='f' ovf:href='d.vmdk'/></References><DiskSection>"      \
	"<Disk ovf:diskId='d' ovf:capacity='4' ovf:capacityAllocationUnits='MegaBytes' ovf:fileRef='f'/></DiskSection>"
#define SYSTEM(items) "<VirtualSystem ovf:id='vm'><Name>vm</Name><VirtualHardwareSection>" items "</VirtualHardwareSection></VirtualSystem>"
#define ITEM(type, more) "<Item><rasd:ResourceType>" type "</rasd:ResourceType>" more "</Item>"
#define CPU(n) ITEM("3", "<rasd:VirtualQuantity>" n "</rasd:VirtualQuantity>")
#define MEMORY(n) ITEM("4", "<rasd:VirtualQuantity>" n "</rasd:VirtualQuantity>")
#define DISK                                              \
	ITEM("6", "<rasd:InstanceID>3</rasd:InstanceID>") \
	ITEM("17", "<rasd:Parent>3</rasd:Parent><rasd:HostResource>ovf:/disk/d</rasd:HostResource>")

static struct vm_model *model_of(const char *text, struct error **err)
{
	AUTO_OVF struct ovf *o = ovf_parse(text, strlen(text), err);

	return o ? ovf_model(o, "vm", err) : NULL;
}

static void expect_descriptor(const char *text, const char *message)
{
	AUTO_ERROR struct error *err = NULL;
	AUTO_VM_MODEL struct vm_model *m = model_of(text, &err);

	assert_null(m);
	assert_int_equal(err->class, ERROR_PERMANENT);
	if (!strstr(err->message, message))
		fail_msg("\"%s\" is not in \"%s\"", message, err->message);
}

static void descriptors(void **state)
{
	AUTO_ERROR struct error *err = NULL;
	AUTO_VM_MODEL struct vm_model *m = model_of(HEAD SYSTEM(CPU("2") MEMORY("256") DISK) "</Envelope>", &err);

	(void)state;
	assert_non_null(m);
	assert_int_equal(m->vcpus, 2);
	assert_int_equal(m->memory, 256u << 20); /* a number without a unit that can be no bytes */
	assert_int_equal(m->disk_count, 1);
	assert_int_equal(m->disks[0].capacity, 4u << 20);
	assert_int_equal(m->disks[0].bus, VM_BUS_SCSI);
	assert_int_equal(m->power, VM_POWER_OFF);

	expect_descriptor("", "cannot be read");
	expect_descriptor("<Envelope>", "cannot be read");
	expect_descriptor("<Envelope/>", "no virtual system");
	expect_descriptor(HEAD "<VirtualSystem ovf:id='vm'/></Envelope>", "no VirtualHardwareSection");
	expect_descriptor(HEAD SYSTEM(MEMORY("256")) "</Envelope>", "processors");
	expect_descriptor(HEAD SYSTEM(CPU("4097") MEMORY("256")) "</Envelope>", "4097");
	expect_descriptor(HEAD SYSTEM(CPU("1")) "</Envelope>", "memory");
	expect_descriptor(HEAD SYSTEM(CPU("1") MEMORY("256") DISK DISK) "</Envelope>", "twice");
	expect_descriptor(
		HEAD SYSTEM(CPU("1") MEMORY("256") ITEM("17", "<rasd:HostResource>ovf:/disk/x</rasd:HostResource>")) "</Envelope>",
		"no disk of the package");
	expect_descriptor("<Envelope><References><File id='f' href='a'/><File id='f' href='b'/></References>" SYSTEM("") "</Envelope>",
			  "two files");
	expect_descriptor("<Envelope><References><File id='f' href='C:a'/></References>" SYSTEM("") "</Envelope>", "elsewhere");
	expect_descriptor("<Envelope><DiskSection><Disk capacity='1'/></DiskSection>" SYSTEM("") "</Envelope>", "no diskId");
}

/* --- packages in memory ---------------------------------------------------------------------------------------------------- */

static void put_member(unsigned char **to, const char *name, const char *data, size_t len)
{
	unsigned char *h = *to;
	unsigned sum = 8 * ' ';

	memset(h, 0, 512);
	strcpy((char *)h, name);
	strcpy((char *)h + 100, "0000644");
	sprintf((char *)h + 124, "%011zo", len);
	strcpy((char *)h + 136, "00000000000");
	h[156] = '0';
	memcpy(h + 257, "ustar\00000", 8);
	for (size_t i = 0; i < 512; i++)
		sum += h[i];
	sprintf((char *)h + 148, "%06o", sum);
	memcpy(h + 512, data, len);
	memset(h + 512 + len, 0, (512 - len % 512) % 512);
	*to += 512 + (len + 511) / 512 * 512;
}

/* Whatever is missing at the end: it is a package of which all that is read was there, or an error with a reason. */
static void cut_packages(void **state)
{
	static const char ovf[] = HEAD SYSTEM(CPU("2") MEMORY("256") DISK) "</Envelope>";
	static unsigned char tar[16384];
	static const char mf[] = "SHA256(vm.ovf)= " SHA256_OF_ABC "\n";
	unsigned char *end = tar;
	size_t whole = 0;

	(void)state;
	put_member(&end, "vm.ovf", ovf, sizeof ovf - 1);
	put_member(&end, "d.vmdk", "not a disk", 10);
	end += 1024;
	for (size_t len = 0; len <= (size_t)(end - tar); len++) {
		AUTO_FREE unsigned char *copy = malloc(len + 1); /* of its size, for the sanitizer */
		AUTO_ERROR struct error *err = NULL;
		AUTO_PACKAGE struct package *p = NULL;

		memcpy(copy, tar, len);
		p = package_open_memory(copy, len, &err);
		if (!p && (!err || !*err->message))
			fail_msg("no reason at %zu", len);
		if (p && package_check_file(p, ovf_file(p->ovf, 0), &err) == 0)
			whole++;
	}
	assert_int_equal(whole, 1 + 513); /* neither of the two blocks at the archive's end, or the first of them as a whole */

	end = tar;
	put_member(&end, "vm.ovf", ovf, sizeof ovf - 1);
	put_member(&end, "vm.mf", mf, sizeof mf - 1);
	AUTO_ERROR struct error *err = NULL;
	assert_null(package_open_memory(tar, (size_t)(end - tar) + 1024, &err));
	assert_string_equal(err->reason, "ManifestMismatch");
}

static int collect(void *arg, const void *data, size_t len, struct error **err)
{
	(void)data;
	(void)err;
	*(size_t *)arg += len;
	return 0;
}

/* A disk without a file is an image that the decoder takes (test_ova.sh imports one); here: in one piece, of whole sectors. */
static void empty_disk(void **state)
{
	AUTO_ERROR struct error *err = NULL;
	size_t got = 0;

	(void)state;
	assert_int_equal(feed_empty(1u << 20, collect, &got, &err), 0);
	assert_true(got && got % 512 == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(quantities),        cmocka_unit_test(names),       cmocka_unit_test(manifests),
		cmocka_unit_test(manifest_of_bytes), cmocka_unit_test(descriptors), cmocka_unit_test(cut_packages),
		cmocka_unit_test(empty_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
