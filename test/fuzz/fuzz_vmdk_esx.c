// links: disk base
/* The extents of ESXi's snapshots: the first byte says whether vmfsSparse or seSparse, the second how large their disk is, the rest is the extent.
 * They lie upon a flat disk. */
#include <stdio.h>

#include "image_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char parent[] =
		"# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"vmfs\"\nRW 8 VMFS \"flat\"\n";
	static const uint8_t flat[4096] = { 7 };
	char text[300];

	if (size < 2)
		return 0;
	int len = snprintf(
		text, sizeof text,
		"# Disk DescriptorFile\nversion=1\nCID=87654321\nparentCID=12345678\ncreateType=\"x\"\nparentFileNameHint=\"parent\"\n"
		"RW 3 ZERO\nRW %u %s \"delta\"\n",
		1 + data[1] * 33u, data[0] % 2 ? "SESPARSE" : "VMFSSPARSE");
	struct memory_file files[] = { { "image", (const uint8_t *)text, (size_t)len },
				       { "parent", (const uint8_t *)parent, sizeof parent - 1 },
				       { "flat", flat, sizeof flat },
				       { "delta", data + 2, size - 2 },
				       { NULL, NULL, 0 } };
	fuzz_image(files, NULL);
	return 0;
}
