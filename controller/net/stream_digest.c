#include "net/stream_digest.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define HALF (256u << 10)

/* Two halves: one is filled, the other one hashed. The thread begins when a half is full, so that little costs none. */
struct stream_digest {
	EVP_MD_CTX *ctx;
	unsigned char *halves[2];
	unsigned filling; /* the adder's own, as is len */
	size_t len;
	bool started;
	pthread_t thread;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t changed;
	bool full;   /* the half that is not filled waits for the thread, or is in its hands */
	bool ending; /* nothing more comes */
	bool failed; /* the hash library did */
};

struct stream_digest *stream_digest_new(const EVP_MD *algorithm, struct error **err)
{
	struct stream_digest *d = calloc(1, sizeof *d);

	if (!d) {
		error_set_errno(err, ENOMEM, "cannot compute a digest");
		return NULL;
	}
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->changed, NULL);
	d->ctx = EVP_MD_CTX_new();
	d->halves[0] = malloc(HALF);
	d->halves[1] = malloc(HALF);
	if (d->ctx && d->halves[0] && d->halves[1] && EVP_DigestInit_ex(d->ctx, algorithm, NULL))
		return d;
	stream_digest_free(d);
	error_set(err, ERROR_TRANSIENT, "DigestFailed", "cannot compute a digest");
	return NULL;
}

static void *hash(void *arg)
{
	struct stream_digest *d = arg;
	unsigned next = 0; /* the halves come in turns */

	pthread_mutex_lock(&d->lock);
	for (;;) {
		bool ok;

		while (!d->full && !d->ending)
			pthread_cond_wait(&d->changed, &d->lock);
		if (!d->full)
			break;
		pthread_mutex_unlock(&d->lock);
		ok = EVP_DigestUpdate(d->ctx, d->halves[next], HALF);
		next = !next;
		pthread_mutex_lock(&d->lock);
		d->failed = d->failed || !ok;
		d->full = false;
		pthread_cond_broadcast(&d->changed);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

/* The half that was filled goes to the thread, which is through with the other one. */
static int hand_over(struct stream_digest *d, struct error **err)
{
	bool failed;

	if (!d->started) {
		int e = pthread_create(&d->thread, NULL, hash, d);

		if (e)
			return error_set_errno(err, e, "cannot compute a digest");
		d->started = true;
	}
	{
		LOCK_GUARD(&d->lock);
		while (d->full)
			pthread_cond_wait(&d->changed, &d->lock);
		failed = d->failed;
		d->full = true;
		pthread_cond_broadcast(&d->changed);
	}
	d->filling = !d->filling;
	d->len = 0;
	return failed ? error_set(err, ERROR_TRANSIENT, "DigestFailed", "cannot compute a digest") : 0;
}

int stream_digest_add(struct stream_digest *d, const void *data, size_t len, struct error **err)
{
	const unsigned char *from = data;

	while (len) {
		size_t n = len < HALF - d->len ? len : HALF - d->len;

		memcpy(d->halves[d->filling] + d->len, from, n);
		d->len += n;
		from += n;
		len -= n;
		if (d->len == HALF && hand_over(d, err) < 0)
			return -1;
	}
	return 0;
}

/* The thread hashes what it has, and is gone. */
static void join(struct stream_digest *d)
{
	if (!d->started)
		return;
	{
		LOCK_GUARD(&d->lock);
		d->ending = true;
		pthread_cond_broadcast(&d->changed);
	}
	pthread_join(d->thread, NULL);
	d->started = false;
}

int stream_digest_finish(struct stream_digest *d, unsigned char *out, struct error **err)
{
	join(d);
	if (d->failed || !EVP_DigestUpdate(d->ctx, d->halves[d->filling], d->len) || !EVP_DigestFinal_ex(d->ctx, out, NULL))
		return error_set(err, ERROR_TRANSIENT, "DigestFailed", "cannot compute a digest");
	return 0;
}

void stream_digest_free(struct stream_digest *d)
{
	if (!d)
		return;
	join(d);
	EVP_MD_CTX_free(d->ctx);
	free(d->halves[0]);
	free(d->halves[1]);
	pthread_cond_destroy(&d->changed);
	pthread_mutex_destroy(&d->lock);
	free(d);
}
