#include "disk/direct.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"

/* Whether the file takes our alignment; kernels before 6.1 do not tell, and what it does not take fails with EINVAL at the first try. */
static bool takes_alignment(int fd)
{
#ifdef STATX_DIOALIGN
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) == 0 && (st.stx_mask & STATX_DIOALIGN))
		return st.stx_dio_offset_align && DIRECT_ALIGN % st.stx_dio_offset_align == 0 && DIRECT_ALIGN % st.stx_dio_mem_align == 0;
#else
	(void)fd;
#endif
	return true;
}

int direct_reopen(int fd, const char *path, int flags)
{
	AUTO_FD int direct = open(path, flags | O_DIRECT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat a, b;

	if (direct < 0 || fstat(fd, &a) < 0 || fstat(direct, &b) < 0 || a.st_dev != b.st_dev || a.st_ino != b.st_ino)
		return -1;
	return takes_alignment(direct) ? move_fd(&direct) : -1;
}

void *direct_buffer(uint64_t size)
{
	return aligned_alloc(DIRECT_ALIGN, (size + DIRECT_ALIGN - 1) / DIRECT_ALIGN * DIRECT_ALIGN);
}
