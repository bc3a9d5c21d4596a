// links: disk base
/* Descriptors of VMDKs: by the parser alone, and as images of which every file is 8 KiB of data, or the descriptor itself. */
#include "disk/vmdk_descriptor.h"
#include "image_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t flat[8192] = { 7 };
	struct memory_file files[] = { { "image", data, size }, { NULL, flat, sizeof flat } };
	struct memory_file itself[] = { { "image", data, size }, { NULL, data, size } };
	struct vmdk_descriptor d = { 0 };
	AUTO_ERROR struct error *err = NULL;

	if (vmdk_descriptor_parse((const char *)data, size, "fuzzed", &d, &err) == 0) {
		uint64_t sectors = 0;

		CHECK(!err && strlen(d.create_type) < sizeof d.create_type && d.sectors <= INT64_MAX / 512);
		for (size_t i = 0; i < d.extent_count; i++) {
			sectors += d.extents[i].sectors;
			CHECK(!d.extents[i].file == (d.extents[i].type == VMDK_ZERO) && d.extents[i].offset <= INT64_MAX / 512);
		}
		CHECK(sectors == d.sectors);
		vmdk_descriptor_clear(&d);
	} else {
		CHECK(err && !d.extents && !d.parent);
	}
	fuzz_image(files, "vmdk");
	fuzz_image(itself, "vmdk");
	return 0;
}
