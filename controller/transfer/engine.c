#include <errno.h>
#include <malloc.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/size.h"
#include "transfer/job.h"
#include "transfer/journal.h"

struct transfer_engine {
	struct transfer_options options;
	struct cancel *cancel;
	struct budgets *streams, *exports;
	struct disk_workers *workers;
	pthread_mutex_t lock; /* guards list; not held while a job is joined */
	struct job *list;
	struct metric *received;
	struct series *written;
};

struct transfer_engine *transfer_engine_new(const struct transfer_options *options, struct error **err)
{
	struct transfer_engine *e = calloc(1, sizeof *e);

	if (!e) {
		error_set_errno(err, ENOMEM, "cannot start the transfer engine");
		return NULL;
	}
	e->options = *options;
	if (!e->options.notify_ms)
		e->options.notify_ms = 3000;
	pthread_mutex_init(&e->lock, NULL);
	e->received = metrics_add(options->metrics, METRIC_COUNTER, "vm_import_source_bytes_total", "kind",
				  "Bytes that sources sent, by the kind of source");
	e->written = metric_with(metrics_add(options->metrics, METRIC_COUNTER, "vm_import_disk_bytes_written_total", NULL,
					     "Bytes of disks that were fetched whole and are no holes"),
				 NULL);
	e->cancel = cancel_new(NULL);
	unsigned per_host = options->max_host_streams ? options->max_host_streams : TRANSFER_HOST_STREAMS;
	e->streams = budgets_new(&(struct budget_limits){ .per_host = per_host,
							  .per_endpoint = options->max_endpoint_streams ? options->max_endpoint_streams
													: TRANSFER_ENDPOINT_STREAMS,
							  .total = options->max_streams ? options->max_streams : 16 });
	/* More than can stream: what begins next has its lease by then, and what has ended may still be waiting for the storage. */
	e->exports =
		budgets_new(&(struct budget_limits){ .per_host = 2 * per_host + 2, .unnamed = options->max_jobs ? options->max_jobs : 8 });
	if (!e->cancel || !e->streams || !e->exports) {
		error_set_errno(err, ENOMEM, "cannot start the transfer engine");
		transfer_engine_free(e);
		return NULL;
	}
	e->workers = disk_workers_new(0, err);
	if (!e->workers) {
		transfer_engine_free(e);
		return NULL;
	}
	return e;
}

/* Takes the job of this key, or with key NULL any, out of the list. */
static struct job *take(struct transfer_engine *e, const char *key)
{
	LOCK_GUARD(&e->lock);
	for (struct job **p = &e->list; *p; p = &(*p)->next) {
		if (!key || !strcmp((*p)->key, key)) {
			struct job *job = *p;

			*p = job->next;
			return job;
		}
	}
	return NULL;
}

static void end(struct job *job)
{
	cancel_request(job->cancel);
	pthread_join(job->thread, NULL);
	job_free(job);
}

void transfer_engine_interrupt(struct transfer_engine *e)
{
	cancel_request(e->cancel);
}

void transfer_engine_free(struct transfer_engine *e)
{
	struct job *job;

	if (!e)
		return;
	if (e->cancel)
		cancel_request(e->cancel); /* all at once, so that their ends overlap */
	while ((job = take(e, NULL)))
		end(job);
	disk_workers_free(e->workers);
	budgets_free(e->streams);
	budgets_free(e->exports);
	cancel_free(e->cancel);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

/* The caller holds the lock. */
static struct job *find(struct transfer_engine *e, const char *key)
{
	for (struct job *job = e->list; job; job = job->next)
		if (!strcmp(job->key, key))
			return job;
	return NULL;
}

uint64_t transfer_space_needed(const struct vm_model *model)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < model->disk_count; i++) {
		const struct vm_disk *disk = &model->disks[i];

		if (__builtin_add_overflow(sum, disk->allocated ? disk->allocated : disk->capacity, &sum))
			return UINT64_MAX;
	}
	return sum;
}

/* Bytes that running jobs still need. The caller holds the lock. */
static uint64_t promised(struct transfer_engine *e)
{
	uint64_t sum = 0;

	for (struct job *job = e->list; job; job = job->next)
		if (__builtin_add_overflow(sum, job_missing_bytes(job), &sum))
			return UINT64_MAX;
	return sum;
}

/* The file system of the directory or of the nearest one above it that exists. */
static int file_system_of(const char *directory, struct statvfs *fs, struct error **err)
{
	AUTO_FREE char *path = strdup(directory);

	while (path) {
		char *slash;

		if (statvfs(path, fs) == 0)
			return 0;
		slash = strrchr(path, '/');
		if (errno != ENOENT || !slash)
			break;
		if (slash == path)
			slash++;
		if (!*slash)
			break;
		*slash = 0;
	}
	if (path && statvfs(".", fs) == 0 && *directory != '/')
		return 0;
	return error_set_errno(err, errno, "cannot tell the free space of %s", directory);
}

static int tell_no_space(enum transfer_place place, const char *directory, const struct statvfs *fs, uint64_t need, uint64_t others,
			 struct error **err)
{
	uint64_t free_bytes = (uint64_t)fs->f_bavail * fs->f_frsize, wanted, size;
	char has[SIZE_TEXT], takes[SIZE_TEXT], promised_text[SIZE_TEXT], missing[SIZE_TEXT], made[SIZE_TEXT];
	AUTO_FREE char *beside = NULL, *todo = NULL;

	if (__builtin_add_overflow(need, others, &wanted))
		wanted = UINT64_MAX;
	if (__builtin_add_overflow((uint64_t)fs->f_blocks * fs->f_frsize, wanted - free_bytes, &size))
		size = UINT64_MAX;
	size_text(wanted - free_bytes, missing);
	if (others && asprintf(&beside, " (and %s are promised to transfers that run)", size_text(others, promised_text)) < 0)
		beside = NULL;
	if (place == TRANSFER_DIRECTORY
		    ? asprintf(&todo, "free %s there, or name a directory on a larger file system", missing) < 0
		    : asprintf(&todo,
			       "make the volume at least %s large (pvcClaim.size of the Helm chart) or wait until other imports are done",
			       size_text(size + size / 16, made)) < 0)
		todo = NULL;
	return error_set_code(err, ERROR_TRANSIENT, "NoSpace", ENOSPC, "%s %s has %s free, but the disks need %s%s: %s are missing; %s",
			      place == TRANSFER_DIRECTORY ? "the file system of" : "the scratch space", directory,
			      size_text(free_bytes, has), size_text(need, takes), beside ? beside : "", missing, todo ? todo : "");
}

static int check_space(enum transfer_place place, const char *directory, uint64_t need, uint64_t others, struct error **err)
{
	struct statvfs fs;
	uint64_t wanted;

	if (file_system_of(directory, &fs, err) < 0)
		return -1;
	if (!__builtin_add_overflow(need, others, &wanted) && wanted <= (uint64_t)fs.f_bavail * fs.f_frsize)
		return 0;
	return tell_no_space(place, directory, &fs, need, others, err);
}

int transfer_check_space(struct transfer_engine *e, enum transfer_place place, const char *directory, const char *kept,
			 const struct vm_model *model, struct error **err)
{
	uint64_t need = transfer_space_needed(model), there = kept ? journal_kept_bytes(kept, model) : 0;

	if (!e)
		return check_space(place, directory, need > there ? need - there : 0, 0, err);
	LOCK_GUARD(&e->lock);
	return check_space(place, directory, need > there ? need - there : 0, promised(e), err);
}

static bool has(struct transfer_engine *e, const char *key)
{
	LOCK_GUARD(&e->lock);
	return find(e, key) != NULL;
}

int transfer_start(struct transfer_engine *e, const struct transfer_job_options *options, struct error **err)
{
	bool known = has(e, options->key);
	/* Not with the lock: of a disk that was touched all is read. */
	struct job *job = known ? NULL : job_new(options, e->cancel, err);

	if (job) {
		LOCK_GUARD(&e->lock);
		known = find(e, options->key) != NULL;
		if (!e->list)
			malloc_trim(0); /* what the preparations took is for the disks now */
		if (!known) {
			job->streams = e->streams;
			job->exports = e->exports;
			job->slow_ms = e->options.slow_ms ? e->options.slow_ms : 15000;
			job->workers = e->workers;
			job->verify = e->options.verify;
			job->notify_ms = e->options.notify_ms;
			job->notify = e->options.notify;
			job->notify_arg = e->options.arg;
			job->received = metric_with(e->received, options->source->ops->kind, NULL);
			job->written = e->written;
			int failed = check_space(e->options.place, job->directory, job_missing_bytes(job), promised(e), err);
			if (!failed && (failed = pthread_create(&job->thread, NULL, job_run, job)))
				failed = error_set_errno(err, failed, "cannot start the transfer");
			if (!failed) {
				job->next = e->list;
				e->list = job;
				return 0;
			}
		}
	}
	if (job)
		job_free(job);
	else if (options->release)
		options->release(options->release_arg);
	return known ? 0 : -1;
}

void transfer_status(struct transfer_engine *e, const char *key, struct transfer_status *out)
{
	LOCK_GUARD(&e->lock);
	struct job *job = find(e, key);

	*out = (struct transfer_status){ .state = TRANSFER_NONE };
	if (!job)
		return;
	/* ended is read first: what is read after it is final when it was set. */
	out->state = !job->ended ? TRANSFER_RUNNING : job->error ? TRANSFER_FAILED : TRANSFER_DONE;
	if (out->state == TRANSFER_FAILED)
		error_set_code(&out->error, job->error->class, job->error->reason, job->error->code, "%s", job->error->message);
	out->note = job_note(job);
	out->again = job_again(job);
	out->disks = calloc(job->disk_count + 1, sizeof *out->disks);
	if (!out->disks)
		return;
	out->disk_count = job->disk_count;
	for (size_t i = 0; i < job->disk_count; i++) {
		struct transfer_disk_status *disk = &out->disks[i];

		disk->total = job->disks[i].capacity;
		disk->done = job->disks[i].done;
		/* Who writes this into an object is called for what it wrote: a figure of now would be another one each time, without end. */
		disk->transferred = out->state == TRANSFER_RUNNING && !disk->done ? job->disks[i].shown : job->disks[i].transferred;
		if (disk->done) {
			disk->data_bytes = job->disks[i].result.data_bytes;
			memcpy(disk->digest, job->disks[i].result.digest, sizeof disk->digest);
		}
	}
}

void transfer_status_clear(struct transfer_status *status)
{
	free(status->disks);
	free(status->again);
	free(status->note);
	error_free(status->error);
	*status = (struct transfer_status){ 0 };
}

void transfer_totals(struct transfer_engine *e, struct transfer_totals *out)
{
	LOCK_GUARD(&e->lock);
	*out = (struct transfer_totals){ .reserved = promised(e) };
	for (const struct job *job = e->list; job; job = job->next)
		out->active += !job->ended;
}

void transfer_end(struct transfer_engine *e, const char *key)
{
	struct job *job = take(e, key);

	if (job)
		end(job);
}

void transfer_hosts(struct transfer_engine *e,
		    void (*each)(void *arg, const char *host, unsigned running, unsigned waiting, unsigned allowed), void *arg)
{
	budgets_each(e->streams, each, arg);
}
