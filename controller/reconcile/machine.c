/* States diskImagesReady and virtualMachineCreated: claims, the machine, and waiting until it runs. */
#include <string.h>

#include "base/clock.h"
#include "reconcile/context.h"

#define CREATED_PERCENT 98

int step_images_ready(struct step *s, struct error **err)
{
	struct target *target = s->r->options.target;
	struct target_import import = step_target_import(s);
	AUTO_VM_MODEL struct vm_model *model = step_model(s, err);
	struct target_disk *disks;
	int result;

	if (!model)
		return error_wrap(err, "cannot describe the virtual machine");
	disks = step_disks(s, err);
	if (!disks)
		return -1;
	result = target->ops->create_vm(target, &import, model, disks, s->status->disk_count, err);
	step_disks_free(disks, s->status->disk_count);
	if (result < 0) {
		/* What we may not do somebody may still allow: that is waited for. */
		if (err && *err && (*err)->class == ERROR_PERMANENT && strcmp((*err)->reason, "Forbidden")) {
			step_fail(s, STATE_FAILED, (*err)->reason, "The virtual machine could not be created: %s", (*err)->message);
			error_free(move_ptr(*err));
			return 0;
		}
		return error_wrap(err, "cannot create the virtual machine %s", s->status->imported_virtual_machine_name);
	}
	free(s->status->new_virtual_machine);
	s->status->new_virtual_machine = strdup(s->status->imported_virtual_machine_name);
	step_progress(s, CREATED_PERCENT);
	step_go(s, STATE_VM_CREATED, "VirtualMachineCreated", "The virtual machine %s was created and starts",
		s->status->new_virtual_machine);
	return 0;
}

int step_vm_created(struct step *s, struct error **err)
{
	struct target *target = s->r->options.target;
	struct target_import import = step_target_import(s);
	struct target_progress progress = { .state = TARGET_PENDING };
	char now[CLOCK_RFC3339_SIZE];

	if (target->ops->vm_state(target, &import, &progress, err) < 0)
		return error_wrap(err, "cannot read the virtual machine %s", import.vm_name);
	AUTO_FREE char *message = progress.message;
	switch (progress.state) {
	case TARGET_READY:
		clock_rfc3339(now);
		free(s->status->completion_time);
		s->status->completion_time = strdup(now);
		step_progress(s, 100);
		step_go(s, STATE_RUNNING, "VirtualMachineRunning", "The virtual machine %s is imported", import.vm_name);
		break;
	case TARGET_FAILED:
		step_fail(s, STATE_FAILED, "VirtualMachineFailed", "The virtual machine %s does not start: %s", import.vm_name,
			  message ? message : "see its status");
		break;
	case TARGET_PENDING:
		step_say(s, "Waiting until the virtual machine %s runs%s%s", import.vm_name, message ? ": " : "", message ? message : "");
		s->again_ms = 30000; /* its change wakes us sooner */
		break;
	}
	return 0;
}
