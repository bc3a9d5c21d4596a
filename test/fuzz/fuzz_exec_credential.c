// links: store/kube base
/* What an exec plugin prints: an error, or a credential that can be used. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "store/kube/exec.h"

#define CHECK(condition)          \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_EXEC_CREDENTIAL struct exec_credential got = { 0 };
	AUTO_ERROR struct error *err = NULL;

	if (exec_credential_parse((const char *)data, size, "client.authentication.k8s.io/v1", &got, &err) < 0) {
		CHECK(err && !got.token && !got.cert_pem && !got.key_pem);
		return 0;
	}
	CHECK(!err && (got.token || got.cert_pem) && !got.cert_pem == !got.key_pem && got.expires >= 0);
	CHECK(!got.token || !strpbrk(got.token, "\r\n"));
	return 0;
}
