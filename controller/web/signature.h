/* Signed paths of the image server. Internal to web/. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define SIGNATURE_KEY_SIZE 32
#define SIGNATURE_TEXT_SIZE 44 /* base64url of 32 bytes without padding, and a NUL */

/* Reads the key below the directory; makes it when there is none. Two processes that start at once get the same. */
int signature_load_key(const char *directory, unsigned char key[SIGNATURE_KEY_SIZE], struct error **err);
/* HMAC-SHA256 of "GET", a NUL and the path, under the key. */
int signature_make(const unsigned char key[SIGNATURE_KEY_SIZE], const char *path, char out[SIGNATURE_TEXT_SIZE]);
/* In constant time. */
bool signature_valid(const unsigned char key[SIGNATURE_KEY_SIZE], const char *path, const char *signature, size_t len);

#define SIGNATURE_KEY_FILE ".image-key"
