/* States disksExported to diskImageFailed: every disk becomes an image of the target. */
#include <errno.h>
#include <string.h>

#include "api/conditions.h"
#include "base/backoff.h"
#include "reconcile/context.h"
#include "transfer/journal.h"

#define IMAGE_TRIES 5
#define TRANSFER_PERCENT 80
#define IMAGES_PERCENT 17 /* of the whole import's progress */

static void set(struct vmimport_disk *disk, const char *type, const char *status, const char *reason, const char *message)
{
	condition_set(&disk->conditions, &disk->condition_count, type, status, reason, message, true);
}

static bool has(const struct vmimport_disk *disk, const char *type)
{
	return condition_is_true(disk->conditions, disk->condition_count, type);
}

static bool is_submitted(const struct vmimport_disk *disk)
{
	return disk->image && *disk->image && has(disk, "VirtualMachineImageSubmitted");
}

/* Whether what is still to be submitted is in the scratch space. It is not where Harvester's controller fetched it (which notes nothing of
 * whether its files are whole), nor where the space is a new one. */
static bool disks_are_here(const struct step *s)
{
	AUTO_FREE char *directory = step_directory(s);
	AUTO_VM_MODEL struct vm_model *model = directory ? journal_load_model(directory) : NULL;
	struct disk_result result;

	for (size_t i = 0; i < s->status->disk_count; i++)
		if (!is_submitted(&s->status->disks[i]) &&
		    (!model || i >= model->disk_count || !journal_find(directory, i, model, &result)))
			return false;
	return true;
}

/* Back to the export: it finds anew what the disks are. Their images go, for they were made of other files. */
static int fetch_again(struct step *s, struct target_disk *disks, struct error **err)
{
	struct target *target = s->r->options.target;
	struct target_import import = step_target_import(s);

	for (size_t i = 0; i < s->status->disk_count; i++)
		if (target->ops->delete_disk(target, &import, &disks[i], err) < 0)
			return -1;
	condition_set(&s->status->import_conditions, &s->status->import_condition_count, "VMExported", "False", "DisksMissing",
		      "the disks are not in the scratch space", true);
	step_go(s, STATE_SOURCE_READY, "DisksMissing",
		"The disks of this import are not in the scratch space: they were fetched by another controller, or the space is a new one. They "
		"are fetched again");
	return 0;
}

int step_disks_exported(struct step *s, struct error **err)
{
	struct target *target = s->r->options.target;
	struct target_import import = step_target_import(s);
	struct target_disk *disks = step_disks(s, err);
	int result = disks ? 0 : -1;

	if (result == 0 && !disks_are_here(s)) {
		result = fetch_again(s, disks, err);
		step_disks_free(disks, s->status->disk_count);
		if (result == 0)
			vmimport_clear_disks(s->status);
		return result;
	}
	for (size_t i = 0; result == 0 && i < s->status->disk_count; i++) {
		struct vmimport_disk *disk = &s->status->disks[i];
		char *image = NULL;

		if (is_submitted(disk))
			continue;
		result = target->ops->submit_disk(target, &import, &disks[i], &image, err);
		if (result < 0) {
			error_wrap(err, "cannot submit the image of %s", disk->disk_name);
			break;
		}
		free(disk->image);
		disk->image = image;
		set(disk, "VirtualMachineImageSubmitted", "True", "Submitted", image);
		if (condition_find(disk->conditions, disk->condition_count, "VirtualMachineImageFailed"))
			set(disk, "VirtualMachineImageFailed", "False", "Submitted", "submitted again");
	}
	step_disks_free(disks, s->status->disk_count);
	if (result == 0)
		step_go(s, STATE_IMAGE_SUBMITTED, "ImagesSubmitted",
			s->r->options.keep_disks ? "The disks are here (%zu in all); what describes the machine is written next"
						 : "The images of %zu disks are being imported by the cluster",
			s->status->disk_count);
	return result;
}

int step_image_submitted(struct step *s, struct error **err)
{
	struct target *target = s->r->options.target;
	struct target_import import = step_target_import(s);
	struct target_disk *disks = step_disks(s, err);
	size_t ready = 0, failed = 0;
	unsigned percent = 0;
	AUTO_FREE char *why = NULL;
	int result = disks ? 0 : -1;

	for (size_t i = 0; result == 0 && i < s->status->disk_count; i++) {
		struct vmimport_disk *disk = &s->status->disks[i];
		struct target_progress progress = { .state = TARGET_PENDING };

		if (has(disk, "VirtualMachineImageReady")) {
			ready++;
			percent += 100;
			continue;
		}
		result = target->ops->disk_state(target, &import, &disks[i], &progress, err);
		if (result < 0)
			break;
		percent += progress.state == TARGET_READY ? 100 : progress.percent < 100 ? progress.percent : 99;
		if (progress.state == TARGET_READY) {
			ready++;
			set(disk, "VirtualMachineImageReady", "True", "Imported", disk->image);
		} else if (progress.state == TARGET_FAILED) {
			failed++;
			set(disk, "VirtualMachineImageFailed", "True", "ImportFailed",
			    progress.message ? progress.message : "the image failed");
			if (!why && asprintf(&why, "image %s of %s: %s", disk->image, disk->disk_name,
					     progress.message ? progress.message : "failed") < 0)
				why = NULL;
		}
		free(progress.message);
	}
	step_disks_free(disks, s->status->disk_count);
	if (result < 0)
		return -1;
	if (s->status->disk_count)
		step_progress(s, TRANSFER_PERCENT + (int64_t)percent * IMAGES_PERCENT / (100 * (int64_t)s->status->disk_count));
	if (failed) {
		step_fail(s, STATE_IMAGE_FAILED, "ImageFailed", "The cluster could not import %s", why ? why : "an image");
	} else if (ready == s->status->disk_count) {
		step_go(s, STATE_IMAGES_READY, "ImagesReady", "All %zu images are imported", ready);
	} else {
		step_say(s, "The cluster imports the images: %zu of %zu are ready", ready, s->status->disk_count);
		s->again_ms = 30000; /* their changes wake us sooner */
	}
	return 0;
}

int step_image_failed(struct step *s, struct error **err)
{
	struct target *target = s->r->options.target;
	struct target_import import = step_target_import(s);
	struct target_disk *disks = step_disks(s, err);
	AUTO_FREE char *key = NULL, *message = NULL;
	int result = disks ? 0 : -1;

	if (asprintf(&key, "%s image", s->key) < 0)
		key = NULL;
	for (size_t i = 0; result == 0 && i < s->status->disk_count; i++) {
		struct vmimport_disk *disk = &s->status->disks[i];
		const struct api_condition *failed = condition_find(disk->conditions, disk->condition_count, "VirtualMachineImageFailed");

		if (!failed || !has(disk, "VirtualMachineImageFailed"))
			continue;
		if (!message && failed->message)
			message = strdup(failed->message);
		result = target->ops->delete_disk(target, &import, &disks[i], err);
		if (result < 0)
			break;
		free(disk->image);
		disk->image = NULL;
		set(disk, "VirtualMachineImageSubmitted", "False", "Deleted", "the failed image was deleted");
	}
	step_disks_free(disks, s->status->disk_count);
	if (result < 0)
		return -1;
	unsigned tries = key ? attempts_add(s->r->attempts, key) : 1;
	if (tries >= IMAGE_TRIES) {
		attempts_reset(s->r->attempts, key);
		step_fail(s, STATE_FAILED, "ImageFailed", "The cluster could not import an image in %u tries, the last time because of: %s",
			  tries, message ? message : "an unknown reason");
		return 0;
	}
	step_go(s, STATE_DISKS_EXPORTED, "ImageRetried", "A failed image was deleted and is submitted again (try %u of %u)", tries + 1,
		IMAGE_TRIES);
	return 0;
}
