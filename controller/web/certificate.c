#include "web/certificate.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/stat.h>

DEFINE_CLEANUP(SSL_CTX, ssl_ctx_free_p, SSL_CTX_free)
DEFINE_CLEANUP(EVP_MD_CTX, md_ctx_free_p, EVP_MD_CTX_free)

static int readable(const char *what, const char *path, struct error **err)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "cannot read the image server's %s %s", what, path);
	if (!S_ISREG(st.st_mode))
		return error_set(err, ERROR_PERMANENT, "InvalidCertificate", "the image server's %s %s is no file", what, path);
	return 0;
}

static int refuse(struct error **err, const char *what, const char *path)
{
	unsigned long code = ERR_get_error();
	const char *why = code ? ERR_reason_error_string(code) : NULL;

	ERR_clear_error();
	return error_set(err, ERROR_PERMANENT, "InvalidCertificate", "%s %s: %s", what, path, why ? why : "not in PEM form");
}

int certificate_check(const struct certificate *c, struct error **err)
{
	CLEANUP(ssl_ctx_free_p) SSL_CTX *ctx = NULL;

	if (readable("certificate", c->chain, err) < 0 || readable("key", c->key, err) < 0)
		return -1;
	ctx = SSL_CTX_new(TLS_server_method());
	if (!ctx)
		return error_set_errno(err, ENOMEM, "cannot check the image server's certificate");
	ERR_clear_error();
	if (SSL_CTX_use_certificate_chain_file(ctx, c->chain) != 1)
		return refuse(err, "there is no usable certificate in", c->chain);
	if (SSL_CTX_use_PrivateKey_file(ctx, c->key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1)
		return refuse(err, "there is no key of the certificate in", c->key);
	return 0;
}

static bool hash_file(const char *path, unsigned char out[32])
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	CLEANUP(md_ctx_free_p) EVP_MD_CTX *md = EVP_MD_CTX_new();
	unsigned char piece[4096];
	ssize_t n = -1;
	size_t all = 0;

	if (fd < 0 || !md || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1)
		return false;
	while (all < (1u << 20) && (n = read(fd, piece, sizeof piece)) > 0) {
		if (EVP_DigestUpdate(md, piece, (size_t)n) != 1)
			return false;
		all += (size_t)n;
	}
	return n == 0 && EVP_DigestFinal_ex(md, out, NULL) == 1;
}

bool certificate_changed(struct certificate *c)
{
	unsigned char now[2][32];

	if (!hash_file(c->chain, now[0]) || !hash_file(c->key, now[1]) || !memcmp(now, c->seen, sizeof now) ||
	    certificate_check(c, NULL) < 0)
		return false;
	memcpy(c->seen, now, sizeof now);
	return true;
}
