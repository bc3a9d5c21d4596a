#include "store/store.h"

json_t *store_get(struct store *s, const struct resource *res, const char *ns, const char *name, struct error **err)
{
	return s->ops->get(s, res, ns, name, err);
}

json_t *store_list(struct store *s, const struct resource *res, const char *ns, const char *label_selector, struct error **err)
{
	return s->ops->list(s, res, ns, label_selector, err);
}

json_t *store_create(struct store *s, const struct resource *res, const char *ns, const json_t *object, struct error **err)
{
	return s->ops->create(s, res, ns, object, err);
}

json_t *store_patch(struct store *s, const struct resource *res, const char *ns, const char *name, const char *subresource,
		    const json_t *merge_patch, struct error **err)
{
	return s->ops->patch(s, res, ns, name, subresource, merge_patch, err);
}

int store_delete(struct store *s, const struct resource *res, const char *ns, const char *name, const char *uid, struct error **err)
{
	return s->ops->delete_object(s, res, ns, name, uid, err);
}

struct informer *store_watch(struct store *s, const struct resource *res, const char *ns, const char *label_selector, store_handler handler,
			     void *arg, struct error **err)
{
	return s->ops->watch(s, res, ns, label_selector, handler, arg, err);
}

struct informer *store_watch_object(struct store *s, const struct resource *res, const char *ns, const char *name, store_handler handler,
				    void *arg, struct error **err)
{
	return s->ops->watch_object(s, res, ns, name, handler, arg, err);
}

void store_close(struct store *s)
{
	if (s)
		s->ops->close(s);
}
