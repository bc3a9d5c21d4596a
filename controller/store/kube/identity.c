#include "store/kube/identity.h"

#include <errno.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "store/kube/credential.h"
#include "store/kube/exec.h"

#define FRESH_MS 60000 /* files are not read again sooner, unless there is cause */
#define AGAIN_MS 1000  /* a pair that does not fit is probably being replaced */
#define EXEC_MS 30000  /* for a plugin to answer */
#define MARGIN_S 60    /* a credential is renewed so long before it expires, or a tenth of its time if that is less */
#define PEM_MAX (1u << 20)

/* The connection made with one set of certificates; it goes when the last request that uses it is over. */
struct link {
	struct http_client *http;
	unsigned uses; /* and one for being the current one; guarded by the identity's lock */
};

struct identity {
	struct kube_config config; /* as it was configured, and never changed */
	pthread_mutex_t lock;      /* guards all below; not held while files are read or a plugin runs */
	pthread_cond_t renewed;
	bool renewing, doubted;
	char *token, *cert, *key, *ca; /* of now */
	unsigned generation;
	uint64_t read_at;          /* files: when they were last read; 0: never */
	int64_t renew_at, expires; /* exec: seconds since the epoch; 0: never */
	bool fetched;              /* exec: there is a credential */
	struct link *link;
	unsigned connections; /* of links that are gone */
};

/* What renewing brought; NULL: nothing new. */
struct fresh {
	char *token, *cert, *key, *ca;
	int64_t expires;
};

static void fresh_free(struct fresh *f)
{
	free(f->token);
	free(f->cert);
	free(f->key);
	free(f->ca);
	*f = (struct fresh){ 0 };
}

static bool has_files(const struct identity *id)
{
	const struct kube_config *c = &id->config;

	return c->token_file || c->cert_file || c->key_file || c->ca_file;
}

bool identity_renews(const struct identity *id)
{
	return id->config.exec.api_version || id->config.token_file || id->config.cert_file || id->config.key_file;
}

static int copy(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return from && !*to ? -1 : 0;
}

static int copy_list(char ***to, char *const *from)
{
	size_t n = 0;

	while (from && from[n])
		n++;
	if (!from)
		return 0;
	*to = calloc(n + 1, sizeof **to);
	for (size_t i = 0; *to && i < n; i++)
		if (copy(&(*to)[i], from[i]) < 0)
			return -1;
	return *to ? 0 : -1;
}

static int copy_config(struct kube_config *to, const struct kube_config *from)
{
	to->insecure = from->insecure;
	to->exec.interactive = from->exec.interactive;
	to->exec.wants_cluster = from->exec.wants_cluster;
	if (copy(&to->server, from->server) | copy(&to->ca_pem, from->ca_pem) | copy(&to->server_name, from->server_name) |
	    copy(&to->proxy_url, from->proxy_url) | copy(&to->cert_pem, from->cert_pem) | copy(&to->key_pem, from->key_pem) |
	    copy(&to->ca_file, from->ca_file) | copy(&to->cert_file, from->cert_file) | copy(&to->key_file, from->key_file) |
	    copy(&to->token, from->token) | copy(&to->token_file, from->token_file) | copy(&to->exec.api_version, from->exec.api_version) |
	    copy(&to->exec.command, from->exec.command) | copy(&to->exec.install_hint, from->exec.install_hint) |
	    copy(&to->exec.cluster_config, from->exec.cluster_config) | copy_list(&to->exec.args, from->exec.args) |
	    copy_list(&to->exec.env, from->exec.env))
		return -1;
	return 0;
}

static void link_free(struct link *link)
{
	http_client_free(link->http);
	free(link);
}

/* The lock is held, or nobody else knows of it: making a client makes a thread, and waits for nothing. */
static struct link *make_link(struct identity *id, struct error **err)
{
	const struct kube_config *c = &id->config;
	struct http_trust trust = {
		.ca_pem = id->ca,
		.insecure = c->insecure,
		.client_cert_pem = id->cert,
		.client_key_pem = id->key,
		.server_name = c->server_name,
		.proxy_url = c->proxy_url,
	};
	struct link *link = calloc(1, sizeof *link);
	AUTO_FREE char *probe = NULL;

	if (!link || asprintf(&probe, "%s/version", c->server) < 0) { /* for everybody, and small */
		free(link);
		probe = NULL;
		error_set_errno(err, ENOMEM, "cannot make a client of the cluster");
		return NULL;
	}
	link->http = http_client_new(&trust, err);
	if (!link->http || http_client_share(link->http, probe, err) < 0) {
		link_free(link);
		return NULL;
	}
	link->uses = 1;
	return link;
}

struct identity *identity_new(const struct kube_config *config, struct error **err)
{
	struct identity *id = calloc(1, sizeof *id);

	if (!id) {
		error_set_errno(err, ENOMEM, "cannot make a client of the cluster");
		return NULL;
	}
	pthread_mutex_init(&id->lock, NULL);
	pthread_cond_init(&id->renewed, NULL);
	id->generation = 1;
	if (copy_config(&id->config, config) == 0 && copy(&id->token, config->token) == 0 && copy(&id->cert, config->cert_pem) == 0 &&
	    copy(&id->key, config->key_pem) == 0 && copy(&id->ca, config->ca_pem) == 0)
		id->link = make_link(id, err); /* what cannot be used is said now */
	else
		error_set_errno(err, ENOMEM, "cannot make a client of the cluster");
	if (id->link)
		return id;
	identity_free(id);
	return NULL;
}

void identity_free(struct identity *id)
{
	if (!id)
		return;
	if (id->link)
		link_free(id->link);
	kube_config_free(&id->config);
	free(id->token);
	free(id->cert);
	if (id->key)
		explicit_bzero(id->key, strlen(id->key));
	free(id->key);
	free(id->ca);
	pthread_cond_destroy(&id->renewed);
	pthread_mutex_destroy(&id->lock);
	free(id);
}

/* --- renewing ----------------------------------------------------------------------------------------------------------- */

static bool pair_fits(const char *cert, const char *key)
{
	BIO *c = BIO_new_mem_buf(cert, -1), *k = BIO_new_mem_buf(key, -1);
	X509 *x = c ? PEM_read_bio_X509(c, NULL, NULL, NULL) : NULL;
	EVP_PKEY *p = k ? PEM_read_bio_PrivateKey(k, NULL, NULL, NULL) : NULL;
	bool fits = x && p && X509_check_private_key(x, p) == 1;

	X509_free(x);
	EVP_PKEY_free(p);
	BIO_free(c);
	BIO_free(k);
	return fits;
}

/* Of a pair only one may be a file, the other inline. */
static int read_pair(const struct kube_config *c, struct fresh *f, struct error **err)
{
	if (!c->cert_file && !c->key_file)
		return 0;
	f->cert = c->cert_file ? credential_read(c->cert_file, PEM_MAX, err) : strdup(c->cert_pem);
	f->key = f->cert ? (c->key_file ? credential_read(c->key_file, PEM_MAX, err) : strdup(c->key_pem)) : NULL;
	if (!f->cert || !f->key)
		return -1;
	return pair_fits(f->cert, f->key)
		       ? 0
		       : error_set(err, ERROR_TRANSIENT, "InvalidCertificate", "the client certificate and its key do not fit");
}

static int read_files(const struct identity *id, struct fresh *f, struct error **err)
{
	const struct kube_config *c = &id->config;

	if (c->token_file && !(f->token = kube_token_read(c->token_file, err)))
		return -1;
	if (c->ca_file && !(f->ca = credential_read(c->ca_file, PEM_MAX, err)))
		return -1;
	return read_pair(c, f, err);
}

static int run_plugin(const struct identity *id, struct cancel *cancel, struct fresh *f, struct error **err)
{
	AUTO_EXEC_CREDENTIAL struct exec_credential got = { 0 };

	if (exec_credential_fetch(&id->config, cancel, EXEC_MS, &got, err) < 0)
		return -1;
	if (got.cert_pem && !pair_fits(got.cert_pem, got.key_pem))
		return error_set(err, ERROR_TRANSIENT, "InvalidCredential",
				 "the exec plugin %s: its client certificate and key are broken, or do not fit", id->config.exec.command);
	*f = (struct fresh){
		.token = move_ptr(got.token), .cert = move_ptr(got.cert_pem), .key = move_ptr(got.key_pem), .expires = got.expires
	};
	return 0;
}

/* Takes over what is new; true when it is another. The lock is held. */
static bool replace(char **now, char **fresh)
{
	if (!*fresh || (*now && !strcmp(*now, *fresh)))
		return false;
	free(*now);
	*now = move_ptr(*fresh);
	return true;
}

/* The current link is no more; who uses it goes on with it. The lock is held. Returns the one to free, if any. */
static struct link *drop_link(struct identity *id)
{
	struct link *old = id->link;

	id->link = NULL;
	if (!old || --old->uses)
		return NULL;
	id->connections += http_client_connections(old->http);
	return old;
}

/* The lock is held. */
static struct link *apply(struct identity *id, struct fresh *f)
{
	bool token = replace(&id->token, &f->token), pair = replace(&id->cert, &f->cert), key = replace(&id->key, &f->key);
	bool ca = replace(&id->ca, &f->ca);
	int64_t now = clock_unix(), margin;

	if (token || pair || key || ca)
		id->generation++;
	id->read_at = clock_monotonic_ms();
	id->doubted = false;
	if (id->config.exec.api_version) {
		margin = (f->expires - now) / 10;
		id->expires = f->expires;
		id->renew_at = f->expires ? f->expires - (margin < MARGIN_S ? margin : MARGIN_S) : 0;
		id->fetched = true;
	}
	return pair || key || ca ? drop_link(id) : NULL;
}

/* Whether the credentials of now will do. The lock is held. */
static bool is_usable(const struct identity *id)
{
	if (id->config.exec.api_version)
		return id->fetched && (!id->expires || clock_unix() < id->expires);
	return !id->config.token_file || id->token;
}

/* The lock is held. */
static bool is_due(const struct identity *id, unsigned refused)
{
	bool stale = refused == id->generation || id->doubted;

	if (id->config.exec.api_version)
		return !id->fetched || refused == id->generation || (id->renew_at && clock_unix() >= id->renew_at);
	return has_files(id) && (stale || !is_usable(id) || !id->read_at || clock_monotonic_ms() - id->read_at >= FRESH_MS);
}

/* Renews, with the lock released meanwhile. */
static void renew(struct identity *id, struct cancel *cancel, struct error **err)
{
	struct fresh f = { 0 };
	struct link *gone = NULL;
	int result;

	id->renewing = true;
	pthread_mutex_unlock(&id->lock);
	result = id->config.exec.api_version ? run_plugin(id, cancel, &f, err) : read_files(id, &f, err);
	pthread_mutex_lock(&id->lock);
	if (result == 0)
		gone = apply(id, &f);
	else if (!id->config.exec.api_version) /* what is half there now may be whole in a moment */
		id->read_at = clock_monotonic_ms() - FRESH_MS + AGAIN_MS;
	fresh_free(&f);
	id->renewing = false;
	pthread_cond_broadcast(&id->renewed);
	if (gone) {
		pthread_mutex_unlock(&id->lock);
		link_free(gone);
		pthread_mutex_lock(&id->lock);
	}
}

/* Waits until another thread has renewed, or for a moment. */
static void wait_renewed(struct identity *id)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += 100000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_cond_timedwait(&id->renewed, &id->lock, &until);
}

/* --- use ---------------------------------------------------------------------------------------------------------------- */

int identity_use(struct identity *id, unsigned refused, struct cancel *cancel, struct identity_use *out, struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;
	AUTO_FREE char *line = NULL;

	LOCK_GUARD(&id->lock);
	while (id->renewing && is_due(id, refused) && (!is_usable(id) || refused == id->generation)) {
		if (cancel_check(cancel, err) < 0)
			return -1;
		wait_renewed(id);
	}
	if (!id->renewing && is_due(id, refused))
		renew(id, cancel, &failed);
	if (failed && !is_usable(id))
		return id->config.exec.api_version || failed->class == ERROR_CANCELLED
			       ? error_move(err, move_ptr(failed))
			       : error_set(err, ERROR_TRANSIENT, "NoToken", "%s", error_message(failed));
	if (!id->link && !(id->link = make_link(id, err)))
		return -1;
	if (id->token && asprintf(&line, "Authorization: Bearer %s", id->token) < 0) {
		line = NULL;
		return error_set_errno(err, ENOMEM, "cannot make the request");
	}
	id->link->uses++;
	*out = (struct identity_use){ id->link->http, move_ptr(line), id->generation, id->link };
	return 0;
}

void identity_release(struct identity *id, struct identity_use *use)
{
	bool last;

	if (!use->link)
		return;
	pthread_mutex_lock(&id->lock);
	last = !--use->link->uses;
	if (last)
		id->connections += http_client_connections(use->link->http);
	pthread_mutex_unlock(&id->lock);
	if (last)
		link_free(use->link);
	if (use->authorization)
		explicit_bzero(use->authorization, strlen(use->authorization));
	free(use->authorization);
	*use = (struct identity_use){ 0 };
}

void identity_doubt(struct identity *id)
{
	LOCK_GUARD(&id->lock);
	id->doubted = true;
}

unsigned identity_connections(struct identity *id)
{
	LOCK_GUARD(&id->lock);
	return id->connections + (id->link ? http_client_connections(id->link->http) : 0);
}
