#include "cmd/advice.h"

#include <stddef.h>
#include <string.h>

#define AGAIN "; copy it again from where it was made, and compare the "
#define CHECKSUMS AGAIN "checksums of both"
#define SIZES AGAIN "sizes of both"

static const struct {
	const char *reason, *advice;
} known[] = {
	{ "InvalidImage", CHECKSUMS },
	{ "InvalidVMDK", CHECKSUMS },
	{ "InvalidStream", CHECKSUMS },
	{ "CorruptGrain", CHECKSUMS },
	{ "FileTruncated", SIZES },
	{ "StreamTruncated", SIZES },
	{ "NotAVMDK", "; look at what it is, or leave --format away" },
	{ "NotAStream", "; give its path instead of a stream, and not the format vmdk-stream" },
	{ "WrongFormat", "; leave --format away, or name that one" },
	{ "CapacityMismatch", "; correct --capacity, or leave it away" },
	{ "DeviceTooSmall", "; name a larger device" },
	{ "DeviceBusy", "; unmount it, or end what uses it" },
};

const char *advice_of(const struct error *err)
{
	for (size_t i = 0; err && i < sizeof known / sizeof *known; i++)
		if (!strcmp(err->reason, known[i].reason))
			return known[i].advice;
	return "";
}

bool advice_blames_input(const struct error *err)
{
	return !strncmp(advice_of(err), AGAIN, sizeof AGAIN - 1);
}
