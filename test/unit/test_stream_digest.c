// links: net base PkgConfig::crypto
/* A digest by a thread of its own is the digest, however the bytes come. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "net/stream_digest.h"

#define SIZE (3u << 20)

static void any_size_in_any_pieces(void **state)
{
	static const size_t sizes[] = { 0, 1, 65535, 65536, 65537, 128u << 10, (512u << 10) - 1, 512u << 10, (512u << 10) + 1, SIZE };
	static const size_t pieces[] = { 1000, 65536, 256u << 10, 300000, SIZE };
	unsigned char *data = malloc(SIZE), wanted[EVP_MAX_MD_SIZE], got[EVP_MAX_MD_SIZE];

	(void)state;
	for (size_t i = 0; i < SIZE; i++)
		data[i] = (unsigned char)(i * 2654435761u >> 13);
	for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
		assert_true(EVP_Digest(data, sizes[s], wanted, NULL, EVP_sha512(), NULL));
		for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
			AUTO_ERROR struct error *err = NULL;
			AUTO_STREAM_DIGEST struct stream_digest *d = stream_digest_new(EVP_sha512(), &err);

			assert_non_null(d);
			for (size_t at = 0; at < sizes[s]; at += pieces[p])
				assert_int_equal(
					stream_digest_add(d, data + at, sizes[s] - at < pieces[p] ? sizes[s] - at : pieces[p], &err), 0);
			assert_int_equal(stream_digest_finish(d, got, &err), 0);
			assert_memory_equal(got, wanted, 64);
		}
	}
	free(data);
}

/* A transfer that fails leaves one in the middle. */
static void given_up(void **state)
{
	static const unsigned char data[600u << 10];

	(void)state;
	for (size_t len = 0; len <= sizeof data; len += 100u << 10) {
		AUTO_ERROR struct error *err = NULL;
		struct stream_digest *d = stream_digest_new(EVP_sha256(), &err);

		assert_int_equal(stream_digest_add(d, data, len, &err), 0);
		stream_digest_free(d);
	}
	stream_digest_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(any_size_in_any_pieces), cmocka_unit_test(given_up) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
