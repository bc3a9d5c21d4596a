// links: disk base
/* qcow2: the fuzzed bytes are the image; the backing file that it may name is raw. */
#include "image_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t base[8192] = { 1, 2, 3 };
	struct memory_file files[] = { { "image", data, size }, { NULL, base, sizeof base } };

	fuzz_image(files, "qcow2");
	return 0;
}
