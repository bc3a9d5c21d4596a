#include "transfer/job.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "disk/image.h"
#include "transfer/journal.h"

/* How often a disk is fetched again within one export, after errors that may pass. */
#define DISK_TRIES 4

struct disk_thread {
	struct job *job;
	struct source_export *export;
	size_t index; /* in the model and in the export */
	pthread_t thread;
	bool started;
	struct error *error; /* read after the join */
	pthread_mutex_t *lock;
	pthread_cond_t *woken;
	unsigned *running; /* guarded by lock */
};

struct job *job_new(const struct transfer_job_options *o, struct cancel *parent, struct error **err)
{
	struct job *job = calloc(1, sizeof *job);

	if (!job)
		goto fail;
	*job = (struct job){ .source = o->source, .model = o->model, .ledger = o->ledger, .ledger_arg = o->ledger_arg };
	job->key = strdup(o->key);
	job->directory = strdup(o->directory);
	job->disks = calloc(o->model->disk_count + 1, sizeof *job->disks);
	job->cancel = cancel_new(parent);
	if (!job->key || !job->directory || !job->disks || !job->cancel)
		goto fail;
	job->disk_count = o->model->disk_count;
	for (size_t i = 0; i < job->disk_count; i++) {
		struct job_disk *disk = &job->disks[i];

		disk->capacity = o->model->disks[i].capacity;
		if (journal_find(job->directory, i, &o->model->disks[i], &disk->result)) {
			disk->transferred = disk->capacity;
			disk->done = disk->found = true;
		} else if (__builtin_add_overflow(job->need, o->model->disks[i].allocated ? o->model->disks[i].allocated : disk->capacity,
						  &job->need)) {
			job->need = UINT64_MAX;
		}
	}
	job->kept = journal_kept_bytes(job->directory, o->model);
	/* From here on the job owns what release gives back. */
	job->release = o->release;
	job->release_arg = o->release_arg;
	return job;
fail:
	job_free(job);
	error_set_errno(err, ENOMEM, "cannot start the transfer");
	return NULL;
}

void job_free(struct job *job)
{
	if (!job)
		return;
	if (job->release)
		job->release(job->release_arg);
	cancel_free(job->cancel);
	error_free(job->error);
	free(job->disks);
	free(job->directory);
	free(job->key);
	free(job);
}

uint64_t job_missing_bytes(const struct job *job)
{
	uint64_t passed = 0;

	if (job->ended)
		return 0;
	for (size_t i = 0; i < job->disk_count; i++)
		passed += job->disks[i].found ? 0 : (uint64_t)job->disks[i].transferred;
	passed = passed < job->kept ? job->kept : passed;
	return passed < job->need ? job->need - passed : 0;
}

struct feed {
	struct disk_pipeline *pipeline;
	struct series *received;
};

static int push(void *arg, const void *data, size_t len, struct error **err)
{
	const struct feed *feed = arg;

	series_add(feed->received, (double)len);
	return disk_pipeline_push(feed->pipeline, data, len, err);
}

DEFINE_CLEANUP(struct disk_pipeline, pipeline_free_p, disk_pipeline_free)

DEFINE_CLEANUP(struct disk_image, image_close_p, disk_image_close)

/* The files of a disk that a source serves. */
struct disk_files {
	struct job *job;
	struct source_export *export;
	size_t index;
};

static struct disk_input *open_file(void *arg, const char *name, struct error **err)
{
	const struct disk_files *f = arg;

	return f->job->source->ops->export_open(f->export, f->index, name, f->job->cancel, err);
}

/* Reads a disk whose parts can be read in any order; from where an earlier try of the same export got to. */
static int read_disk(struct job *job, struct source_export *export, size_t i, struct disk_pipeline *pipeline, bool again,
		     struct error **err)
{
	struct disk_files files = { .job = job, .export = export, .index = i };
	struct disk_set set = { .open = open_file, .arg = &files };
	struct disk_input *in = open_file(&files, NULL, err);
	CLEANUP(image_close_p) struct disk_image *image = in ? disk_image_open(in, &set, export->disks[i].format, err) : NULL;

	return image ? disk_pipeline_pull(pipeline, image, again ? disk_pipeline_resume(pipeline) : 0, err) : -1;
}

/* One try at a disk: stream or read, decode, write, record. again: the export is the one of an earlier try. */
static int fetch_disk(struct job *job, struct source_export *export, size_t i, bool again, struct error **err)
{
	const struct vm_disk *disk = &job->model->disks[i];
	char name[JOURNAL_DISK_NAME_SIZE];
	AUTO_FREE char *path = NULL, *blocks = journal_blocks_path(job->directory, i), *identity = NULL;
	struct disk_result result;

	journal_disk_name(i, name);
	if (asprintf(&path, "%s/%s", job->directory, name) < 0)
		path = NULL;
	if (asprintf(&identity, "%s %s", job->model->source_id ? job->model->source_id : "", disk->id ? disk->id : "") < 0)
		identity = NULL;
	if (!path || !blocks || !identity)
		return error_set_errno(err, ENOMEM, "cannot write the disk");
	job->disks[i].transferred = 0;
	struct disk_pipeline_options options = {
		.format = export->disks[i].format,
		.path = path,
		.capacity = disk->capacity,
		.workers = job->workers,
		.cancel = job->cancel,
		.guest_bytes = &job->disks[i].transferred,
		.journal = blocks,
		.identity = identity,
	};
	if (export->disks[i].by_place)
		options.format = NULL; /* the image's, not a stream's */
	CLEANUP(pipeline_free_p) struct disk_pipeline *pipeline = disk_pipeline_new(&options, err);
	if (!pipeline)
		return -1;
	struct feed feed = { pipeline, job->received };
	if (export->disks[i].by_place ? read_disk(job, export, i, pipeline, again, err) < 0
				      : job->source->ops->export_stream(export, i, push, &feed, job->cancel, err) < 0)
		return -1;
	if (disk_pipeline_finish(pipeline, &result, err) < 0)
		return -1;
	if (journal_record(job->directory, i, disk, &result, err) < 0)
		return -1;
	series_add(job->written, (double)result.data_bytes);
	job->disks[i].result = result;
	job->disks[i].transferred = disk->capacity;
	job->disks[i].done = true;
	return 0;
}

static void *disk_main(void *arg)
{
	struct disk_thread *t = arg;
	struct job *job = t->job;
	struct backoff backoff = { .base_ms = 500, .cap_ms = 10000 };
	const char *label = job->model->disks[t->index].label;

	for (unsigned attempt = 1;; attempt++) {
		AUTO_ERROR struct error *err = NULL;
		int result = slots_take(job->streams, job->cancel, &err);

		if (result == 0) {
			result = fetch_disk(job, t->export, t->index, attempt > 1, &err);
			slots_give(job->streams);
		}
		if (result == 0)
			break;
		if (err && err->class == ERROR_TRANSIENT && attempt < DISK_TRIES && err->code != ENOSPC &&
		    !cancel_wait(job->cancel, backoff_next(&backoff)))
			continue;
		error_wrap(&err, "disk %zu (%s)", t->index, label ? label : "no label");
		t->error = move_ptr(err);
		break;
	}
	LOCK_GUARD(t->lock);
	(*t->running)--;
	pthread_cond_signal(t->woken);
	return NULL;
}

static unsigned percent_of(const struct job *job)
{
	uint64_t passed = 0, total = 0;

	for (size_t i = 0; i < job->disk_count; i++) {
		passed += job->disks[i].transferred / 1024;
		total += job->disks[i].capacity / 1024;
	}
	return total ? (unsigned)(passed >= total ? 100 : passed * 100 / total) : 100;
}

/* Streams all disks that are missing, tells of progress, and returns the first disk's error in the model's order. */
static int stream_disks(struct job *job, struct source_export *export, struct error **err)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t woken;
	pthread_condattr_t attr;
	unsigned running = 0;
	int result = 0;
	AUTO_FREE struct disk_thread *threads = calloc(job->disk_count + 1, sizeof *threads);

	if (!threads)
		return error_set_errno(err, ENOMEM, "cannot start the disks' transfers");
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&woken, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < job->disk_count; i++) {
		if (job->disks[i].done)
			continue;
		threads[i] = (struct disk_thread){
			.job = job, .export = export, .index = i, .lock = &lock, .woken = &woken, .running = &running
		};
		int failed = pthread_create(&threads[i].thread, NULL, disk_main, &threads[i]);
		if (failed)
			error_set_errno(&threads[i].error, failed, "cannot start the transfer of disk %zu", i);
		else
			running++;
		threads[i].started = !failed;
	}
	while (running) {
		struct timespec until;

		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += job->notify_ms / 1000;
		until.tv_nsec += (long)(job->notify_ms % 1000) * 1000000;
		if (until.tv_nsec >= 1000000000) {
			until.tv_sec++;
			until.tv_nsec -= 1000000000;
		}
		if (pthread_cond_timedwait(&woken, &lock, &until) == ETIMEDOUT) {
			pthread_mutex_unlock(&lock);
			for (size_t i = 0; i < job->disk_count; i++)
				job->disks[i].shown = job->disks[i].transferred;
			job->source->ops->export_progress(export, percent_of(job));
			job->notify(job->notify_arg, job->key);
			pthread_mutex_lock(&lock);
		}
	}
	pthread_mutex_unlock(&lock);
	for (size_t i = 0; i < job->disk_count; i++) {
		if (threads[i].started)
			pthread_join(threads[i].thread, NULL);
		if (threads[i].error && !result)
			result = error_move(err, threads[i].error);
		else
			error_free(threads[i].error);
	}
	pthread_cond_destroy(&woken);
	return result;
}

/* mkdir -p, for us alone. */
static int make_directory(const char *directory, struct error **err)
{
	AUTO_FREE char *path = strdup(directory);

	for (char *p = path; path && (p = strchr(p + 1, '/'));) {
		*p = 0;
		mkdir(path, 0700);
		*p = '/';
	}
	if (!path || (mkdir(directory, 0700) < 0 && errno != EEXIST))
		return error_set_errno(err, errno, "cannot create the directory %s", directory);
	return 0;
}

static int export_disks(struct job *job, struct error **err)
{
	const struct source_ops *ops = job->source->ops;
	struct source_export *export;
	AUTO_ERROR struct error *end_error = NULL;
	int result;

	export = ops->export_begin(job->source, job->model, job->ledger, job->ledger_arg, job->cancel, err);
	if (!export)
		return -1;
	if (export->disk_count != job->model->disk_count)
		result = error_set(err, ERROR_PERMANENT, "DisksMissing", "the source offers %zu disks of %s, expected %zu",
				   export->disk_count, job->model->name, job->model->disk_count);
	else
		result = stream_disks(job, export, err);
	/* When all disks are here, an export that does not end well takes nothing away from them. */
	ops->export_end(export, result == 0, &end_error);
	return result;
}

static int run(struct job *job, struct error **err)
{
	bool all = true;

	if (make_directory(job->directory, err) < 0 || journal_save_model(job->directory, job->model, err) < 0)
		return -1;
	for (size_t i = 0; i < job->disk_count; i++)
		all = all && job->disks[i].done;
	if (all)
		return 0;
	if (slots_take(job->jobs, job->cancel, err) < 0)
		return -1;
	int result = export_disks(job, err);
	slots_give(job->jobs);
	return result;
}

void *job_run(void *arg)
{
	struct job *job = arg;
	struct error *err = NULL;

	if (run(job, &err) < 0)
		job->error = err;
	if (job->release)
		job->release(job->release_arg);
	job->release = NULL;
	job->ended = true;
	job->notify(job->notify_arg, job->key);
	return NULL;
}
