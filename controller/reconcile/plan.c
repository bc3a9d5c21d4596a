#include "reconcile/plan.h"

#include <errno.h>
#include <string.h>

#include "api/problem.h"
#include "api/resources.h"
#include "reconcile/context.h"

struct plan {
	struct plan_options options;
	struct reconciler reconciler; /* so much of one as the checks look at */
};

struct plan *plan_new(const struct plan_options *options, struct error **err)
{
	struct plan *p = calloc(1, sizeof *p);

	if (!p) {
		error_set_errno(err, ENOMEM, "cannot plan");
		return NULL;
	}
	p->options = *options;
	p->reconciler.options =
		(struct reconciler_options){ .store = options->store, .target = options->target, .sources = options->sources };
	p->reconciler.cancel = options->cancel;
	p->reconciler.sessions = sessions_new(
		&(struct sessions_options){ .store = options->store, .sources = &options->sources, .cancel = options->cancel });
	p->reconciler.noted = noted_new();
	p->reconciler.scratch = options->scratch ? strdup(options->scratch) : NULL;
	if (p->reconciler.sessions && p->reconciler.noted && (p->reconciler.scratch || !options->scratch))
		return p;
	error_set_errno(err, ENOMEM, "cannot plan");
	plan_free(p);
	return NULL;
}

void plan_free(struct plan *p)
{
	if (!p)
		return;
	sessions_free(p->reconciler.sessions);
	noted_free(p->reconciler.noted);
	free(p->reconciler.scratch);
	free(p);
}

static void free_import_p(struct vmimport *import)
{
	json_type_free(&api_vmimport_type, import);
}

static void free_status_p(struct vmimport_status *status)
{
	json_type_free(&api_vmimport_status_type, status);
}

static void set_text(json_t *object, const char *key, const char *text)
{
	if (text && *text)
		json_object_set_new(object, key, json_string(text));
}

static void set_number(json_t *object, const char *key, uint64_t n)
{
	json_object_set_new(object, key, json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n));
}

static void add_machine(json_t *out, const struct vm_model *model)
{
	json_t *disks = json_array(), *networks = json_array();
	uint64_t capacity = 0;

	set_text(out, "machine", model->path ? model->path : model->name);
	set_text(out, "power", vm_power_name(model->power));
	set_text(out, "host", model->host);
	for (size_t i = 0; i < model->disk_count; i++) {
		const struct vm_disk *disk = &model->disks[i];
		json_t *entry = json_object();

		set_text(entry, "label", disk->label);
		set_number(entry, "capacity", disk->capacity);
		if (disk->allocated)
			set_number(entry, "allocated", disk->allocated);
		set_text(entry, "bus", vm_bus_name(disk->bus));
		json_array_append_new(disks, entry);
		if (__builtin_add_overflow(capacity, disk->capacity, &capacity))
			capacity = UINT64_MAX;
	}
	for (size_t i = 0; i < model->nic_count; i++) {
		const struct vm_nic *nic = &model->nics[i];
		json_t *entry = json_object();

		set_text(entry, "label", nic->label);
		set_text(entry, "network", nic->network);
		set_text(entry, "mac", nic->mac);
		set_text(entry, "model", nic->model);
		json_array_append_new(networks, entry);
	}
	json_object_set_new(out, "disks", disks);
	json_object_set_new(out, "networks", networks);
	set_number(out, "capacity", capacity);
}

static void add_estimate(json_t *out, const struct estimate *e)
{
	set_number(out, "bytes", e->bytes);
	if (e->rate) {
		set_number(out, "bytesPerSecond", e->rate);
		set_number(out, "seconds", e->seconds);
	}
	set_text(out, "noSample", e->no_sample);
}

/* Whether the source can be asked; what keeps it from that is a problem. */
static bool try_source(struct step *s, struct session **session, json_t *problems)
{
	AUTO_ERROR struct error *failed = NULL;

	if (step_session(s, session, &failed) == 0) {
		struct source *source = session_source(*session);

		if (source->ops->verify(source, s->r->cancel, &failed) == 0)
			return true;
	}
	problem_add(problems, "%s", error_message(failed));
	return false;
}

/* What the source was recognised by when nothing but its being there spoke for it. */
static void add_certificate(json_t *out, struct session *session)
{
	struct source *source = session ? session_source(session) : NULL;
	AUTO_FREE char *fingerprint = source && source->ops->certificate ? source->ops->certificate(source) : NULL;

	set_text(out, "firstSeenCertificate", fingerprint);
}

json_t *plan_import(struct plan *p, const json_t *object, struct error **err)
{
	CLEANUP(free_import_p) struct vmimport import = { 0 };
	CLEANUP(free_status_p) struct vmimport_status status = { 0 };
	const char *ns = json_path_string(object, "metadata.namespace"), *name = json_path_string(object, "metadata.name");
	AUTO_JSON json_t *out = json_object(), *problems = json_array();
	AUTO_VM_MODEL struct vm_model *model = NULL;
	AUTO_SESSION struct session *session = NULL;
	AUTO_FREE char *target = NULL;
	AUTO_ERROR struct error *failed = NULL;
	struct step s = { .r = &p->reconciler,
			  .key = "plan",
			  .ns = ns ? ns : "default",
			  .name = name ? name : "",
			  .object = object,
			  .import = &import,
			  .status = &status };

	if (!out || !problems) {
		error_set_errno(err, ENOMEM, "cannot plan");
		return NULL;
	}
	set_text(out, "namespace", s.ns);
	set_text(out, "name", s.name);
	s.uid = json_path_string(object, "metadata.uid");
	s.uid = s.uid ? s.uid : "";
	if (json_decode(&api_vmimport_type, object, &import, &failed) < 0) {
		problem_add(problems, "%s", error_message(failed));
	} else {
		set_text(out, "virtualMachineName", import.spec.virtual_machine_name);
		if (preflight_spec(&s, problems) && try_source(&s, &session, problems) &&
		    preflight_source(&s, problems, &model, &failed) < 0)
			problem_add(problems, "%s", error_message(failed));
		error_free(move_ptr(failed));
		add_certificate(out, session);
		if (preflight_target(&s, problems, model, &target, &failed) < 0)
			problem_add(problems, "%s", error_message(failed));
		set_text(out, "target", target);
	}
	if (model) {
		struct estimate e;
		AUTO_FREE char *notes = preflight_notes(&s, model);

		add_machine(out, model);
		set_text(out, "notes", notes);
		preflight_estimate(session_source(session), model, &e, s.r->cancel);
		add_estimate(out, &e);
		free(e.no_sample);
	}
	json_object_set(out, "problems", problems);
	return move_ptr(out);
}
