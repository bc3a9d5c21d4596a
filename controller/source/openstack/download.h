/* The bytes of an image, each once and in order, whatever becomes of the connection; and whether they are the right ones.
 *
 * Source: Image API v2, GET /v2/images/{id} (size, os_hash_algo, os_hash_value, checksum) and GET /v2/images/{id}/file, which answers a
 * range with 206 where the store can. Where it cannot, a download that breaks begins anew and passes over what came before. */
#pragma once

#include "source/openstack/session.h"

/* image: as the Image API describes it. A sum that is another one: transient ChecksumMismatch. An image that is not there any more, or that nobody
 * may have any more (deactivated) once it was begun: transient IMAGE_GONE, after which another image is to be made. */
int openstack_download(struct openstack_session *s, const json_t *image, source_sink sink, void *arg, struct cancel *cancel,
		       struct error **err);

#define NO_RANGES "NoRanges"
#define IMAGE_GONE "ImageGone"
/* len bytes from byte `from` on, of an image that was begun. Permanent NO_RANGES where the store gives no parts; IMAGE_GONE as above. */
int openstack_download_part(struct openstack_session *s, const char *id, uint64_t from, void *to, size_t len, struct cancel *cancel,
			    struct error **err);
