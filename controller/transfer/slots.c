#include "transfer/slots.h"

#include <pthread.h>

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <sys/eventfd.h>

struct slots {
	int fd; /* an eventfd in semaphore mode: its counter is the number of free slots */
};

struct slots *slots_new(unsigned count)
{
	struct slots *slots = calloc(1, sizeof *slots);

	if (!slots)
		return NULL;
	slots->fd = eventfd(count, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);
	if (slots->fd < 0) {
		free(slots);
		return NULL;
	}
	return slots;
}

void slots_free(struct slots *slots)
{
	if (!slots)
		return;
	close(slots->fd);
	free(slots);
}

int slots_take(struct slots *slots, struct cancel *cancel, struct error **err)
{
	struct pollfd wait[2] = { { .fd = slots->fd, .events = POLLIN }, { .fd = cancel_fd(cancel), .events = POLLIN } };
	uint64_t one;

	for (;;) {
		if (cancel_check(cancel, err) < 0)
			return -1;
		if (read(slots->fd, &one, sizeof one) == sizeof one)
			return 0;
		if (errno != EAGAIN && errno != EINTR)
			return error_set_errno(err, errno, "cannot wait for a free transfer slot");
		poll(wait, 2, -1);
	}
}

void slots_give(struct slots *slots)
{
	uint64_t one = 1;

	while (write(slots->fd, &one, sizeof one) < 0 && errno == EINTR)
		;
}
