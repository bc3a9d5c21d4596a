// links: disk base
/* The whole way from a stream to a file: the digest on the way is that of the file, and its data is not more than the disk. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "disk/pipeline.h"

static char path[64];
static struct disk_workers *workers;

static void remove_file(void)
{
	unlink(path);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	snprintf(path, sizeof path, "/dev/shm/fuzz_pipeline.%d", (int)getpid());
	workers = disk_workers_new(2, NULL);
	return atexit(remove_file) || !workers;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct disk_pipeline_options options = { .path = path, .workers = workers, .no_sync = true };
	struct disk_pipeline *p = disk_pipeline_new(&options, NULL);
	AUTO_ERROR struct error *err = NULL;
	struct disk_result result;
	int failed = !p;

	for (size_t at = 0; !failed && at < size; at += 1500)
		failed = disk_pipeline_push(p, data + at, size - at < 1500 ? size - at : 1500, &err);
	if (!failed && disk_pipeline_finish(p, &result, &err) == 0) {
		char digest[DISK_DIGEST_TEXT_SIZE];
		struct stat st;

		if (stat(path, &st) || (uint64_t)st.st_size != result.capacity || result.data_bytes > result.capacity ||
		    disk_digest_file(path, NULL, digest, NULL) || strcmp(digest, result.digest))
			abort();
	}
	disk_pipeline_free(p);
	return 0;
}
