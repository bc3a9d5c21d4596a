#include "disk/sha256_lanes.h"

#include <stdint.h>
#include <string.h>

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>

#include "disk/sha256_constants.h"

#define BLOCK 64

/* FIPS 180-4, 5.3.3, in the order in which the instructions want it: words C D G H and A B E F, from the highest down to the lowest. */
#define START_ABEF _mm_set_epi32(0x6a09e667, (int)0xbb67ae85, 0x510e527f, (int)0x9b05688c)
#define START_CDGH _mm_set_epi32(0x3c6ef372, (int)0xa54ff53a, 0x1f83d9ab, 0x5be0cd19)

struct lane {
	__m128i abef, cdgh;
};

bool sha256_lanes_usable(void)
{
	unsigned a, b, c, d;
	const unsigned ssse3 = 1u << 9, sse41 = 1u << 19, sha = 1u << 29;

	if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (ssse3 | sse41)) != (ssse3 | sse41))
		return false;
	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & sha);
}

__attribute__((target("sha,sse4.1,ssse3"))) static void compress(struct lane lanes[SHA256_LANES],
								 const unsigned char *const data[SHA256_LANES], size_t blocks)
{
	const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);

	for (size_t at = 0; at < blocks * BLOCK; at += BLOCK) {
		__m128i s0[SHA256_LANES], s1[SHA256_LANES], w[SHA256_LANES][4];

		for (int l = 0; l < SHA256_LANES; l++) {
			s0[l] = lanes[l].abef;
			s1[l] = lanes[l].cdgh;
			for (int i = 0; i < 4; i++)
				w[l][i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(data[l] + at + 16 * i)),
							   big_endian);
		}
#pragma GCC unroll 16
		for (int r = 0; r < 16; r++) {
			const __m128i k = _mm_load_si128((const __m128i *)(const void *)&sha256_constants[4 * r]);

#pragma GCC unroll 4
			for (int l = 0; l < SHA256_LANES; l++) {
				__m128i x = _mm_add_epi32(w[l][r % 4], k);

				s1[l] = _mm_sha256rnds2_epu32(s1[l], s0[l], x);
				s0[l] = _mm_sha256rnds2_epu32(s0[l], s1[l], _mm_shuffle_epi32(x, 0x0e));
				if (r < 12) {
					x = _mm_sha256msg1_epu32(w[l][r % 4], w[l][(r + 1) % 4]);
					x = _mm_add_epi32(x, _mm_alignr_epi8(w[l][(r + 3) % 4], w[l][(r + 2) % 4], 4));
					w[l][r % 4] = _mm_sha256msg2_epu32(x, w[l][(r + 3) % 4]);
				}
			}
		}
		for (int l = 0; l < SHA256_LANES; l++) {
			lanes[l].abef = _mm_add_epi32(lanes[l].abef, s0[l]);
			lanes[l].cdgh = _mm_add_epi32(lanes[l].cdgh, s1[l]);
		}
	}
}

static void put_be32(unsigned char *out, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(out, &v, 4);
}

void sha256_lanes(const unsigned char *const data[SHA256_LANES], size_t len, unsigned char suffix,
		  unsigned char out[SHA256_LANES][SHA256_SIZE])
{
	unsigned char last[BLOCK] = { suffix, 0x80 }; /* padding: FIPS 180-4, 5.1.1 */
	const unsigned char *lasts[SHA256_LANES];
	struct lane lanes[SHA256_LANES];
	uint64_t bits = ((uint64_t)len + 1) * 8;

	put_be32(last + BLOCK - 8, (uint32_t)(bits >> 32));
	put_be32(last + BLOCK - 4, (uint32_t)bits);
	for (int l = 0; l < SHA256_LANES; l++) {
		lanes[l] = (struct lane){ START_ABEF, START_CDGH };
		lasts[l] = last;
	}
	compress(lanes, data, len / BLOCK);
	compress(lanes, lasts, 1);
	for (int l = 0; l < SHA256_LANES; l++) {
		uint32_t abef[4], cdgh[4];

		memcpy(abef, &lanes[l].abef, sizeof abef);
		memcpy(cdgh, &lanes[l].cdgh, sizeof cdgh);
		const uint32_t words[8] = { abef[3], abef[2], cdgh[3], cdgh[2], abef[1], abef[0], cdgh[1], cdgh[0] };
		for (size_t i = 0; i < 8; i++)
			put_be32(out[l] + 4 * i, words[i]);
	}
}

#else

bool sha256_lanes_usable(void)
{
	return false;
}

void sha256_lanes(const unsigned char *const data[SHA256_LANES], size_t len, unsigned char suffix,
		  unsigned char out[SHA256_LANES][SHA256_SIZE])
{
	(void)data;
	(void)len;
	(void)suffix;
	memset(out, 0, (size_t)SHA256_LANES * SHA256_SIZE);
}

#endif
