#include "source/vmware/power.h"

#include <string.h>

#include "source/vmware/model.h"
#include "source/vmware/property.h"
#include "source/vmware/wait.h"

#define TASK_MS 300000 /* vSphere's own patience with a host is less */

static struct vmware_ref ref_of(const struct vm_model *model)
{
	return (struct vmware_ref){ "VirtualMachine", model->source_id };
}

int vmware_power_state(struct vmware_session *s, const struct vm_model *model, enum vm_power *out, struct cancel *cancel,
		       struct error **err)
{
	static const char *const paths[] = { "runtime.powerState", NULL };
	xmlNode *o = NULL;
	AUTO_XML xmlDoc *doc = vmware_properties(s, ref_of(model), paths, &o, cancel, err);
	AUTO_FREE char *state = xml_text(vmware_property(o, "runtime.powerState"));

	if (!doc)
		return -1;
	*out = vmware_power_of(state);
	return 0;
}

int vmware_shutdown_guest(struct vmware_session *s, const struct vm_model *model, struct cancel *cancel, struct error **err)
{
	xmlNode *result;
	AUTO_XML xmlDoc *doc = NULL;
	AUTO_ERROR struct error *failed = NULL;

	doc = vmware_call(s, "ShutdownGuest", ref_of(model), "", &result, cancel, &failed);
	if (doc)
		return 0;
	if (!strcmp(failed->reason, "ToolsUnavailable"))
		return error_set(
			err, ERROR_PERMANENT, "ToolsUnavailable",
			"VMware Tools do not run in %s, so its guest cannot be asked to shut down; set spec.forcePowerOff: true, or shut it down "
			"yourself",
			model->name);
	error_wrap(&failed, "cannot shut down the guest of %s", model->name);
	return error_move(err, move_ptr(failed));
}

/* Why the task failed. */
static int task_error(struct vmware_session *s, struct vmware_ref task, struct cancel *cancel, struct error **err)
{
	static const char *const paths[] = { "info.error", NULL };
	xmlNode *o = NULL;
	AUTO_XML xmlDoc *doc = vmware_properties(s, task, paths, &o, cancel, err);
	AUTO_FREE char *text = NULL, *type = NULL;
	const xmlNode *fault;

	if (!doc)
		return -1;
	fault = vmware_property(o, "info.error");
	text = xml_path_text(fault, "localizedMessage");
	type = xml_type(xml_child(fault, "fault"));
	if (text)
		soap_shorten(text, 600);
	return error_set(err, soap_fault_class(type ? type : ""), soap_fault_reason(type, "TaskFailed"), "the task failed: %s (%s)",
			 text && *text ? text : "no reason given", soap_fault_reason(type, "TaskFailed"));
}

static int wait_task(struct vmware_session *s, const xmlNode *result, struct cancel *cancel, struct error **err)
{
	static const char *const ends[] = { "success", "error", NULL };
	AUTO_FREE char *id = xml_path_text(result, "returnval");
	struct vmware_ref task = { "Task", id };
	size_t end = 0;

	if (!id)
		return error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the server named no task");
	if (vmware_wait_property(s, task, "info.state", ends, TASK_MS, &end, cancel, err) < 0)
		return -1;
	return end ? task_error(s, task, cancel, err) : 0;
}

static int power_task(struct vmware_session *s, const char *method, const struct vm_model *model, struct cancel *cancel, struct error **err)
{
	xmlNode *result = NULL;
	AUTO_XML xmlDoc *doc = NULL;
	AUTO_ERROR struct error *failed = NULL;

	doc = vmware_call(s, method, ref_of(model), "", &result, cancel, &failed);
	if (doc && wait_task(s, result, cancel, &failed) == 0)
		return 0;
	if (!strcmp(failed->reason, "InvalidPowerState"))
		return 0; /* it is so already */
	return error_move(err, move_ptr(failed));
}

int vmware_power_off(struct vmware_session *s, const struct vm_model *model, struct cancel *cancel, struct error **err)
{
	return power_task(s, "PowerOffVM_Task", model, cancel, err);
}

int vmware_power_on(struct vmware_session *s, const struct vm_model *model, struct cancel *cancel, struct error **err)
{
	return power_task(s, "PowerOnVM_Task", model, cancel, err);
}
