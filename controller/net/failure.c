#include "net/failure.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"

#define EXCERPT_SIZE 200

DEFINE_CLEANUP(CURLU, url_free_p, curl_url_cleanup)

static void curl_free_p(char **p)
{
	curl_free(*p);
}

char *http_shown_url(const char *url)
{
	CLEANUP(url_free_p) CURLU *u = curl_url();
	CLEANUP(curl_free_p) char *text = NULL;

	if (!u || curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME))
		return strdup("the URL given"); /* what it holds is not known, a password perhaps */
	curl_url_set(u, CURLUPART_USER, NULL, 0);
	curl_url_set(u, CURLUPART_PASSWORD, NULL, 0);
	curl_url_set(u, CURLUPART_QUERY, NULL, 0);
	curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0);
	return strdup(curl_url_get(u, CURLUPART_URL, &text, 0) ? "" : text);
}

/* "host" or "host:port" of a URL, owned. */
static char *host_of(const char *url)
{
	AUTO_FREE char *shown = http_shown_url(url);
	const char *host = shown ? strstr(shown, "://") : NULL;

	if (!host)
		return move_ptr(shown);
	host += 3;
	return strndup(host, strcspn(host, "/"));
}

static bool is_http(const char *url)
{
	return !strncasecmp(url, "http://", 7);
}

int http_explain_no_tls(const char *url, struct error **err)
{
	AUTO_FREE char *host = host_of(url);

	return error_set(
		err, ERROR_TRANSIENT, "TimedOut",
		"%s accepted the connection but did not begin TLS in time: if it speaks plain http there, write http:// or correct "
		"the port; else it hangs",
		host ? host : "the host");
}

int http_explain(const char *url, CURLcode code, const char *detail, const struct trust_view *trust, struct error **err)
{
	AUTO_FREE char *host = host_of(url);
	const char *text = *detail ? detail : curl_easy_strerror(code), *why = *trust->why ? trust->why : text;

	if (!host)
		return error_set(err, ERROR_TRANSIENT, "HTTPFailed", "the request failed: %s", text);
	switch (code) {
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CONNECT_ERROR:
		/* The second code stands for all else that a handshake may die of. */
		if (code == CURLE_SSL_CONNECT_ERROR && !*trust->why && strstr(text, "wrong version number"))
			return error_set(err, ERROR_TRANSIENT, "TLSFailed",
					 "%s answered without TLS, as what speaks plain http does: correct the port, or write http:// "
					 "if that is meant",
					 host);
		if (code == CURLE_SSL_CONNECT_ERROR && !*trust->why)
			return error_set(err, ERROR_TRANSIENT, "TLSFailed", "no TLS connection with %s: %s", host, text);
		return error_set(err, ERROR_PERMANENT, "TLSFailed", "the certificate of %s is not trusted: %s%s%s%s", host, why,
				 *trust->seen ? " (" : "", trust->seen, *trust->seen ? ")" : "");
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
		return error_set(err, ERROR_PERMANENT, "InvalidCertificate", "the certificates or keys given for %s cannot be used: %s",
				 host, text);
	case CURLE_OPERATION_TIMEDOUT:
		return error_set(err, ERROR_TRANSIENT, "TimedOut", "%s did not answer in time: %s", host, text);
	case CURLE_COULDNT_RESOLVE_HOST:
		return error_set(err, ERROR_TRANSIENT, "UnknownHost", "the name of the host %s cannot be resolved", host);
	case CURLE_COULDNT_RESOLVE_PROXY:
		return error_set(err, ERROR_TRANSIENT, "UnknownHost", "the name of the proxy for %s cannot be resolved", host);
	case CURLE_COULDNT_CONNECT:
		return error_set(err, ERROR_TRANSIENT, "ConnectionFailed", "cannot connect to %s: %s", host, text);
	case CURLE_GOT_NOTHING:
		if (is_http(url))
			return error_set(err, ERROR_TRANSIENT, "ConnectionLost",
					 "%s closed the connection without an answer: if it speaks https there, write https://", host);
		return error_set(err, ERROR_TRANSIENT, "ConnectionLost", "%s closed the connection without an answer", host);
	case CURLE_PARTIAL_FILE:
	case CURLE_RECV_ERROR:
	case CURLE_HTTP2_STREAM:
	case CURLE_HTTP2:
	case CURLE_SEND_ERROR:
	case CURLE_SEND_FAIL_REWIND:
		return error_set(err, ERROR_TRANSIENT, "ConnectionLost", "the connection to %s was lost: %s", host, text);
	case CURLE_WEIRD_SERVER_REPLY:
		return error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "%s does not answer in HTTP: %s", host, text);
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
		if (strstr(text, "HTTP/0.9")) /* so curl calls an answer without a status line */
			return error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "%s does not answer in HTTP%s", host,
					 is_http(url) ? ": correct the port, or write https:// if it speaks that there" : "");
		if (!*host) /* of what was asked for that was checked before */
			return error_set(err, ERROR_PERMANENT, "InvalidURL", "a redirect leads to what is no http or https URL: %s", text);
		return error_set(err, ERROR_PERMANENT, "InvalidURL", "%s is no http or https URL: %s", host, text);
	default:
		return error_set(err, ERROR_TRANSIENT, "HTTPFailed", "the request to %s failed: %s", host, text);
	}
}

int http_explain_refusal(const char *url, const char *refused, struct error **err)
{
	AUTO_FREE char *host = host_of(url);

	return error_set(
		err, ERROR_PERMANENT, "AddressRefused",
		"no connection is made to %s: %s; name a host that others can reach too (the operator can allow it with --allow-local-urls)",
		host ? host : "the host", refused);
}

enum error_class http_status_class(int status)
{
	switch (status) {
	case 404:
		return ERROR_NOT_FOUND;
	case 409:
		return ERROR_CONFLICT;
	case 410:
		return ERROR_GONE;
	case 408:
	case 425:
	case 429:
		return ERROR_TRANSIENT;
	default:
		return status >= 500 ? ERROR_TRANSIENT : ERROR_PERMANENT;
	}
}

/* The start of a body on one line, of valid UTF-8: it ends up in a status. */
static void excerpt(const char *body, char out[EXCERPT_SIZE])
{
	size_t n = 0;

	body += strspn(body, " \t\r\n");
	if (!strncasecmp(body, "<html", 5) || !strncasecmp(body, "<!doctype", 9))
		body = ""; /* a page for browsers says the status once more, in markup */
	while (*body && n < EXCERPT_SIZE - 5) {
		size_t len = utf8_length(body);

		if (isspace((unsigned char)*body)) {
			if (n && out[n - 1] != ' ')
				out[n++] = ' ';
		} else if (!len) {
			out[n++] = '?';
		} else if ((unsigned char)*body >= 0x20 && *body != 0x7f) {
			memcpy(out + n, body, len);
			n += len;
		}
		body += len ? len : 1;
	}
	while (n && out[n - 1] == ' ')
		n--;
	out[n] = 0;
}

/* What servers say to http at a port of https. There is no standard for it; these are nginx's, Apache's and Go's words. */
int http_check_scheme(const char *url, const struct http_response *r, struct error **err)
{
	static const char *const words[] = { "sent to HTTPS port", "SSL-enabled server port", "to an HTTPS server" };

	for (size_t i = 0; r->status == 400 && is_http(url) && i < sizeof words / sizeof *words; i++) {
		if (strcasestr(r->body, words[i])) {
			AUTO_FREE char *shown = http_shown_url(url);

			return error_set_code(err, ERROR_PERMANENT, "HTTPStatus", r->status,
					      "%s is refused, for the port is one of https: write https:// in the URL", shown ? shown : "");
		}
	}
	return 0;
}

bool http_was_redirected(const char *url, const struct http_response *r)
{
	AUTO_FREE char *asked = http_shown_url(url);
	AUTO_FREE char *answered = r->effective_url ? http_shown_url(r->effective_url) : NULL;

	return asked && answered && strcmp(asked, answered) != 0;
}

int http_refuse(const char *method, const char *url, const struct http_response *r, struct error **err)
{
	AUTO_FREE char *shown = http_shown_url(url);
	AUTO_FREE char *other = http_was_redirected(url, r) ? http_shown_url(r->effective_url) : NULL;
	char text[EXCERPT_SIZE];

	excerpt(r->body, text);
	return error_set_code(err, http_status_class(r->status), "HTTPStatus", r->status, "%s %s%s%s%s answered with status %d%s%s", method,
			      shown ? shown : "", other ? ", redirected to " : "", other ? other : "", other ? "," : "", r->status,
			      *text ? ": " : "", text);
}
