#include "source/ova/pass.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "source/ova/feed.h"

/* Disks are asked for all at once, but each on a thread of its own, and one that failed again a little later: a pass waits so long, from its
 * beginning, for a disk whose member has come. It is not waited for longer, as it may itself wait for others to end. */
#define GATHER_MS 2000

enum seat_state {
	EMPTY,
	WAITING, /* for its first member or the next part */
	PASSED,  /* all has come; the manifest has not */
	SERVED,
};

/* A disk's place. Guarded by the pass's lock, but for the feed, which the pass's thread has alone while the seat is WAITING. */
struct seat {
	enum seat_state state;
	struct feed *feed;
	size_t next_part, part_count; /* part_count 0: not known */
	unsigned since;               /* the pass that began after the disk came */
	struct error *error;
};

struct pass {
	const struct package *package;
	const struct ovf_disk *const *disks;
	struct seat *seats;
	size_t count;
	struct cancel *cancel;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool running, started; /* the thread lives; it was started and not joined */
	pthread_t thread;
	unsigned number; /* of passes begun */

	/* The thread's own. */
	uint64_t gather_until;
	struct manifest *late; /* found behind the first disk */
	struct seat *at;       /* what gets the member */
	bool feed_failed;
};

struct pass *pass_new(const struct package *package, const struct ovf_disk *const *disks, size_t count, struct cancel *cancel,
		      struct error **err)
{
	struct pass *p = calloc(1, sizeof *p);
	pthread_condattr_t attr;

	if (p)
		p->seats = calloc(count + 1, sizeof *p->seats);
	if (!p || !p->seats) {
		free(p);
		error_set_errno(err, ENOMEM, "cannot read the package");
		return NULL;
	}
	p->package = package;
	p->disks = disks;
	p->count = count;
	p->cancel = cancel;
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->changed, &attr);
	pthread_condattr_destroy(&attr);
	return p;
}

void pass_free(struct pass *p)
{
	if (!p)
		return;
	if (p->started)
		pthread_join(p->thread, NULL);
	for (size_t i = 0; i < p->count; i++) {
		feed_free(p->seats[i].feed);
		error_free(p->seats[i].error);
	}
	ovf_manifest_free(p->late);
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
	free(p->seats);
	free(p);
}

/* --- the thread -------------------------------------------------------------------------------------------------------- */

/* error may be NULL: success. */
static void serve(struct pass *p, struct seat *s, struct error *error)
{
	LOCK_GUARD(&p->lock);
	s->error = error;
	s->state = SERVED;
	pthread_cond_broadcast(&p->changed);
}

static struct error *copy_error(const struct error *e)
{
	struct error *copy = NULL;

	error_set_code(&copy, e->class, e->reason, e->code, "%s", e->message);
	return copy;
}

/* Seats in the state, of which nothing else can be said: a snapshot. */
static size_t count_seats(struct pass *p, enum seat_state state)
{
	size_t n = 0;

	LOCK_GUARD(&p->lock);
	for (size_t i = 0; i < p->count; i++)
		n += p->seats[i].state == state;
	return n;
}

/* Everything of the disk has come. */
static void complete(struct pass *p, struct seat *s)
{
	AUTO_ERROR struct error *failed = NULL;

	if (feed_finish(s->feed, &failed) < 0 || (p->late && feed_verify(s->feed, p->late, &failed) < 0)) {
		serve(p, s, move_ptr(failed));
	} else if (p->package->complete || p->package->manifest || p->late) {
		serve(p, s, NULL);
	} else {
		LOCK_GUARD(&p->lock);
		s->state = PASSED;
	}
}

/* Which disk and part a member is. */
static bool find_seat(const struct pass *p, const char *name, size_t *disk, size_t *part)
{
	for (size_t i = 0; i < p->count; i++) {
		const struct ovf_file *f = p->disks[i]->file == OVF_NO_FILE ? NULL : ovf_file(p->package->ovf, p->disks[i]->file);
		AUTO_FREE char *own = NULL;
		const char *dot = strrchr(name, '.');

		*disk = i;
		*part = 0;
		if (!f)
			continue;
		if (!f->chunk) {
			if (ovf_href_is(f->href, name))
				return true;
			continue;
		}
		if (!dot || strlen(dot) != 10 || strspn(dot + 1, "0123456789") != 9)
			continue;
		own = strndup(name, (size_t)(dot - name));
		*part = (size_t)strtoul(dot + 1, NULL, 10);
		if (own && ovf_href_is(f->href, own))
			return true;
	}
	return false;
}

/* Waits a moment for a disk whose member has come; true when it is there. */
static bool await(struct pass *p, const struct seat *s)
{
	struct timespec until = { .tv_sec = (time_t)(p->gather_until / 1000), .tv_nsec = (long)(p->gather_until % 1000) * 1000000 };

	LOCK_GUARD(&p->lock);
	while (s->state == EMPTY && !cancel_requested(p->cancel))
		if (pthread_cond_timedwait(&p->changed, &p->lock, &until) == ETIMEDOUT)
			break;
	return s->state == WAITING;
}

static int push(void *arg, const void *data, size_t len, struct error **err)
{
	struct pass *p = arg;

	if (feed_push(p->at->feed, data, len, err) == 0)
		return 0;
	p->feed_failed = true;
	return -1;
}

/* Bytes that a part of several has by the descriptor; 0: it does not tell. */
static uint64_t part_size(const struct pass *p, const struct seat *s, size_t part)
{
	const struct ovf_file *f = ovf_file(p->package->ovf, p->disks[s - p->seats]->file);

	if (!f->chunk || !f->size)
		return 0;
	return part + 1 < s->part_count ? f->chunk : f->size - (uint64_t)part * f->chunk;
}

/* A part for a seat that waits. -1: the archive cannot be read any more; what is wrong with the disk alone ends only its stream. */
static int feed_member(struct pass *p, struct tape *tape, const struct tape_member *m, struct seat *s, size_t part, struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;
	uint64_t size;

	if (part != s->next_part) {
		error_set(
			&failed, ERROR_PERMANENT, "InvalidArchive",
			"part %zu of a disk, %.200s, comes before part %zu; a server that sends parts of files (range requests) could still serve it",
			part, m->name, s->next_part);
		serve(p, s, move_ptr(failed));
		return 0;
	}
	size = part_size(p, s, part);
	if (size && m->size != size) {
		error_set(&failed, ERROR_PERMANENT, "InvalidArchive", "the file %.200s has %llu bytes in the OVA, its descriptor says %llu",
			  m->name, (unsigned long long)m->size, (unsigned long long)size);
		serve(p, s, move_ptr(failed));
		return 0;
	}
	p->at = s;
	p->feed_failed = false;
	if (feed_begin(s->feed, m->name, m->size, &failed) < 0) {
		serve(p, s, move_ptr(failed));
		return 0;
	}
	if (tape_data(tape, push, p, &failed) < 0) {
		if (!p->feed_failed)
			return error_move(err, move_ptr(failed));
		serve(p, s, move_ptr(failed));
		return 0;
	}
	if (feed_end(s->feed, &failed) < 0) {
		serve(p, s, move_ptr(failed));
		return 0;
	}
	s->next_part++;
	if (s->next_part == s->part_count)
		complete(p, s);
	return 0;
}

/* A manifest behind the first disk: disks that have passed were waiting for it. */
static int take_manifest(struct pass *p, struct tape *tape, struct error **err)
{
	AUTO_FREE char *text = NULL;
	size_t len;

	if (tape_text(tape, MANIFEST_MAX_BYTES, &text, &len, err) < 0 || !(p->late = ovf_manifest_parse(text, len, err)))
		return -1;
	for (size_t i = 0; i < p->count; i++) {
		AUTO_ERROR struct error *failed = NULL;

		if (p->seats[i].state != PASSED) /* only this thread makes it so */
			continue;
		feed_verify(p->seats[i].feed, p->late, &failed);
		serve(p, &p->seats[i], move_ptr(failed));
	}
	return 0;
}

static bool is_manifest(const struct pass *p, const char *name)
{
	size_t base = strlen(p->package->ovf_name) - strlen(".ovf"), len = strlen(name);

	return !p->package->manifest && !p->package->complete && !p->late && len == base + 3 &&
	       !strncmp(name, p->package->ovf_name, base) && !strcasecmp(name + base, ".mf");
}

/* The archive has ended: what did not come is not in it, for those who were there from the beginning. */
static void end_of_archive(struct pass *p, unsigned number)
{
	for (size_t i = 0; i < p->count; i++) {
		struct seat *s = &p->seats[i];
		struct error *failed = NULL;
		bool there;

		{
			LOCK_GUARD(&p->lock);
			there = s->state == WAITING && s->since <= number;
		}
		if (s->state == PASSED) {
			serve(p, s, NULL);
		} else if (there && s->next_part && !s->part_count) {
			complete(p, s);
			if (s->state == PASSED)
				serve(p, s, NULL);
		} else if (there) {
			AUTO_FREE char *name = package_part_name(ovf_file(p->package->ovf, p->disks[i]->file), s->next_part);

			error_set(&failed, ERROR_PERMANENT, "InvalidArchive", "the OVA lacks the file %.200s, which its descriptor names",
				  name ? name : "");
			serve(p, s, failed);
		}
	}
}

static int run_pass(struct pass *p, unsigned number, struct error **err)
{
	struct remote_version version = { 0 };
	struct tape_member m;
	int result;
	AUTO_TAPE struct tape *tape = tape_open(p->package->remote, &version, p->cancel, err);

	result = tape ? remote_version_check(&p->package->version, &version, err) : -1;
	while (result == 0 && (result = tape_next(tape, &m, err)) > 0) {
		size_t disk, part;

		result = 0;
		if (is_manifest(p, m.name))
			result = take_manifest(p, tape, err);
		else if (find_seat(p, m.name, &disk, &part) && await(p, &p->seats[disk]))
			result = feed_member(p, tape, &m, &p->seats[disk], part, err);
		/* Nobody is left who waits for the rest. */
		if (result == 0 && !count_seats(p, WAITING) && !count_seats(p, PASSED) && clock_monotonic_ms() >= p->gather_until) {
			tape_close(move_ptr(tape));
			remote_version_clear(&version);
			return 0;
		}
		if (result < 0)
			break;
	}
	tape_close(move_ptr(tape)); /* it looks at version */
	remote_version_clear(&version);
	if (result == 0)
		end_of_archive(p, number);
	return result;
}

static void fail_all(struct pass *p, const struct error *why)
{
	for (size_t i = 0; i < p->count; i++) {
		enum seat_state state;

		{
			LOCK_GUARD(&p->lock);
			state = p->seats[i].state;
		}
		if (state == WAITING || state == PASSED)
			serve(p, &p->seats[i], copy_error(why));
	}
}

static void *pass_main(void *arg)
{
	struct pass *p = arg;

	for (;;) {
		AUTO_ERROR struct error *err = NULL;
		unsigned number;

		{
			LOCK_GUARD(&p->lock);
			bool waiting = false;

			for (size_t i = 0; i < p->count; i++)
				waiting = waiting || p->seats[i].state == WAITING;
			if (!waiting) {
				p->running = false;
				return NULL;
			}
			number = ++p->number;
		}
		p->gather_until = clock_monotonic_ms() + GATHER_MS;
		if (run_pass(p, number, &err) < 0)
			fail_all(p, err);
		ovf_manifest_free(move_ptr(p->late));
	}
}

/* --- those who wait ---------------------------------------------------------------------------------------------------- */

/* The caller holds the lock. */
static int start(struct pass *p, struct error **err)
{
	int failed;

	if (p->running)
		return 0;
	if (p->started)
		pthread_join(p->thread, NULL); /* it has let go of the lock for the last time */
	p->started = false;
	failed = pthread_create(&p->thread, NULL, pass_main, p);
	if (failed)
		return error_set_errno(err, failed, "cannot read the package");
	p->running = p->started = true;
	return 0;
}

int pass_stream(struct pass *p, size_t i, source_sink sink, void *sink_arg, struct error **err)
{
	const struct ovf_disk *disk = p->disks[i];
	struct feed *feed = feed_new(p->package, disk, sink, sink_arg, err);
	struct seat *s = &p->seats[i];
	struct error *failed = NULL;

	if (!feed)
		return -1;
	pthread_mutex_lock(&p->lock);
	*s = (struct seat){ .state = WAITING,
			    .feed = feed,
			    .part_count = package_part_count(p->package, ovf_file(p->package->ovf, disk->file)),
			    .since = p->number + 1 };
	pthread_cond_broadcast(&p->changed);
	if (start(p, &failed) < 0)
		s->state = SERVED;
	while (s->state != SERVED)
		pthread_cond_wait(&p->changed, &p->lock);
	if (!failed)
		failed = move_ptr(s->error);
	*s = (struct seat){ .state = EMPTY };
	pthread_mutex_unlock(&p->lock);
	feed_free(feed);
	return failed ? error_move(err, failed) : 0;
}
