#include "source/openstack/image_input.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "source/openstack/answer.h"
#include "source/openstack/download.h"

/* Bytes of the stream that are kept, a power of two: by all disks together 4 MiB (twice DISK_INPUT_AHEAD), by one at least 256 KiB, and no more
 * than that until the disk is under way, when it is known how many there are. A quarter is behind the place that was read last. */
#define WINDOW_LEAST ((size_t)256 << 10)
#define WINDOW_MOST (2 * DISK_INPUT_AHEAD)
#define UNDER_WAY (1u << 20)
/* A table that is further ahead of the stream is asked for by itself; for all else the stream hurries. */
#define HURRY (64u << 20)
#define TABLE (64u << 10)

struct image_input {
	struct openstack_session *session;
	json_t *image;
	void (*unusable)(void *arg, const char *reason);
	void *arg;
	struct cancel *cancel; /* a child of the caller's: ends the download with the input */
	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* guards all below; not held while bytes are received */
	pthread_cond_t changed;
	const _Atomic size_t *most; /* of disk_input_share_ahead; NULL: not told yet */
	unsigned char *window;      /* byte n of the image is at n % size */
	size_t size, wanted;        /* its bytes; what it is to have: what the download may be ahead of the floor */
	uint64_t from, to;          /* what it holds */
	uint64_t floor;             /* what is before it may be dropped */
	bool ended;
	struct error *error; /* why the stream ended, if not well */
};

/* Another window, with the last of what the old one holds. Only the download's thread does this. */
static int resize(struct image_input *in, size_t size, struct error **err)
{
	unsigned char *window = malloc(size);
	uint64_t from = in->to - in->from > size ? in->to - size : in->from;

	if (!window)
		return error_set_errno(err, ENOMEM, "cannot fetch the image");
	for (uint64_t at = from; at < in->to;) {
		size_t a = (size_t)(at % in->size), b = (size_t)(at % size), n = in->size - a < size - b ? in->size - a : size - b;

		n = n < in->to - at ? n : (size_t)(in->to - at);
		memcpy(window + b, in->window + a, n);
		at += n;
	}
	free(in->window);
	in->window = window;
	in->size = size;
	in->from = from;
	return 0;
}

/* The download's sink: waits until what it would overwrite is not needed any more. */
static int put(void *arg, const void *data, size_t len, struct error **err)
{
	struct image_input *in = arg;
	const unsigned char *bytes = data;

	LOCK_GUARD(&in->lock);
	while (len) {
		size_t at, n;
		uint64_t room;

		while (in->floor < UINT64_MAX && in->to >= in->floor + in->wanted && !cancel_requested(in->cancel))
			pthread_cond_wait(&in->changed, &in->lock);
		if (cancel_check(in->cancel, err) < 0 || (in->wanted != in->size && resize(in, in->wanted, err) < 0))
			return -1;
		at = (size_t)(in->to % in->size);
		n = len < in->size - at ? len : in->size - at;
		room = in->floor < UINT64_MAX ? in->floor + in->size - in->to : n;
		n = n < room ? n : (size_t)room;
		if (in->to + n > in->size && in->from < in->to + n - in->size)
			in->from = in->to + n - in->size; /* what the copy overwrites is not there any more */
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

/* The reader is at the place: what is more than a quarter of the window before may be dropped. Where it then waits for the place, the download can
 * bring it: it is less than a window ahead of the floor. */
static void go_to(struct image_input *in, uint64_t place)
{
	size_t most = in->most ? 2 * *in->most : WINDOW_MOST, wanted = WINDOW_LEAST;

	while (place >= UNDER_WAY && wanted < WINDOW_MOST && 2 * wanted <= most)
		wanted *= 2;
	in->wanted = wanted;
	if (in->floor < UINT64_MAX && place > wanted / 4 && place - wanted / 4 > in->floor)
		in->floor = place - wanted / 4;
	pthread_cond_broadcast(&in->changed);
}

/* 1: copied out of the stream, as it comes; 0: it is not in it. */
static int read_stream(struct image_input *in, uint64_t offset, void *data, size_t len, struct error **err)
{
	LOCK_GUARD(&in->lock);
	if (offset < in->from || (len <= TABLE && offset > in->to && offset - in->to > HURRY))
		return 0;
	go_to(in, offset);
	for (size_t done = 0; done < len;) {
		uint64_t place = offset + done;
		size_t at, n = len - done;

		if (in->to <= place) /* it may not all fit into the window */
			go_to(in, place);
		while (in->to <= place && !in->ended)
			pthread_cond_wait(&in->changed, &in->lock);
		if (in->error || in->to <= place)
			return stream_error(in, err);
		if (place < in->from)
			return 0;
		at = (size_t)(place % in->size);
		n = n < in->size - at ? n : in->size - at;
		n = n < in->to - place ? n : (size_t)(in->to - place);
		memcpy((unsigned char *)data + done, in->window + at, n);
		done += n;
	}
	return 1;
}

/* An error that is no end where the disk can come another way, or from another image. */
static int tell(struct image_input *in, struct error *failed, struct error **err)
{
	if (!strcmp(failed->reason, NO_RANGES) || !strcmp(failed->reason, IMAGE_GONE)) {
		in->unusable(in->arg, failed->reason);
		failed->class = ERROR_TRANSIENT;
	}
	return error_move(err, failed);
}

static int read_at(void *arg, uint64_t offset, void *data, size_t len, struct error **err)
{
	struct image_input *in = arg;
	AUTO_ERROR struct error *failed = NULL;
	int found = read_stream(in, offset, data, len, &failed);

	if (found > 0 ||
	    (!found && openstack_download_part(in->session, answer_id(in->image, "id"), offset, data, len, in->cancel, &failed) == 0))
		return 0;
	return tell(in, move_ptr(failed), err);
}

static int await_end(struct image_input *in, struct error **err)
{
	LOCK_GUARD(&in->lock);
	in->floor = UINT64_MAX;
	pthread_cond_broadcast(&in->changed);
	while (!in->ended)
		pthread_cond_wait(&in->changed, &in->lock);
	return in->error ? stream_error(in, err) : 0;
}

static int finish(void *arg, struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;

	return await_end(arg, &failed) == 0 ? 0 : tell(arg, move_ptr(failed), err);
}

static void share_ahead(void *arg, const _Atomic size_t *most)
{
	struct image_input *in = arg;

	LOCK_GUARD(&in->lock);
	in->most = most;
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

struct disk_input *openstack_image_input(struct openstack_session *s, json_t *image, void (*unusable)(void *arg, const char *reason),
					 void *arg, struct cancel *cancel, struct error **err)
{
	static const struct disk_input_ops ops = { .read = read_at, .finish = finish, .share_ahead = share_ahead, .close = close_input };
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
	in->unusable = unusable;
	in->arg = arg;
	in->cancel = cancel_new(cancel);
	in->size = in->wanted = WINDOW_LEAST;
	in->window = malloc(in->size);
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
