/* SHA-256 of several messages of one length side by side, with the processor's SHA instructions (x86): each of them waits for the one
 * before, so one message alone leaves half of the unit idle. Where there are none, digest_tree.h goes by OpenSSL. Internal to disk/. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define SHA256_LANES 4
#define SHA256_SIZE 32

bool sha256_lanes_usable(void);
/* out[i] = SHA-256(data[i] || suffix), len being a multiple of 64 bytes. Only when usable. */
void sha256_lanes(const unsigned char *const data[SHA256_LANES], size_t len, unsigned char suffix,
		  unsigned char out[SHA256_LANES][SHA256_SIZE]);
