#include "net/stream_digest.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define PIECE (64u << 10)
#define PIECES 8u
#define AT_ONCE 2u /* pieces that wait before the thread is woken: each time costs both sides */

/* A ring of pieces: one is filled, those that are full are hashed. The thread begins when there are some, so that little costs none. */
struct stream_digest {
	EVP_MD_CTX *ctx;
	unsigned char *ring; /* PIECES of PIECE bytes */
	unsigned filling;    /* the adder's own, as is len */
	size_t len;
	bool started;
	pthread_t thread;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t filled, emptied;
	unsigned full; /* pieces before the one that is filled which wait for the thread, or are in its hands */
	bool ending;   /* nothing more comes */
	bool failed;   /* the hash library did */
};

struct stream_digest *stream_digest_new(const EVP_MD *algorithm, struct error **err)
{
	struct stream_digest *d = calloc(1, sizeof *d);

	if (!d) {
		error_set_errno(err, ENOMEM, "cannot compute a digest");
		return NULL;
	}
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->filled, NULL);
	pthread_cond_init(&d->emptied, NULL);
	d->ctx = EVP_MD_CTX_new();
	d->ring = malloc((size_t)PIECES * PIECE);
	if (d->ctx && d->ring && EVP_DigestInit_ex(d->ctx, algorithm, NULL))
		return d;
	stream_digest_free(d);
	error_set(err, ERROR_TRANSIENT, "DigestFailed", "cannot compute a digest");
	return NULL;
}

static void *hash(void *arg)
{
	struct stream_digest *d = arg;
	unsigned next = 0;

	pthread_mutex_lock(&d->lock);
	for (;;) {
		bool ok;

		while (d->full < AT_ONCE && !d->ending)
			pthread_cond_wait(&d->filled, &d->lock);
		if (!d->full)
			break;
		while (d->full) {
			pthread_mutex_unlock(&d->lock);
			ok = EVP_DigestUpdate(d->ctx, d->ring + (size_t)next * PIECE, PIECE);
			next = (next + 1) % PIECES;
			pthread_mutex_lock(&d->lock);
			d->failed = d->failed || !ok;
			d->full--;
			if (d->full <= PIECES / 2)
				pthread_cond_signal(&d->emptied);
		}
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

/* The piece that was filled goes to the thread, which is through with the next one. */
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
		failed = d->failed;
		if (++d->full >= AT_ONCE)
			pthread_cond_signal(&d->filled);
		while (d->full == PIECES)
			pthread_cond_wait(&d->emptied, &d->lock);
	}
	d->filling = (d->filling + 1) % PIECES;
	d->len = 0;
	return failed ? error_set(err, ERROR_TRANSIENT, "DigestFailed", "cannot compute a digest") : 0;
}

int stream_digest_add(struct stream_digest *d, const void *data, size_t len, struct error **err)
{
	const unsigned char *from = data;

	while (len) {
		size_t n = len < PIECE - d->len ? len : PIECE - d->len;

		memcpy(d->ring + (size_t)d->filling * PIECE + d->len, from, n);
		d->len += n;
		from += n;
		len -= n;
		if (d->len == PIECE && hand_over(d, err) < 0)
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
		pthread_cond_signal(&d->filled);
	}
	pthread_join(d->thread, NULL);
	d->started = false;
}

int stream_digest_finish(struct stream_digest *d, unsigned char *out, struct error **err)
{
	join(d);
	if (d->failed || !EVP_DigestUpdate(d->ctx, d->ring + (size_t)d->filling * PIECE, d->len) || !EVP_DigestFinal_ex(d->ctx, out, NULL))
		return error_set(err, ERROR_TRANSIENT, "DigestFailed", "cannot compute a digest");
	return 0;
}

void stream_digest_free(struct stream_digest *d)
{
	if (!d)
		return;
	join(d);
	EVP_MD_CTX_free(d->ctx);
	free(d->ring);
	pthread_cond_destroy(&d->filled);
	pthread_cond_destroy(&d->emptied);
	pthread_mutex_destroy(&d->lock);
	free(d);
}
