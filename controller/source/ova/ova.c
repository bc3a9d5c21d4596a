/* The provider "OvaSource": OVF packages on web servers. A package has no power state: its machine is off. */
#include "source/ova/ova.h"

#include <errno.h>
#include <string.h>

#include "api/problem.h"
#include "base/buffer.h"
#include "source/ova/document.h"
#include "source/ova/estimate.h"
#include "source/ova/export.h"
#include "source/ova/package.h"

#define ABSENT_SHOWN 1000 /* bytes of the list of files that the manifest names in vain */

struct ova {
	struct source source;
	struct remote *remote;
};

static const struct remote *remote_of(struct source *source)
{
	return ((struct ova *)source)->remote;
}

static struct source *open_source(const json_t *object, const json_t *secret, const struct source_options *options, struct cancel *cancel,
				  struct error **err)
{
	struct ova *o = calloc(1, sizeof *o);

	(void)cancel;
	if (!o) {
		error_set_errno(err, ENOMEM, "cannot open the source");
		return NULL;
	}
	o->source.ops = &ova_source_ops;
	o->remote = remote_new(object, secret, options, err);
	if (o->remote)
		return &o->source;
	free(o);
	return NULL;
}

static void close_source(struct source *source)
{
	remote_free(((struct ova *)source)->remote);
	free(source);
}

static int verify(struct source *source, struct cancel *cancel, struct error **err)
{
	return remote_probe(remote_of(source), cancel, err);
}

/* What the manifest names and the package has not: perhaps it was taken out, perhaps it was never exported. */
static void note_absent(const struct package *p, struct vm_model *m)
{
	const struct ovf_manifest_entry *e;
	AUTO_BUFFER struct buffer names = { 0 };

	buffer_init(&names, ABSENT_SHOWN);
	for (size_t i = 0; (e = ovf_manifest_entry(p->manifest, i)); i++)
		if (!package_member(p, e->name))
			buffer_addf(&names, "%s%.200s", names.len ? ", " : "", e->name);
	if (names.len)
		ovf_note(m, "the manifest names what is not in the package: %s", names.data);
}

/* What the manifest says nothing about is told, for nobody can vouch for it. */
static void note_manifest(const struct package *p, struct vm_model *m)
{
	if (p->signature)
		ovf_note(m, "%s", p->signature);
	for (size_t i = 0; p->manifest && i < m->disk_count; i++) {
		const struct ovf_disk *disk = ovf_disk(p->ovf, m->disks[i].id);
		const struct ovf_file *file = disk && disk->file != OVF_NO_FILE ? ovf_file(p->ovf, disk->file) : NULL;
		AUTO_FREE char *name = file ? package_part_name(file, 0) : NULL;

		if (name && !ovf_manifest_find(p->manifest, name))
			ovf_note(m, "the manifest does not name %.200s, which is not verified", name);
	}
	if (p->complete && !p->beside)
		note_absent(p, m);
}

static struct vm_model *describe(struct source *source, const struct source_vm_name *name, struct cancel *cancel, struct error **err)
{
	const struct remote *remote = remote_of(source);
	AUTO_PACKAGE struct package *p = package_open(remote, cancel, err);
	AUTO_VM_MODEL struct vm_model *m = p ? ovf_model(p->ovf, name->name, err) : NULL;

	if (!m)
		return NULL;
	m->source_id = package_identity(p, cancel, err);
	if (!m->source_id)
		return NULL;
	m->path = remote_shown_url(remote_url(remote));
	if (!m->path) {
		error_set_errno(err, ENOMEM, "cannot describe the machine");
		return NULL;
	}
	note_manifest(p, m);
	return move_ptr(m);
}

static int preflight(struct source *source, const struct vm_model *m, json_t *problems, struct cancel *cancel, struct error **err)
{
	AUTO_PACKAGE struct package *p = package_open(remote_of(source), cancel, err);

	if (!p)
		return -1;
	if (!m->disk_count)
		problem_add(problems, "%s has no disks to import", m->name);
	for (size_t i = 0; i < m->disk_count; i++) {
		const struct ovf_disk *disk = ovf_disk(p->ovf, m->disks[i].id);
		AUTO_ERROR struct error *failed = NULL;

		if (!disk || disk->file == OVF_NO_FILE ||
		    (package_check_file(p, ovf_file(p->ovf, disk->file), &failed) == 0 &&
		     ova_check_capacity(p, disk, cancel, &failed) == 0))
			continue;
		if (failed->class == ERROR_TRANSIENT || failed->class == ERROR_CANCELLED)
			return error_move(err, move_ptr(failed));
		problem_add(problems, "%s", failed->message);
	}
	return 0;
}

static int load(struct source *source, const struct vm_model *m, struct source_load *out, struct cancel *cancel, struct error **err)
{
	AUTO_PACKAGE struct package *p = package_open(remote_of(source), cancel, err);

	return p ? ova_load(p, m, out, cancel, err) : -1;
}

static int sample(struct source *source, const struct vm_model *m, uint64_t *rate, struct cancel *cancel, struct error **err)
{
	AUTO_PACKAGE struct package *p = package_open(remote_of(source), cancel, err);

	return p ? ova_sample(p, m, rate, cancel, err) : -1;
}

static int power_state(struct source *source, const struct vm_model *m, enum vm_power *out, struct cancel *cancel, struct error **err)
{
	(void)source;
	(void)m;
	(void)cancel;
	(void)err;
	*out = VM_POWER_OFF;
	return 0;
}

static int no_power(struct source *source, const struct vm_model *m, struct cancel *cancel, struct error **err)
{
	(void)source;
	(void)m;
	(void)cancel;
	(void)err;
	return 0;
}

static struct source_export *export_begin(struct source *source, const struct vm_model *m, source_ledger ledger, void *ledger_arg,
					  struct cancel *cancel, struct error **err)
{
	(void)ledger;
	(void)ledger_arg;
	return ova_export_begin(source->ops, remote_of(source), m, cancel, err);
}

static int cleanup(struct source *source, const char *kind, const char *id, struct cancel *cancel, struct error **err)
{
	(void)source;
	(void)kind;
	(void)id;
	(void)cancel;
	(void)err;
	return 0;
}

static const char *const secret_keys[] = { "username", "password", "ca.crt", NULL };

const struct source_ops ova_source_ops = {
	.kind = "OvaSource",
	.secret_keys = secret_keys,
	.open = open_source,
	.close = close_source,
	.verify = verify,
	.describe = describe,
	.preflight = preflight,
	.load = load,
	.sample = sample,
	.power_state = power_state,
	.shutdown_guest = no_power,
	.power_off = no_power,
	.power_on = no_power,
	.export_begin = export_begin,
	.export_stream = ova_export_stream,
	.export_open = ova_export_open,
	.export_progress = ova_export_progress,
	.export_end = ova_export_end,
	.cleanup = cleanup,
};
