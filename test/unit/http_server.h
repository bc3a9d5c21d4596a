/* A small HTTP/1.1 server on the loopback address for the unit tests: a thread a connection, plain or TLS, that does what a handler says. */
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/bn.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

struct conn {
	struct server *server;
	int fd;
	SSL *ssl;
	pthread_t thread;
	struct conn *next;
};

struct server_request {
	char method[16], path[1024];
	char *headers; /* all lines */
	char *body;
	size_t body_len;
};

/* Returns true to keep the connection. */
typedef bool (*server_handler)(struct conn *c, const struct server_request *r, void *arg);

struct server {
	int fd, stop;
	uint16_t port;
	SSL_CTX *tls;
	server_handler handler;
	void *arg;
	pthread_t thread;
	pthread_mutex_t lock;
	struct conn *conns;
	atomic_uint accepted, requests;
};

static inline bool conn_write(struct conn *c, const void *data, size_t len)
{
	for (size_t at = 0; at < len;) {
		ssize_t n = c->ssl ? SSL_write(c->ssl, (const char *)data + at, (int)(len - at))
				   : send(c->fd, (const char *)data + at, len - at, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		at += (size_t)n;
	}
	return true;
}

__attribute__((format(printf, 2, 3))) static inline bool conn_printf(struct conn *c, const char *fmt, ...)
{
	char text[8192];
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	return len >= 0 && (size_t)len < sizeof text && conn_write(c, text, (size_t)len);
}

/* A whole answer with a Content-Length. */
static inline bool conn_answer(struct conn *c, int status, const char *headers, const void *body, size_t len)
{
	return conn_printf(c, "HTTP/1.1 %d X\r\n%sContent-Length: %zu\r\n\r\n", status, headers, len) && conn_write(c, body, len);
}

/* Waits until the server ends or the client has gone. */
static inline void conn_hang(struct conn *c)
{
	struct pollfd p[2] = { { .fd = c->server->stop, .events = POLLIN }, { .fd = c->fd, .events = POLLIN } };

	poll(p, 2, -1);
}

static inline bool conn_read_request(struct conn *c, struct server_request *r)
{
	char *text = NULL, *end = NULL;
	size_t len = 0, have = 0;
	const char *length;

	while (!end) {
		struct pollfd p[2] = { { .fd = c->server->stop, .events = POLLIN }, { .fd = c->fd, .events = POLLIN } };
		ssize_t n;

		text = realloc(text, len + 4097);
		if ((!c->ssl || !SSL_pending(c->ssl)) && (poll(p, 2, -1) < 0 || p[0].revents))
			goto fail;
		n = c->ssl ? SSL_read(c->ssl, text + len, 4096) : recv(c->fd, text + len, 4096, 0);
		if (n <= 0)
			goto fail;
		len += (size_t)n;
		text[len] = 0;
		end = strstr(text, "\r\n\r\n");
	}
	have = len - (size_t)(end + 4 - text);
	end[2] = 0;
	if (sscanf(text, "%15s %1023s", r->method, r->path) != 2)
		goto fail;
	length = strcasestr(text, "\r\nContent-Length:");
	r->body_len = length ? strtoul(length + 17, NULL, 10) : 0;
	r->body = calloc(1, r->body_len + 1);
	memcpy(r->body, end + 4, have < r->body_len ? have : r->body_len);
	while (have < r->body_len) {
		ssize_t n = c->ssl ? SSL_read(c->ssl, r->body + have, (int)(r->body_len - have))
				   : recv(c->fd, r->body + have, r->body_len - have, 0);

		if (n <= 0)
			goto fail;
		have += (size_t)n;
	}
	r->headers = text;
	c->server->requests++;
	return true;
fail:
	free(text);
	free(r->body);
	r->body = NULL;
	return false;
}

static inline void *conn_main(void *arg)
{
	struct conn *c = arg;
	bool keep = true;

	if (c->server->tls) {
		c->ssl = SSL_new(c->server->tls);
		SSL_set_fd(c->ssl, c->fd);
		keep = SSL_accept(c->ssl) == 1;
	}
	while (keep) {
		struct server_request r = { 0 };

		if (!conn_read_request(c, &r))
			break;
		keep = c->server->handler(c, &r, c->server->arg);
		free(r.headers);
		free(r.body);
	}
	if (c->ssl) {
		SSL_shutdown(c->ssl);
		SSL_free(c->ssl);
	}
	shutdown(c->fd, SHUT_RDWR);
	return NULL;
}

static inline void *server_main(void *arg)
{
	struct server *s = arg;

	for (;;) {
		struct pollfd p[2] = { { .fd = s->stop, .events = POLLIN }, { .fd = s->fd, .events = POLLIN } };
		struct conn *c;

		if (poll(p, 2, -1) < 0 || p[0].revents)
			return NULL;
		c = calloc(1, sizeof *c);
		c->server = s;
		c->fd = accept(s->fd, NULL, NULL);
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
		s->accepted++;
		pthread_mutex_lock(&s->lock);
		c->next = s->conns;
		s->conns = c;
		pthread_mutex_unlock(&s->lock);
		pthread_create(&c->thread, NULL, conn_main, c);
	}
}

static inline struct server *server_start(SSL_CTX *tls, server_handler handler, void *arg)
{
	struct server *s = calloc(1, sizeof *s);
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof at;

	signal(SIGPIPE, SIG_IGN);
	*s = (struct server){ .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
			      .stop = eventfd(0, EFD_CLOEXEC),
			      .tls = tls,
			      .handler = handler,
			      .arg = arg };
	pthread_mutex_init(&s->lock, NULL);
	if (bind(s->fd, (struct sockaddr *)&at, sizeof at) || listen(s->fd, 64) || getsockname(s->fd, (struct sockaddr *)&at, &len) ||
	    pthread_create(&s->thread, NULL, server_main, s))
		abort();
	s->port = ntohs(at.sin_port);
	return s;
}

static inline void server_stop(struct server *s)
{
	uint64_t one = 1;

	if (write(s->stop, &one, sizeof one) < 0)
		abort();
	pthread_join(s->thread, NULL);
	for (struct conn *c = s->conns; c; c = c->next)
		shutdown(c->fd, SHUT_RDWR);
	while (s->conns) {
		struct conn *c = s->conns;

		s->conns = c->next;
		pthread_join(c->thread, NULL);
		close(c->fd);
		free(c);
	}
	close(s->fd);
	close(s->stop);
	SSL_CTX_free(s->tls);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* --- certificates ------------------------------------------------------------------------------------------------------ */

struct identity {
	X509 *cert;
	EVP_PKEY *key;
};

static inline void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;

	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	X509_add_ext(cert, ext, -1);
	X509_EXTENSION_free(ext);
}

/* A certificate of this common name and alternative names, signed by ca or (NULL) by itself; days: how long from now, negative: expired. */
static inline struct identity identity_new(const char *name, const char *alternative, const struct identity *ca, int days)
{
	struct identity id = { .cert = X509_new(), .key = EVP_EC_gen("P-256") };
	X509_NAME *subject = X509_get_subject_name(id.cert);
	static long serial = 1000;

	X509_set_version(id.cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(id.cert), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(id.cert), -30L * 86400);
	X509_gmtime_adj(X509_getm_notAfter(id.cert), days * 86400L);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(id.cert, ca ? X509_get_subject_name(ca->cert) : subject);
	X509_set_pubkey(id.cert, id.key);
	add_extension(id.cert, ca ? ca->cert : id.cert, NID_basic_constraints, ca ? "CA:FALSE" : "critical,CA:TRUE");
	if (alternative)
		add_extension(id.cert, ca ? ca->cert : id.cert, NID_subject_alt_name, alternative);
	X509_sign(id.cert, ca ? ca->key : id.key, EVP_sha256());
	return id;
}

static inline void identity_free(struct identity *id)
{
	X509_free(id->cert);
	EVP_PKEY_free(id->key);
}

static inline char *bio_text(BIO *bio)
{
	char *data, *text;
	long len = BIO_get_mem_data(bio, &data);

	text = strndup(data, (size_t)len);
	BIO_free(bio);
	return text;
}

static inline char *identity_cert_pem(const struct identity *id)
{
	BIO *bio = BIO_new(BIO_s_mem());

	PEM_write_bio_X509(bio, id->cert);
	return bio_text(bio);
}

static inline char *identity_key_pem(const struct identity *id)
{
	BIO *bio = BIO_new(BIO_s_mem());

	PEM_write_bio_PrivateKey(bio, id->key, NULL, NULL, 0, NULL, NULL);
	return bio_text(bio);
}

/* "AA:BB:..." */
static inline void identity_fingerprint(const struct identity *id, const EVP_MD *md, char out[200])
{
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	X509_digest(id->cert, md, sum, &len);
	for (unsigned i = 0; i < len; i++)
		snprintf(out + 3 * i, 4, i + 1 < len ? "%02X:" : "%02X", sum[i]);
}

static inline SSL_CTX *identity_server(const struct identity *id)
{
	SSL_CTX *tls = SSL_CTX_new(TLS_server_method());

	SSL_CTX_use_certificate(tls, id->cert);
	SSL_CTX_use_PrivateKey(tls, id->key);
	return tls;
}
