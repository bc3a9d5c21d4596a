/* Certificate checks of the HTTP client: pins, and what was refused and why. Internal to net/. */
#pragma once

#include <curl/curl.h>
#include <stdbool.h>

#include "net/http.h"

/* A fingerprint "AA:BB:.." or "aabb.." as lower-case hex without colons; owned, NULL when it is none (of 20 or 32 bytes). */
char *trust_fingerprint(const char *text);

/* What one connection attempt saw; the caller keeps it for the time of the request. */
struct trust_view {
	const char *pin_sha1, *pin_sha256; /* normalised, or NULL */
	char refused[1024];                /* why the peer's certificate was refused, "" when it was not */
};

/* Hooks the view into a handle's TLS context. Returns a curl code. */
CURLcode trust_install(CURL *curl, struct trust_view *view);
