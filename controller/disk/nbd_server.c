#include "disk/nbd_server.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "disk/bytes.h"

#define OPTION_MAGIC UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define REPLY_MAGIC UINT64_C(0x0003e889045565a9)
#define REQUEST_MAGIC 0x25609513u
#define SIMPLE_REPLY_MAGIC 0x67446698u
#define OPTION_MAX 4096u /* bytes of an option's data */
#define OPTIONS_MAX 64
#define SILENCE_MS (10 * 60 * 1000)

enum { FLAG_FIXED_NEWSTYLE = 1, FLAG_NO_ZEROES = 2 };
enum { OPT_ABORT = 2, OPT_INFO = 6, OPT_GO = 7 };
enum { REP_ACK = 1, REP_INFO = 3 };
#define REP_ERR_UNSUP 0x80000001u
enum { INFO_EXPORT = 0, INFO_BLOCK_SIZE = 3 };
enum { EXPORT_HAS_FLAGS = 1, EXPORT_READ_ONLY = 2, EXPORT_SEND_FLUSH = 4 };
enum { CMD_READ = 0, CMD_WRITE = 1, CMD_DISC = 2, CMD_FLUSH = 3 };
enum { NBD_EPERM = 1, NBD_EINVAL = 22 };

struct connection {
	int socket;
	const struct nbd_export *export;
	struct cancel *cancel;
	unsigned char *buffer;
};

static int hung_up(struct error **err)
{
	return error_set(err, ERROR_TRANSIENT, "HungUp", "it ended in the middle");
}

static int wait_for(struct connection *c, short events, struct error **err)
{
	struct pollfd fds[] = { { .fd = c->socket, .events = events }, { .fd = cancel_fd(c->cancel), .events = POLLIN } };
	uint64_t before = *c->export->requests;

	for (;;) {
		int n = poll(fds, 2, SILENCE_MS);

		if (n < 0 && errno != EINTR)
			return error_set_errno(err, errno, "cannot wait for it");
		if (cancel_check(c->cancel, err) < 0)
			return -1;
		if (n > 0 && fds[0].revents)
			return 0;
		/* It may be busy with another export. */
		if (n == 0 && *c->export->requests == before)
			return error_set(err, ERROR_TRANSIENT, "Stalled", "it did nothing for %d minutes", SILENCE_MS / 60000);
		before = *c->export->requests;
	}
}

static int receive(struct connection *c, void *data, size_t len, struct error **err)
{
	unsigned char *p = data;
	size_t got = 0;

	while (got < len) {
		ssize_t n = recv(c->socket, p + got, len - got, MSG_DONTWAIT);

		if (n > 0) {
			got += (size_t)n;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			if (wait_for(c, POLLIN, err) < 0)
				return -1;
			continue;
		}
		return hung_up(err);
	}
	return 0;
}

static int transmit(struct connection *c, const void *data, size_t len, struct error **err)
{
	const unsigned char *p = data;

	while (len) {
		ssize_t n = send(c->socket, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n >= 0) {
			p += n;
			len -= (size_t)n;
		} else if (errno == EAGAIN) {
			if (wait_for(c, POLLOUT, err) < 0)
				return -1;
		} else if (errno != EINTR) {
			return hung_up(err);
		}
	}
	return 0;
}

static int answer_option(struct connection *c, uint32_t option, uint32_t kind, const void *data, uint32_t len, struct error **err)
{
	unsigned char head[20];

	put_be64(head, REPLY_MAGIC);
	put_be32(head + 8, option);
	put_be32(head + 12, kind);
	put_be32(head + 16, len);
	return transmit(c, head, sizeof head, err) < 0 ? -1 : transmit(c, data, len, err);
}

/* The export, whatever its name, and which sizes of requests are best. */
static int tell_export(struct connection *c, uint32_t option, struct error **err)
{
	unsigned char info[12] = { 0, INFO_EXPORT }, sizes[14] = { 0, INFO_BLOCK_SIZE };

	put_be64(info + 2, c->export->size);
	info[11] = EXPORT_HAS_FLAGS | EXPORT_SEND_FLUSH | (c->export->read ? EXPORT_READ_ONLY : 0);
	put_be32(sizes + 2, 1);
	put_be32(sizes + 6, 4096);
	put_be32(sizes + 10, 1u << 20);
	return answer_option(c, option, REP_INFO, info, sizeof info, err) < 0 ||
			       answer_option(c, option, REP_INFO, sizes, sizeof sizes, err) < 0
		       ? -1
		       : answer_option(c, option, REP_ACK, NULL, 0, err);
}

static int negotiate(struct connection *c, struct error **err)
{
	unsigned char hello[18] = "NBDMAGICIHAVEOPT", head[16];

	hello[17] = FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES;
	if (transmit(c, hello, sizeof hello, err) < 0 || receive(c, head, 4, err) < 0)
		return -1;
	for (int i = 0; i < OPTIONS_MAX; i++) {
		uint32_t option, len;

		if (receive(c, head, sizeof head, err) < 0)
			return -1;
		option = get_be32(head + 8);
		len = get_be32(head + 12);
		if (get_be64(head) != OPTION_MAGIC || len > OPTION_MAX)
			break;
		if (receive(c, c->buffer, len, err) < 0)
			return -1;
		if (option == OPT_GO || option == OPT_INFO) {
			if (tell_export(c, option, err) < 0)
				return -1;
			if (option == OPT_GO)
				return 0;
		} else if (answer_option(c, option, option == OPT_ABORT ? REP_ACK : REP_ERR_UNSUP, NULL, 0, err) < 0) {
			return -1;
		}
	}
	return error_set(err, ERROR_PERMANENT, "ProtocolError", "it does not speak NBD as it should");
}

static int answer(struct connection *c, const unsigned char handle[8], uint32_t error, struct error **err)
{
	unsigned char head[16];

	put_be32(head, SIMPLE_REPLY_MAGIC);
	put_be32(head + 4, error);
	memcpy(head + 8, handle, 8);
	return transmit(c, head, sizeof head, err);
}

static int serve_read(struct connection *c, const unsigned char handle[8], uint64_t offset, uint32_t len, struct error **err)
{
	if (answer(c, handle, 0, err) < 0)
		return -1;
	while (len) {
		uint32_t n = len < NBD_PIECE ? len : NBD_PIECE;

		if (c->export->read(c->export->arg, offset, c->buffer, n, err) < 0 || transmit(c, c->buffer, n, err) < 0)
			return -1;
		offset += n;
		len -= n;
	}
	return 0;
}

static int serve_write(struct connection *c, const unsigned char handle[8], uint64_t offset, uint32_t len, struct error **err)
{
	while (len) {
		uint32_t in = (uint32_t)(offset % NBD_PIECE), n = len < NBD_PIECE - in ? len : NBD_PIECE - in;
		void *room = c->export->room(c->export->arg, offset, n, err);

		if (!room)
			return -1;
		if (receive(c, room, n, err) < 0) {
			memset(room, 0, n); /* what was there is another disk's */
			return -1;
		}
		offset += n;
		len -= n;
	}
	return answer(c, handle, 0, err);
}

/* What a request that is refused brings along. */
static int swallow(struct connection *c, uint32_t len, struct error **err)
{
	while (len) {
		uint32_t n = len < NBD_PIECE ? len : NBD_PIECE;

		if (receive(c, c->buffer, n, err) < 0)
			return -1;
		len -= n;
	}
	return 0;
}

/* 1: the client is done. */
static int serve_request(struct connection *c, struct error **err)
{
	unsigned char head[28];
	const unsigned char *handle = head + 8;
	const struct nbd_export *e = c->export;

	if (receive(c, head, sizeof head, err) < 0)
		return -1;
	uint32_t kind = (uint32_t)head[6] << 8 | head[7], len = get_be32(head + 24);
	uint64_t offset = get_be64(head + 16);
	bool inside = offset <= e->size && len <= e->size - offset;

	if (get_be32(head) != REQUEST_MAGIC)
		return error_set(err, ERROR_PERMANENT, "ProtocolError", "it does not speak NBD as it should");
	(*e->requests)++;
	if (kind == CMD_DISC)
		return 1;
	if (kind == CMD_FLUSH)
		return answer(c, handle, 0, err);
	if (kind == CMD_READ && e->read && inside)
		return serve_read(c, handle, offset, len, err);
	if (kind == CMD_WRITE && !e->read && inside)
		return serve_write(c, handle, offset, len, err);
	if (kind == CMD_WRITE && swallow(c, len, err) < 0)
		return -1;
	return answer(c, handle, inside ? NBD_EPERM : NBD_EINVAL, err);
}

int nbd_serve(int socket, const struct nbd_export *export, struct cancel *cancel, struct error **err)
{
	AUTO_FREE unsigned char *buffer = malloc(NBD_PIECE);
	struct connection c = { .socket = socket, .export = export, .cancel = cancel, .buffer = buffer };
	int result;

	if (!buffer)
		return error_set_errno(err, ENOMEM, "cannot serve the disk");
	if (negotiate(&c, err) < 0)
		return -1;
	while ((result = serve_request(&c, err)) == 0)
		;
	return result < 0 ? -1 : 0;
}
