#include "store/kube/access.h"

#include <errno.h>

#include "json/codec.h"

static const struct resource reviews = {
	"authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", false, false
};

int kube_store_allows(struct store *store, const char *verb, const struct resource *res, const char *ns, const char *name,
		      const char *subresource, struct error **err)
{
	AUTO_JSON json_t *review =
				 json_pack("{s:{s:{s:s, s:s, s:s, s:s*, s:s*, s:s*}}}", "spec", "resourceAttributes", "verb", verb, "group",
					   res->group, "resource", res->plural, "namespace", ns, "name", name, "subresource", subresource),
			 *answer = review ? store_create(store, &reviews, NULL, review, err) : NULL;

	if (!review)
		return error_set_errno(err, ENOMEM, "cannot ask what is allowed");
	if (!answer)
		return error_wrap(err, "cannot ask what is allowed");
	return json_is_true(json_path(answer, "status.allowed"));
}
