/* Certificate checks of the HTTP client: pins, and what was refused and why. Internal to net/. */
#pragma once

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>

#define TRUST_SHA1_DIGITS 40
#define TRUST_SHA256_DIGITS 64

/* A fingerprint "AA:BB:.." or "aabb.." as lower-case hex without colons; owned, NULL when it has not so many digits. */
char *trust_fingerprint(const char *text, size_t digits);
/* Whether the text holds at least one PEM certificate and no broken one. */
bool trust_has_certificates(const char *pem);

/* What one connection attempt saw; the caller keeps it as long as the handle's connections live. */
struct trust_view {
	const char *pin_sha1, *pin_sha256; /* normalised, or NULL */
	char why[128];                     /* why the peer's certificate was refused; "" when it was not, or for its names alone */
	char seen[1100]; /* the peer's certificate for people: subject, issuer, names, dates, fingerprints; "" before a handshake */
};

/* Hooks the view into a handle's TLS context. Returns a curl code. */
CURLcode trust_install(CURL *curl, struct trust_view *view);
