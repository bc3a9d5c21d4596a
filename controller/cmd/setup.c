#include "cmd/setup.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "api/resources.h"
#include "base/backoff.h"
#include "base/buffer.h"
#include "base/log.h"
#include "cmd/crds.h"
#include "store/kube/access.h"

struct setup {
	struct store *store;
	const char *ns;
	struct cancel *cancel;
	pthread_t thread;
	bool tried;
};

/* What is used and can be missing. Without an optional power all goes on; the text says what is different then. */
static const struct power {
	const char *verb;
	const struct resource *res;
	const char *subresource;
	bool optional, own_namespace;
	const char *without;
} powers[] = {
	{ "create", &api_events, NULL, true, false, "no events are written: kubectl describe shows only the status" },
	{ "patch", &api_leases, NULL, true, true, "no leader election: run one instance" },
	{ "patch", &api_crds, NULL, true, false, "the definitions are not brought up to date: kubectl apply -f crds/" },
	{ "watch", &api_secrets, NULL, true, false, "changed credentials are noticed only when a source is checked again" },
	{ "watch", &api_vmimports, NULL, false, false, "no import is seen" },
	{ "patch", &api_vmimports, "status", false, false, "no import gets on" },
	{ "watch", &api_vmware_sources, NULL, false, false, "no VMware source is seen" },
	{ "get", &api_secrets, NULL, false, false, "no credentials can be read" },
	{ "create", &api_vmimages, NULL, false, false, "no disk gets into the cluster" },
	{ "watch", &api_vmimages, NULL, false, false, "no disk is seen to be in the cluster" },
	{ "create", &api_pvcs, NULL, false, false, "no volume can be made" },
	{ "create", &api_vms, NULL, false, false, "no machine can be made" },
	{ "watch", &api_vms, NULL, false, false, "no machine is seen to run" },
	{ "get", &api_storage_classes, NULL, false, false, "an import's storage class cannot be checked" },
	{ "list", &api_nads, NULL, false, false, "an import's networks cannot be checked" },
};

/* Whether each could be asked for. Says what is missing in one line for the optional powers and one for the others. */
static bool review(struct setup *s)
{
	AUTO_BUFFER struct buffer optional = { 0 }, needed = { 0 };

	buffer_init(&optional, 1 << 14);
	buffer_init(&needed, 1 << 14);
	for (size_t i = 0; i < sizeof powers / sizeof *powers; i++) {
		const struct power *p = &powers[i];
		struct buffer *b = p->optional ? &optional : &needed;
		AUTO_ERROR struct error *err = NULL;
		const char *name = p->res == &api_crds ? "virtualmachineimports.migration.harvesterhci.io" : NULL;
		int allowed = kube_store_allows(s->store, p->verb, p->res, p->own_namespace ? s->ns : NULL, name, p->subresource, &err);

		if (allowed < 0) {
			log_write(LOG_DEBUG, "it is not known what the cluster allows", "error", error_message(err), NULL);
			return err->class != ERROR_TRANSIENT; /* one that refuses to tell will not tell later */
		}
		if (!allowed)
			buffer_addf(b, "%s%s %s%s%s (%s)", b->len ? "; " : "", p->verb, p->res->plural, p->subresource ? "/" : "",
				    p->subresource ? p->subresource : "", p->without);
	}
	if (optional.len)
		log_write(LOG_INFO, "some powers are missing, it goes on without", "missing", optional.data, NULL);
	if (needed.len)
		log_write(LOG_ERROR, "powers are missing that imports need; the role is in deploy/manifests.yaml", "missing", needed.data,
			  NULL);
	return true;
}

static void *run(void *arg)
{
	struct setup *s = arg;
	struct backoff backoff = { .base_ms = 1000, .cap_ms = 60000 };
	bool reviewed = false, applied = false;

	do {
		AUTO_ERROR struct error *err = NULL;

		reviewed = reviewed || review(s);
		if (!applied && crds_apply(s->store, s->cancel, &err) < 0) {
			/* What is permanent may be mended by somebody: it is tried again, but need not be seen at once. */
			if (!cancel_requested(s->cancel))
				log_write(err->class == ERROR_TRANSIENT ? LOG_WARNING : LOG_ERROR, "the definitions are not up to date",
					  "error", error_message(err), NULL);
		} else {
			applied = true;
		}
		__atomic_store_n(&s->tried, true, __ATOMIC_RELEASE);
	} while ((!applied || !reviewed) && !cancel_wait(s->cancel, backoff_next(&backoff)));
	return NULL;
}

struct setup *setup_start(struct store *store, const char *ns, struct cancel *cancel, struct error **err)
{
	struct setup *s = calloc(1, sizeof *s);
	int failed = ENOMEM;

	if (s) {
		*s = (struct setup){ .store = store, .ns = ns, .cancel = cancel };
		if (!(failed = pthread_create(&s->thread, NULL, run, s)))
			return s;
		free(s);
	}
	error_set_errno(err, failed, "cannot start the preparation of the cluster");
	return NULL;
}

bool setup_tried(const struct setup *s)
{
	return __atomic_load_n(&s->tried, __ATOMIC_ACQUIRE);
}

void setup_free(struct setup *s)
{
	if (!s)
		return;
	pthread_join(s->thread, NULL);
	free(s);
}
