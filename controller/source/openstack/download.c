#include "source/openstack/download.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/backoff.h"
#include "net/stream_digest.h"
#include "source/openstack/answer.h"

/* How often a download that brings nothing more is taken up again. */
#define RESUMES 8

struct download {
	source_sink sink;
	void *sink_arg;
	struct stream_digest *sum;
	uint64_t size;   /* bytes the image has; 0: not told */
	uint64_t passed; /* bytes the sink got */
	uint64_t skip;   /* bytes of this answer that came before */
	bool refused;    /* it was not taken: the connection is not to blame */
	bool no_ranges;  /* the store gives no parts */
};

static int on_begin(void *arg, const struct http_response *head, struct error **err)
{
	struct download *d = arg;
	AUTO_FREE char *range = http_response_header(head, "Content-Range");
	uint64_t from = 0;

	if (head->status == 206 && (!range || sscanf(range, "bytes %" SCNu64 "-", &from) != 1 || from != d->passed))
		return error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the server answered a request for byte %llu with the range \"%s\"",
				 (unsigned long long)d->passed, answer_shown(range).text);
	d->skip = head->status == 206 ? 0 : d->passed;
	return 0;
}

static int on_data(void *arg, const void *data, size_t len, struct error **err)
{
	struct download *d = arg;
	const char *bytes = data;

	if (d->skip >= len) {
		d->skip -= len;
		return 0;
	}
	bytes += d->skip;
	len -= (size_t)d->skip;
	d->skip = 0;
	if (d->size && len > d->size - d->passed) {
		d->refused = true;
		return error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the server sent more than the image's %llu bytes",
				 (unsigned long long)d->size);
	}
	if (d->sum && stream_digest_add(d->sum, bytes, len, err) < 0) {
		d->refused = true;
		return -1;
	}
	if (d->sink(d->sink_arg, bytes, len, err) < 0) {
		d->refused = true;
		return -1;
	}
	d->passed += len;
	return 0;
}

/* The sum the image is to have: os_hash_algo and its value, else the MD5 of old; NULL when the image has none that is known here. */
static const char *expected(const json_t *image, const EVP_MD **md)
{
	const char *algorithm = answer_text(image, "os_hash_algo"), *value = answer_text(image, "os_hash_value");

	*md = algorithm && value ? EVP_get_digestbyname(algorithm) : NULL;
	if (*md)
		return value;
	value = answer_text(image, "checksum");
	*md = value ? EVP_md5() : NULL;
	return *md ? value : NULL;
}

static int check_sum(struct download *d, const json_t *image, const EVP_MD *md, const char *wanted, struct error **err)
{
	unsigned char sum[EVP_MAX_MD_SIZE];
	char hex[2 * EVP_MAX_MD_SIZE + 1];
	const char *name = answer_text(image, "name");

	if (d->size && d->passed != d->size)
		return error_set(err, ERROR_TRANSIENT, "StreamTruncated", "the image's download ended after %llu of %llu bytes",
				 (unsigned long long)d->passed, (unsigned long long)d->size);
	if (!d->sum)
		return 0;
	if (stream_digest_finish(d->sum, sum, err) < 0)
		return -1;
	for (int i = 0; i < EVP_MD_get_size(md); i++)
		snprintf(hex + 2 * i, 3, "%02x", sum[i]);
	if (!strcasecmp(hex, wanted))
		return 0;
	return error_set(err, ERROR_TRANSIENT, "ChecksumMismatch",
			 "the bytes of the image %s are not those that Glance has the checksum of: %s, not %s", answer_shown(name).text,
			 hex, answer_shown(wanted).text);
}

/* The image that is being read is gone, or nobody may have it any more (deactivated): another one may be made. */
static bool is_gone(const struct error *e, bool begun)
{
	return e->class == ERROR_NOT_FOUND || e->code == 410 || (begun && e->code == 403);
}

static int gone(struct error *failed, struct error **err)
{
	error_set_code(err, ERROR_TRANSIENT, IMAGE_GONE, failed->code, "the image was removed or withdrawn while it was read: %s",
		       failed->message);
	return -1;
}

/* --- a part of it ---------------------------------------------------------------------------------------------------------- */

struct part {
	uint64_t from;
	char *to;
	size_t len, passed;
};

static int part_begin(void *arg, const struct http_response *head, struct error **err)
{
	struct part *p = arg;
	AUTO_FREE char *range = http_response_header(head, "Content-Range");
	uint64_t from = 0;

	if (head->status != 206 || !range || sscanf(range, "bytes %" SCNu64 "-", &from) != 1 || from != p->from)
		return error_set(err, ERROR_PERMANENT, NO_RANGES, "the image store does not send parts of images");
	return 0;
}

static int part_data(void *arg, const void *data, size_t len, struct error **err)
{
	struct part *p = arg;

	if (len > p->len - p->passed)
		return error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the server sent more than it was asked for");
	memcpy(p->to + p->passed, data, len);
	p->passed += len;
	return 0;
}

int openstack_download_part(struct openstack_session *s, const char *id, uint64_t from, void *to, size_t len, struct cancel *cancel,
			    struct error **err)
{
	struct backoff backoff = { .base_ms = 300, .cap_ms = 8000 };
	AUTO_FREE char *path = NULL;

	if (asprintf(&path, "/images/%s/file", id) < 0) {
		path = NULL;
		return error_set_errno(err, ENOMEM, "cannot fetch the image");
	}
	for (unsigned tries = 0;; tries++) {
		AUTO_ERROR struct error *failed = NULL;
		struct part p = { .from = from, .to = to, .len = len };

		if (openstack_stream(s, OPENSTACK_IMAGE, path, from, len, part_begin, part_data, &p, cancel, &failed) == 0) {
			if (p.passed == len)
				return 0;
			/* Without a first byte nobody was asked whether it is a part. */
			error_set(&failed, ERROR_TRANSIENT, "StreamTruncated", "the server sent %zu of %zu bytes", p.passed, len);
		}
		if (failed->code == 416 || failed->code == 400 || failed->code == 501)
			return error_set(err, ERROR_PERMANENT, NO_RANGES, "the image store does not send parts of images");
		if (is_gone(failed, true))
			return gone(failed, err);
		if (failed->class != ERROR_TRANSIENT || tries >= RESUMES || cancel_wait(cancel, backoff_next(&backoff)))
			return error_move(err, move_ptr(failed));
	}
}

/* --- all of it ------------------------------------------------------------------------------------------------------------- */

int openstack_download(struct openstack_session *s, const json_t *image, source_sink sink, void *arg, struct cancel *cancel,
		       struct error **err)
{
	struct backoff backoff = { .base_ms = 300, .cap_ms = 8000 };
	struct download d = { .sink = sink, .sink_arg = arg };
	const char *id = answer_id(image, "id"), *wanted;
	const EVP_MD *md = NULL;
	AUTO_FREE char *path = NULL;

	if (!id || asprintf(&path, "/images/%s/file", id) < 0) {
		path = NULL;
		return error_set_errno(err, ENOMEM, "cannot fetch the image");
	}
	wanted = expected(image, &md);
	AUTO_STREAM_DIGEST struct stream_digest *sum = md ? stream_digest_new(md, err) : NULL;
	if (md && !sum)
		return -1;
	d.sum = sum;
	answer_number(image, "size", &d.size);
	for (unsigned tries = 0;; tries++) {
		AUTO_ERROR struct error *failed = NULL;
		uint64_t before = d.passed;

		if (openstack_stream(s, OPENSTACK_IMAGE, path, d.no_ranges ? 0 : d.passed, 0, on_begin, on_data, &d, cancel, &failed) == 0)
			break;
		if (d.size && d.passed == d.size && !d.refused)
			break; /* it ended where the last byte was, too */
		if (d.passed > before) {
			tries = 0;
			backoff_reset(&backoff);
		}
		/* A range that the store cannot give, for which Glance has several answers. */
		if (d.passed && !d.no_ranges && (failed->code == 416 || failed->code == 400 || failed->code == 501)) {
			d.no_ranges = true;
			continue;
		}
		if (is_gone(failed, d.passed > 0))
			return gone(failed, err);
		if (d.refused || failed->class != ERROR_TRANSIENT || tries >= RESUMES || cancel_wait(cancel, backoff_next(&backoff)))
			return error_move(err, move_ptr(failed));
	}
	return check_sum(&d, image, md, wanted, err);
}
