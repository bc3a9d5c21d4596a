#include "transfer/job.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "disk/image.h"
#include "transfer/counted.h"
#include "transfer/journal.h"

/* How often a disk is fetched within one export, after errors that may pass, without getting any further. */
#define DISK_TRIES 6
#define FURTHER (1u << 20) /* bytes of the disk that count as getting further */
#define REFUSED_MS 600000  /* how long a host may say that it is busy */
#define NVRAM_NAME "nvram"

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
	pthread_mutex_init(&job->lock, NULL);
	job->key = strdup(o->key);
	job->directory = strdup(o->directory);
	job->disks = calloc(o->model->disk_count + 1, sizeof *job->disks);
	job->cancel = cancel_new(parent);
	job->again = o->again ? strdup(o->again) : NULL;
	job->again_disk = o->model->disk_count; /* none of them */
	if (!job->key || !job->directory || !job->disks || !job->cancel || (o->again && !job->again))
		goto fail;
	job->disk_count = o->model->disk_count;
	for (size_t i = 0; i < job->disk_count; i++) {
		struct job_disk *disk = &job->disks[i];

		disk->capacity = o->model->disks[i].capacity;
		if (journal_find(job->directory, i, o->model, &disk->result)) {
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
	free(job->again);
	free(job->note);
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

char *job_note(struct job *job)
{
	LOCK_GUARD(&job->lock);
	return job->note ? strdup(job->note) : NULL;
}

char *job_again(struct job *job)
{
	LOCK_GUARD(&job->lock);
	return job->again ? strdup(job->again) : NULL;
}

/* Takes the text, of disk i; NULL: it is here, or given up. */
static void set_again(struct job *job, size_t i, char *text)
{
	LOCK_GUARD(&job->lock);
	if (!text && job->again_disk != i) /* another's */
		return;
	free(job->again);
	job->again = text;
	job->again_disk = i;
}

/* Takes over what the export has to tell. */
static void keep_note(struct job *job, struct source_export *export)
{
	char *note = job->source->ops->export_note ? job->source->ops->export_note(export) : NULL;

	LOCK_GUARD(&job->lock);
	free(job->note);
	job->note = note;
}

/* Where the bytes of a stream go, and how long they let us wait. */
struct feed {
	struct disk_pipeline *pipeline;
	struct series *received;
	struct budget_grant *grant;
	uint64_t waiting; /* since when the source's next bytes are awaited, monotonic milliseconds */
	unsigned slow_ms;
	bool refused; /* by the pipeline: the source is not to blame */
};

static int push(void *arg, const void *data, size_t len, struct error **err)
{
	struct feed *f = arg;

	if (clock_monotonic_ms() - f->waiting >= f->slow_ms)
		budgets_note(f->grant, BUDGET_SLOW);
	series_add(f->received, (double)len);
	f->refused = disk_pipeline_push(f->pipeline, data, len, err) < 0;
	f->waiting = clock_monotonic_ms();
	return f->refused ? -1 : 0;
}

/* Whether a host's answer says that it has enough to do. */
static bool is_refusal(const struct error *e)
{
	return e->class == ERROR_TRANSIENT && !strcmp(e->reason, "HTTPStatus") && (e->code == 503 || e->code == 429);
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

	return counted_input(f->job->source->ops->export_open(f->export, f->index, name, f->job->cancel, err), f->job->received, err);
}

/* Reads a disk whose parts can be read in any order. */
static int read_disk(struct job *job, struct source_export *export, size_t i, struct disk_pipeline *pipeline, uint64_t from,
		     struct error **err)
{
	struct disk_files files = { .job = job, .export = export, .index = i };
	struct disk_set set = { .open = open_file, .arg = &files };
	struct disk_input *in = open_file(&files, NULL, err);
	CLEANUP(image_close_p) struct disk_image *image = in ? disk_image_open(in, &set, export->disks[i].format, err) : NULL;

	return image && disk_pipeline_pull(pipeline, image, from, err) == 0 ? disk_image_finish(image, err) : -1;
}

/* All of the disk, or from where an earlier try left it where that can be had. */
static int receive(struct job *job, struct source_export *export, size_t i, struct feed *feed, struct error **err)
{
	const struct source_ops *ops = job->source->ops;
	const struct source_disk *disk = &export->disks[i];
	AUTO_ERROR struct error *failed = NULL;
	uint64_t from = 0;
	int result;

	if ((disk->by_place && !disk->whole) || (disk->resumable && ops->export_resume))
		job->disks[i].transferred = from = disk_pipeline_resume(feed->pipeline);
	feed->waiting = clock_monotonic_ms();
	if (disk->by_place)
		result = read_disk(job, export, i, feed->pipeline, from, &failed);
	else if (!from)
		result = ops->export_stream(export, i, push, feed, job->cancel, &failed);
	else
		result = ops->export_resume(export, i, from, push, feed, job->cancel, &failed);
	if (result == 0)
		return 0;
	if (failed && failed->class == ERROR_TRANSIENT && !feed->refused)
		budgets_note(feed->grant, is_refusal(failed) ? BUDGET_REFUSED : BUDGET_FAILED);
	return error_move(err, move_ptr(failed));
}

/* One try at a disk: stream or read, decode, write, record. The grant is given back as soon as the source has sent all: what the storage
 * takes after that is no reason to keep the host waiting. */
static int fetch_disk(struct job *job, struct source_export *export, size_t i, struct budget_grant **grant, struct error **err)
{
	const struct vm_disk *disk = &job->model->disks[i];
	struct feed feed = { .received = job->received, .grant = *grant, .slow_ms = job->slow_ms };
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
	/* What can go on in the middle must find only what is right there. */
	if ((export->disks[i].by_place || export->disks[i].resumable) && journal_doubted(job->directory, i) &&
	    journal_forget(job->directory, i, err) < 0)
		return -1;
	struct disk_pipeline_options options = {
		.format = export->disks[i].format,
		.path = path,
		.capacity = disk->capacity,
		.workers = job->workers,
		.cancel = job->cancel,
		.guest_bytes = &job->disks[i].transferred,
		.journal = blocks,
		.identity = identity,
		.verify = job->verify,
	};
	if (export->disks[i].by_place)
		options.format = NULL; /* the image's, not a stream's */
	CLEANUP(pipeline_free_p) struct disk_pipeline *pipeline = disk_pipeline_new(&options, err);
	feed.pipeline = pipeline;
	if (!pipeline || receive(job, export, i, &feed, err) < 0)
		return -1;
	budgets_give(move_ptr(*grant));
	if (disk_pipeline_finish(pipeline, &result, err) < 0)
		return -1;
	if (journal_record(job->directory, i, job->model, &result, err) < 0)
		return -1;
	series_add(job->written, (double)result.data_bytes);
	job->disks[i].result = result;
	job->disks[i].transferred = disk->capacity;
	job->disks[i].done = true;
	return 0;
}

/* One try within the limits. */
static int try_disk(struct job *job, struct source_export *export, size_t i, struct error **err)
{
	struct budget_grant *grant = NULL;
	int result = budgets_take(job->streams, export->endpoint, export->disks[i].host, job, job->cancel, &grant, err);

	if (result == 0)
		result = fetch_disk(job, export, i, &grant, err);
	budgets_give(grant);
	return result;
}

/* How the tries at a disk went. */
struct tries {
	unsigned count;   /* all of them */
	char *damage;     /* what was wrong with the content at the last one, if that was it */
	unsigned in_vain; /* in a row that got no further than one before */
	uint64_t furthest;
	uint64_t refused_since; /* monotonic milliseconds; 0: the last one was not refused */
	struct backoff backoff;
};

static void tries_clear(struct tries *t)
{
	free(t->damage);
}

/* Of what came whole, but is not what it should be. */
static bool is_damage(const struct error *e)
{
	return !strcmp(e->reason, "CorruptGrain") || !strcmp(e->reason, "StreamTruncated") || !strcmp(e->reason, "NotAVMDK");
}

/* The transport may be to blame for damage once; not for the same twice. Then the error becomes permanent. */
static void judge_damage(struct tries *t, struct error *e)
{
	char *text = NULL;

	if (is_damage(e) && t->damage && !strcmp(t->damage, e->message) &&
	    asprintf(&text, "%s; it was fetched twice and is damaged in the same place, so the source has it so: export the machine anew",
		     e->message) >= 0) {
		e->class = ERROR_PERMANENT;
		free(e->message);
		e->message = text;
	}
	free(t->damage);
	t->damage = is_damage(e) ? strdup(e->message) : NULL;
}

/* Whether a disk that failed is to be tried again. */
static bool once_more(struct tries *t, const struct error *e, uint64_t reached)
{
	uint64_t now = clock_monotonic_ms();

	t->count++;
	if (e->class != ERROR_TRANSIENT || e->code == ENOSPC)
		return false;
	if (is_refusal(e)) { /* it answers, so it works: waiting is what it asks for */
		t->refused_since = t->refused_since ? t->refused_since : now;
		return now - t->refused_since < REFUSED_MS;
	}
	t->refused_since = 0;
	if (reached >= t->furthest + FURTHER) {
		t->furthest = reached;
		t->in_vain = 0;
		backoff_reset(&t->backoff);
	}
	return ++t->in_vain < DISK_TRIES;
}

/* What the files do not hold yet. */
static uint64_t missing_mib(const struct job *job)
{
	uint64_t need = 0, there = journal_kept_bytes(job->directory, job->model);

	for (size_t i = 0; i < job->disk_count; i++) {
		const struct vm_disk *disk = &job->model->disks[i];

		need += job->disks[i].done ? 0 : disk->allocated ? disk->allocated : disk->capacity;
	}
	return need > there ? (need - there) >> 20 : 0;
}

static void tell_again(const struct disk_thread *t, const struct tries *tries, const struct error *why)
{
	const char *label = t->job->model->disks[t->index].label, *file = t->export->disks[t->index].file;
	bool away = !strcmp(why->reason, "ConnectionFailed") || !strcmp(why->reason, "UnknownHost");
	char *text = NULL;

	if (asprintf(&text, "disk %zu (%.200s)" TRANSFER_AGAIN " (try %u): %s%s", t->index,
		     file    ? file
		     : label ? label
			     : "no label",
		     tries->count + 1, why->message, away ? " (tried for as long as the source does not answer, without a limit)" : "") < 0)
		text = NULL;
	if (text)
		set_again(t->job, t->index, text);
	t->job->notify(t->job->notify_arg, t->job->key);
}

static void *disk_main(void *arg)
{
	struct disk_thread *t = arg;
	struct job *job = t->job;
	CLEANUP(tries_clear) struct tries tries = { .backoff = { .base_ms = 500, .cap_ms = 10000 } };
	const char *label = job->model->disks[t->index].label, *file = t->export->disks[t->index].file;

	for (;;) {
		AUTO_ERROR struct error *err = NULL;

		if (try_disk(job, t->export, t->index, &err) == 0)
			break;
		keep_note(job, t->export); /* it may have found another way */
		if (err && t->export->disks[t->index].stored)
			judge_damage(&tries, err);
		if (err && !t->export->disks[t->index].spoilt && once_more(&tries, err, job->disks[t->index].transferred)) {
			tell_again(t, &tries, err);
			if (!cancel_wait(job->cancel, backoff_next(&tries.backoff)))
				continue;
		}
		error_wrap(&err, "disk %zu (%s%s%.200s)", t->index, label ? label : "no label", file ? ", " : "", file ? file : "");
		if (err && err->code == ENOSPC)
			error_wrap(&err, "about %llu MiB of the disks are still to be written", (unsigned long long)missing_mib(job));
		t->error = move_ptr(err);
		break;
	}
	set_again(job, t->index, NULL);
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

/* The firmware's memory beside the disks. No machine needs it to start elsewhere, so that without it all goes on. */
static void fetch_nvram(struct job *job, struct source_export *export)
{
	const struct source_ops *ops = job->source->ops;
	AUTO_FREE unsigned char *data = NULL;
	AUTO_FREE char *path = NULL;
	size_t len = 0, done = 0;

	if (!ops->export_nvram || ops->export_nvram(export, &data, &len, job->cancel, NULL) < 0 || !data)
		return;
	if (asprintf(&path, "%s/" NVRAM_NAME, job->directory) < 0)
		path = NULL;
	AUTO_FD int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
	while (fd >= 0 && done < len) {
		ssize_t n = write(fd, data + done, len - done);

		if (n <= 0)
			break;
		done += (size_t)n;
	}
	if (fd >= 0 && done < len)
		unlink(path);
}

static int export_disks(struct job *job, struct error **err)
{
	const struct source_ops *ops = job->source->ops;
	struct source_export *export;
	AUTO_ERROR struct error *end_error = NULL;
	bool spoilt = false;
	int result;

	export = ops->export_begin(job->source, job->model, job->ledger, job->ledger_arg, job->cancel, err);
	if (!export)
		return -1;
	keep_note(job, export);
	if (export->disk_count != job->model->disk_count)
		result = error_set(err, ERROR_PERMANENT, "DisksMissing", "the source offers %zu disks of %s, expected %zu",
				   export->disk_count, job->model->name, job->model->disk_count);
	else
		result = stream_disks(job, export, err);
	if (result == 0) {
		AUTO_FREE char *note = job_note(job);

		fetch_nvram(job, export);
		journal_save_note(job->directory, note);
	}
	for (size_t i = 0; i < export->disk_count; i++)
		spoilt = spoilt || export->disks[i].spoilt;
	if (spoilt)
		journal_doubt(job->directory); /* the disks are to be of one state */
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
	struct budget_grant *grant = NULL;
	if (budgets_take(job->exports, NULL, job->model->host, job, job->cancel, &grant, err) < 0)
		return -1;
	int result = export_disks(job, err);
	budgets_give(grant);
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
