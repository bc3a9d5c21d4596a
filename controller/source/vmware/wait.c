#include "source/vmware/wait.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

#define PIECE_SECONDS 30 /* the server answers at the latest after so long */
#define ANSWER_MS 30000  /* and then has so much time to do so */
#define DESTROY_MS 5000
#define RETRY_MS 200

/* A collector with one filter. */
struct wait {
	struct vmware_session *session;
	struct vmware_ref object;
	const char *property;
	char *collector, *version;
	unsigned logins; /* of the session that it belongs to */
};

static struct vmware_ref collector_of(const struct wait *w)
{
	return (struct vmware_ref){ "PropertyCollector", w->collector };
}

static void forget(struct wait *w)
{
	free(move_ptr(w->collector));
	free(move_ptr(w->version));
}

static void destroy(struct wait *w)
{
	if (w->collector && vmware_session_logins(w->session) == w->logins) {
		xmlNode *result;
		AUTO_XML xmlDoc *doc =
			vmware_call_within(w->session, DESTROY_MS, "DestroyPropertyCollector", collector_of(w), "", &result, NULL, NULL);

		(void)doc; /* else it goes with its session */
	}
	forget(w);
}

static int create(struct wait *w, struct cancel *cancel, struct error **err)
{
	struct vmware_ref main = { "PropertyCollector", vmware_session_content(w->session)->property_collector };
	CLEANUP(buffer_free) struct buffer filter = { 0 };
	xmlNode *result = NULL;

	w->logins = vmware_session_logins(w->session);
	AUTO_XML xmlDoc *created = vmware_call(w->session, "CreatePropertyCollector", main, "", &result, cancel, err);
	if (!created)
		return -1;
	w->collector = xml_path_text(result, "returnval");
	if (!w->collector)
		return error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the server made no property collector");
	buffer_init(&filter, 65536);
	buffer_addf(&filter, "<spec><propSet><type>%s</type><pathSet>%s</pathSet></propSet><objectSet><obj type=\"%s\">", w->object.type,
		    w->property, w->object.type);
	xml_add_escaped(&filter, w->object.value);
	buffer_add_string(&filter, "</obj></objectSet></spec><partialUpdates>false</partialUpdates>");
	if (filter.failed)
		return error_set_errno(err, ENOMEM, "cannot wait for %s", w->object.value);
	AUTO_XML xmlDoc *filtered = vmware_call(w->session, "CreateFilter", collector_of(w), filter.data, &result, cancel, err);
	return filtered ? 0 : -1;
}

/* The answer's value of the property, owned; NULL in *value when it holds none. */
static int read_update(const struct wait *w, const xmlNode *set, char **value, struct error **err)
{
	const xmlNode *object = xml_path(set, "filterSet/objectSet");

	if (xml_path_is(object, "kind", "leave") || xml_path(set, "filterSet/missingSet"))
		return error_set(err, ERROR_NOT_FOUND, "ManagedObjectNotFound", "the %s %s does not exist any more", w->object.type,
				 w->object.value);
	for (const xmlNode *c = xml_child(object, "changeSet"); c; c = xml_next(c, "changeSet")) {
		if (!xml_path_is(c, "name", w->property))
			continue;
		free(*value);
		*value = xml_path_text(c, "val");
	}
	return 0;
}

static int next_update(struct wait *w, unsigned left_ms, char **value, struct cancel *cancel, struct error **err)
{
	unsigned seconds = left_ms / 1000 < PIECE_SECONDS ? left_ms / 1000 + 1 : PIECE_SECONDS;
	AUTO_FREE char *arguments = NULL, *version = NULL;
	xmlNode *result = NULL;
	AUTO_XML xmlDoc *doc = NULL;
	const xmlNode *set;

	if (asprintf(&arguments, "<version>%s</version><options><maxWaitSeconds>%u</maxWaitSeconds></options>",
		     w->version ? w->version : "", seconds) < 0) {
		arguments = NULL;
		return error_set_errno(err, ENOMEM, "cannot wait for %s", w->object.value);
	}
	doc = vmware_call_within(w->session, seconds * 1000 + ANSWER_MS, "WaitForUpdatesEx", collector_of(w), arguments, &result, cancel,
				 err);
	if (!doc)
		return -1;
	set = xml_child(result, "returnval");
	version = xml_path_text(set, "version");
	if (version && strspn(version, "0123456789-") == strlen(version)) { /* it goes back as it came */
		free(w->version);
		w->version = move_ptr(version);
	}
	return set ? read_update(w, set, value, err) : 0;
}

/* Whether a new collector may help: the old one went with its session, or another thread has logged in again meanwhile. */
static bool session_was_lost(const struct wait *w, const struct error *e)
{
	return (e->class == ERROR_NOT_FOUND || !strcmp(e->reason, "InvalidCollectorVersion") || !strcmp(e->reason, "RequestCanceled")) &&
	       vmware_session_logins(w->session) != w->logins;
}

static int wait_for(struct wait *w, const char *const *values, unsigned timeout_ms, size_t *which, struct cancel *cancel,
		    struct error **err)
{
	uint64_t begun = clock_monotonic_ms(), passed;

	while ((passed = clock_monotonic_ms() - begun) < timeout_ms) {
		AUTO_ERROR struct error *failed = NULL;
		AUTO_FREE char *value = NULL;

		if ((!w->collector && create(w, cancel, &failed) < 0) ||
		    next_update(w, (unsigned)(timeout_ms - passed), &value, cancel, &failed) < 0) {
			if (!session_was_lost(w, failed))
				return error_move(err, move_ptr(failed));
			forget(w);
			if (cancel_wait(cancel, RETRY_MS))
				return cancel_check(cancel, err);
			continue;
		}
		for (*which = 0; value && values[*which]; ++*which)
			if (!strcmp(value, values[*which]))
				return 0;
	}
	return error_set(err, ERROR_TRANSIENT, "TimedOut", "%s of the %s %s did not change within %u s", w->property, w->object.type,
			 w->object.value, timeout_ms / 1000);
}

int vmware_wait_property(struct vmware_session *s, struct vmware_ref object, const char *property, const char *const *values,
			 unsigned timeout_ms, size_t *which, struct cancel *cancel, struct error **err)
{
	struct wait w = { .session = s, .object = object, .property = property };
	int result = wait_for(&w, values, timeout_ms, which, cancel, err);

	destroy(&w);
	free(w.version);
	return result;
}
