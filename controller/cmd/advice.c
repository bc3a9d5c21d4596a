#include "cmd/advice.h"

#include <stddef.h>
#include <string.h>

static const struct {
	const char *reason, *advice;
} known[] = {
	{ "InvalidImage", "; copy it again from where it was made, and compare the checksums of both" },
	{ "InvalidVMDK", "; copy it again from where it was made, and compare the checksums of both" },
	{ "InvalidStream", "; copy it again from where it was made, and compare the checksums of both" },
	{ "CorruptGrain", "; copy it again from where it was made, and compare the checksums of both" },
	{ "FileTruncated", "; copy it again from where it was made, and compare the sizes of both" },
	{ "StreamTruncated", "; copy it again from where it was made, and compare the sizes of both" },
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
