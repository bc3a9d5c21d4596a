/* The whole of a file on a web server as bytes to pull, fetched by a thread of its own through a bounded buffer. One reader. Internal to
 * source/ova/. */
#pragma once

#include "source/ova/remote.h"

struct remote_stream;

/* Begins to fetch. version as for remote_fetch. */
struct remote_stream *remote_stream_open(const struct remote *remote, const struct remote_version *version, struct cancel *cancel,
					 struct error **err);
/* The next bytes, which are the stream's until the next call; 0 at the end, -1 on failure. Waits for them. */
ssize_t remote_stream_read(struct remote_stream *stream, const void **data, struct error **err);
/* Breaks the transfer off if it runs. Accepts NULL. */
void remote_stream_close(struct remote_stream *stream);
