#include "net/client.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "net/address.h"

#define IDLE_MAX 32 /* handles, with their connections, that a client keeps for the next request */

static void init_curl(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

static int copy(char **to, const char *from)
{
	if (!from)
		return 0;
	*to = strdup(from);
	return *to ? 0 : -1;
}

static int set_pin(char **to, const char *text, size_t digits, const char *kind, struct error **err)
{
	if (!text)
		return 0;
	*to = trust_fingerprint(text, digits);
	if (*to)
		return 0;
	return error_set(err, ERROR_PERMANENT, "InvalidFingerprint",
			 "\"%s\" is no %s fingerprint of a certificate (%zu hexadecimal digits)", text, kind, digits);
}

static int fill(struct http_client *c, const struct http_trust *t, struct error **err)
{
	c->insecure = t->insecure;
	c->first_use = t->first_use;
	c->refuse_local = t->refuse_local;
	if (t->ca_pem && !trust_has_certificates(t->ca_pem))
		return error_set(err, ERROR_PERMANENT, "InvalidCertificate",
				 "the CA certificates given are not in PEM form (-----BEGIN CERTIFICATE-----), or damaged");
	if (set_pin(&c->pin_sha1, t->pin_sha1, TRUST_SHA1_DIGITS, "SHA-1", err) < 0 ||
	    set_pin(&c->pin_sha256, t->pin_sha256, TRUST_SHA256_DIGITS, "SHA-256", err) < 0)
		return -1;
	if (c->first_use && c->pin_sha256) { /* what is pinned may change to what a CA vouches for: it is no pin to the rest of us */
		for (size_t i = 0; i < TRUST_SHA256_DIGITS; i++)
			snprintf(c->first.sha256 + i / 2 * 3 + i % 2, 3, "%c%s", toupper((unsigned char)c->pin_sha256[i]),
				 i % 2 && i + 1 < TRUST_SHA256_DIGITS ? ":" : "");
		free(move_ptr(c->pin_sha256));
	}
	if (copy(&c->ca_pem, t->ca_pem) || copy(&c->cert_pem, t->client_cert_pem) || copy(&c->key_pem, t->client_key_pem) ||
	    copy(&c->server_name, t->server_name) || copy(&c->proxy_url, t->proxy_url))
		return error_set_errno(err, ENOMEM, "cannot make an HTTP client");
	return 0;
}

struct http_client *http_client_new(const struct http_trust *trust, struct error **err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	static const struct http_trust defaults;
	struct http_client *c;

	pthread_once(&once, init_curl);
	c = calloc(1, sizeof *c);
	if (!c) {
		error_set_errno(err, ENOMEM, "cannot make an HTTP client");
		return NULL;
	}
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_init(&c->first.lock, NULL);
	if (fill(c, trust ? trust : &defaults, err) < 0) {
		http_client_free(c);
		return NULL;
	}
	return c;
}

char *http_client_first_use(struct http_client *c)
{
	LOCK_GUARD(&c->first.lock);
	return *c->first.sha256 ? strdup(c->first.sha256) : NULL;
}

static void slot_free(struct slot *s)
{
	if (!s)
		return;
	if (s->easy)
		curl_easy_cleanup(s->easy);
	if (s->multi)
		curl_multi_cleanup(s->multi);
	free(s);
}

void http_client_free(struct http_client *c)
{
	if (!c)
		return;
	while (c->idle) {
		struct slot *s = c->idle;

		c->idle = s->next;
		slot_free(s);
	}
	driver_stop(c->driver);
	curl_slist_free_all(c->probe_connect_to);
	pthread_mutex_destroy(&c->lock);
	pthread_mutex_destroy(&c->first.lock);
	if (c->key_pem)
		explicit_bzero(c->key_pem, strlen(c->key_pem));
	free(c->ca_pem);
	free(c->pin_sha1);
	free(c->pin_sha256);
	free(c->cert_pem);
	free(c->key_pem);
	free(c->server_name);
	free(c->proxy_url);
	free(c);
}

struct slot *http_slot_take(struct http_client *c)
{
	struct slot *s;

	pthread_mutex_lock(&c->lock);
	s = c->idle;
	if (s) {
		c->idle = s->next;
		c->idle_count--;
	}
	pthread_mutex_unlock(&c->lock);
	if (s)
		return s;
	s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->multi = c->driver ? NULL : curl_multi_init();
	s->easy = curl_easy_init();
	s->trust.pin_sha1 = c->pin_sha1;
	s->trust.pin_sha256 = c->pin_sha256;
	s->trust.first_use = c->first_use ? &c->first : NULL;
	if ((!s->multi && !c->driver) || !s->easy) {
		slot_free(s);
		return NULL;
	}
	return s;
}

void http_slot_give(struct http_client *c, struct slot *s)
{
	if (c->driver) { /* its connections are not the handle's; and curl may keep a buffer in it that stands in the way of the next request */
		slot_free(s);
		return;
	}
	if (s->failed) {
		CURL *fresh = curl_easy_init(); /* the connections are the multi handle's */

		if (!fresh) {
			slot_free(s);
			return;
		}
		curl_easy_cleanup(s->easy);
		s->easy = fresh;
		s->failed = false;
	}
	curl_easy_reset(s->easy); /* forgets the request and its password, keeps the connections */
	pthread_mutex_lock(&c->lock);
	if (c->idle_count < IDLE_MAX) {
		s->next = c->idle;
		c->idle = s;
		c->idle_count++;
		s = NULL;
	}
	pthread_mutex_unlock(&c->lock);
	slot_free(s);
}

static int set_blob(CURL *easy, CURLoption option, const char *pem)
{
	struct curl_blob blob = { .data = (void *)pem, .len = pem ? strlen(pem) : 0, .flags = CURL_BLOB_COPY };

	return !pem || curl_easy_setopt(easy, option, &blob) == CURLE_OK ? 0 : -1;
}

/* Asked for each address that curl is about to connect to, after names were resolved. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct slot *s = arg;
	const char *why = purpose == CURLSOCKTYPE_IPCXN ? address_refusal(&address->addr, address->addrlen) : "not allowed";
	char text[INET6_ADDRSTRLEN] = "?";

	if (!why)
		return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	getnameinfo(&address->addr, address->addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
	snprintf(s->refused, sizeof s->refused, "%s is %s", text, why);
	return CURL_SOCKET_BAD;
}

/* Where there is no bundle curl would refuse to try; with first_use there may be none. */
static bool system_has_certificates(void)
{
	const curl_version_info_data *info = curl_version_info(CURLVERSION_NOW);

	return (!info->cainfo || !access(info->cainfo, R_OK)) && (!info->capath || !access(info->capath, R_OK));
}

int http_slot_set_trust(struct http_client *c, struct slot *s, struct error **err)
{
	bool pinned = c->pin_sha1 || c->pin_sha256, checked = pinned || !c->insecure;
	CURL *easy = s->easy;
	int failed = 0;

	failed |= curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, checked ? 1L : 0L);
	/* A pinned certificate may bear any name; a name of our own is checked as the URL's host. */
	failed |= curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, checked && !pinned && !c->first_use ? 2L : 0L);
	failed |= curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	s->trust.unchecked = !checked;
	if (checked || !c->driver)
		failed |= trust_install(easy, c->driver ? &c->shared_trust : &s->trust);
	/* The system's certificates must neither help where others are to be trusted, nor be missed where they are not needed. */
	if (c->ca_pem || pinned || !checked || (c->first_use && !system_has_certificates())) {
		failed |= curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
		failed |= curl_easy_setopt(easy, CURLOPT_CAINFO, NULL);
	}
	*s->refused = 0;
	if (c->refuse_local) {
		failed |= curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
		failed |= curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, s);
	}
	/* Set always: an empty string keeps curl from asking the environment. */
	failed |= curl_easy_setopt(easy, CURLOPT_PROXY, c->proxy_url ? c->proxy_url : "");
	if (failed || set_blob(easy, CURLOPT_CAINFO_BLOB, c->ca_pem) < 0 || set_blob(easy, CURLOPT_SSLCERT_BLOB, c->cert_pem) < 0 ||
	    set_blob(easy, CURLOPT_SSLKEY_BLOB, c->key_pem) < 0)
		return error_set(err, ERROR_PERMANENT, "InvalidCertificate", "the certificates or keys given cannot be used");
	return 0;
}
