/* A digest of bytes as they pass, computed beside whoever passes them on: by a thread of its own, half a MiB behind at most. Adding costs a
 * copy. One thread at a time. */
#pragma once

#include <openssl/evp.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/error.h"

struct stream_digest;

struct stream_digest *stream_digest_new(const EVP_MD *algorithm, struct error **err);
/* Waits while the thread is behind. */
int stream_digest_add(struct stream_digest *d, const void *data, size_t len, struct error **err);
/* Of all that was added: out has room for EVP_MAX_MD_SIZE bytes; the length is EVP_MD_get_size of the algorithm. Once. */
int stream_digest_finish(struct stream_digest *d, unsigned char *out, struct error **err);
void stream_digest_free(struct stream_digest *d); /* accepts NULL */

DEFINE_CLEANUP(struct stream_digest, stream_digest_free_p, stream_digest_free)
#define AUTO_STREAM_DIGEST CLEANUP(stream_digest_free_p)
