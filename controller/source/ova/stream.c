#include "source/ova/stream.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define RING_SIZE (512u << 10)

struct remote_stream {
	const struct remote *remote;
	const struct remote_version *version;
	struct cancel *cancel;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t changed;
	unsigned char *ring;
	size_t head, len; /* what was fetched and not given back yet */
	size_t lent;      /* of it, what the reader looks at */
	bool ended;       /* nothing more will come */
	bool closing;
	struct error *error; /* why it ended, if not with the file */
};

static int put(void *arg, const void *data, size_t len, struct error **err)
{
	struct remote_stream *s = arg;
	const unsigned char *from = data;

	LOCK_GUARD(&s->lock);
	while (len) {
		size_t at, n;

		while (s->len == RING_SIZE && !s->closing)
			pthread_cond_wait(&s->changed, &s->lock);
		if (s->closing)
			return error_set(err, ERROR_CANCELLED, "Cancelled", "the file is not needed any more");
		at = (s->head + s->len) % RING_SIZE;
		n = RING_SIZE - s->len;
		if (n > RING_SIZE - at)
			n = RING_SIZE - at;
		if (n > len)
			n = len;
		/* The reader does not touch what is free, so the copy needs no lock. */
		pthread_mutex_unlock(&s->lock);
		memcpy(s->ring + at, from, n);
		pthread_mutex_lock(&s->lock);
		s->len += n;
		from += n;
		len -= n;
		pthread_cond_signal(&s->changed);
	}
	return 0;
}

static void *fetch(void *arg)
{
	struct remote_stream *s = arg;
	struct error *err = NULL;
	int result = remote_fetch(s->remote, remote_url(s->remote), 0, 0, s->version, NULL, put, s, s->cancel, &err);

	LOCK_GUARD(&s->lock);
	s->ended = true;
	if (result < 0)
		s->error = err;
	pthread_cond_signal(&s->changed);
	return NULL;
}

struct remote_stream *remote_stream_open(const struct remote *remote, const struct remote_version *version, struct cancel *cancel,
					 struct error **err)
{
	struct remote_stream *s = calloc(1, sizeof *s);
	int failed = ENOMEM;

	if (s) {
		s->remote = remote;
		s->version = version;
		pthread_mutex_init(&s->lock, NULL);
		pthread_cond_init(&s->changed, NULL);
		s->ring = malloc(RING_SIZE);
		s->cancel = cancel_new(cancel);
		if (s->ring && s->cancel)
			failed = pthread_create(&s->thread, NULL, fetch, s);
		s->started = !failed;
	}
	if (!failed)
		return s;
	remote_stream_close(s);
	error_set_errno(err, failed, "cannot fetch the file");
	return NULL;
}

ssize_t remote_stream_read(struct remote_stream *s, const void **data, struct error **err)
{
	LOCK_GUARD(&s->lock);
	s->head = (s->head + s->lent) % RING_SIZE;
	s->len -= s->lent;
	s->lent = 0;
	pthread_cond_signal(&s->changed);
	while (!s->len && !s->ended)
		pthread_cond_wait(&s->changed, &s->lock);
	if (!s->len && s->error)
		return error_set_code(err, s->error->class, s->error->reason, s->error->code, "%s", s->error->message);
	s->lent = s->len < RING_SIZE - s->head ? s->len : RING_SIZE - s->head;
	*data = s->ring + s->head;
	return (ssize_t)s->lent;
}

void remote_stream_close(struct remote_stream *s)
{
	if (!s)
		return;
	if (s->cancel)
		cancel_request(s->cancel);
	pthread_mutex_lock(&s->lock);
	s->closing = true;
	pthread_cond_signal(&s->changed);
	pthread_mutex_unlock(&s->lock);
	if (s->started)
		pthread_join(s->thread, NULL);
	cancel_free(s->cancel);
	error_free(s->error);
	free(s->ring);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
