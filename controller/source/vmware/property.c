#include "source/vmware/property.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PAGE "1000"
#define PAGES_MAX 1000 /* a vCenter has 40,000 machines at most */

xmlNode *vmware_property(const xmlNode *objects, const char *name)
{
	for (xmlNode *set = xml_child(objects, "propSet"); set; set = xml_next(set, "propSet"))
		if (xml_path_is(set, "name", name))
			return xml_child(set, "val");
	return NULL;
}

static struct vmware_ref collector_of(const struct vmware_session *s)
{
	return (struct vmware_ref){ "PropertyCollector", vmware_session_content(s)->property_collector };
}

xmlDoc *vmware_properties(struct vmware_session *s, struct vmware_ref object, const char *const *paths, xmlNode **node,
			  struct cancel *cancel, struct error **err)
{
	CLEANUP(buffer_free) struct buffer a;
	AUTO_XML xmlDoc *doc = NULL;
	xmlNode *result = NULL;

	buffer_init(&a, 65536);
	buffer_addf(&a, "<specSet><propSet><type>%s</type>", object.type);
	for (; *paths; paths++)
		xml_add(&a, "pathSet", *paths);
	buffer_addf(&a, "</propSet><objectSet><obj type=\"%s\">", object.type);
	xml_add_escaped(&a, object.value);
	buffer_add_string(&a, "</obj></objectSet></specSet><options/>");
	if (a.failed) {
		error_set_errno(err, ENOMEM, "cannot ask for the properties of %s", object.value);
		return NULL;
	}
	doc = vmware_call(s, "RetrievePropertiesEx", collector_of(s), a.data, &result, cancel, err);
	if (!doc)
		return NULL;
	*node = xml_path(result, "returnval/objects");
	if (!*node) {
		error_set(err, ERROR_NOT_FOUND, "ManagedObjectNotFound", "the %s %s does not exist", object.type, object.value);
		return NULL;
	}
	return move_ptr(doc);
}

/* One page; *token is what asks for the next, NULL after the last. */
static int retrieve_page(struct vmware_session *s, const char *method, const char *arguments, int (*each)(void *, const xmlNode *),
			 void *arg, char **token, struct cancel *cancel, struct error **err)
{
	xmlNode *result = NULL;
	AUTO_XML xmlDoc *doc = vmware_call(s, method, collector_of(s), arguments, &result, cancel, err);

	if (!doc)
		return -1;
	for (const xmlNode *o = xml_path(result, "returnval/objects"); o; o = xml_next(o, "objects"))
		if (each(arg, o) < 0)
			return error_set_errno(err, ENOMEM, "cannot keep the inventory");
	*token = xml_path_text(result, "returnval/token");
	return 0;
}

static int retrieve_rest(struct vmware_session *s, char **token, int (*each)(void *, const xmlNode *), void *arg, struct cancel *cancel,
			 struct error **err)
{
	for (unsigned pages = 1; *token && **token; pages++) {
		CLEANUP(buffer_free) struct buffer next;

		if (pages == PAGES_MAX)
			return error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the inventory of %s does not end", vmware_session_host(s));
		buffer_init(&next, 65536);
		xml_add(&next, "token", *token);
		if (next.failed)
			return error_set_errno(err, ENOMEM, "cannot read the inventory");
		free(move_ptr(*token));
		if (retrieve_page(s, "ContinueRetrievePropertiesEx", next.data, each, arg, token, cancel, err) < 0)
			return -1;
	}
	return 0;
}

int vmware_retrieve(struct vmware_session *s, const char *spec_set, int (*each)(void *, const xmlNode *), void *arg, struct cancel *cancel,
		    struct error **err)
{
	AUTO_FREE char *arguments = NULL;

	if (asprintf(&arguments, "%s<options><maxObjects>" PAGE "</maxObjects></options>", spec_set) < 0) {
		arguments = NULL;
		return error_set_errno(err, ENOMEM, "cannot read the inventory");
	}
	for (unsigned attempt = 0;; attempt++) {
		unsigned logins = vmware_session_logins(s);
		AUTO_ERROR struct error *failed = NULL;
		AUTO_FREE char *token = NULL;

		if (retrieve_page(s, "RetrievePropertiesEx", arguments, each, arg, &token, cancel, err) < 0)
			return -1;
		if (retrieve_rest(s, &token, each, arg, cancel, &failed) == 0)
			return 0;
		/* A token is good for its session only. */
		if (attempt >= 2 || failed->class == ERROR_CANCELLED || vmware_session_logins(s) == logins)
			return error_move(err, move_ptr(failed));
	}
}
