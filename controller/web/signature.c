#include "web/signature.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

static int read_key(const char *path, unsigned char key[SIGNATURE_KEY_SIZE])
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	return fd >= 0 && read(fd, key, SIGNATURE_KEY_SIZE) == SIGNATURE_KEY_SIZE ? 0 : -1;
}

int signature_load_key(const char *directory, unsigned char key[SIGNATURE_KEY_SIZE], struct error **err)
{
	AUTO_FREE char *path = NULL, *new = NULL;

	if (asprintf(&path, "%s/" SIGNATURE_KEY_FILE, directory) < 0) {
		path = NULL;
		return error_set_errno(err, ENOMEM, "cannot keep the image server's key");
	}
	if (read_key(path, key) == 0)
		return 0;
	/* A key that is not whole (a crash in the middle of writing it) is made anew. */
	if (asprintf(&new, "%s.new", path) < 0) {
		new = NULL;
		return error_set_errno(err, ENOMEM, "cannot keep the image server's key");
	}
	AUTO_FD int fd = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (RAND_bytes(key, SIGNATURE_KEY_SIZE) != 1)
		return error_set(err, ERROR_TRANSIENT, "NoRandomness", "no random numbers for the image server's key");
	if (fd < 0 || write(fd, key, SIGNATURE_KEY_SIZE) != SIGNATURE_KEY_SIZE || fsync(fd) < 0 || rename(new, path) < 0)
		return error_set_errno(err, errno, "cannot write the image server's key %s", path);
	return 0;
}

int signature_make(const unsigned char key[SIGNATURE_KEY_SIZE], const char *path, char out[SIGNATURE_TEXT_SIZE])
{
	unsigned char sum[32], base64[48];
	unsigned len = sizeof sum;

	if (!HMAC(EVP_sha256(), key, SIGNATURE_KEY_SIZE, (const unsigned char *)path, strlen(path), sum, &len) || len != sizeof sum)
		return -1;
	EVP_EncodeBlock(base64, sum, sizeof sum);
	for (size_t i = 0; i < SIGNATURE_TEXT_SIZE - 1; i++)
		out[i] = base64[i] == '+' ? '-' : base64[i] == '/' ? '_' : (char)base64[i];
	out[SIGNATURE_TEXT_SIZE - 1] = 0;
	return 0;
}

bool signature_valid(const unsigned char key[SIGNATURE_KEY_SIZE], const char *path, const char *signature, size_t len)
{
	char right[SIGNATURE_TEXT_SIZE];

	return len == SIGNATURE_TEXT_SIZE - 1 && signature_make(key, path, right) == 0 && !CRYPTO_memcmp(right, signature, len);
}
