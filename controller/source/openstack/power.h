/* Power of servers. Source: Compute API, POST /servers/{id}/action (os-stop, os-start, resume, unpause). */
#pragma once

#include "api/vm_model.h"
#include "source/openstack/session.h"

/* Asks the guest to shut down; Nova powers the server off when it has not done so in its own time (shutdown_timeout). */
int openstack_shutdown(struct openstack_session *s, const struct vm_model *m, struct error **err);
/* Off, whatever it is now, within the session's patience. A paused or suspended server goes on first, for Nova stops none that stands
 * still: its guest is asked to shut down, and nothing in its memory is lost. */
int openstack_power_off(struct openstack_session *s, const struct vm_model *m, struct cancel *cancel, struct error **err);
int openstack_power_on(struct openstack_session *s, const struct vm_model *m, struct cancel *cancel, struct error **err);
