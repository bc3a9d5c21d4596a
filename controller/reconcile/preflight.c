/* The first two states: is everything there that the import needs, and under what name will the machine live. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/names.h"
#include "api/near.h"
#include "api/problem.h"
#include "api/resources.h"
#include "base/size.h"
#include "reconcile/context.h"
#include "transfer/claim.h"

/* The problems as one text: "a; b; c". Owned by the caller. */
static char *join(const json_t *problems)
{
	struct buffer text;
	const json_t *problem;
	size_t i;

	buffer_init(&text, 16 * 1024);
	json_array_foreach (problems, i, problem) {
		if (i && buffer_add_string(&text, "; ") < 0)
			break;
		if (buffer_add_string(&text, json_string_value(problem)) < 0)
			break;
	}
	text.failed = false; /* what fits is told */
	return buffer_steal(&text);
}

/* Nothing runs at the source, and nothing has to be shut down. */
static bool is_package(const char *kind)
{
	return kind && !strcasecmp(kind, "OvaSource");
}

static void wrong_kind(const char *kind, json_t *problems)
{
	static const char *const kinds[] = { "VmwareSource", "OpenstackSource", "OvaSource", "KVMSource", NULL };
	const char *near = near_word(kind, kinds);

	problem_add(problems, "spec.sourceCluster.kind is \"%s\"%s%s%s; it must be VmwareSource, OpenstackSource, OvaSource or KVMSource",
		    kind, near ? " (is it " : "", near ? near : "", near ? "?)" : "");
}

bool preflight_spec(const struct step *s, json_t *problems)
{
	const struct vmimport_spec *spec = &s->import->spec;
	const struct api_object_ref *ref = &spec->source_cluster;

	if (!ref->kind || !api_source_resource(ref->kind))
		wrong_kind(ref->kind ? ref->kind : "", problems);
	else if (!source_ops_of(ref->kind))
		problem_add(problems, "spec.sourceCluster.kind %s is not supported by this version", ref->kind);
	if (ref->api_version && *ref->api_version && strcmp(ref->api_version, API_GROUP_VERSION))
		problem_add(problems, "spec.sourceCluster.apiVersion is \"%s\"; it must be %s", ref->api_version, API_GROUP_VERSION);
	if (!ref->name || !*ref->name)
		problem_add(problems, "spec.sourceCluster.name is empty; name the source");
	if (!spec->virtual_machine_name || !*spec->virtual_machine_name)
		problem_add(problems, "spec.virtualMachineName is empty; name the virtual machine at the source%s",
			    is_package(ref->kind) ? " (with an OVA of one machine any name does: it becomes the new machine's)" : "");
	if (spec->target_virtual_machine_name && *spec->target_virtual_machine_name &&
	    !name_is_dns1123_label(spec->target_virtual_machine_name))
		problem_add(
			problems,
			"spec.targetVirtualMachineName \"%s\" is no DNS-1123 label (lower-case letters, digits and '-', at most 63 characters)",
			spec->target_virtual_machine_name);
	if (spec->storage_class && *spec->storage_class && !name_is_dns1123_subdomain(spec->storage_class))
		problem_add(problems, "spec.storageClass \"%.300s\" is no name of lower-case letters, digits, '-' and '.'",
			    spec->storage_class);
	if (spec->transfer.mode && *spec->transfer.mode && strcmp(spec->transfer.mode, "Controller"))
		problem_add(problems, "spec.transfer.mode %s is not supported by this version; use Controller", spec->transfer.mode);
	if (spec->warm)
		problem_add(problems, "spec.warm is not supported by this version; remove it");
	/* Whether it names a source and a machine there. */
	return ref->kind && api_source_resource(ref->kind) && source_ops_of(ref->kind) && ref->name && *ref->name &&
	       spec->virtual_machine_name && *spec->virtual_machine_name;
}

/* True when the source says that it is ready; else the message tells what it waits for. */
static bool source_ready(struct step *s)
{
	const struct api_object_ref *ref = &s->import->spec.source_cluster;
	const struct resource *resource = api_source_resource(ref->kind);
	const char *ns = ref->namespace_ && *ref->namespace_ ? ref->namespace_ : s->ns;
	AUTO_ERROR struct error *err = NULL;
	AUTO_JSON json_t *source = store_get(s->r->options.store, resource, ns, ref->name, &err);
	const char *status = json_path_string(source, "status.status"), *message = json_path_string(source, "status.message");

	if (status && !strcmp(status, "clusterReady"))
		return true;
	if (!source && err && err->class == ERROR_NOT_FOUND)
		step_say(s, "Waiting for the %s %s/%s, which does not exist; create it or correct spec.sourceCluster", resource->kind, ns,
			 ref->name);
	else if (!source)
		step_say(s, "Waiting for the %s %s/%s: %s", resource->kind, ns, ref->name, error_message(err));
	else if (!status)
		step_say(s, "Waiting until the %s %s/%s is verified", resource->kind, ns, ref->name);
	else
		step_say(s, "Waiting for the %s %s/%s, which is not ready: %s", resource->kind, ns, ref->name,
			 message ? message : "see its status");
	snprintf(s->reason, sizeof s->reason, "SourceNotReady");
	s->failed = status || !source; /* a source just created is no reason for an alarm */
	s->again_ms = 30000;           /* its change wakes us sooner */
	return false;
}

/* A machine of vSphere that is named by its id (vm-12, or a UUID) keeps the name that it has there. model: NULL when it is not known. */
static char *target_name(const struct step *s, const struct vm_model *model)
{
	const struct vmimport_spec *spec = &s->import->spec;
	const char *wanted = spec->virtual_machine_name ? spec->virtual_machine_name : "", *kind = spec->source_cluster.kind;

	if (spec->target_virtual_machine_name && *spec->target_virtual_machine_name)
		return strdup(spec->target_virtual_machine_name);
	if (model && kind && !strcasecmp(kind, api_vmware_sources.kind)) {
		const char *path = model->path ? strrchr(model->path, '/') : NULL;
		bool named = strlen(wanted) != 36 || strspn(wanted, "0123456789abcdefABCDEF-") != 36;

		if ((!strcmp(wanted, model->source_id) || !named) && path && strcmp(path + 1, wanted))
			return name_dns1123_label(model->name);
	}
	return name_dns1123_label(wanted);
}

/* What is wrong with the machine, as opposed to the session: a password that was just changed is no reason to give the import up. */
static bool about_machine(const struct error *e)
{
	static const char *const reasons[] = { "VirtualMachineAmbiguous", "NoConfiguration", "InvalidDisk",     "TooManyDevices",
					       "InvalidDescriptor",       "InvalidArchive",  "InvalidManifest", "ManifestMismatch" };

	for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
		if (!strcmp(e->reason, reasons[i]))
			return true;
	return e->class == ERROR_NOT_FOUND;
}

/* Asks the source for its networks where the mapping names one that the machine is not on. */
static int list_networks(const struct step *s, struct source *source, struct vm_model *model, struct error **err)
{
	const struct vmimport_spec *spec = &s->import->spec;

	for (size_t i = 0; source->ops->networks && i < spec->network_mapping_count; i++) {
		const char *network = spec->network_mapping[i].source_network;
		bool found = !network || !*network;

		for (size_t n = 0; !found && n < model->nic_count; n++)
			found = model->nics[n].network && vm_same_network(model->nics[n].network, network);
		if (!found)
			return source->ops->networks(source, model, s->r->cancel, err);
	}
	return 0;
}

int preflight_source(struct step *s, json_t *problems, struct vm_model **out, struct error **err)
{
	struct source_vm_name name = { s->import->spec.virtual_machine_name, s->import->spec.folder };
	AUTO_SESSION struct session *session = NULL;
	AUTO_ERROR struct error *failed = NULL;
	AUTO_VM_MODEL struct vm_model *model = NULL;

	if (step_session(s, &session, err) < 0)
		return -1;
	struct source *source = session_source(session);
	model = source->ops->describe(source, &name, s->r->cancel, &failed);
	if (!model) {
		if (!about_machine(failed))
			return error_move(err, move_ptr(failed));
		problem_add(problems, "%s", failed->message);
		return 0;
	}
	if (!s->import->spec.skip_preflight_checks) {
		if (source->ops->preflight(source, model, problems, s->r->cancel, err) < 0 || list_networks(s, source, model, err) < 0)
			return -1;
		if (model->power == VM_POWER_ON && !s->import->spec.force_power_off && !model->guest_tools)
			problem_add(problems,
				    "%s is running and VMware Tools do not run in it, so its guest cannot be asked to shut down; set "
				    "spec.forcePowerOff: true, or shut it down yourself",
				    model->path ? model->path : model->name);
	}
	*out = move_ptr(model);
	return 0;
}

static bool is_mapped(const struct vmimport_spec *spec, const char *network)
{
	for (size_t i = 0; network && i < spec->network_mapping_count; i++) {
		const struct api_network_mapping *m = &spec->network_mapping[i];

		if (m->source_network && m->destination_network && *m->destination_network && vm_same_network(m->source_network, network))
			return true;
	}
	return false;
}

/* What the source notes about the machine, and the cards that are left out. Owned; "" when there is nothing. */
char *preflight_notes(const struct step *s, const struct vm_model *model)
{
	struct buffer text;
	size_t left = 0;

	buffer_init(&text, 16 * 1024);
	buffer_add_string(&text, model->notes ? model->notes : "");
	for (size_t i = 0; i < model->nic_count; i++)
		left += !is_mapped(&s->import->spec, model->nics[i].network);
	if (left && left == model->nic_count)
		buffer_addf(&text, "%sspec.networkMapping names no network that it is on: it gets one card, on the cluster's own network",
			    text.len ? "; " : "");
	for (size_t i = 0; left && left < model->nic_count && i < model->nic_count; i++)
		if (!is_mapped(&s->import->spec, model->nics[i].network))
			buffer_addf(&text, "%s%s is left out, as spec.networkMapping does not name its network %s", text.len ? "; " : "",
				    model->nics[i].label ? model->nics[i].label : "a network card",
				    model->nics[i].network ? model->nics[i].network : "");
	text.failed = false; /* what fits is told */
	return buffer_steal(&text);
}

/* A directory of another import stays as it is. */
static int check_directory(const struct step *s, const char *name, json_t *problems, struct error **err)
{
	AUTO_FREE char *directory = NULL, *import = NULL, *holder = NULL;

	if (!s->r->options.keep_disks || !s->r->scratch)
		return 0;
	if (asprintf(&directory, "%s/%s", s->r->scratch, name) < 0)
		directory = NULL;
	if (asprintf(&import, "%s/%s", s->ns, s->name) < 0)
		import = NULL;
	if (!directory || !import)
		return error_set_errno(err, ENOMEM, "cannot check the import");
	holder = claim_holder(directory);
	/* One that does not begin takes no name from another. */
	if (!holder && !json_array_size(problems) && names_take(s->r->names, name, import, &holder) < 0)
		return error_set_errno(err, ENOMEM, "cannot check the import");
	if (holder && strcmp(holder, import))
		problem_add(problems, "%s belongs to the import %s; choose another -o or spec.targetVirtualMachineName, or delete it",
			    directory, holder);
	return 0;
}

int preflight_target(struct step *s, json_t *problems, const struct vm_model *model, char **target, struct error **err)
{
	AUTO_FREE char *name = target_name(s, model), *directory = step_directory(s);
	AUTO_ERROR struct error *no_space = NULL;
	struct target_import import = { .object = s->object, .import = s->import, .vm_name = name };
	/* A plan's directory is one that a person named, too. */
	enum transfer_place place = s->r->options.keep_disks || !s->r->transfers ? TRANSFER_DIRECTORY : TRANSFER_SCRATCH;

	if (!name || !directory)
		return error_set_errno(err, ENOMEM, "cannot check the import");
	if (s->r->options.target->ops->preflight(s->r->options.target, &import, model, problems, err) < 0)
		return -1;
	if (model && s->r->scratch && transfer_check_space(s->r->transfers, place, s->r->scratch, directory, model, &no_space) < 0)
		problem_add(problems, "%s", error_message(no_space));
	if (check_directory(s, name, problems, err) < 0)
		return -1;
	*target = move_ptr(name);
	return 0;
}

/* What passing costs: ", some 12 GiB to fetch, about 7 min"; "" when the source could not be asked again. */
static void tell_estimate(struct step *s, const struct vm_model *model, char out[128])
{
	AUTO_SESSION struct session *session = NULL;
	struct estimate e;
	char size[SIZE_TEXT];

	*out = 0;
	if (!model || step_session(s, &session, NULL) < 0)
		return;
	preflight_estimate(session_source(session), model, &e, s->r->cancel);
	int n = snprintf(out, 128, "; some %s to fetch", size_text(e.bytes, size));
	if (e.rate && n > 0 && n < 128)
		snprintf(out + n, 128 - (size_t)n, ", about %llu %s (a sample came at %.0f MB/s)",
			 (unsigned long long)(e.seconds < 100 ? e.seconds : (e.seconds + 30) / 60), e.seconds < 100 ? "s" : "min",
			 (double)e.rate / 1e6);
	free(e.no_sample);
}

int step_new(struct step *s, struct error **err)
{
	AUTO_JSON json_t *problems = json_array();
	AUTO_FREE char *text = NULL, *name = NULL;
	AUTO_VM_MODEL struct vm_model *model = NULL;
	char estimate[128];

	if (!problems)
		return error_set_errno(err, ENOMEM, "cannot check the import");
	if (!s->status->start_time) {
		char now[CLOCK_RFC3339_SIZE];

		clock_rfc3339(now);
		s->status->start_time = strdup(now);
	}
	/* What is wrong already does not keep the rest from being looked at, so that all is told at once. */
	if (preflight_spec(s, problems)) {
		if (source_ready(s)) {
			if (preflight_source(s, problems, &model, err) < 0)
				return -1;
		} else if (!json_array_size(problems)) {
			return 0;
		} else {
			s->again_ms = 0;
		}
	}
	if (preflight_target(s, problems, model, &name, err) < 0)
		return -1;
	if (json_array_size(problems)) {
		text = join(problems);
		step_fail(s, STATE_INVALID, "PreflightFailed", "The import cannot start: %s", text ? text : "");
	} else {
		AUTO_FREE char *notes = model ? preflight_notes(s, model) : NULL;

		free(s->status->imported_virtual_machine_name);
		s->status->imported_virtual_machine_name = move_ptr(name);
		tell_estimate(s, model, estimate);
		step_go(s, STATE_VALID, "PreflightPassed", "All preflight checks passed%s%s%s", estimate, notes && *notes ? "; note: " : "",
			notes ? notes : "");
	}
	return 0;
}

int step_valid(struct step *s, struct error **err)
{
	AUTO_FREE char *name = NULL, *text = NULL;
	AUTO_JSON json_t *problems = json_array();

	if (!problems)
		return error_set_errno(err, ENOMEM, "cannot name the machine");
	if (!s->status->imported_virtual_machine_name) { /* checked by another version, or by Harvester's controller */
		name = target_name(s, NULL);
		if (!name)
			return error_set_errno(err, ENOMEM, "cannot name the machine");
		s->status->imported_virtual_machine_name = move_ptr(name);
	}
	struct target_import import = step_target_import(s);
	/* The name may have been taken since the first check. */
	if (s->r->options.target->ops->preflight(s->r->options.target, &import, NULL, problems, err) < 0)
		return -1;
	if (json_array_size(problems)) {
		text = join(problems);
		step_fail(s, STATE_INVALID, "PreflightFailed", "The import cannot start: %s", text ? text : "");
	} else {
		step_go(s, STATE_SOURCE_READY, "SourceReady", "The virtual machine will be named %s; %s",
			s->status->imported_virtual_machine_name,
			is_package(s->import->spec.source_cluster.kind) ? "its disks are fetched next"
									: "its shutdown and export come next");
	}
	return 0;
}
