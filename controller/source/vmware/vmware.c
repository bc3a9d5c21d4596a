/* The provider "VmwareSource": vCenter and ESXi. */
#include "source/vmware/vmware.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "source/vmware/check.h"
#include "source/vmware/export.h"
#include "source/vmware/folder.h"
#include "source/vmware/inventory.h"
#include "source/vmware/lease.h"
#include "source/vmware/model.h"
#include "source/vmware/power.h"
#include "source/vmware/watch.h"
#include "json/codec.h"

#define SAMPLE_LASTS_MS (10 * 60 * 1000)

struct vmware {
	struct source source;
	struct vmware_session *session;
	struct vmware_watches *watches;
	char *dc;
	pthread_mutex_t lock; /* guards what follows: what was found last */
	char *dc_path, *vm_folder;
	json_t *found;          /* "folder\nname" -> [reference, path] */
	uint64_t rate, sampled; /* bytes a second, and when that was found; monotonic milliseconds */
	struct vmware_listing listing;
};

static struct vmware *self(struct source *source)
{
	return (struct vmware *)source;
}

static void close_source(struct source *source)
{
	struct vmware *v = self(source);

	vmware_watches_free(v->watches);
	vmware_session_close(v->session);
	json_decref(v->found);
	free(v->dc);
	free(v->dc_path);
	free(v->vm_folder);
	pthread_mutex_destroy(&v->lock);
	vmware_listing_clear(&v->listing);
	free(v);
}

/* The fingerprint that the source's status keeps of this endpoint. */
static const char *pinned(const json_t *object, const char *endpoint)
{
	const char *of = json_path_string(object, "status.certificate.endpoint");

	return of && endpoint && !strcmp(of, endpoint) ? json_path_string(object, "status.certificate.fingerprint") : NULL;
}

static struct source *open_source(const json_t *object, const json_t *secret, const struct source_options *options, struct cancel *cancel,
				  struct error **err)
{
	const char *endpoint = json_path_string(object, "spec.endpoint"), *dc = json_path_string(object, "spec.dc");
	struct vmware *v = calloc(1, sizeof *v);

	(void)options;
	if (!v) {
		error_set_errno(err, ENOMEM, "cannot open a session");
		return NULL;
	}
	v->source.ops = &vmware_source_ops;
	pthread_mutex_init(&v->lock, NULL);
	vmware_listing_init(&v->listing);
	v->dc = strdup(dc ? dc : "");
	v->found = json_object();
	if (!v->dc || !v->found)
		error_set_errno(err, ENOMEM, "cannot open a session");
	else
		v->session = vmware_session_open(endpoint ? endpoint : "", secret, pinned(object, endpoint), cancel, err);
	v->watches = v->session ? vmware_watches_new(v->session) : NULL;
	if (!v->watches) {
		if (v->session)
			error_set_errno(err, ENOMEM, "cannot open a session");
		close_source(&v->source);
		return NULL;
	}
	return &v->source;
}

static char *certificate(struct source *source)
{
	return vmware_session_pin(self(source)->session);
}

static int find_datacenter(struct vmware *v, bool again, char **path, char **folder, struct cancel *cancel, struct error **err)
{
	AUTO_FREE char *found_path = NULL, *found_folder = NULL;

	{
		LOCK_GUARD(&v->lock);
		if (v->dc_path && !again) {
			found_path = strdup(v->dc_path);
			found_folder = strdup(v->vm_folder);
		}
	}
	if (!found_path || !found_folder) {
		free(move_ptr(found_path));
		free(move_ptr(found_folder));
		if (vmware_find_datacenter(v->session, v->dc, &found_path, &found_folder, cancel, err) < 0)
			return -1;
		LOCK_GUARD(&v->lock);
		free(v->dc_path);
		free(v->vm_folder);
		v->dc_path = strdup(found_path);
		v->vm_folder = v->dc_path ? strdup(found_folder) : NULL;
		if (!v->vm_folder)
			free(move_ptr(v->dc_path));
	}
	*path = move_ptr(found_path);
	*folder = move_ptr(found_folder);
	return 0;
}

static int verify(struct source *source, struct cancel *cancel, struct error **err)
{
	AUTO_FREE char *path = NULL, *folder = NULL;

	return find_datacenter(self(source), true, &path, &folder, cancel, err);
}

/* Where the machine was when it was looked for last; owned by the caller. */
static bool remembered(struct vmware *v, const char *key, char **ref, char **path)
{
	LOCK_GUARD(&v->lock);
	const json_t *pair = json_object_get(v->found, key);

	if (!pair)
		return false;
	*ref = strdup(json_string_value(json_array_get(pair, 0)));
	*path = strdup(json_string_value(json_array_get(pair, 1)));
	return *ref && *path;
}

static void remember(struct vmware *v, const char *key, const char *ref, const char *path)
{
	LOCK_GUARD(&v->lock);
	if (ref)
		json_object_set_new(v->found, key, json_pack("[s, s]", ref, path));
	else
		json_object_del(v->found, key);
}

static struct vm_model *describe(struct source *source, const struct source_vm_name *name, struct cancel *cancel, struct error **err)
{
	struct vmware *v = self(source);
	AUTO_FREE char *key = NULL, *ref = NULL, *path = NULL, *dc_path = NULL, *folder = NULL;

	if (!name->name || !*name->name) {
		error_set(err, ERROR_PERMANENT, "VirtualMachineNotFound", "spec.virtualMachineName is empty; name the virtual machine");
		return NULL;
	}
	if (asprintf(&key, "%s\n%s", name->folder ? name->folder : "", name->name) < 0) {
		key = NULL;
		error_set_errno(err, ENOMEM, "cannot describe the machine");
		return NULL;
	}
	if (remembered(v, key, &ref, &path)) {
		AUTO_VM_MODEL struct vm_model *model = vmware_describe(v->session, ref, path, cancel, NULL);
		const char *last = strrchr(path, '/');

		if (model && last && !strcmp(last + 1, model->name)) /* what was found by its id is that whatever its name is */
			return move_ptr(model);
		remember(v, key, NULL, NULL); /* renamed, removed, or it failed: look again, with an error to tell */
		free(move_ptr(ref));
		free(move_ptr(path));
	}
	if (find_datacenter(v, false, &dc_path, &folder, cancel, err) < 0)
		return NULL;
	for (unsigned attempt = 1;; attempt++) {
		AUTO_ERROR struct error *failed = NULL;
		struct vm_model *model = NULL;

		if (vmware_find_vm(v->session, dc_path, folder, name, &v->listing, &ref, &path, cancel, err) < 0)
			return NULL;
		model = vmware_describe(v->session, ref, path, cancel, &failed);
		if (model) {
			remember(v, key, ref, path);
			return model;
		}
		if (failed->class != ERROR_NOT_FOUND || attempt > 1) {
			error_move(err, move_ptr(failed));
			return NULL;
		}
		vmware_listing_forget(&v->listing); /* it was there some seconds ago */
		free(move_ptr(ref));
		free(move_ptr(path));
	}
}

static int preflight(struct source *source, const struct vm_model *model, json_t *problems, struct cancel *cancel, struct error **err)
{
	return vmware_check(self(source)->session, model, problems, cancel, err);
}

static int networks(struct source *source, struct vm_model *model, struct cancel *cancel, struct error **err)
{
	struct vmware *v = self(source);
	AUTO_FREE char *path = NULL, *folder = NULL;

	if (find_datacenter(v, false, &path, &folder, cancel, err) < 0)
		return -1;
	return vmware_list_networks(v->session, folder, model, cancel, err);
}

static int power_state(struct source *source, const struct vm_model *model, enum vm_power *out, struct cancel *cancel, struct error **err)
{
	return vmware_power_state(self(source)->session, model, out, cancel, err);
}

static int shutdown_guest(struct source *source, const struct vm_model *model, struct cancel *cancel, struct error **err)
{
	return vmware_shutdown_guest(self(source)->session, model, cancel, err);
}

static bool watch_power(struct source *source, const struct vm_model *model, unsigned within_ms, void (*wake)(void *arg, const char *key),
			void *arg, const char *key)
{
	return vmware_watches_add(self(source)->watches, model->source_id, within_ms, wake, arg, key);
}

static int power_off(struct source *source, const struct vm_model *model, struct cancel *cancel, struct error **err)
{
	return vmware_power_off(self(source)->session, model, cancel, err);
}

static int power_on(struct source *source, const struct vm_model *model, struct cancel *cancel, struct error **err)
{
	return vmware_power_on(self(source)->session, model, cancel, err);
}

static struct source_export *export_begin(struct source *source, const struct vm_model *model, source_ledger ledger, void *arg,
					  struct cancel *cancel, struct error **err)
{
	struct vmware *v = self(source);
	AUTO_FREE char *path = NULL, *folder = NULL;

	if (find_datacenter(v, false, &path, &folder, cancel, err) < 0)
		return NULL;
	return vmware_export_begin(v->session, source->ops, path, model, ledger, arg, cancel, err);
}

/* One machine's rate is the other's for a while. */
static int sample(struct source *source, const struct vm_model *model, uint64_t *rate, struct cancel *cancel, struct error **err)
{
	struct vmware *v = self(source);
	AUTO_FREE char *path = NULL, *vm_folder = NULL;
	struct folder *folder;
	int result;

	{
		LOCK_GUARD(&v->lock);
		if (v->rate && clock_monotonic_ms() - v->sampled < SAMPLE_LASTS_MS) {
			*rate = v->rate;
			return 0;
		}
	}
	if (model->power != VM_POWER_OFF)
		return error_set(err, ERROR_TRANSIENT, "NoSample", "%s is not off, and until then the files of its disks are locked",
				 model->name);
	if (find_datacenter(v, false, &path, &vm_folder, cancel, err) < 0 || !(folder = folder_open(v->session, path, model, cancel, err)))
		return -1;
	result = folder_sample(folder, rate, cancel, err);
	folder_free(folder);
	LOCK_GUARD(&v->lock);
	if (result == 0) {
		v->rate = *rate;
		v->sampled = clock_monotonic_ms();
	}
	return result;
}

static char *session_id(struct source *source)
{
	return vmware_session_key(self(source)->session);
}

static int cleanup(struct source *source, const char *kind, const char *id, struct cancel *cancel, struct error **err)
{
	if (!strcmp(kind, LEASE_LEDGER_KIND))
		return lease_cleanup(self(source)->session, id, cancel, err);
	if (!strcmp(kind, "Session"))
		return lease_end_session(self(source)->session, id, cancel, err) < 0 ? -1 : 0;
	return 0;
}

static const char *const secret_keys[] = { "username", "password", "caCert", "thumbprint", "insecure", NULL };

const struct source_ops vmware_source_ops = {
	.kind = "VmwareSource",
	.secret_keys = secret_keys,
	.open = open_source,
	.close = close_source,
	.session_id = session_id,
	.verify = verify,
	.certificate = certificate,
	.describe = describe,
	.preflight = preflight,
	.sample = sample,
	.networks = networks,
	.power_state = power_state,
	.shutdown_guest = shutdown_guest,
	.watch_power = watch_power,
	.power_off = power_off,
	.power_on = power_on,
	.export_begin = export_begin,
	.export_stream = vmware_export_stream,
	.export_open = vmware_export_open,
	.export_resume = vmware_export_resume,
	.export_note = vmware_export_note,
	.export_nvram = vmware_export_nvram,
	.export_progress = vmware_export_progress,
	.export_end = vmware_export_end,
	.cleanup = cleanup,
};
