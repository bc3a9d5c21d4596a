/* Certificate checks of the HTTP client: pins, and what was refused and why. Internal to net/. */
#pragma once

#include <curl/curl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#define TRUST_SHA1_DIGITS 40
#define TRUST_SHA256_DIGITS 64

/* A fingerprint "AA:BB:.." or "aabb.." as lower-case hex without colons; owned, NULL when it has not so many digits. */
char *trust_fingerprint(const char *text, size_t digits);
#define TRUST_FINGERPRINT_SIZE (TRUST_SHA256_DIGITS / 2 * 3)

/* A certificate trusted because it was the first one seen. Shared by the connections of a client; the lock guards the rest. */
struct trust_first_use {
	pthread_mutex_t lock;
	char sha256[TRUST_FINGERPRINT_SIZE]; /* "AA:BB:..."; "": none was seen yet */
};

/* Whether the text holds at least one PEM certificate and no broken one. */
bool trust_has_certificates(const char *pem);

/* What one connection attempt saw; the caller keeps it as long as the handle's connections live. */
struct trust_view {
	const char *pin_sha1, *pin_sha256; /* normalised, or NULL */
	struct trust_first_use *first_use; /* or NULL */
	char host[256];                    /* of the URL, for first_use: the name that a CA must have signed */
	bool unchecked;                    /* only whether it begins is of interest */
	bool begun;                        /* a handshake: TCP is connected. Nobody's in particular where connections are shared */
	char why[256];                     /* why the peer's certificate was refused; "" when it was not, or for its names alone */
	char seen[1100]; /* the peer's certificate for people: subject, issuer, names, dates, fingerprints; "" before a handshake */
};

/* Hooks the view into a handle's TLS context. Returns a curl code. */
CURLcode trust_install(CURL *curl, struct trust_view *view);
