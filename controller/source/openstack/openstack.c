/* The provider "OpenstackSource". */
#include "source/openstack/openstack.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "source/openstack/answer.h"
#include "source/openstack/artifact.h"
#include "source/openstack/check.h"
#include "source/openstack/export.h"
#include "source/openstack/model.h"
#include "source/openstack/power.h"
#include "source/openstack/server.h"
#include "json/codec.h"

/* How long one run of the reconciler waits for the cloud to let go of something. */
#define CLEANUP_MS 15000
#define CLEANUP_PAUSE_MS 1000

struct openstack {
	struct source source;
	struct openstack_session *session;
	pthread_mutex_t lock; /* guards found */
	json_t *found;        /* name -> id of servers that were looked for */
};

static struct openstack *self(struct source *source)
{
	return (struct openstack *)source;
}

static void close_source(struct source *source)
{
	struct openstack *o = self(source);

	openstack_session_close(o->session);
	json_decref(o->found);
	pthread_mutex_destroy(&o->lock);
	free(o);
}

static struct source *open_source(const json_t *object, const json_t *secret, const struct source_options *options, struct cancel *cancel,
				  struct error **err)
{
	struct openstack *o = calloc(1, sizeof *o);

	(void)options;
	if (!o) {
		error_set_errno(err, ENOMEM, "cannot open the source");
		return NULL;
	}
	o->source.ops = &openstack_source_ops;
	pthread_mutex_init(&o->lock, NULL);
	o->found = json_object();
	if (!o->found)
		error_set_errno(err, ENOMEM, "cannot open the source");
	else
		o->session = openstack_session_open(object, secret, cancel, err);
	if (o->session)
		return &o->source;
	close_source(&o->source);
	return NULL;
}

/* A new login, which reads the catalogue again; and whether the project's servers may be seen. */
static int verify(struct source *source, struct cancel *cancel, struct error **err)
{
	struct openstack_session *s = self(source)->session;
	AUTO_JSON json_t *servers = NULL;

	if (openstack_session_renew(s, cancel, err) < 0)
		return -1;
	servers = openstack_get(s, OPENSTACK_COMPUTE, cancel, err, "/servers?limit=1");
	return servers ? 0 : error_wrap(err, "the servers of the project cannot be listed");
}

/* Where a name led before; owned, or NULL. */
static char *remembered(struct openstack *o, const char *name)
{
	LOCK_GUARD(&o->lock);
	const char *id = answer_text(o->found, name);

	return id ? strdup(id) : NULL;
}

static void remember(struct openstack *o, const char *name, const char *id)
{
	LOCK_GUARD(&o->lock);
	if (id)
		json_object_set_new(o->found, name, json_string(id));
	else
		json_object_del(o->found, name);
}

static struct vm_model *describe_id(struct openstack *o, const char *id, struct cancel *cancel, struct error **err)
{
	AUTO_JSON json_t *gathered = openstack_gather(o->session, id, cancel, err);

	return gathered ? openstack_model(gathered, err) : NULL;
}

static struct vm_model *describe(struct source *source, const struct source_vm_name *name, struct cancel *cancel, struct error **err)
{
	struct openstack *o = self(source);
	AUTO_FREE char *id = name->name ? remembered(o, name->name) : NULL;
	struct vm_model *m;

	if (id) {
		AUTO_VM_MODEL struct vm_model *known = describe_id(o, id, cancel, NULL);

		if (known && (!strcmp(known->name, name->name) || !strcasecmp(known->source_id, name->name)))
			return move_ptr(known);
		remember(o, name->name, NULL); /* renamed, deleted, or it failed: look again, with an error to tell */
		free(move_ptr(id));
	}
	id = openstack_find_server(o->session, name->name, cancel, err);
	m = id ? describe_id(o, id, cancel, err) : NULL;
	if (m)
		remember(o, name->name, id);
	return m;
}

static int preflight(struct source *source, const struct vm_model *m, json_t *problems, struct cancel *cancel, struct error **err)
{
	return openstack_check(self(source)->session, m, problems, cancel, err);
}

static int power_state(struct source *source, const struct vm_model *m, enum vm_power *out, struct cancel *cancel, struct error **err)
{
	AUTO_JSON json_t *server = openstack_server(self(source)->session, m->source_id, cancel, err);

	if (!server)
		return -1;
	*out = openstack_power(server);
	return 0;
}

static int shutdown_guest(struct source *source, const struct vm_model *m, struct cancel *cancel, struct error **err)
{
	(void)cancel;
	return openstack_shutdown(self(source)->session, m, err);
}

static int power_off(struct source *source, const struct vm_model *m, struct cancel *cancel, struct error **err)
{
	return openstack_power_off(self(source)->session, m, cancel, err);
}

static int power_on(struct source *source, const struct vm_model *m, struct cancel *cancel, struct error **err)
{
	return openstack_power_on(self(source)->session, m, cancel, err);
}

static struct source_export *export_begin(struct source *source, const struct vm_model *m, source_ledger ledger, void *ledger_arg,
					  struct cancel *cancel, struct error **err)
{
	return openstack_export_begin(self(source)->session, source->ops, m, ledger, ledger_arg, cancel, err);
}

static int cleanup(struct source *source, const char *kind, const char *id, struct cancel *cancel, struct error **err)
{
	struct poll poll = poll_within(CLEANUP_MS, CLEANUP_PAUSE_MS);
	enum artifact_kind k;

	if (!artifact_kind_of(kind, &k) || !answer_is_id(id))
		return 0;
	return artifact_remove(self(source)->session, k, id, &poll, cancel, err);
}

static const char *const secret_keys[] = { "username",
					   "password",
					   "domain_name",
					   "user_domain_name",
					   "project_name",
					   "project_id",
					   "project_domain_name",
					   "application_credential_id",
					   "application_credential_secret",
					   "ca_cert",
					   NULL };

const struct source_ops openstack_source_ops = {
	.kind = "OpenstackSource",
	.secret_keys = secret_keys,
	.open = open_source,
	.close = close_source,
	.verify = verify,
	.describe = describe,
	.preflight = preflight,
	.no_sample = "the cloud makes an image of each disk first, and how long it takes for that is not known before it has",
	.power_state = power_state,
	.shutdown_guest = shutdown_guest,
	.power_off = power_off,
	.power_on = power_on,
	.export_begin = export_begin,
	.export_stream = openstack_export_stream,
	.export_open = openstack_export_open,
	.export_progress = openstack_export_progress,
	.export_end = openstack_export_end,
	.cleanup = cleanup,
};
