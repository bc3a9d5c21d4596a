#include "net/trust.h"

#include <ctype.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

#define NAME_MAX_BYTES 200 /* of a subject or an issuer in a message */

DEFINE_CLEANUP(BIO, bio_free_p, BIO_free)
DEFINE_CLEANUP(GENERAL_NAMES, names_free_p, GENERAL_NAMES_free)

char *trust_fingerprint(const char *text, size_t digits)
{
	char *out = malloc(digits + 1);
	size_t n = 0;

	if (!out)
		return NULL;
	for (; *text; text++) {
		if (*text == ':' || isspace((unsigned char)*text))
			continue;
		if (!isxdigit((unsigned char)*text) || n == digits)
			break;
		out[n++] = (char)tolower((unsigned char)*text);
	}
	out[n] = 0;
	if (*text || n != digits) {
		free(out);
		return NULL;
	}
	return out;
}

bool trust_has_certificates(const char *pem)
{
	CLEANUP(bio_free_p) BIO *in = BIO_new_mem_buf(pem, -1);
	size_t count = 0;
	bool broken;

	ERR_clear_error();
	for (X509 *cert; in && (cert = PEM_read_bio_X509(in, NULL, NULL, NULL)); count++)
		X509_free(cert);
	/* The end of the text shows as "no start line"; anything else is a block that cannot be read. */
	broken = in && ERR_peek_last_error() && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE;
	ERR_clear_error();
	return count && !broken;
}

static void fingerprint(X509 *cert, const EVP_MD *md, const char *separator, char out[EVP_MAX_MD_SIZE * 3])
{
	static const char digits[2][17] = { "0123456789abcdef", "0123456789ABCDEF" };
	const char *digit = digits[*separator != 0];
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	char *to = out;

	if (!X509_digest(cert, md, sum, &len))
		len = 0;
	for (unsigned i = 0; i < len; i++) {
		if (i && *separator)
			*to++ = *separator;
		*to++ = digit[sum[i] >> 4];
		*to++ = digit[sum[i] & 15];
	}
	*to = 0;
}

/* Names come from the peer: control characters are escaped, what is no UTF-8 is left out, and they are cut. */
static void add_name(BIO *out, const char *what, const X509_NAME *name)
{
	CLEANUP(bio_free_p) BIO *one = BIO_new(BIO_s_mem());
	char *text = NULL;
	long len;

	if (!one || X509_NAME_print_ex(one, name, 0, XN_FLAG_ONELINE & ~ASN1_STRFLGS_ESC_MSB) < 0)
		return;
	len = BIO_get_mem_data(one, &text);
	if (len > NAME_MAX_BYTES) {
		len = NAME_MAX_BYTES;
		while (len && ((unsigned char)text[len] & 0xc0) == 0x80) /* no half character */
			len--;
	}
	BIO_printf(out, "%s \"%.*s\"", what, (int)len, text);
}

static void add_alternative_names(BIO *out, X509 *cert)
{
	CLEANUP(names_free_p) GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	int count = names ? sk_GENERAL_NAME_num(names) : 0;

	for (int i = 0; i < count && i < 6; i++) {
		CLEANUP(bio_free_p) BIO *one = BIO_new(BIO_s_mem());
		char *text = NULL;
		long len;

		if (!one || GENERAL_NAME_print(one, sk_GENERAL_NAME_value(names, i)) <= 0)
			continue;
		len = BIO_get_mem_data(one, &text);
		for (long k = 0; k < len; k++)
			if ((unsigned char)text[k] < 0x20 || (unsigned char)text[k] > 0x7e)
				text[k] = '?';
		BIO_printf(out, "%s%.*s", i ? ", " : ", for ", (int)(len > 60 ? 60 : len), text);
	}
	if (count > 6)
		BIO_puts(out, ", ...");
}

static void describe(struct trust_view *view, X509 *cert)
{
	CLEANUP(bio_free_p) BIO *out = BIO_new(BIO_s_mem());
	char sha1[EVP_MAX_MD_SIZE * 3], sha256[EVP_MAX_MD_SIZE * 3], *text = NULL;
	long len;

	*view->seen = 0;
	if (!out || !cert)
		return;
	add_name(out, "subject", X509_get_subject_name(cert));
	add_name(out, ", issuer", X509_get_issuer_name(cert));
	add_alternative_names(out, cert);
	BIO_puts(out, ", valid from ");
	ASN1_TIME_print(out, X509_get0_notBefore(cert));
	BIO_puts(out, " to ");
	ASN1_TIME_print(out, X509_get0_notAfter(cert));
	fingerprint(cert, EVP_sha1(), ":", sha1);
	fingerprint(cert, EVP_sha256(), ":", sha256);
	BIO_printf(out, ", SHA-1 %s, SHA-256 %s", sha1, sha256);
	len = BIO_get_mem_data(out, &text);
	if ((size_t)len >= sizeof view->seen)
		len = 0;
	memcpy(view->seen, text, (size_t)len);
	view->seen[len] = 0;
}

static void refuse(struct trust_view *view, const char *why)
{
	size_t len = strlen(why);

	if (len >= sizeof view->why)
		len = sizeof view->why - 1;
	memcpy(view->why, why, len);
	view->why[len] = 0;
}

/* With a pin the one certificate is all that counts: names, dates and issuers are not looked at. */
static int verify_pin(X509_STORE_CTX *ctx, void *arg)
{
	struct trust_view *view = arg;
	X509 *cert = X509_STORE_CTX_get0_cert(ctx);
	char sha1[EVP_MAX_MD_SIZE * 3] = "", sha256[EVP_MAX_MD_SIZE * 3] = "";

	describe(view, cert);
	if (cert) {
		fingerprint(cert, EVP_sha1(), "", sha1);
		fingerprint(cert, EVP_sha256(), "", sha256);
	}
	if (cert && (!view->pin_sha1 || !strcmp(view->pin_sha1, sha1)) && (!view->pin_sha256 || !strcmp(view->pin_sha256, sha256))) {
		X509_STORE_CTX_set_error(ctx, X509_V_OK);
		return 1;
	}
	refuse(view, "its fingerprint is not the expected one");
	X509_STORE_CTX_set_error(ctx, X509_V_ERR_CERT_REJECTED);
	return 0;
}

static bool signed_for_host(X509_STORE_CTX *ctx, const char *host)
{
	X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);

	if (!X509_VERIFY_PARAM_set1_ip_asc(param, host) && !X509_VERIFY_PARAM_set1_host(param, host, 0))
		return false;
	return X509_verify_cert(ctx) > 0;
}

/* What the system's CAs vouch for is trusted whatever it was before: it may be renewed. All else must stay as it was when it was seen first. */
static int verify_first_use(X509_STORE_CTX *ctx, void *arg)
{
	struct trust_view *view = arg;
	X509 *cert = X509_STORE_CTX_get0_cert(ctx);
	char sha256[EVP_MAX_MD_SIZE * 3] = "", why[sizeof view->why];
	bool by_ca = signed_for_host(ctx, view->host);

	describe(view, cert);
	if (cert)
		fingerprint(cert, EVP_sha256(), ":", sha256);
	pthread_mutex_lock(&view->first_use->lock);
	if (*sha256 && (by_ca || !*view->first_use->sha256))
		memcpy(view->first_use->sha256, sha256, sizeof view->first_use->sha256);
	snprintf(why, sizeof why, "it is not the one that was pinned on first use, SHA-256 %s", view->first_use->sha256);
	bool same = *sha256 && !strcmp(view->first_use->sha256, sha256);
	pthread_mutex_unlock(&view->first_use->lock);
	if (same) {
		X509_STORE_CTX_set_error(ctx, X509_V_OK);
		return 1;
	}
	refuse(view, why);
	X509_STORE_CTX_set_error(ctx, X509_V_ERR_CERT_REJECTED);
	return 0;
}

static int verify_chain(X509_STORE_CTX *ctx, void *arg)
{
	struct trust_view *view = arg;

	/* Kept also when the chain is good: curl looks at the names only afterwards. */
	describe(view, X509_STORE_CTX_get0_cert(ctx));
	if (X509_verify_cert(ctx) > 0)
		return 1;
	refuse(view, X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
	return 0;
}

static CURLcode on_context(CURL *curl, void *context, void *arg)
{
	struct trust_view *view = arg;

	(void)curl;
	view->begun = true;
	if (view->unchecked)
		return CURLE_OK;
	SSL_CTX_set_cert_verify_callback(context,
					 view->first_use                      ? verify_first_use
					 : view->pin_sha1 || view->pin_sha256 ? verify_pin
									      : verify_chain,
					 view);
	return CURLE_OK;
}

CURLcode trust_install(CURL *curl, struct trust_view *view)
{
	CURLcode code = curl_easy_setopt(curl, CURLOPT_SSL_CTX_FUNCTION, on_context);

	return code ? code : curl_easy_setopt(curl, CURLOPT_SSL_CTX_DATA, view);
}
