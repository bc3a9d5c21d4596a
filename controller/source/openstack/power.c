#include "source/openstack/power.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "source/openstack/answer.h"
#include "source/openstack/model.h"
#include "source/openstack/poll.h"
#include "source/openstack/server.h"
#include "json/codec.h"

/* 0 as well when the server is in that state already, or on its way. */
static int act(struct openstack_session *s, const struct vm_model *m, const char *action, struct error **err)
{
	AUTO_JSON json_t *body = json_pack("{s:n}", action);
	AUTO_FREE char *path = NULL;
	AUTO_ERROR struct error *failed = NULL;
	bool unknown;

	if (!body || asprintf(&path, "/servers/%s/action", m->source_id) < 0) {
		path = NULL;
		return error_set_errno(err, ENOMEM, "cannot make the request");
	}
	struct openstack_deed deed = { .service = OPENSTACK_COMPUTE, .method = "POST", .path = path, .body = body };
	if (openstack_do(s, &deed, NULL, &unknown, &failed) == 0)
		return 0;
	if (failed->code == 409) {
		/* "while it is in vm_state stopped", "while it is in task_state powering-off"; a locked one says so. */
		snprintf(failed->reason, sizeof failed->reason, "%s", strstr(failed->message, "locked") ? "Locked" : "InvalidPowerState");
		if (!strcmp(failed->reason, "Locked"))
			failed->class = ERROR_PERMANENT;
	}
	error_wrap(&failed, "%s of %s", action, m->path);
	return error_move(err, move_ptr(failed));
}

int openstack_shutdown(struct openstack_session *s, const struct vm_model *m, struct error **err)
{
	return act(s, m, "os-stop", err);
}

/* Follows the server until its power is as wanted, and does once what leads there. */
static int bring(struct openstack_session *s, const struct vm_model *m, enum vm_power wanted, struct cancel *cancel, struct error **err)
{
	struct poll poll = poll_start(s);
	const char *last = NULL;

	for (;;) {
		AUTO_JSON json_t *server = NULL;
		AUTO_ERROR struct error *failed = NULL;
		const char *action = NULL, *status, *task;
		enum vm_power power;

		server = openstack_server(s, m->source_id, cancel, err);
		if (!server)
			return -1;
		power = openstack_power(server);
		status = answer_text(server, "status");
		task = answer_text(server, "OS-EXT-STS:task_state");
		if (power == wanted && !task)
			return 0;
		if (power == VM_POWER_SUSPENDED)
			action = status && !strcmp(status, "PAUSED") ? "unpause" : "resume";
		else if (power != wanted)
			action = wanted == VM_POWER_OFF ? "os-stop" : "os-start";
		if (action && !task && (!last || strcmp(last, action))) {
			if (act(s, m, action, &failed) < 0 && strcmp(failed->reason, "InvalidPowerState"))
				return error_move(err, move_ptr(failed));
			last = failed ? last : action; /* one that came at the wrong moment is done again */
		}
		if (poll_wait(&poll, cancel, err) < 0)
			return error_wrap(err, "%s is %s%s%s", m->path, answer_shown(status ? status : "in no state").text,
					  task ? ", " : "", answer_shown(task).text);
	}
}

int openstack_power_off(struct openstack_session *s, const struct vm_model *m, struct cancel *cancel, struct error **err)
{
	return bring(s, m, VM_POWER_OFF, cancel, err);
}

int openstack_power_on(struct openstack_session *s, const struct vm_model *m, struct cancel *cancel, struct error **err)
{
	return bring(s, m, VM_POWER_ON, cancel, err);
}
