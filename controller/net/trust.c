#include "net/trust.h"

#include <ctype.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <string.h>

char *trust_fingerprint(const char *text)
{
	char *out = malloc(strlen(text) + 1);
	size_t n = 0;

	if (!out)
		return NULL;
	for (; *text; text++) {
		if (*text == ':' || *text == ' ')
			continue;
		if (!isxdigit((unsigned char)*text))
			break;
		out[n++] = (char)tolower((unsigned char)*text);
	}
	out[n] = 0;
	if (*text || (n != 40 && n != 64)) {
		free(out);
		return NULL;
	}
	return out;
}

static void hex_digest(X509 *cert, const EVP_MD *md, const char *separator, char *out, size_t size)
{
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	size_t n = 0;

	*out = 0;
	if (!cert || !X509_digest(cert, md, sum, &len))
		return;
	for (unsigned i = 0; i < len && n + 4 < size; i++)
		n += (size_t)snprintf(out + n, size - n, *separator ? "%02X" : "%02x", sum[i]) +
		     (i + 1 < len ? (size_t)snprintf(out + n + 2, size - n - 2, "%s", separator) : 0);
}

static void describe(struct trust_view *view, X509 *cert, const char *why)
{
	char subject[256] = "", issuer[256] = "", sha1[64], sha256[100];

	if (cert) {
		X509_NAME_oneline(X509_get_subject_name(cert), subject, sizeof subject);
		X509_NAME_oneline(X509_get_issuer_name(cert), issuer, sizeof issuer);
	}
	hex_digest(cert, EVP_sha1(), ":", sha1, sizeof sha1);
	hex_digest(cert, EVP_sha256(), ":", sha256, sizeof sha256);
	snprintf(view->refused, sizeof view->refused, "%s (certificate of %s, issued by %s, SHA-1 %s, SHA-256 %s)", why, subject, issuer, sha1, sha256);
}

/* With a pin the one certificate is all that counts: names, dates and issuers are not looked at. */
static int verify_pin(X509_STORE_CTX *ctx, void *arg)
{
	struct trust_view *view = arg;
	X509 *cert = X509_STORE_CTX_get0_cert(ctx);
	char sha1[64], sha256[100];

	hex_digest(cert, EVP_sha1(), "", sha1, sizeof sha1);
	hex_digest(cert, EVP_sha256(), "", sha256, sizeof sha256);
	if ((!view->pin_sha1 || !strcmp(view->pin_sha1, sha1)) && (!view->pin_sha256 || !strcmp(view->pin_sha256, sha256)) && cert)
		return 1;
	describe(view, cert, "its fingerprint is not the expected one");
	X509_STORE_CTX_set_error(ctx, X509_V_ERR_CERT_REJECTED);
	return 0;
}

static int verify_chain(X509_STORE_CTX *ctx, void *arg)
{
	struct trust_view *view = arg;

	if (X509_verify_cert(ctx) > 0)
		return 1;
	describe(view, X509_STORE_CTX_get0_cert(ctx), X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
	return 0;
}

static CURLcode on_context(CURL *curl, void *context, void *arg)
{
	struct trust_view *view = arg;

	(void)curl;
	SSL_CTX_set_cert_verify_callback(context, view->pin_sha1 || view->pin_sha256 ? verify_pin : verify_chain, view);
	return CURLE_OK;
}

CURLcode trust_install(CURL *curl, struct trust_view *view)
{
	CURLcode code = curl_easy_setopt(curl, CURLOPT_SSL_CTX_FUNCTION, on_context);

	return code ? code : curl_easy_setopt(curl, CURLOPT_SSL_CTX_DATA, view);
}
