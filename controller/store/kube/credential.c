#include "store/kube/credential.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>

#include "store/kube/kubeconfig.h"

/* Permanent, also for an absent file: not-found is said of objects only. */
static char *unreadable(const char *path, int error_number, struct error **err)
{
	char text[128];

	error_set_code(err, ERROR_PERMANENT, "UnreadableFile", error_number, "cannot read %s: %s", path,
		       strerror_r(error_number, text, sizeof text));
	return NULL;
}

char *credential_read(const char *path, size_t max, struct error **err)
{
	/* O_NONBLOCK: a FIFO is told, not waited for. */
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return unreadable(path, errno, err);
	if (!S_ISREG(st.st_mode)) {
		error_set(err, ERROR_PERMANENT, "InvalidFile", "%s is no regular file", path);
		return NULL;
	}
	if (st.st_size < 0 || (uint64_t)st.st_size > max) {
		error_set(err, ERROR_PERMANENT, "InvalidFile", "%s is larger than %zu bytes", path, max);
		return NULL;
	}
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return unreadable(path, ENOMEM, err);
	while (len < (size_t)st.st_size) {
		ssize_t n = read(fd, text + len, (size_t)st.st_size - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return unreadable(path, errno, err);
		if (n == 0)
			break;
		len += (size_t)n;
	}
	text[len] = 0;
	if (strlen(text) != len) {
		error_set(err, ERROR_PERMANENT, "InvalidFile", "%s is no text", path);
		return NULL;
	}
	return move_ptr(text);
}

static void free_context_p(EVP_ENCODE_CTX **ctx)
{
	EVP_ENCODE_CTX_free(*ctx);
}

char *credential_decode(const char *base64, struct error **err)
{
	CLEANUP(free_context_p) EVP_ENCODE_CTX *ctx = EVP_ENCODE_CTX_new();
	size_t len = strlen(base64);
	AUTO_FREE char *text = NULL;
	int n = 0, rest = 0;

	if (len > 1u << 20) {
		error_set(err, ERROR_PERMANENT, "InvalidBase64", "larger than 1 MiB");
		return NULL;
	}
	text = malloc(len + 4);
	if (!ctx || !text) {
		error_set_errno(err, ENOMEM, "cannot decode base64");
		return NULL;
	}
	EVP_DecodeInit(ctx);
	if (EVP_DecodeUpdate(ctx, (unsigned char *)text, &n, (const unsigned char *)base64, (int)len) < 0 ||
	    EVP_DecodeFinal(ctx, (unsigned char *)text + n, &rest) < 0) {
		error_set(err, ERROR_PERMANENT, "InvalidBase64", "no valid base64");
		return NULL;
	}
	text[n + rest] = 0;
	if (!*text || strlen(text) != (size_t)n + (size_t)rest) {
		error_set(err, ERROR_PERMANENT, "InvalidBase64", "what the base64 holds is no text");
		return NULL;
	}
	return move_ptr(text);
}

bool credential_fits_header(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || (unsigned char)*text == 0x7f)
			return false;
	return true;
}

char *kube_token_read(const char *path, struct error **err)
{
	AUTO_FREE char *text = credential_read(path, 64u << 10, err);
	char *from = text, *to;

	if (!text)
		return NULL;
	from += strspn(from, " \t\r\n");
	to = from + strlen(from);
	while (to > from && strchr(" \t\r\n", to[-1]))
		*--to = 0;
	if (!*from || !credential_fits_header(from)) {
		error_set(err, ERROR_PERMANENT, "InvalidFile", "%s holds no token", path);
		return NULL;
	}
	return strdup(from);
}
