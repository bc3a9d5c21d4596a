/* A support bundle: what somebody who helps wants to see of an installation, in a tar archive, without secrets. */
#pragma once

#include "base/error.h"
#include "store/store.h"

struct bundle_options {
	struct store *store; /* a store/kube */
	const char *ns;      /* where the controller runs */
	const char *version; /* of this program */
	const char *metrics; /* URL to read the metrics from; NULL: each pod's, through the API server */
	const char *path;    /* of the .tar.gz; "-" is standard output */
};

struct bundle_result {
	size_t files, missing; /* missing: could not be read; errors.txt in the archive says why */
};

/* Fails when the archive cannot be written, or when the cluster does not answer at all. */
int bundle_write(const struct bundle_options *options, struct bundle_result *result, struct error **err);
