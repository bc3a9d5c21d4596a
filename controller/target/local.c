/* The target without a cluster: a directory. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "target/mapping.h"
#include "target/target.h"
#include "target/vmspec.h"
#include "json/yaml.h"

struct local {
	struct target target;
	char *directory;
};

static int local_preflight(struct target *target, const struct target_import *t, const struct vm_model *model, json_t *problems,
			   struct error **err)
{
	(void)target;
	(void)err;
	mapping_check(t, model, problems);
	return 0;
}

static int local_submit_disk(struct target *target, const struct target_import *t, const struct target_disk *disk, char **image,
			     struct error **err)
{
	(void)target;
	(void)t;
	*image = strdup(disk->name);
	return *image ? 0 : error_set_errno(err, ENOMEM, "cannot name the image");
}

static int local_disk_state(struct target *target, const struct target_import *t, const struct target_disk *disk,
			    struct target_progress *out, struct error **err)
{
	struct stat st;

	(void)target;
	(void)t;
	(void)err;
	*out = (struct target_progress){ .state = TARGET_READY, .percent = 100 };
	if (stat(disk->path, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != disk->capacity) {
		out->state = TARGET_FAILED;
		if (asprintf(&out->message, "%s is not there in its full length", disk->path) < 0)
			out->message = NULL;
	}
	return 0;
}

static int local_delete_disk(struct target *target, const struct target_import *t, const struct target_disk *disk, struct error **err)
{
	(void)target;
	(void)t;
	(void)disk;
	(void)err;
	return 0; /* the file is what was fetched; it is checked anew */
}

/* Written beside and moved over, so that there is never half a manifest. */
static int write_file(const char *path, const char *text, struct error **err)
{
	AUTO_FREE char *new = NULL;
	AUTO_FILE FILE *f = NULL;
	int why;

	if (asprintf(&new, "%s.new", path) < 0) {
		new = NULL;
		return error_set_errno(err, ENOMEM, "cannot write %s", path);
	}
	f = fopen(new, "we");
	if (f && fputs(text, f) >= 0 && fflush(f) == 0 && fsync(fileno(f)) == 0 && rename(new, path) == 0)
		return 0;
	why = errno;
	if (f)
		unlink(new);
	return error_set_errno(err, why, "cannot write %s", path);
}

static int local_create_vm(struct target *target, const struct target_import *t, const struct vm_model *model,
			   const struct target_disk *disks, size_t count, struct error **err)
{
	const struct local *l = (const struct local *)target;
	AUTO_JSON json_t *vm = vmspec_build(t, model, disks, count, true, err);
	AUTO_FREE char *text = vm ? yaml_dump(vm, err) : NULL, *directory = NULL, *path = NULL;

	if (!text)
		return -1;
	if (asprintf(&directory, "%s/%s", l->directory, t->vm_name) < 0)
		directory = NULL;
	if (!directory || asprintf(&path, "%s/virtualmachine.yaml", directory) < 0) {
		path = NULL;
		return error_set_errno(err, ENOMEM, "cannot write the manifest");
	}
	if (mkdir(directory, 0755) < 0 && errno != EEXIST)
		return error_set_errno(err, errno, "cannot create the directory %s", directory);
	return write_file(path, text, err);
}

static int local_vm_state(struct target *target, const struct target_import *t, struct target_progress *out, struct error **err)
{
	(void)target;
	(void)t;
	(void)err;
	*out = (struct target_progress){ .state = TARGET_READY, .percent = 100 };
	return 0;
}

static int local_release(struct target *target, const struct target_import *t, struct error **err)
{
	(void)target;
	(void)t;
	(void)err;
	return 0;
}

static void local_free(struct target *target)
{
	struct local *l = (struct local *)target;

	free(l->directory);
	free(l);
}

struct target *target_local_new(const char *directory, struct error **err)
{
	static const struct target_ops ops = {
		.preflight = local_preflight,
		.submit_disk = local_submit_disk,
		.disk_state = local_disk_state,
		.delete_disk = local_delete_disk,
		.create_vm = local_create_vm,
		.vm_state = local_vm_state,
		.release = local_release,
		.free = local_free,
	};
	struct local *l = calloc(1, sizeof *l);

	if (l)
		l->directory = strdup(directory);
	if (!l || !l->directory) {
		free(l);
		error_set_errno(err, ENOMEM, "cannot use the directory %s", directory);
		return NULL;
	}
	l->target.ops = &ops;
	return &l->target;
}
