#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "disk/direct.h"
#include "disk/pipeline.h"
#include "disk/processors.h"
#include "disk/unit.h"

#define DATA_OWN 2 /* of each pipeline, whatever the others do */
#define WRITERS 4  /* that one waits for the storage while the other has it */
/* Blocks that are used at once, however many processors there are: as many as memory allows beside the buffers of data, 1 MiB each. */
#define BLOCKS_MAX 6
#define BLOCKS_OF_MANY 4
#define MANY 5 /* pipelines */

struct queue {
	struct unit *first, **last;
};

/* The head of a buffer that nobody uses. */
struct spare {
	struct spare *next;
};

struct disk_workers {
	pthread_mutex_t lock; /* guards all but count and threads */
	pthread_cond_t work, write, given;
	struct queue decode, written; /* units that wait for a worker, for a writer */
	struct spare *data, *blocks;
	unsigned data_extra; /* buffers beyond the pipelines' two that may still be taken */
	unsigned blocks_used, blocks_made, blocks_most;
	unsigned pipelines;
	bool stopped;
	unsigned count, writers;
	pthread_t threads[DISK_WORKERS_MAX + WRITERS]; /* the workers, then the writers */
};

static void enqueue(struct queue *q, struct unit *u)
{
	u->next = NULL;
	*q->last = u;
	q->last = &u->next;
}

static struct unit *dequeue(struct queue *q)
{
	struct unit *u = q->first;

	if (u && !(q->first = u->next))
		q->last = &q->first;
	return u;
}

static void *take_spare(struct spare **list, size_t size)
{
	struct spare *s = *list;

	if (!s)
		return direct_buffer(size);
	*list = s->next;
	return s;
}

static void give_spare(struct spare **list, void *buffer)
{
	struct spare *s = buffer;

	s->next = *list;
	*list = s;
}

/* How many blocks may be used now. The caller holds the lock. */
static unsigned blocks_allowed(const struct disk_workers *w)
{
	return w->pipelines < MANY || w->blocks_most < BLOCKS_OF_MANY ? w->blocks_most : BLOCKS_OF_MANY;
}

/* NULL when memory is out. The caller holds the lock. */
static unsigned char *take_block(struct disk_workers *w)
{
	bool fresh = !w->blocks;
	void *block = take_spare(&w->blocks, DISK_DIGEST_BLOCK);

	w->blocks_used += block != NULL;
	w->blocks_made += block && fresh;
	return block;
}

/* The caller holds the lock. */
static void give_block(struct disk_workers *w, unsigned char *block)
{
	w->blocks_used--;
	if (w->blocks_made > blocks_allowed(w)) {
		free(block);
		w->blocks_made--;
	} else {
		give_spare(&w->blocks, block);
	}
	pthread_cond_signal(&w->work);
}

static void free_spare(struct spare **list)
{
	struct spare *s;

	while ((s = *list)) {
		*list = s->next;
		free(s);
	}
}

/* The caller holds the lock. */
static void give_data(struct disk_workers *w, struct workers_share *share, unsigned char *data)
{
	w->data_extra += share->held-- > DATA_OWN;
	give_spare(&w->data, data);
	pthread_cond_broadcast(&w->given);
}

/* Gives back what the unit does not need: its data once it is in a block, the block when the data is one. */
static void give_unneeded(struct disk_workers *w, struct unit *u, bool all)
{
	LOCK_GUARD(&w->lock);
	if (u->data && (all || u->bytes != u->data))
		give_data(w, u->share, move_ptr(u->data));
	if (u->block_buffer && (all || u->bytes != u->block_buffer))
		give_block(w, move_ptr(u->block_buffer));
}

static void finish(struct disk_workers *w, struct unit *u)
{
	give_unneeded(w, u, true);
	u->done(u);
}

static void *work(void *arg)
{
	struct disk_workers *w = arg;
	struct unit_tools *tools = unit_tools_new(NULL);

	for (;;) {
		bool write = false;
		struct unit *u;

		{
			LOCK_GUARD(&w->lock);
			while (!w->stopped && (!w->decode.first || w->blocks_used >= blocks_allowed(w)))
				pthread_cond_wait(&w->work, &w->lock);
			u = dequeue(&w->decode);
			if (!u)
				break;
			u->block_buffer = take_block(w);
		}
		if (!tools || !u->block_buffer) {
			error_set_errno(&u->error, ENOMEM, "cannot decode the disk");
		} else if (unit_decode(tools, u, &u->error) == 0) {
			give_unneeded(w, u, false);
			unit_examine(tools, u, &write, &u->error);
		}
		if (u->error || !write) {
			finish(w, u);
			continue;
		}
		LOCK_GUARD(&w->lock);
		enqueue(&w->written, u);
		pthread_cond_signal(&w->write);
	}
	unit_tools_free(tools);
	return NULL;
}

static void *write_blocks(void *arg)
{
	struct disk_workers *w = arg;

	for (;;) {
		struct unit *u;

		{
			LOCK_GUARD(&w->lock);
			while (!w->stopped && !w->written.first)
				pthread_cond_wait(&w->write, &w->lock);
			u = dequeue(&w->written);
		}
		if (!u)
			return NULL;
		unit_write(u, &u->error);
		finish(w, u);
	}
}

/* The workers, or the writers behind them. */
static int start(struct disk_workers *w, unsigned *count, unsigned wanted, void *(*run)(void *), struct error **err)
{
	for (; *count < wanted; ++*count) {
		int failed = pthread_create(&w->threads[w->count + w->writers], NULL, run, w);

		if (failed)
			return error_set_errno(err, failed, "cannot start the disk workers");
	}
	return 0;
}

struct disk_workers *disk_workers_new(unsigned threads, struct error **err)
{
	struct disk_workers *w = calloc(1, sizeof *w);

	if (!w) {
		error_set_errno(err, ENOMEM, "cannot start the disk workers");
		return NULL;
	}
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->work, NULL);
	pthread_cond_init(&w->write, NULL);
	pthread_cond_init(&w->given, NULL);
	w->decode.last = &w->decode.first;
	w->written.last = &w->written.first;
	threads = threads ? threads : processors_default();
	threads = threads < DISK_WORKERS_MAX ? threads : DISK_WORKERS_MAX;
	w->data_extra = 1;
	w->blocks_most = threads + WRITERS < BLOCKS_MAX ? threads + WRITERS : BLOCKS_MAX;
	if (start(w, &w->count, threads, work, err) < 0 || start(w, &w->writers, WRITERS, write_blocks, err) < 0) {
		disk_workers_free(w);
		return NULL;
	}
	return w;
}

void disk_workers_free(struct disk_workers *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->stopped = true;
	pthread_cond_broadcast(&w->work);
	pthread_cond_broadcast(&w->write);
	pthread_mutex_unlock(&w->lock);
	for (unsigned i = 0; i < w->count + w->writers; i++)
		pthread_join(w->threads[i], NULL);
	free_spare(&w->data);
	free_spare(&w->blocks);
	pthread_cond_destroy(&w->work);
	pthread_cond_destroy(&w->write);
	pthread_cond_destroy(&w->given);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

void workers_submit(struct disk_workers *w, struct unit *u)
{
	LOCK_GUARD(&w->lock);
	enqueue(&w->decode, u);
	pthread_cond_signal(&w->work);
}

void workers_enter(struct disk_workers *w)
{
	LOCK_GUARD(&w->lock);
	w->pipelines++;
}

unsigned workers_pipelines(struct disk_workers *w)
{
	LOCK_GUARD(&w->lock);
	return w->pipelines;
}

void workers_leave(struct disk_workers *w)
{
	LOCK_GUARD(&w->lock);
	w->pipelines--;
	pthread_cond_broadcast(&w->work); /* more blocks may be allowed now */
	if (w->pipelines)
		return;
	free_spare(&w->data);
	free_spare(&w->blocks);
	w->blocks_made = w->blocks_used;
}

unsigned char *workers_take_data(struct disk_workers *w, struct workers_share *share)
{
	unsigned char *data;

	LOCK_GUARD(&w->lock);
	while (share->held >= DATA_OWN && !w->data_extra)
		pthread_cond_wait(&w->given, &w->lock);
	data = take_spare(&w->data, UNIT_DATA);
	if (data)
		w->data_extra -= ++share->held > DATA_OWN;
	return data;
}

void workers_give_data(struct disk_workers *w, struct workers_share *share, unsigned char *data)
{
	LOCK_GUARD(&w->lock);
	give_data(w, share, data);
}
