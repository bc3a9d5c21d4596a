#include "cmd/crds.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/resources.h"
#include "base/clock.h"
#include "base/log.h"
#include "cmd/crds_embedded.h"
#include "store/kube/kube.h"
#include "json/codec.h"
#include "json/yaml.h"

#define SERVED_MS 20000
#define ASK_MS 200

json_t *crds_load(struct error **err)
{
	AUTO_JSON json_t *all = json_array();

	for (size_t i = 0; all && i < sizeof crds_embedded / sizeof *crds_embedded; i++) {
		AUTO_JSON json_t *documents = yaml_load(crds_embedded[i].text, crds_embedded[i].len, crds_embedded[i].name, err);

		if (!documents)
			return NULL;
		json_array_extend(all, documents);
	}
	if (!all)
		error_set_errno(err, ENOMEM, "cannot read the definitions");
	return move_ptr(all);
}

long crds_revision(const json_t *crd)
{
	/* Not json_path: the annotation's name has dots. */
	const char *text = json_string_value(json_object_get(json_path(crd, "metadata.annotations"), CRDS_ANNOTATION_REVISION));
	char *end;
	long number = text && *text ? strtol(text, &end, 10) : 0;

	return number > 0 && !*end ? number : 0;
}

static bool is_served(const json_t *crd)
{
	const json_t *condition;
	size_t i;

	json_array_foreach (json_path(crd, "status.conditions"), i, condition) {
		const char *type = json_path_string(condition, "type"), *status = json_path_string(condition, "status");

		if (type && status && !strcmp(type, "Established"))
			return !strcmp(status, "True");
	}
	return false;
}

static bool is_denied(const struct error *err)
{
	return err->code == 403;
}

static int wait_served(struct store *store, struct cancel *cancel, const char *name, struct error **err)
{
	uint64_t end = clock_monotonic_ms() + SERVED_MS;

	for (;;) {
		AUTO_JSON json_t *now = store_get(store, &api_crds, NULL, name, err);

		if (!now)
			return -1;
		if (is_served(now))
			return 0;
		if (clock_monotonic_ms() >= end)
			return error_set(err, ERROR_TRANSIENT, "NotEstablished", "the cluster does not serve %s yet", name);
		if (cancel_wait(cancel, ASK_MS))
			return cancel_check(cancel, err);
	}
}

/* What is there although it may not be read or made: somebody else has to bring it up to date. */
static int accept_denied(struct store *store, const json_t *crd, struct error *denied, struct error **err)
{
	struct resource res = { json_path_string(crd, "spec.group"),        "v1beta1", json_path_string(crd, "spec.names.kind"),
				json_path_string(crd, "spec.names.plural"), true,      true };
	const char *name = json_path_string(crd, "metadata.name");
	int served = kube_store_serves(store, &res, err);

	if (served < 0)
		return -1;
	if (!served)
		return error_set(err, ERROR_PERMANENT, "DefinitionMissing",
				 "the cluster has no %s, and this program may not make it; kubectl apply -f crds/ (%s)", name,
				 error_message(denied));
	log_write(LOG_WARNING, "a definition is left as the cluster has it, for its rights do not allow more", "definition", name, NULL);
	return 0;
}

static int apply_one(struct store *store, struct cancel *cancel, const json_t *crd, struct error **err)
{
	const char *name = json_path_string(crd, "metadata.name");
	AUTO_ERROR struct error *failed = NULL, *refused = NULL;
	AUTO_JSON json_t *have = store_get(store, &api_crds, NULL, name, &failed);
	char ours[24], theirs[24];

	if (!have && is_denied(failed))
		return accept_denied(store, crd, failed, err);
	if (!have && failed->class != ERROR_NOT_FOUND)
		return error_move(err, move_ptr(failed));
	snprintf(ours, sizeof ours, "%ld", crds_revision(crd));
	snprintf(theirs, sizeof theirs, "%ld", crds_revision(have));
	if (have && crds_revision(have) > crds_revision(crd)) {
		log_write(LOG_INFO, "the cluster's definition is newer than this program's and is kept", "definition", name, "revision",
			  theirs, "ours", ours, NULL);
		return 0;
	}
	if (kube_store_apply(store, &api_crds, crd, "vm-import-controller", &refused) < 0) {
		if (is_denied(refused))
			return accept_denied(store, crd, refused, err);
		return error_move(err, move_ptr(refused));
	}
	if (!have || crds_revision(have) != crds_revision(crd))
		log_write(LOG_INFO, have ? "definition brought up to date" : "definition made", "definition", name, "revision", ours, NULL);
	return wait_served(store, cancel, name, err);
}

int crds_apply(struct store *store, struct cancel *cancel, struct error **err)
{
	AUTO_JSON json_t *crds = crds_load(err);
	const json_t *crd;
	size_t i;

	if (!crds)
		return -1;
	json_array_foreach (crds, i, crd)
		if (apply_one(store, cancel, crd, err) < 0)
			return error_wrap(err, "cannot bring the definition %s up to date", json_path_string(crd, "metadata.name"));
	return 0;
}
