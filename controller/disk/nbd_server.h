/* The server's side of NBD (the Network Block Device protocol, doc/proto.md of the NBD project) for one client at the other end of a socket
 * pair: fixed newstyle negotiation, one export, simple replies. What the client sends is not trusted. Internal to disk/. */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/error.h"

#define NBD_PIECE (1u << 18) /* bytes that are asked for at once */

/* An error of what follows ends the connection. A request that does not lie in the export is answered with an error. */
struct nbd_export {
	uint64_t size; /* bytes */
	void *arg;
	/* Reads len bytes, at most NBD_PIECE; NULL: the export can only be written. */
	int (*read)(void *arg, uint64_t offset, void *data, size_t len, struct error **err);
	/* Where len bytes for this place, at most NBD_PIECE, are to be put, before the next call; NULL with an error on failure. Without read. */
	void *(*room)(void *arg, uint64_t offset, size_t len, struct error **err);
	_Atomic uint64_t *requests; /* counted here */
};

/* Serves until the client says that it is done, or hangs up. Success means the former. */
int nbd_serve(int socket, const struct nbd_export *export, struct cancel *cancel, struct error **err);
