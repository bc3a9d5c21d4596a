// links: store/kube base
/* A kubeconfig: an error that names the file, or a configuration that can be used. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "store/kube/kubeconfig.h"

#define CHECK(condition)          \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_KUBECONFIG struct kubeconfig *k = kubeconfig_new();
	AUTO_KUBE_CONFIG struct kube_config c = { 0 };
	AUTO_ERROR struct error *err = NULL;

	if (kubeconfig_add(k, (const char *)data, size, "/fuzz/config", &err) < 0) {
		CHECK(err && strstr(err->message, "/fuzz/config"));
		return 0;
	}
	if (kubeconfig_resolve(k, NULL, &c, &err) < 0) {
		CHECK(err && !c.server && err->class == ERROR_PERMANENT);
		return 0;
	}
	CHECK(!err && c.namespace_ && (!strncmp(c.server, "http://", 7) || !strncmp(c.server, "https://", 8)));
	CHECK(!c.cert_pem == !c.key_pem && !(c.insecure && c.ca_pem));
	CHECK(!c.token || !strpbrk(c.token, "\r\n"));
	return 0;
}
