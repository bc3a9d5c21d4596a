#include "leader/gate.h"

#include <errno.h>
#include <stdlib.h>

struct gate {
	struct store store;
	struct store *inner;
	bool (*open)(void *arg);
	void *arg;
};

static struct store *inner(struct store *store)
{
	return ((struct gate *)store)->inner;
}

static int check(struct store *store, struct error **err)
{
	const struct gate *g = (const struct gate *)store;

	if (g->open(g->arg))
		return 0;
	return error_set(err, ERROR_CANCELLED, "NotLeader", "another replica leads, or may do so: nothing is written any more");
}

static json_t *gate_get(struct store *s, const struct resource *res, const char *ns, const char *name, struct error **err)
{
	return store_get(inner(s), res, ns, name, err);
}

static json_t *gate_list(struct store *s, const struct resource *res, const char *ns, const char *label_selector, struct error **err)
{
	return store_list(inner(s), res, ns, label_selector, err);
}

static json_t *gate_create(struct store *s, const struct resource *res, const char *ns, const json_t *object, struct error **err)
{
	return check(s, err) < 0 ? NULL : store_create(inner(s), res, ns, object, err);
}

static json_t *gate_patch(struct store *s, const struct resource *res, const char *ns, const char *name, const char *subresource,
			  const json_t *merge_patch, struct error **err)
{
	return check(s, err) < 0 ? NULL : store_patch(inner(s), res, ns, name, subresource, merge_patch, err);
}

static int gate_delete(struct store *s, const struct resource *res, const char *ns, const char *name, const char *uid, struct error **err)
{
	return check(s, err) < 0 ? -1 : store_delete(inner(s), res, ns, name, uid, err);
}

static struct informer *gate_watch(struct store *s, const struct resource *res, const char *ns, const char *label_selector,
				   store_handler handler, void *arg, struct error **err)
{
	return store_watch(inner(s), res, ns, label_selector, handler, arg, err);
}

static struct informer *gate_watch_object(struct store *s, const struct resource *res, const char *ns, const char *name,
					  store_handler handler, void *arg, struct error **err)
{
	return store_watch_object(inner(s), res, ns, name, handler, arg, err);
}

static void gate_close(struct store *s)
{
	free(s);
}

static const struct store_ops gate_ops = {
	.get = gate_get,
	.list = gate_list,
	.create = gate_create,
	.patch = gate_patch,
	.delete_object = gate_delete,
	.watch = gate_watch,
	.watch_object = gate_watch_object,
	.close = gate_close,
};

struct store *gate_store_new(struct store *over, bool (*open)(void *arg), void *arg, struct error **err)
{
	struct gate *g = calloc(1, sizeof *g);

	if (!g) {
		error_set_errno(err, ENOMEM, "cannot make a store");
		return NULL;
	}
	*g = (struct gate){ .store.ops = &gate_ops, .inner = over, .open = open, .arg = arg };
	return &g->store;
}
