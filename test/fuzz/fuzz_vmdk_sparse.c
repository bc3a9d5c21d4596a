// links: disk base
/* Hosted sparse VMDKs with what is in them: header, descriptor, tables, grains, footer. A parent that is named is the same file. */
#include "image_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct memory_file files[] = { { "image", data, size }, { NULL, data, size } };

	fuzz_image(files, "vmdk");
	return 0;
}
