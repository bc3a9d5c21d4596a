/* The power of a vSphere virtual machine: the callbacks of source_ops. */
#pragma once

#include "api/vm_model.h"
#include "source/vmware/session.h"

int vmware_power_state(struct vmware_session *s, const struct vm_model *model, enum vm_power *out, struct cancel *cancel,
		       struct error **err);
/* Asks the guest; permanent ToolsUnavailable when nobody there hears it. */
int vmware_shutdown_guest(struct vmware_session *s, const struct vm_model *model, struct cancel *cancel, struct error **err);
/* These wait until it is so; success also when it was so before. */
int vmware_power_off(struct vmware_session *s, const struct vm_model *model, struct cancel *cancel, struct error **err);
int vmware_power_on(struct vmware_session *s, const struct vm_model *model, struct cancel *cancel, struct error **err);
