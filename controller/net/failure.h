/* Failures of HTTP requests in words, and what class they are of. Internal to net/. */
#pragma once

#include <curl/curl.h>

#include "base/error.h"
#include "net/http.h"
#include "net/trust.h"

/* The URL without user, password, query and fragment, for messages; owned, never NULL but when memory is out. */
char *http_shown_url(const char *url);

/* Sets the error of a request that had no complete answer. detail: what curl wrote in its error buffer. Returns -1. */
int http_explain(const char *url, CURLcode code, const char *detail, const struct trust_view *trust, struct error **err);

/* Sets the error of a request whose connection was taken by a server that did not begin TLS. Returns -1. */
int http_explain_no_tls(const char *url, struct error **err);

/* Sets the error of a request to an address that it must not reach: which, and why not. Returns -1. */
int http_explain_refusal(const char *url, const char *refused, struct error **err);

/* Whether the answer is other than that http was spoken at a port of https; else -1 (permanent, HTTPStatus). */
int http_check_scheme(const char *url, const struct http_response *response, struct error **err);

/* Sets the error of an answer outside 200..299. Returns -1. */
int http_refuse(const char *method, const char *url, const struct http_response *response, struct error **err);
