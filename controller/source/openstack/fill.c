#include "source/openstack/fill.h"

#include <string.h>

#include "base/backoff.h"

#define ZEROS (256u << 10)
#define PAGE 4096u
#define SWAP_VERSION_AT 1024
#define SWAP_UUID_AT 1036
#define SWAP_MAGIC "SWAPSPACE2"

static const char zeros[ZEROS];

static int only_zeros(const struct fill *f, const char *data, size_t len, struct error **err)
{
	for (size_t i = 0; i < len; i++)
		if (data[i])
			return error_set(err, ERROR_PERMANENT, "DiskLarger",
					 "the cloud gives more than the %llu bytes that the disk is said to have, and there is data in it",
					 (unsigned long long)f->capacity);
	return 0;
}

int fill_push(void *arg, const void *data, size_t len, struct error **err)
{
	struct fill *f = arg;
	uint64_t room = f->capacity - f->passed;
	size_t n = len < room ? len : (size_t)room;

	if (n && f->sink(f->arg, data, n, err) < 0)
		return -1;
	f->passed += n;
	return n < len ? only_zeros(f, (const char *)data + n, len - n, err) : 0;
}

int fill_rest(struct fill *f, struct cancel *cancel, struct error **err)
{
	while (f->passed < f->capacity) {
		uint64_t room = f->capacity - f->passed;
		size_t n = room < sizeof zeros ? (size_t)room : sizeof zeros;

		if (cancel_check(cancel, err) < 0 || f->sink(f->arg, zeros, n, err) < 0)
			return -1;
		f->passed += n;
	}
	return 0;
}

static void put32(char *to, uint32_t n)
{
	for (unsigned i = 0; i < 4; i++)
		to[i] = (char)(n >> (8 * i));
}

int fill_swap(struct fill *f, struct cancel *cancel, struct error **err)
{
	char page[PAGE] = { 0 };
	uint64_t pages = f->capacity / PAGE;

	if (pages < 10) /* less is no swap space */
		return fill_rest(f, cancel, err);
	put32(page + SWAP_VERSION_AT, 1);
	put32(page + SWAP_VERSION_AT + 4, pages - 1 < UINT32_MAX ? (uint32_t)(pages - 1) : UINT32_MAX);
	for (unsigned i = 0; i < 16; i += 4)
		put32(page + SWAP_UUID_AT + i, backoff_random(UINT32_MAX));
	page[SWAP_UUID_AT + 6] = (char)((page[SWAP_UUID_AT + 6] & 0x0f) | 0x40); /* a random UUID, RFC 4122 4.4 */
	page[SWAP_UUID_AT + 8] = (char)((page[SWAP_UUID_AT + 8] & 0x3f) | 0x80);
	memcpy(page + PAGE - strlen(SWAP_MAGIC), SWAP_MAGIC, strlen(SWAP_MAGIC));
	return fill_push(f, page, sizeof page, err) < 0 ? -1 : fill_rest(f, cancel, err);
}
