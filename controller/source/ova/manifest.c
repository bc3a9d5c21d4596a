#include "source/ova/manifest.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/hex.h"
#include "source/ova/ovf.h"

#define ENTRIES_MAX 4096
#define SIGNATURE_MAX 2048 /* bytes: RSA of 16384 bits */

struct manifest {
	struct ovf_manifest_entry *entries;
	size_t count;
};

DEFINE_CLEANUP(X509, x509_free_p, X509_free)
DEFINE_CLEANUP(BIO, bio_free_p, BIO_free)
DEFINE_CLEANUP(EVP_MD_CTX, md_free_p, EVP_MD_CTX_free)

static const EVP_MD *algorithm_of(const char *name, size_t len)
{
	static const struct {
		const char *name;
		const EVP_MD *(*md)(void);
	} all[] = { { "SHA1", EVP_sha1 },     { "SHA-1", EVP_sha1 },     { "SHA256", EVP_sha256 }, { "SHA-256", EVP_sha256 },
		    { "SHA384", EVP_sha384 }, { "SHA-384", EVP_sha384 }, { "SHA512", EVP_sha512 }, { "SHA-512", EVP_sha512 } };

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (strlen(all[i].name) == len && !strncasecmp(all[i].name, name, len))
			return all[i].md();
	return NULL;
}

/* Hexadecimal digits as bytes; their number, 0 when there are others or too many. */
static size_t hex_bytes(const char *text, size_t len, unsigned char *out, size_t max)
{
	if (len % 2 || len / 2 > max)
		return 0;
	for (size_t i = 0; i < len; i++)
		if (!isxdigit((unsigned char)text[i]))
			return 0;
	for (size_t i = 0; i < len / 2; i++)
		out[i] = hex_byte(text + 2 * i);
	return len / 2;
}

/* "SHA256(name)= hex" of len bytes; name is owned by the caller. */
static bool parse_line(const char *line, size_t len, const EVP_MD **algorithm, char **name, unsigned char *bytes, size_t max, size_t *count)
{
	const char *open = memchr(line, '(', len), *end = line + len, *close, *value;
	size_t before = open ? (size_t)(open - line) : 0;

	while (before && isspace((unsigned char)line[before - 1]))
		before--;
	*algorithm = open ? algorithm_of(line, before) : NULL;
	if (!*algorithm)
		return false;
	/* A name may hold parentheses: the last one before the equals sign closes. */
	for (value = end; value > open && *(value - 1) != '='; value--)
		;
	if (value == open)
		return false;
	for (close = value - 1; close > open && *close != ')'; close--)
		;
	if (close == open)
		return false;
	while (value < end && isspace((unsigned char)*value))
		value++;
	while (end > value && isspace((unsigned char)end[-1]))
		end--;
	*count = hex_bytes(value, (size_t)(end - value), bytes, max);
	if (!*count)
		return false;
	*name = strndup(open + 1, (size_t)(close - open - 1));
	return *name != NULL;
}

static int add_entry(struct manifest *m, const char *line, size_t len, size_t number, struct error **err)
{
	struct ovf_manifest_entry *e = &m->entries[m->count];
	char *name = NULL;
	const char *safe;

	if (m->count == ENTRIES_MAX)
		return error_set(err, ERROR_PERMANENT, "InvalidManifest", "the manifest has more than %d lines", ENTRIES_MAX);
	if (!parse_line(line, len, &e->algorithm, &name, e->digest, sizeof e->digest, &e->digest_len) ||
	    e->digest_len != (size_t)EVP_MD_get_size(e->algorithm)) {
		free(name);
		return error_set(err, ERROR_PERMANENT, "InvalidManifest",
				 "line %zu of the manifest is not understood; \"SHA256(file name)= digits\" is expected", number);
	}
	e->name = name;
	m->count++;
	safe = ovf_safe_name(name);
	if (safe && safe != name)
		memmove(name, safe, strlen(safe) + 1);
	for (size_t i = 0; i + 1 < m->count; i++)
		if (!strcmp(m->entries[i].name, name))
			return error_set(err, ERROR_PERMANENT, "InvalidManifest", "the manifest has two digests of %.200s", name);
	return 0;
}

struct manifest *ovf_manifest_parse(const char *text, size_t len, struct error **err)
{
	AUTO_MANIFEST struct manifest *m = calloc(1, sizeof *m);
	size_t number = 1;

	if (m)
		m->entries = calloc(ENTRIES_MAX + 1, sizeof *m->entries);
	if (!m || !m->entries) {
		error_set_errno(err, ENOMEM, "cannot read the manifest");
		return NULL;
	}
	for (const char *p = text, *end = text + len; p < end; number++) {
		const char *newline = memchr(p, '\n', (size_t)(end - p)), *stop = newline ? newline : end;
		size_t n = (size_t)(stop - p);

		while (n && isspace((unsigned char)p[n - 1]))
			n--;
		if (n && add_entry(m, p, n, number, err) < 0)
			return NULL;
		p = newline ? newline + 1 : end;
	}
	return move_ptr(m);
}

void ovf_manifest_free(struct manifest *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->count; i++)
		free(m->entries[i].name);
	free(m->entries);
	free(m);
}

const struct ovf_manifest_entry *ovf_manifest_find(const struct manifest *m, const char *name)
{
	for (size_t i = 0; m && i < m->count; i++)
		if (ovf_href_is(m->entries[i].name, name))
			return &m->entries[i];
	return NULL;
}

const struct ovf_manifest_entry *ovf_manifest_entry(const struct manifest *m, size_t i)
{
	return m && i < m->count ? &m->entries[i] : NULL;
}

static void hex_text(const unsigned char *bytes, size_t len, char *out)
{
	for (size_t i = 0; i < len; i++)
		sprintf(out + 2 * i, "%02x", bytes[i]);
}

int ovf_manifest_check(const struct ovf_manifest_entry *e, const unsigned char *digest, struct error **err)
{
	char is[2 * EVP_MAX_MD_SIZE + 1], wanted[2 * EVP_MAX_MD_SIZE + 1];

	if (!memcmp(e->digest, digest, e->digest_len))
		return 0;
	hex_text(digest, e->digest_len, is);
	hex_text(e->digest, e->digest_len, wanted);
	return error_set(
		err, ERROR_PERMANENT, "ManifestMismatch",
		"%.200s is not what the package's manifest says: its %s is %s, expected %s; the file is damaged or was changed: copy it again, or export the machine anew",
		e->name, EVP_MD_get0_name(e->algorithm), is, wanted);
}

/* --- signature --------------------------------------------------------------------------------------------------------- */

static X509 *read_certificate(const char *cert, size_t len)
{
	const char *begin = memmem(cert, len, "-----BEGIN CERTIFICATE-----", 27);
	CLEANUP(bio_free_p) BIO *bio = begin ? BIO_new_mem_buf(begin, (int)(len - (size_t)(begin - cert))) : NULL;

	return bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
}

static bool is_signed(X509 *certificate, const EVP_MD *algorithm, const unsigned char *signature, size_t signature_len, const char *text,
		      size_t len)
{
	CLEANUP(md_free_p) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY *key = X509_get0_pubkey(certificate);

	return ctx && key && EVP_DigestVerifyInit(ctx, NULL, algorithm, NULL, key) == 1 &&
	       EVP_DigestVerify(ctx, signature, signature_len, (const unsigned char *)text, len) == 1;
}

int ovf_manifest_check_signature(const char *cert, size_t cert_len, const char *manifest, size_t manifest_len, char **out,
				 struct error **err)
{
	CLEANUP(x509_free_p) X509 *certificate = cert_len < INT_MAX ? read_certificate(cert, cert_len) : NULL;
	const char *newline = memchr(cert, '\n', cert_len);
	unsigned char signature[SIGNATURE_MAX];
	AUTO_FREE char *name = NULL;
	const EVP_MD *algorithm;
	size_t signature_len = 0;
	char subject[256] = "", *text = NULL;
	bool understood = certificate && newline &&
			  parse_line(cert, (size_t)(newline - cert), &algorithm, &name, signature, sizeof signature, &signature_len);

	if (!understood) {
		if (asprintf(&text, "the package's signature (.cert) is not understood and was not checked") < 0)
			text = NULL;
		*out = text;
		return 0;
	}
	X509_NAME_oneline(X509_get_subject_name(certificate), subject, sizeof subject);
	if (!is_signed(certificate, algorithm, signature, signature_len, manifest, manifest_len))
		return error_set(err, ERROR_PERMANENT, "ManifestMismatch",
				 "the signature of %s in the package's .cert is not of this manifest: one of them was changed", subject);
	if (asprintf(&text, "the manifest is signed by %s (who issued that certificate is not checked)", subject) < 0)
		text = NULL;
	*out = text;
	return 0;
}
