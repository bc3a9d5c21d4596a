// links: disk base
/* What a program in the sandbox may send us instead of NBD: the server never reads or writes outside of its export, and ends. The first
 * byte says whether the export is read or written. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "disk/nbd_server.h"

#define SIZE 1000u
#define INPUT_MAX 4096u /* so that all answers find room in the socket */

static unsigned char disk[SIZE];

static int on_read(void *arg, uint64_t offset, void *data, size_t len, struct error **err)
{
	(void)arg;
	(void)err;
	if (offset > SIZE || len > SIZE - offset)
		abort();
	memcpy(data, disk + offset, len);
	return 0;
}

static void *on_room(void *arg, uint64_t offset, size_t len, struct error **err)
{
	(void)arg;
	(void)err;
	if (offset > SIZE || len > SIZE - offset)
		abort();
	return disk + offset;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_Atomic uint64_t requests = 0;
	struct nbd_export export = { .size = SIZE, .requests = &requests };
	struct error *err = NULL;
	int ends[2], result;

	if (size < 1 || size > INPUT_MAX || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return 0;
	if (data[0] & 1)
		export.read = on_read;
	else
		export.room = on_room;
	if (write(ends[0], data + 1, size - 1) != (ssize_t)size - 1)
		abort();
	shutdown(ends[0], SHUT_WR);
	result = nbd_serve(ends[1], &export, NULL, &err);
	if ((result < 0) != (err != NULL))
		abort();
	error_free(err);
	close(ends[0]);
	close(ends[1]);
	return 0;
}
