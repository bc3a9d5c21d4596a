#include "source/openstack/image_input.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "source/openstack/answer.h"
#include "source/openstack/download.h"

#define WINDOW (4u << 20) /* bytes of the stream that are kept */
#define BEHIND (1u << 20) /* of them behind the place that was read last */
/* A table that is further ahead of the stream is asked for by itself; for all else the stream hurries. */
#define HURRY (64u << 20)
#define TABLE (64u << 10)

struct image_input {
	struct openstack_session *session;
	json_t *image;
	void (*no_ranges)(void *arg);
	void *arg;
	struct cancel *cancel; /* a child of the caller's: ends the download with the input */
	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* guards all below; not held while bytes are received */
	pthread_cond_t changed;
	unsigned char *window; /* byte n of the image is at n % WINDOW */
	uint64_t from, to;     /* what it holds */
	uint64_t floor;        /* what is before it may be dropped */
	bool ended;
	struct error *error; /* why the stream ended, if not well */
};

/* The download's sink: waits until what it would overwrite is not needed any more. */
static int put(void *arg, const void *data, size_t len, struct error **err)
{
	struct image_input *in = arg;
	const unsigned char *bytes = data;

	LOCK_GUARD(&in->lock);
	while (len) {
		size_t at = (size_t)(in->to % WINDOW), n = len < WINDOW - at ? len : WINDOW - at;
		uint64_t room;

		while (in->floor < UINT64_MAX && in->to >= in->floor + WINDOW && !cancel_requested(in->cancel))
			pthread_cond_wait(&in->changed, &in->lock);
		if (cancel_check(in->cancel, err) < 0)
			return -1;
		room = in->floor < UINT64_MAX ? in->floor + WINDOW - in->to : n;
		n = n < room ? n : (size_t)room;
		if (in->to + n > WINDOW && in->from < in->to + n - WINDOW)
			in->from = in->to + n - WINDOW; /* what the copy overwrites is not there any more */
		pthread_mutex_unlock(&in->lock);
		memcpy(in->window + at, bytes, n);
		pthread_mutex_lock(&in->lock);
		in->to += n;
		bytes += n;
		len -= n;
		pthread_cond_broadcast(&in->changed);
	}
	return 0;
}

static void *fetch(void *arg)
{
	struct image_input *in = arg;
	struct error *err = NULL;
	int result = openstack_download(in->session, in->image, put, in, in->cancel, &err);

	LOCK_GUARD(&in->lock);
	in->ended = true;
	in->error = result < 0 ? err : NULL;
	pthread_cond_broadcast(&in->changed);
	return NULL;
}

static int stream_error(const struct image_input *in, struct error **err)
{
	if (!in->error)
		return error_set(err, ERROR_TRANSIENT, "StreamTruncated", "the image's download ended after %llu bytes",
				 (unsigned long long)in->to);
	return error_set_code(err, in->error->class, in->error->reason, in->error->code, "%s", in->error->message);
}

/* 1: copied out of the stream; 0: it is not in it. */
static int read_stream(struct image_input *in, uint64_t offset, void *data, size_t len, struct error **err)
{
	LOCK_GUARD(&in->lock);
	if (offset < in->from || (len <= TABLE && offset > in->to && offset - in->to > HURRY))
		return 0;
	if (offset > BEHIND && offset - BEHIND > in->floor && in->floor < UINT64_MAX)
		in->floor = offset - BEHIND;
	pthread_cond_broadcast(&in->changed);
	while (in->to < offset + len && !in->ended)
		pthread_cond_wait(&in->changed, &in->lock);
	if (in->error || in->to < offset + len)
		return stream_error(in, err);
	if (offset < in->from)
		return 0;
	for (size_t done = 0; done < len;) {
		size_t at = (size_t)((offset + done) % WINDOW), n = len - done < WINDOW - at ? len - done : WINDOW - at;

		memcpy((unsigned char *)data + done, in->window + at, n);
		done += n;
	}
	return 1;
}

static int read_at(void *arg, uint64_t offset, void *data, size_t len, struct error **err)
{
	struct image_input *in = arg;
	AUTO_ERROR struct error *failed = NULL;
	int found = len <= WINDOW - BEHIND ? read_stream(in, offset, data, len, err) : 0;

	if (found)
		return found < 0 ? -1 : 0;
	if (openstack_download_part(in->session, answer_id(in->image, "id"), offset, data, len, in->cancel, &failed) == 0)
		return 0;
	if (!strcmp(failed->reason, NO_RANGES)) {
		in->no_ranges(in->arg);
		failed->class = ERROR_TRANSIENT; /* there is another way */
	}
	return error_move(err, move_ptr(failed));
}

static int finish(void *arg, struct error **err)
{
	struct image_input *in = arg;

	LOCK_GUARD(&in->lock);
	in->floor = UINT64_MAX;
	pthread_cond_broadcast(&in->changed);
	while (!in->ended)
		pthread_cond_wait(&in->changed, &in->lock);
	return in->error ? stream_error(in, err) : 0;
}

static void close_input(void *arg)
{
	struct image_input *in = arg;

	if (in->started) {
		cancel_request(in->cancel);
		pthread_mutex_lock(&in->lock);
		pthread_cond_broadcast(&in->changed);
		pthread_mutex_unlock(&in->lock);
		pthread_join(in->thread, NULL);
	}
	cancel_free(in->cancel);
	error_free(in->error);
	json_decref(in->image);
	free(in->window);
	pthread_cond_destroy(&in->changed);
	pthread_mutex_destroy(&in->lock);
	free(in);
}

DEFINE_CLEANUP(struct image_input, image_input_free_p, close_input)

struct disk_input *openstack_image_input(struct openstack_session *s, json_t *image, void (*no_ranges)(void *arg), void *arg,
					 struct cancel *cancel, struct error **err)
{
	static const struct disk_input_ops ops = { .read = read_at, .finish = finish, .close = close_input };
	CLEANUP(image_input_free_p) struct image_input *in = calloc(1, sizeof *in);
	const char *name = answer_text(image, "name");
	uint64_t size = 0;
	int failed;

	if (!in)
		goto memory;
	pthread_mutex_init(&in->lock, NULL);
	pthread_cond_init(&in->changed, NULL);
	in->session = s;
	in->image = json_incref(image);
	in->no_ranges = no_ranges;
	in->arg = arg;
	in->cancel = cancel_new(cancel);
	in->window = malloc(WINDOW);
	if (!in->cancel || !in->window)
		goto memory;
	if (!answer_number(image, "size", &size) || !size) {
		error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "Glance does not tell the size of the image %s", name ? name : "");
		return NULL;
	}
	failed = pthread_create(&in->thread, NULL, fetch, in);
	if (failed) {
		error_set_errno(err, failed, "cannot fetch the image");
		return NULL;
	}
	in->started = true;
	return disk_input_new(name ? name : "the image", size, &ops, move_ptr(in), err);
memory:
	error_set_errno(err, ENOMEM, "cannot fetch the image");
	return NULL;
}
