#include "store/kube/list.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "json/codec.h"

#define PAGE 500
#define RESTARTS_MAX 3

char *kube_api_version(const struct resource *res)
{
	char *text = NULL;

	return asprintf(&text, "%s%s%s", res->group, *res->group ? "/" : "", res->version) < 0 ? NULL : text;
}

/* The items of a list of built-in kinds do not say what they are. */
static int add_items(json_t *into, const json_t *page, const struct resource *res, const char *api_version)
{
	const json_t *items = json_object_get(page, "items");
	json_t *item;
	size_t i;

	json_array_foreach (items, i, item) {
		if (!json_is_object(item))
			continue;
		if (!json_object_get(item, "apiVersion") && json_object_set_new(item, "apiVersion", json_string(api_version)) < 0)
			return -1;
		if (!json_object_get(item, "kind") && json_object_set_new(item, "kind", json_string(res->kind)) < 0)
			return -1;
		if (json_array_append(into, item) < 0)
			return -1;
	}
	return 0;
}

char *kube_selection(const char *name, const char *label_selector)
{
	AUTO_FREE char *labels = label_selector ? kube_escape(label_selector) : NULL, *field = name ? kube_escape(name) : NULL;
	char *text = NULL;

	if ((label_selector && !labels) || (name && !field) ||
	    asprintf(&text, "%s%s%s%s", field ? "&fieldSelector=metadata.name%3D" : "", field ? field : "", labels ? "&labelSelector=" : "",
		     labels ? labels : "") < 0)
		return NULL;
	return text;
}

static char *page_query(const char *selection, const char *next)
{
	AUTO_FREE char *from = *next ? kube_escape(next) : NULL;
	char *query = NULL;

	if (*next && !from)
		return NULL;
	if (asprintf(&query, "limit=%d%s%s%s", PAGE, selection ? selection : "", from ? "&continue=" : "", from ? from : "") < 0)
		return NULL;
	return query;
}

json_t *kube_list(struct kube_client *client, const struct resource *res, const char *ns, const char *selection, struct cancel *cancel,
		  char **version, struct error **err)
{
	AUTO_FREE char *api_version = kube_api_version(res), *next = strdup("");
	AUTO_JSON json_t *all = json_array();

	for (int restarts = 0; all && api_version && next;) {
		struct kube_call call = { .verb = "list", .method = "GET", .res = res, .ns = ns, .cancel = cancel };
		AUTO_FREE char *query = page_query(selection, next), *at = NULL;
		AUTO_ERROR struct error *failed = NULL;
		AUTO_JSON json_t *page = NULL;

		if (!query)
			break;
		call.query = query;
		page = kube_client_call(client, &call, &failed);
		if (!page && *next && failed->class == ERROR_GONE && restarts++ < RESTARTS_MAX) {
			*next = 0;
			json_array_clear(all);
			continue;
		}
		if (!page) {
			error_move(err, move_ptr(failed));
			return NULL;
		}
		if (add_items(all, page, res, api_version) < 0)
			break;
		free(next);
		next = strdup(json_path_string(page, "metadata.continue") ? json_path_string(page, "metadata.continue") : "");
		if (!next || *next)
			continue;
		if (!json_path_string(page, "metadata.resourceVersion") || !json_is_array(json_object_get(page, "items"))) {
			error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the API server's list of %s is none: no items or resourceVersion",
				  res->plural);
			return NULL;
		}
		at = strdup(json_path_string(page, "metadata.resourceVersion"));
		if (!at)
			break;
		if (version)
			*version = move_ptr(at);
		return move_ptr(all);
	}
	error_set_errno(err, ENOMEM, "cannot list %s", res->plural);
	return NULL;
}
