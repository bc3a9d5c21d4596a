/* SHA-256 of several messages of one length side by side. With the SHA instructions of x86 each waits for the one before, so that one
 * message alone leaves half of the unit idle: 4 lanes. With AVX-512, a message in each lane of a register: 16, which is faster still, and
 * many times so on the servers that have it but not the SHA instructions. Elsewhere digest.c goes by OpenSSL. Internal to disk/. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define SHA256_LANES 4
#define SHA256_WIDE 16
#define SHA256_SIZE 32

bool sha256_lanes_usable(void);
/* out[i] = SHA-256(data[i] || suffix), len being a multiple of 64 bytes. Only when usable. */
void sha256_lanes(const unsigned char *const data[SHA256_LANES], size_t len, unsigned char suffix,
		  unsigned char out[SHA256_LANES][SHA256_SIZE]);

bool sha256_wide_usable(void);
void sha256_wide(const unsigned char *const data[SHA256_WIDE], size_t len, unsigned char suffix,
		 unsigned char out[SHA256_WIDE][SHA256_SIZE]);
