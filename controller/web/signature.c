#include "web/signature.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

enum key_state { KEY_READ, KEY_ABSENT, KEY_BROKEN, KEY_FAILED };

static enum key_state read_key(const char *path, unsigned char key[SIGNATURE_KEY_SIZE], struct error **err)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	unsigned char bytes[SIGNATURE_KEY_SIZE + 1];
	ssize_t len;

	if (fd < 0 && errno == ENOENT)
		return KEY_ABSENT;
	len = fd < 0 ? -1 : read(fd, bytes, sizeof bytes);
	if (len < 0) {
		error_set_errno(err, errno, "cannot read the image server's key %s; make it readable, or remove it", path);
		return KEY_FAILED;
	}
	if (len != SIGNATURE_KEY_SIZE)
		return KEY_BROKEN;
	memcpy(key, bytes, SIGNATURE_KEY_SIZE);
	return KEY_READ;
}

/* A new key in a file of its own, of mode 0600. */
static int write_key(char *template, unsigned char key[SIGNATURE_KEY_SIZE], struct error **err)
{
	AUTO_FD int fd = -1;

	if (RAND_bytes(key, SIGNATURE_KEY_SIZE) != 1)
		return error_set(err, ERROR_TRANSIENT, "NoRandomness", "no random numbers for the image server's key");
	fd = mkostemp(template, O_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, errno, "cannot write the image server's key %s", template);
	if (write(fd, key, SIGNATURE_KEY_SIZE) == SIGNATURE_KEY_SIZE && fsync(fd) == 0)
		return 0;
	error_set_errno(err, errno, "cannot write the image server's key %s", template);
	unlink(template);
	return -1;
}

/* Gives the new key its place. A link fails when another process was faster: then its key is the one. 0 or an errno. */
static int place_key(const char *new, const char *path, enum key_state state)
{
	int failed = 0;

	if (state == KEY_ABSENT) {
		failed = link(new, path) < 0 ? errno : 0;
		if (!failed || failed == EEXIST)
			return failed;
	}
	/* One that is not whole is replaced; and there are file systems without links. */
	return rename(new, path) < 0 ? errno : 0;
}

int signature_load_key(const char *directory, unsigned char key[SIGNATURE_KEY_SIZE], struct error **err)
{
	AUTO_FREE char *path = NULL, *new = NULL;
	enum key_state state;
	int failed;

	if (asprintf(&path, "%s/" SIGNATURE_KEY_FILE, directory) < 0)
		path = NULL;
	if (asprintf(&new, "%s/" SIGNATURE_KEY_FILE ".XXXXXX", directory) < 0)
		new = NULL;
	if (!path || !new)
		return error_set_errno(err, ENOMEM, "cannot keep the image server's key");
	state = read_key(path, key, err);
	if (state == KEY_READ)
		return 0;
	if (state == KEY_FAILED || write_key(new, key, err) < 0)
		return -1;
	failed = place_key(new, path, state);
	unlink(new);
	if (failed == EEXIST) {
		state = read_key(path, key, err);
		if (state == KEY_READ)
			return 0;
		if (state == KEY_FAILED)
			return -1;
	}
	return failed ? error_set_errno(err, failed, "cannot write the image server's key %s", path) : 0;
}

int signature_make(const unsigned char key[SIGNATURE_KEY_SIZE], const char *path, char out[SIGNATURE_TEXT_SIZE])
{
	unsigned char sum[32], base64[48];
	unsigned len = sizeof sum;
	AUTO_FREE char *text = NULL;
	int text_len = asprintf(&text, "GET%c%s", 0, path);

	if (text_len < 0) {
		text = NULL;
		return -1;
	}
	if (!HMAC(EVP_sha256(), key, SIGNATURE_KEY_SIZE, (const unsigned char *)text, (size_t)text_len, sum, &len) || len != sizeof sum)
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
