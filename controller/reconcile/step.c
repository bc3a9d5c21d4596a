#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "api/resources.h"
#include "reconcile/context.h"
#include "target/vmspec.h"
#include "transfer/journal.h"

static void set_message(struct step *s, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
static void set_message(struct step *s, const char *fmt, va_list ap)
{
	char *text = NULL;

	if (vasprintf(&text, fmt, ap) < 0)
		return;
	free(s->status->message);
	s->status->message = text;
}

static void set_state(struct step *s, const char *state)
{
	free(s->status->import_status);
	s->status->import_status = strdup(state);
}

void step_go(struct step *s, const char *state, const char *reason, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	set_message(s, fmt, ap);
	va_end(ap);
	set_state(s, state);
	snprintf(s->reason, sizeof s->reason, "%s", reason);
}

void step_say(struct step *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	set_message(s, fmt, ap);
	va_end(ap);
}

void step_fail(struct step *s, const char *state, const char *reason, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	set_message(s, fmt, ap);
	va_end(ap);
	set_state(s, state);
	snprintf(s->reason, sizeof s->reason, "%s", reason);
	s->failed = true;
}

void step_progress(struct step *s, int64_t percent)
{
	if (percent > s->status->progress)
		s->status->progress = percent;
}

char *step_directory(const struct step *s)
{
	const char *last = s->r->options.keep_disks ? s->status->imported_virtual_machine_name : s->uid;
	char *path = NULL;

	return asprintf(&path, "%s/%s", s->r->scratch, last ? last : s->uid) < 0 ? NULL : path;
}

int step_session(struct step *s, struct session **session, struct error **err)
{
	const struct api_object_ref *ref = &s->import->spec.source_cluster;
	const struct resource *resource = api_source_resource(ref->kind);
	const char *ns = ref->namespace_ && *ref->namespace_ ? ref->namespace_ : s->ns;
	AUTO_JSON json_t *object = NULL;

	if (!resource)
		return error_set(err, ERROR_PERMANENT, "SourceKindUnknown", "spec.sourceCluster.kind \"%s\" is no kind of source",
				 ref->kind ? ref->kind : "");
	object = store_get(s->r->options.store, resource, ns, ref->name ? ref->name : "", err);
	if (!object && err && *err && (*err)->class == ERROR_NOT_FOUND)
		return error_set(err, ERROR_NOT_FOUND, "NotFound", "there is no %s %s/%s; create it, or correct spec.sourceCluster",
				 resource->kind, ns, ref->name ? ref->name : "");
	if (!object)
		return error_wrap(err, "cannot read the %s %s/%s", resource->kind, ns, ref->name ? ref->name : "");
	if (session_get(s->r->sessions, object, session, err) < 0)
		return error_wrap(err, "%s %s/%s", resource->kind, ns, ref->name);
	return 0;
}

struct vm_model *step_model(struct step *s, struct error **err)
{
	AUTO_FREE char *directory = step_directory(s);
	AUTO_SESSION struct session *session = NULL;
	struct source_vm_name name = { s->import->spec.virtual_machine_name, s->import->spec.folder };
	struct vm_model *model = directory ? journal_load_model(directory) : NULL;

	if (!model) {
		if (step_session(s, &session, err) < 0)
			return NULL;
		struct source *source = session_source(session);
		model = source->ops->describe(source, &name, s->r->cancel, err);
	}
	if (model && ledger_has(s->status, LEDGER_POWER))
		model->power = VM_POWER_ON;
	return model;
}

struct target_import step_target_import(const struct step *s)
{
	return (struct target_import){ .object = s->object, .import = s->import, .vm_name = s->status->imported_virtual_machine_name };
}

struct target_disk *step_disks(struct step *s, struct error **err)
{
	size_t n = s->status->disk_count;
	struct target_disk *disks = calloc(n + 1, sizeof *disks);
	AUTO_FREE char *directory = step_directory(s);

	if (!disks || !directory)
		goto fail;
	for (size_t i = 0; i < n; i++) {
		const struct vmimport_disk *disk = &s->status->disks[i];
		char *path = NULL, *url = NULL, *below = NULL;

		disks[i] = (struct target_disk){ .name = disk->disk_name,
						 .capacity = (uint64_t)disk->disk_size,
						 .image = disk->image ? disk->image : "" };
		disks[i].bus = disk->bus_type;
		if (asprintf(&path, "%s/%s", directory, disk->disk_name) < 0)
			goto fail;
		disks[i].path = path;
		if (!s->r->options.web)
			continue;
		if (asprintf(&below, "%s/%s", s->uid, disk->disk_name) < 0)
			goto fail;
		url = web_url(s->r->options.web, below, err);
		free(below);
		if (!url) {
			step_disks_free(disks, n);
			return NULL;
		}
		disks[i].url = url;
	}
	return disks;
fail:
	step_disks_free(disks, n);
	error_set_errno(err, ENOMEM, "cannot list the disks");
	return NULL;
}

void step_disks_free(struct target_disk *disks, size_t count)
{
	if (!disks)
		return;
	for (size_t i = 0; i < count; i++) {
		free((void *)disks[i].path);
		free((void *)disks[i].url);
	}
	free(disks);
}
