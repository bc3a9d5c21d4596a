/* URLs of the Kubernetes API ("Kubernetes API Concepts", resource URIs). */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "store/kube/client.h"

static bool unreserved(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("-._~", c));
}

char *kube_escape(const char *text)
{
	struct buffer b;

	buffer_init(&b, 64u << 10);
	for (; *text; text++) {
		if (unreserved((unsigned char)*text))
			buffer_add(&b, text, 1);
		else
			buffer_addf(&b, "%%%02X", (unsigned char)*text);
	}
	return buffer_steal(&b);
}

bool kube_is_path_segment(const char *text)
{
	return *text && strcmp(text, ".") && strcmp(text, "..") && !strpbrk(text, "/%");
}

static int add_segment(struct buffer *b, const struct resource *res, const char *what, const char *text, struct error **err)
{
	AUTO_FREE char *escaped = NULL;

	if (!kube_is_path_segment(text))
		return error_set(err, ERROR_PERMANENT, "InvalidName", "\"%s\" cannot be the %s of a %s", text, what, res->kind);
	escaped = kube_escape(text);
	if (escaped)
		buffer_addf(b, "/%s", escaped);
	else
		b->failed = true;
	return 0;
}

char *kube_path(const struct kube_call *call, struct error **err)
{
	const struct resource *res = call->res;
	AUTO_BUFFER struct buffer b = { 0 };
	char *path;

	buffer_init(&b, 16u << 10);
	if (*res->group)
		buffer_addf(&b, "/apis/%s/%s", res->group, res->version);
	else
		buffer_addf(&b, "/api/%s", res->version);
	if (res->namespaced && call->ns) {
		buffer_add_string(&b, "/namespaces");
		if (add_segment(&b, res, "namespace", call->ns, err) < 0)
			return NULL;
	}
	buffer_addf(&b, "/%s", res->plural);
	if (call->name && add_segment(&b, res, "name", call->name, err) < 0)
		return NULL;
	if (call->subresource)
		buffer_addf(&b, "/%s", call->subresource);
	path = buffer_steal(&b);
	if (!path)
		error_set(err, ERROR_PERMANENT, "InvalidName", "the name of a %s is too long", res->kind);
	return path;
}
