#include "leader/election.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "api/resources.h"
#include "base/backoff.h"
#include "base/clock.h"
#include "base/log.h"
#include "json/codec.h"

#define JITTER_PERCENT 120 /* JitterFactor of client-go */
#define DURATION_MAX_S 3600

enum state { CANDIDATE, LEADING, LOST };

struct election {
	struct election_options options;
	char *ns, *name, *identity, *note;
	pthread_mutex_t lock; /* guards state, renewed, lease; not held during a request */
	enum state state;
	uint64_t renewed;  /* while it leads: when the last renewal that succeeded was begun */
	json_t *lease;     /* as it was last seen to change */
	uint64_t observed; /* when that was */
	bool failing;      /* was logged */
	struct cancel *cancel;
	pthread_t thread;
	bool started;
};

static uint64_t boot_ms(void *arg)
{
	struct timespec t;

	(void)arg;
	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint64_t now_of(const struct election *e)
{
	return e->options.now(e->options.now_arg);
}

/* client-go: the host's name and a UUID, for two processes of one host are two. */
static char *make_identity(void)
{
	const char *pod = getenv("POD_NAME");
	char host[256] = "", *text = NULL;

	gethostname(host, sizeof host - 1);
	return asprintf(&text, "%s_%08x%08x", pod && *pod ? pod : host, backoff_random(UINT32_MAX), backoff_random(UINT32_MAX)) < 0 ? NULL
																    : text;
}

static int check_times(const struct election_options *o, struct error **err)
{
	if (o->duration_s > DURATION_MAX_S)
		return error_set(err, ERROR_PERMANENT, "InvalidElection", "a lease of %u s is longer than %d s", o->duration_s,
				 DURATION_MAX_S);
	if (o->deadline_s >= o->duration_s)
		return error_set(err, ERROR_PERMANENT, "InvalidElection",
				 "the renew deadline (%u s) must be shorter than the lease (%u s), or two lead at a time", o->deadline_s,
				 o->duration_s);
	if ((uint64_t)o->retry_s * JITTER_PERCENT >= (uint64_t)o->deadline_s * 100)
		return error_set(err, ERROR_PERMANENT, "InvalidElection",
				 "the retry period (%u s), and a fifth of it by chance, must be shorter than the renew deadline (%u s)",
				 o->retry_s, o->deadline_s);
	return 0;
}

struct election *election_new(const struct election_options *options, struct error **err)
{
	struct election *e = calloc(1, sizeof *e);

	if (!e) {
		error_set_errno(err, ENOMEM, "cannot take part in the election");
		return NULL;
	}
	pthread_mutex_init(&e->lock, NULL);
	e->options = *options;
	e->options.duration_s = options->duration_s ? options->duration_s : ELECTION_DURATION_S;
	e->options.deadline_s = options->deadline_s ? options->deadline_s : ELECTION_DEADLINE_S;
	e->options.retry_s = options->retry_s ? options->retry_s : ELECTION_RETRY_S;
	e->options.now = options->now ? options->now : boot_ms;
	if (check_times(&e->options, err) < 0) {
		election_free(e);
		return NULL;
	}
	e->ns = strdup(options->ns);
	e->name = strdup(options->name);
	e->identity = options->identity ? strdup(options->identity) : make_identity();
	e->note = options->note ? strdup(options->note) : NULL;
	e->cancel = cancel_new(NULL);
	if (e->ns && e->name && e->identity && e->cancel && (!options->note || e->note))
		return e;
	election_free(e);
	error_set_errno(err, ENOMEM, "cannot take part in the election");
	return NULL;
}

void election_free(struct election *e)
{
	if (!e)
		return;
	json_decref(e->lease);
	cancel_free(e->cancel);
	pthread_mutex_destroy(&e->lock);
	free(e->ns);
	free(e->name);
	free(e->identity);
	free(e->note);
	free(e);
}

const char *election_identity(const struct election *e)
{
	return e->identity;
}

/* The caller holds the lock. */
static void lose(struct election *e, const char *why)
{
	e->state = LOST;
	log_write(LOG_WARNING, "leads no more", "reason", why, "identity", e->identity, NULL);
}

/* The caller holds the lock. */
static bool leads(struct election *e)
{
	if (e->state == LEADING && now_of(e) >= e->renewed + (uint64_t)e->options.deadline_s * 1000)
		lose(e, "the lease could not be renewed within the deadline");
	return e->state == LEADING;
}

bool election_leads(struct election *e)
{
	LOCK_GUARD(&e->lock);
	return leads(e);
}

void election_rejoin(struct election *e)
{
	LOCK_GUARD(&e->lock);
	if (e->state == LOST)
		e->state = CANDIDATE;
}

static const char *holder_of(const json_t *lease)
{
	const char *holder = json_path_string(lease, "spec.holderIdentity");

	return holder && *holder ? holder : NULL;
}

void election_leader(struct election *e, char **identity, char **note)
{
	LOCK_GUARD(&e->lock);
	const char *holder = holder_of(e->lease);
	const char *said = json_string_value(json_object_get(json_path(e->lease, "metadata.annotations"), API_ANNOTATION_SCRATCH));

	*identity = holder ? strdup(holder) : NULL;
	*note = holder && said ? strdup(said) : NULL;
}

/* Remembers the Lease; when it differs from what was known, somebody is alive. */
static void observe(struct election *e, json_t *lease)
{
	LOCK_GUARD(&e->lock);
	const char *before = holder_of(e->lease), *after = holder_of(lease);

	if (strcmp(before ? before : "", after ? after : ""))
		log_write(LOG_INFO, after ? "a leader holds the lease" : "nobody holds the lease", "lease", e->name, "leader",
			  after ? after : "", NULL);
	if (!e->lease || !json_equal(json_object_get(e->lease, "spec"), json_object_get(lease, "spec")))
		e->observed = now_of(e);
	json_decref(e->lease);
	e->lease = json_incref(lease);
}

/* Whether the holder may still think that it leads: as long as the Lease itself says, since it was last seen to change. */
static bool is_valid(const struct election *e)
{
	json_int_t seconds = json_integer_value(json_path(e->lease, "spec.leaseDurationSeconds"));

	if (seconds < 1)
		seconds = e->options.duration_s;
	if (seconds > DURATION_MAX_S)
		seconds = DURATION_MAX_S;
	return now_of(e) < e->observed + (uint64_t)seconds * 1000;
}

static bool is_mine(const struct election *e, const json_t *lease)
{
	const char *holder = holder_of(lease);

	return holder && !strcmp(holder, e->identity);
}

/* The spec with us as the holder; times are for people, nobody measures by them. */
static json_t *make_spec(const struct election *e, const json_t *lease)
{
	const json_t *acquired = json_path(lease, "spec.acquireTime");
	json_int_t transitions = json_integer_value(json_path(lease, "spec.leaseTransitions"));
	char now[CLOCK_RFC3339_SIZE];
	json_t *spec;

	clock_rfc3339_us(now);
	spec = json_pack("{s:s, s:i, s:s}", "holderIdentity", e->identity, "leaseDurationSeconds", (int)e->options.duration_s, "renewTime",
			 now);
	if (lease && !is_mine(e, lease)) {
		acquired = NULL;
		transitions++;
	}
	json_object_set_new(spec, "acquireTime", acquired ? json_incref((json_t *)acquired) : json_string(now));
	json_object_set_new(spec, "leaseTransitions", json_integer(transitions));
	return spec;
}

static json_t *make_metadata(const struct election *e, const json_t *lease)
{
	return json_pack("{s:O*, s:{s:s?}}", "resourceVersion", json_path(lease, "metadata.resourceVersion"), "annotations",
			 API_ANNOTATION_SCRATCH, e->note);
}

static json_t *create(struct election *e, struct error **err)
{
	AUTO_JSON json_t *lease = json_pack("{s:{s:s}, s:o}", "metadata", "name", e->name, "spec", make_spec(e, NULL));

	if (e->note)
		json_object_set_new(json_object_get(lease, "metadata"), "annotations", json_pack("{s:s}", API_ANNOTATION_SCRATCH, e->note));
	return store_create(e->options.store, &api_leases, e->ns, lease, err);
}

static json_t *take(struct election *e, const json_t *lease, struct error **err)
{
	AUTO_JSON json_t *patch = json_pack("{s:o, s:o}", "metadata", make_metadata(e, lease), "spec", make_spec(e, lease));

	if (!patch) {
		error_set_errno(err, ENOMEM, "cannot renew the lease");
		return NULL;
	}
	return store_patch(e->options.store, &api_leases, e->ns, e->name, NULL, patch, err);
}

/* Takes or renews the Lease. 1: it is ours; 0: it is another's; -1: that could not be found out. */
static int try_lease(struct election *e, bool leading, struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;
	AUTO_JSON json_t *lease = leading ? json_incref(e->lease) : NULL, *taken = NULL;

	/* A leader knows the Lease; only when it is another one by now is it read. */
	if (lease && (taken = take(e, lease, &failed))) {
		observe(e, taken);
		return 1;
	}
	if (lease && failed->class != ERROR_CONFLICT && failed->class != ERROR_NOT_FOUND)
		return error_move(err, move_ptr(failed));
	error_free(move_ptr(failed));
	json_decref(move_ptr(lease));

	lease = store_get(e->options.store, &api_leases, e->ns, e->name, &failed);
	if (!lease && failed->class != ERROR_NOT_FOUND)
		return error_move(err, move_ptr(failed));
	if (lease) {
		observe(e, lease);
		if (holder_of(lease) && !is_mine(e, lease) && (leading || is_valid(e)))
			return 0;
	}
	error_free(move_ptr(failed));
	taken = lease ? take(e, lease, &failed) : create(e, &failed);
	if (taken) {
		observe(e, taken);
		return 1;
	}
	if (failed->class == ERROR_CONFLICT) /* somebody was faster */
		return 0;
	return error_move(err, move_ptr(failed));
}

static void tell(struct election *e, int result, const struct error *failed)
{
	if (result < 0 && !cancel_requested(e->cancel))
		log_write(e->failing ? LOG_DEBUG : LOG_WARNING, "cannot see to the lease of the leader election; it is tried again",
			  "lease", e->name, "error", error_message(failed), NULL);
	if (result >= 0 && e->failing)
		log_write(LOG_INFO, "the lease of the leader election can be seen to again", "lease", e->name, NULL);
	e->failing = result < 0;
}

unsigned election_run_once(struct election *e)
{
	unsigned retry = e->options.retry_s * 1000;
	uint64_t start = now_of(e), now, end;
	AUTO_ERROR struct error *failed = NULL;
	bool leading;
	int result;

	{
		LOCK_GUARD(&e->lock);
		leading = leads(e);
		if (e->state == LOST) /* others take it; we stop first */
			return retry;
	}
	result = try_lease(e, leading, &failed);
	tell(e, result, failed);
	LOCK_GUARD(&e->lock);
	if (e->state == LOST) /* the deadline passed meanwhile, and somebody asked */
		return retry;
	if (result == 1) {
		if (e->state == CANDIDATE)
			log_write(LOG_INFO, "leads from now on", "lease", e->name, "identity", e->identity, NULL);
		e->state = LEADING;
		e->renewed = start;
		return retry;
	}
	if (e->state == CANDIDATE)
		return retry + backoff_random(retry * JITTER_PERCENT / 100);
	if (result == 0) {
		lose(e, "another one took the lease");
		return retry;
	}
	if (!leads(e))
		return retry;
	now = now_of(e);
	end = e->renewed + (uint64_t)e->options.deadline_s * 1000;
	return end > now && end - now < retry ? (unsigned)(end - now) : retry;
}

static void *run(void *arg)
{
	struct election *e = arg;

	while (!cancel_requested(e->cancel))
		cancel_wait(e->cancel, election_run_once(e));
	return NULL;
}

int election_start(struct election *e, struct error **err)
{
	int failed = pthread_create(&e->thread, NULL, run, e);

	e->started = !failed;
	return failed ? error_set_errno(err, failed, "cannot start the leader election") : 0;
}

/* As client-go: no holder, and a lease that is over in a second. */
static void release(struct election *e)
{
	char now[CLOCK_RFC3339_SIZE];
	AUTO_JSON json_t *patch = NULL, *done = NULL;
	AUTO_ERROR struct error *failed = NULL;

	clock_rfc3339_us(now);
	patch = json_pack("{s:{s:O*, s:{s:n}}, s:{s:n, s:i, s:s}}", "metadata", "resourceVersion",
			  json_path(e->lease, "metadata.resourceVersion"), "annotations", API_ANNOTATION_SCRATCH, "spec", "holderIdentity",
			  "leaseDurationSeconds", 1, "renewTime", now);
	done = patch ? store_patch(e->options.store, &api_leases, e->ns, e->name, NULL, patch, &failed) : NULL;
	log_write(done ? LOG_INFO : LOG_WARNING, done ? "gave the lease back" : "could not give the lease back: it runs out by itself",
		  "lease", e->name, "error", error_message(failed), NULL);
}

void election_stop(struct election *e)
{
	cancel_request(e->cancel);
	if (e->started)
		pthread_join(e->thread, NULL);
	e->started = false;
	if (election_leads(e))
		release(e);
	LOCK_GUARD(&e->lock);
	e->state = CANDIDATE;
}
