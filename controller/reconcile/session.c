#include "reconcile/session.h"

#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

#include "api/near.h"
#include "api/resources.h"
#include "api/types.h"
#include "base/backoff.h"
#include "base/buffer.h"
#include "base/clock.h"

struct session {
	struct sessions *pool;
	char *key;         /* kind/namespace/name */
	char *fingerprint; /* of spec and Secret: another one needs another session */
	char *secret_note; /* NULL: there is nothing odd about the Secret */
	struct source *source;
	unsigned users; /* guarded by the pool's lock, as all below */
	unsigned steps; /* of these, those that hold up a worker */
	bool stale;     /* replaced by a newer one: ends with its last user */
	uint64_t last_used;
	struct session *next;
};

/* An open that failed: not tried again with the same spec and Secret for a while. Some endpoints lock an account after a few refused
 * logins, and each try at one that does not answer takes a worker's time. */
struct refusal {
	char *key, *fingerprint;
	struct error *error;
	uint64_t until;
	struct backoff backoff; /* of what may pass */
	struct refusal *next;
};

#define NOTE_MAX 4096
#define REFUSAL_MS (5 * 60 * 1000)
#define TROUBLE_MS 500      /* after the first failure that may pass; doubled ... */
#define TROUBLE_MAX_MS 8000 /* ... up to this */
#define OPENING_MS 500      /* a login that takes longer is not waited for */
#define SLOW_MS 3000        /* a source that has finished nothing for so long is slow */

struct sessions {
	struct store *store;
	struct source_options options;
	struct cancel *cancel;
	struct secrets *secrets;
	unsigned workers;
	pthread_mutex_t lock; /* guards all below; not held while a session is opened or closed */
	pthread_cond_t opened;
	struct session *list;
	struct refusal *refusals;
	json_t *opening; /* keys whose login is under way: a second one waits for it, so that a source gets one session */
};

struct sessions *sessions_new(const struct sessions_options *o)
{
	struct sessions *p = calloc(1, sizeof *p);
	pthread_condattr_t attr;

	if (!p)
		return NULL;
	p->store = o->store;
	p->options = *o->sources;
	p->cancel = o->cancel;
	p->secrets = o->secrets;
	p->workers = o->workers;
	p->opening = json_object();
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->opened, &attr);
	pthread_condattr_destroy(&attr);
	return p;
}

static void session_close(struct session *s)
{
	if (!s)
		return;
	if (s->source)
		s->source->ops->close(s->source);
	free(s->key);
	free(s->fingerprint);
	free(s->secret_note);
	free(s);
}

DEFINE_CLEANUP(struct session, session_close_p, session_close)

static void refusal_free(struct refusal *r)
{
	free(r->key);
	free(r->fingerprint);
	error_free(r->error);
	free(r);
}

void sessions_free(struct sessions *p)
{
	if (!p)
		return;
	while (p->list) {
		struct session *s = p->list;

		p->list = s->next;
		session_close(s);
	}
	while (p->refusals) {
		struct refusal *r = p->refusals;

		p->refusals = r->next;
		refusal_free(r);
	}
	json_decref(p->opening);
	pthread_cond_destroy(&p->opened);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* Base64 of a Secret's value -> a JSON string; NULL when it is no base64 or no UTF-8 text. */
static json_t *decode(const char *text)
{
	size_t len = strlen(text), pad = 0;
	AUTO_FREE unsigned char *bytes = malloc(len + 1);
	int n;

	if (!bytes || len > 1 << 20)
		return NULL;
	n = EVP_DecodeBlock(bytes, (const unsigned char *)text, (int)len);
	while (len > pad && pad < 2 && text[len - 1 - pad] == '=')
		pad++;
	return n < (int)pad ? NULL : json_stringn((const char *)bytes, (size_t)n - pad);
}

/* The data of the source's Secret, decoded; JSON null in *out when the source names none. */
static int read_secret(struct sessions *p, const json_t *object, json_t **out, struct error **err)
{
	const char *ns = json_path_string(object, "spec.credentials.namespace"), *name = json_path_string(object, "spec.credentials.name");
	AUTO_JSON json_t *secret = NULL, *data = json_object();
	const char *key;
	json_t *value;

	if (!ns || !*ns)
		ns = json_path_string(object, "metadata.namespace");
	if (!name || !*name) {
		*out = NULL;
		return 0;
	}
	secret = store_get(p->store, &api_secrets, ns, name, err);
	if (!secret) {
		if (err && *err && (*err)->class == ERROR_NOT_FOUND)
			return error_set(
				err, ERROR_TRANSIENT, "SecretNotFound",
				"spec.credentials names the Secret %s/%s, which does not exist; create it or correct the reference", ns,
				name);
		return error_wrap(err, "cannot read the Secret %s/%s", ns, name);
	}
	if (p->secrets)
		secrets_seen(p->secrets, ns, name, secret);
	json_object_foreach (json_object_get(secret, "data"), key, value) {
		json_t *text = json_is_string(value) ? decode(json_string_value(value)) : NULL;

		if (!text)
			return error_set(
				err, ERROR_PERMANENT, "SecretInvalid",
				"the key \"%.200s\" of the Secret %s/%s is not base64 of a text, as all under data: must be; write "
				"plain text under stringData:",
				key, ns, name);
		json_object_set_new(data, key, text);
	}
	*out = move_ptr(data);
	return 0;
}

static bool is_word(const char *word, const char *const *words)
{
	while (*words && strcmp(word, *words) != 0)
		words++;
	return *words;
}

/* Of the keys that mean nothing to the source: a word that is misspelt is as if it were not there. Owned; NULL: there are none. */
static char *note_of_secret(const struct source_ops *ops, const json_t *object, const json_t *secret)
{
	const char *ns = json_path_string(object, "spec.credentials.namespace"), *name = json_path_string(object, "spec.credentials.name");
	const char *const *known = ops->secret_keys;
	AUTO_BUFFER struct buffer text = { 0 };
	const char *key;
	json_t *value;

	if (!known)
		return NULL;
	buffer_init(&text, NOTE_MAX);
	json_object_foreach ((json_t *)secret, key, value) {
		const char *near;

		if (is_word(key, known))
			continue;
		if (!text.len)
			buffer_addf(&text, "the Secret %s/%s has", ns && *ns ? ns : json_path_string(object, "metadata.namespace"), name);
		else
			buffer_add_string(&text, ",");
		near = near_word(key, known);
		buffer_addf(&text, " the key \"%.100s\"%s%s%s", key, near ? " (is it " : "", near ? near : "", near ? "?)" : "");
	}
	if (!text.len)
		return NULL;
	buffer_add_string(&text, ", which is not known; known are ");
	for (const char *const *k = known; *k; k++)
		buffer_addf(&text, "%s%s", k == known ? "" : ", ", *k);
	text.failed = false; /* what fits is told */
	return buffer_steal(&text);
}

void session_add_note(struct error *error, const char *note)
{
	char *message = NULL;

	if (!note || !error || error->class != ERROR_PERMANENT || asprintf(&message, "%s; %s", error->message, note) < 0)
		return;
	free(error->message);
	error->message = message;
}

static char *hex_sha256(const char *text)
{
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	char *hex;

	if (!EVP_Digest(text, strlen(text), sum, &len, EVP_sha256(), NULL) || !(hex = malloc(2 * (size_t)len + 1)))
		return NULL;
	for (unsigned i = 0; i < len; i++)
		sprintf(hex + 2 * (size_t)i, "%02x", sum[i]);
	return hex;
}

static char *fingerprint_of(const json_t *object, json_t *secret)
{
	AUTO_JSON json_t *all = json_pack("[O?, O?]", json_object_get(object, "spec"), secret);
	AUTO_FREE char *text = all ? json_dumps(all, JSON_SORT_KEYS | JSON_COMPACT) : NULL;

	return text ? hex_sha256(text) : NULL;
}

static int busy(const char *key, struct error **err)
{
	return error_set(err, ERROR_CONFLICT, SESSION_BUSY, "%s is busy with others", key);
}

/* The open session of this key and fingerprint with one more user; others of the key become stale. *out NULL: there is none. The caller
 * holds the lock. */
static int find(struct sessions *p, const char *key, const char *fingerprint, struct session **out, struct error **err)
{
	uint64_t now = clock_monotonic_ms();
	struct session *found = NULL;

	for (struct session *s = p->list; s; s = s->next) {
		if (strcmp(s->key, key))
			continue;
		if (!strcmp(s->fingerprint, fingerprint) && !s->stale)
			found = s;
		else
			s->stale = true;
	}
	if (found && p->workers > 1 && found->steps + 1 >= p->workers && now - found->last_used > SLOW_MS)
		return busy(key, err);
	*out = found;
	if (!found)
		return 0;
	if (!found->steps)
		found->last_used = now; /* slow is who has been asked for something */
	found->users++;
	found->steps++;
	return 0;
}

static struct refusal **find_refusal(struct sessions *p, const char *key)
{
	struct refusal **at = &p->refusals;

	while (*at && strcmp((*at)->key, key))
		at = &(*at)->next;
	return at;
}

static void drop_refusal(struct refusal **at)
{
	struct refusal *r = *at;

	if (!r)
		return;
	*at = r->next;
	refusal_free(r);
}

/* Tells the remembered refusal of this key, if it still counts. The caller holds the lock. */
static int check_refusal(struct sessions *p, const char *key, const char *fingerprint, struct error **err)
{
	struct refusal **at = find_refusal(p, key), *r = *at;

	if (!r)
		return 0;
	if (strcmp(r->fingerprint, fingerprint)) {
		drop_refusal(at);
		return 0;
	}
	if (clock_monotonic_ms() >= r->until)
		return 0;
	return error_set_code(err, r->error->class, r->error->reason, r->error->code, "%s", r->error->message);
}

/* The caller holds the lock. */
static void remember_refusal(struct sessions *p, const char *key, const char *fingerprint, const struct error *error)
{
	struct refusal **at = find_refusal(p, key), *r = calloc(1, sizeof *r);

	if (!r)
		return;
	*r = (struct refusal){ .key = strdup(key), .fingerprint = strdup(fingerprint) };
	r->backoff = *at ? (*at)->backoff : (struct backoff){ .base_ms = TROUBLE_MS, .cap_ms = TROUBLE_MAX_MS };
	r->until = clock_monotonic_ms() + (error->class == ERROR_TRANSIENT ? backoff_next(&r->backoff) : REFUSAL_MS);
	error_set_code(&r->error, error->class, error->reason, error->code, "%s", error->message);
	drop_refusal(at);
	r->next = p->refusals;
	p->refusals = r;
}

/* Waits a moment for who logs in to this source. The caller holds the lock. */
static int wait_opening(struct sessions *p, const char *key, struct error **err)
{
	uint64_t end = clock_monotonic_ms() + OPENING_MS;
	struct timespec until = { (time_t)(end / 1000), (long)(end % 1000) * 1000000 };

	while (json_object_get(p->opening, key))
		if (pthread_cond_timedwait(&p->opened, &p->lock, &until))
			return busy(key, err);
	return 0;
}

/* Logs in. On failure *err is set. */
static struct session *open_session(struct sessions *p, const struct source_ops *ops, const json_t *object, const json_t *secret,
				    struct error **err)
{
	CLEANUP(session_close_p) struct session *s = calloc(1, sizeof *s);

	if (!s) {
		error_set_errno(err, ENOMEM, "cannot open a session");
		return NULL;
	}
	s->pool = p;
	s->users = s->steps = 1;
	s->source = ops->open(object, secret, &p->options, p->cancel, err);
	s->last_used = clock_monotonic_ms();
	return s->source ? move_ptr(s) : NULL;
}

int session_get(struct sessions *p, const json_t *object, struct session **out, struct error **err)
{
	const char *kind = json_path_string(object, "kind"), *ns = json_path_string(object, "metadata.namespace");
	const char *name = json_path_string(object, "metadata.name");
	const struct source_ops *ops = source_ops_of(kind);
	CLEANUP(session_close_p) struct session *s = NULL;
	AUTO_JSON json_t *secret = NULL;
	AUTO_FREE char *key = NULL, *fingerprint = NULL, *note = NULL;
	AUTO_ERROR struct error *failed = NULL;

	if (!ops)
		return error_set(err, ERROR_PERMANENT, "SourceKindUnsupported", "this version cannot import from a %s",
				 kind ? kind : "source without a kind");
	if (read_secret(p, object, &secret, err) < 0)
		return -1;
	if (asprintf(&key, "%s/%s/%s", kind, ns, name) < 0) {
		key = NULL;
		return error_set_errno(err, ENOMEM, "cannot open a session");
	}
	fingerprint = fingerprint_of(object, secret);
	if (!fingerprint)
		return error_set_errno(err, ENOMEM, "cannot open a session");
	{
		LOCK_GUARD(&p->lock);
		struct session *open = NULL;

		if (wait_opening(p, key, err) < 0 || find(p, key, fingerprint, &open, err) < 0)
			return -1;
		if (open) {
			*out = open;
			return 0;
		}
		if (check_refusal(p, key, fingerprint, err) < 0)
			return -1;
		json_object_set_new(p->opening, key, json_true());
	}
	s = open_session(p, ops, object, secret, &failed);
	note = note_of_secret(ops, object, secret);
	session_add_note(failed, note);
	LOCK_GUARD(&p->lock);
	json_object_del(p->opening, key);
	pthread_cond_broadcast(&p->opened);
	if (!s) {
		if (failed->class == ERROR_PERMANENT || failed->class == ERROR_TRANSIENT)
			remember_refusal(p, key, fingerprint, failed);
		return error_move(err, move_ptr(failed));
	}
	drop_refusal(find_refusal(p, key));
	s->key = move_ptr(key);
	s->fingerprint = move_ptr(fingerprint);
	s->secret_note = move_ptr(note);
	s->next = p->list;
	p->list = s;
	*out = move_ptr(s);
	return 0;
}

struct source *session_source(const struct session *s)
{
	return s->source;
}

const char *session_secret_note(const struct session *s)
{
	return s->secret_note;
}

struct session *session_ref(struct session *s)
{
	LOCK_GUARD(&s->pool->lock);
	s->users++;
	return s;
}

void session_release(struct session *s)
{
	LOCK_GUARD(&s->pool->lock);
	s->users--;
	s->last_used = clock_monotonic_ms();
}

void session_put(struct session *s)
{
	LOCK_GUARD(&s->pool->lock);
	s->users--;
	s->steps--;
	s->last_used = clock_monotonic_ms();
}

size_t sessions_reap(struct sessions *p, unsigned idle_ms)
{
	struct session *dead = NULL;
	size_t open = 0;
	uint64_t now = clock_monotonic_ms();

	pthread_mutex_lock(&p->lock);
	for (struct session **at = &p->list; *at;) {
		struct session *s = *at;

		if (!s->users && (s->stale || now - s->last_used >= idle_ms)) {
			*at = s->next;
			s->next = dead;
			dead = s;
		} else {
			open++;
			at = &s->next;
		}
	}
	pthread_mutex_unlock(&p->lock);
	while (dead) {
		struct session *s = dead;

		dead = s->next;
		session_close(s);
	}
	return open;
}

size_t sessions_count(struct sessions *p)
{
	size_t n = 0;

	LOCK_GUARD(&p->lock);
	for (struct session *s = p->list; s; s = s->next)
		n++;
	return n;
}
