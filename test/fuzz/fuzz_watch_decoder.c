// links: store/kube json base PkgConfig::jansson
/* The body of a watch: the same events and the same end, however it is cut. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "store/kube/watch_decoder.h"
#include "json/codec.h"

#define CHECK(condition)          \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

struct seen {
	uint64_t hash;
	bool failed;
};

static void on_event(void *arg, enum watch_type type, json_t *object)
{
	struct seen *seen = arg;
	const char *version = json_path_string(object, "metadata.resourceVersion");

	CHECK(version && (type == WATCH_BOOKMARK || json_path_string(object, "metadata.name")));
	seen->hash = seen->hash * 31 + (uint64_t)type + 1;
	for (; *version; version++)
		seen->hash = (seen->hash ^ (unsigned char)*version) * 1099511628211u;
}

static struct seen decode(const uint8_t *data, size_t size, size_t step)
{
	struct seen seen = { 0 };
	struct watch_decoder *d = watch_decoder_new(on_event, &seen);
	struct error *err = NULL;

	for (size_t at = 0; at < size && !seen.failed; at += step)
		seen.failed = watch_decoder_feed(d, data + at, size - at < step ? size - at : step, &err) < 0;
	CHECK(seen.failed == (err != NULL));
	CHECK(!err || (err->message && *err->reason));
	error_free(err);
	watch_decoder_free(d);
	return seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct seen whole = decode(data, size, size + 1), single = decode(data, size, 1);

	CHECK(whole.hash == single.hash && whole.failed == single.failed);
	return 0;
}
