/* The daemon: the image server, the leader election, and while this process leads a term. */
#pragma once

#include <stdbool.h>

enum daemon_elect { ELECT_NO, ELECT_YES, ELECT_AUTO }; /* AUTO: where the cluster allows it */

struct daemon_options {
	const char *kubeconfig, *context, *scratch, *address;
	const char *certificate, *key; /* of the image server; NULL: HTTP */
	int port;
	unsigned workers, streams, host_streams, endpoint_streams; /* but for streams, 0: the default */
	bool allow_local_urls;
	enum daemon_elect elect;
	const char *lease_namespace, *lease_name; /* namespace NULL: $POD_NAMESPACE, else the kubeconfig's */
	unsigned lease_s, deadline_s, retry_s;    /* 0: leader/election.h */
};

/* Serves until a signal comes. Signals must be blocked. Logs what happens; returns the exit code. */
int daemon_run(const struct daemon_options *options);
