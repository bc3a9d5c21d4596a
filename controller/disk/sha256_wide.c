/* Sixteen messages at once, one in each 32-bit lane of the processor's widest registers. */
#include "disk/sha256_lanes.h"

#include <stdint.h>
#include <string.h>

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>

#include "disk/sha256_constants.h"

#define BLOCK 64
#define WIDE_TARGET __attribute__((target("avx512f,avx512bw")))

bool sha256_wide_usable(void)
{
	const unsigned osxsave = 1u << 27, avx512f = 1u << 16, avx512bw = 1u << 30, zmm_state = 0xe6;
	unsigned a, b, c, d, low, high;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & osxsave))
		return false;
	__asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0)); /* whether the kernel keeps these registers */
	if ((low & zmm_state) != zmm_state || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
		return false;
	return (b & (avx512f | avx512bw)) == (avx512f | avx512bw);
}

/* Rows of 16 words become columns. */
WIDE_TARGET static inline void transpose(__m512i r[16])
{
	__m512i t[16];

	for (int i = 0; i < 16; i += 2) {
		t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
		t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
	}
	for (int i = 0; i < 16; i += 4) {
		r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
		r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
		r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
		r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
	}
	for (int i = 0; i < 4; i++) {
		t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
		t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
		t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
		t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
	}
	for (int i = 0; i < 4; i++) {
		r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
		r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
		r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
		r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
	}
}

/* The functions of FIPS 180-4, 4.1.2, as truth tables of three operands. */
#define ADD _mm512_add_epi32
#define XOR3(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0x96)
#define CHOOSE(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0xca)
#define MAJORITY(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0xe8)
#define TURN3(x, i, j, k) XOR3(_mm512_ror_epi32(x, i), _mm512_ror_epi32(x, j), _mm512_ror_epi32(x, k))
#define TURN2(x, i, j, shift) XOR3(_mm512_ror_epi32(x, i), _mm512_ror_epi32(x, j), _mm512_srli_epi32(x, shift))

WIDE_TARGET static void compress(__m512i state[8], const unsigned char *const data[SHA256_WIDE], size_t blocks)
{
	const __m512i big_endian = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203));

	for (size_t at = 0; at < blocks * BLOCK; at += BLOCK) {
		__m512i w[16], s[8];

		for (int i = 0; i < SHA256_WIDE; i++)
			w[i] = _mm512_shuffle_epi8(_mm512_loadu_si512(data[i] + at), big_endian);
		transpose(w);
		memcpy(s, state, sizeof s);
		/* The eight words change places with each round: the names do, not what they hold. */
#pragma GCC unroll 64
		for (int t = 0; t < 64; t++) {
			const __m512i a = s[(64 - t) % 8], b = s[(65 - t) % 8], c = s[(66 - t) % 8], e = s[(68 - t) % 8],
				      f = s[(69 - t) % 8], g = s[(70 - t) % 8], h = s[(71 - t) % 8], x = w[t % 16];
			const __m512i known = ADD(ADD(h, x), _mm512_set1_epi32((int)sha256_constants[t]));
			const __m512i t1 = ADD(ADD(known, CHOOSE(e, f, g)), TURN3(e, 6, 11, 25));

			s[(67 - t) % 8] = ADD(s[(67 - t) % 8], t1);
			s[(71 - t) % 8] = ADD(t1, ADD(TURN3(a, 2, 13, 22), MAJORITY(a, b, c)));
			if (t < 48)
				w[t % 16] = ADD(ADD(x, w[(t + 9) % 16]),
						ADD(TURN2(w[(t + 1) % 16], 7, 18, 3), TURN2(w[(t + 14) % 16], 17, 19, 10)));
		}
		for (int i = 0; i < 8; i++)
			state[i] = ADD(state[i], s[i]);
	}
}

WIDE_TARGET void sha256_wide(const unsigned char *const data[SHA256_WIDE], size_t len, unsigned char suffix,
			     unsigned char out[SHA256_WIDE][SHA256_SIZE])
{
	unsigned char last[BLOCK] = { suffix, 0x80 }; /* padding: FIPS 180-4, 5.1.1 */
	const unsigned char *lasts[SHA256_WIDE];
	uint64_t bits = ((uint64_t)len + 1) * 8;
	__m512i state[8];

	for (int i = 0; i < 8; i++) {
		state[i] = _mm512_set1_epi32((int)sha256_start[i]);
		last[BLOCK - 1 - i] = (unsigned char)(bits >> (8 * i));
	}
	for (int l = 0; l < SHA256_WIDE; l++)
		lasts[l] = last;
	compress(state, data, len / BLOCK);
	compress(state, lasts, 1);
	for (int i = 0; i < 8; i++) {
		uint32_t words[SHA256_WIDE];

		memcpy(words, &state[i], sizeof words);
		for (int l = 0; l < SHA256_WIDE; l++) {
			uint32_t word = __builtin_bswap32(words[l]);

			memcpy(out[l] + 4 * (size_t)i, &word, sizeof word);
		}
	}
}

#else

bool sha256_wide_usable(void)
{
	return false;
}

void sha256_wide(const unsigned char *const data[SHA256_WIDE], size_t len, unsigned char suffix,
		 unsigned char out[SHA256_WIDE][SHA256_SIZE])
{
	(void)data;
	(void)len;
	(void)suffix;
	memset(out, 0, (size_t)SHA256_WIDE * SHA256_SIZE);
}

#endif
