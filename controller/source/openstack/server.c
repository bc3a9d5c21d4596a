#include "source/openstack/server.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "source/openstack/answer.h"
#include "json/codec.h"

#define VOLUMES_MAX 256
#define PORTS_MAX 256
#define LISTED 10

static int no_memory(struct error **err)
{
	return error_set_errno(err, ENOMEM, "cannot describe the machine");
}

/* Letters and digits of ASCII stand for themselves, anything else for anything: what is special differs between the databases. */
char *openstack_name_filter(const char *name)
{
	struct buffer b;
	bool wild = false;

	buffer_init(&b, 4096);
	buffer_add_string(&b, "%5E");
	for (const char *p = name; *p; p++) {
		if (isalnum((unsigned char)*p) && (unsigned char)*p < 0x80)
			buffer_add(&b, p, 1);
		else if (!wild)
			buffer_add_string(&b, ".*");
		wild = !isalnum((unsigned char)*p) || (unsigned char)*p >= 0x80;
	}
	buffer_add_string(&b, "$");
	return buffer_steal(&b);
}

json_t *openstack_server(struct openstack_session *s, const char *id, struct cancel *cancel, struct error **err)
{
	AUTO_JSON json_t *answer = openstack_get(s, OPENSTACK_COMPUTE, cancel, err, "/servers/%s", id);
	json_t *server = json_object_get(answer, "server");

	if (!answer)
		return NULL;
	if (!answer_id(server, "id") || !json_is_string(json_object_get(server, "name"))) {
		error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the answer to GET /servers/%s describes no server", id);
		return NULL;
	}
	return json_incref(server);
}

static char *find_by_name(struct openstack_session *s, const char *name, struct cancel *cancel, struct error **err)
{
	AUTO_FREE char *filter = openstack_name_filter(name), *path = NULL;
	AUTO_JSON json_t *list = NULL;
	AUTO_BUFFER struct buffer several;
	const json_t *server;
	const char *found = NULL;
	size_t i, count = 0;

	buffer_init(&several, 4096);
	if (!filter || asprintf(&path, "/servers/detail?name=%s", filter) < 0)
		path = NULL;
	if (!path)
		return no_memory(err), NULL;
	list = openstack_list(s, OPENSTACK_COMPUTE, path, "servers", cancel, err);
	if (!list)
		return NULL;
	json_array_foreach (list, i, server) {
		const char *other = json_string_value(json_object_get(server, "name")), *id = answer_id(server, "id");
		const char *status = answer_text(server, "status"), *created = answer_text(server, "created");

		if (!other || !id || strcmp(other, name))
			continue;
		if (count++ < LISTED)
			buffer_addf(&several, "%s%s (%s, created %s)", count > 1 ? ", " : "", id, answer_shown(status ? status : "?").text,
				    answer_shown(created ? created : "?").text);
		found = id;
	}
	if (!count) {
		error_set(err, ERROR_NOT_FOUND, "VirtualMachineNotFound",
			  "the project has no server with the name or id \"%s\"; correct spec.virtualMachineName", name);
		return NULL;
	}
	if (count > 1) {
		error_set(err, ERROR_PERMANENT, "VirtualMachineAmbiguous",
			  "%zu servers have the name \"%s\"; put the id of one into spec.virtualMachineName: %s%s", count, name,
			  several.data ? several.data : "", count > LISTED ? ", ..." : "");
		return NULL;
	}
	return strdup(found);
}

char *openstack_find_server(struct openstack_session *s, const char *name, struct cancel *cancel, struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;
	AUTO_JSON json_t *server = NULL;

	if (!name || !*name) {
		error_set(err, ERROR_PERMANENT, "VirtualMachineNotFound",
			  "spec.virtualMachineName is empty; name the server, or put its id there");
		return NULL;
	}
	if (!answer_is_uuid(name))
		return find_by_name(s, name, cancel, err);
	server = openstack_server(s, name, cancel, &failed);
	if (server)
		return strdup(answer_id(server, "id"));
	if (failed->class != ERROR_NOT_FOUND) {
		error_move(err, move_ptr(failed));
		return NULL;
	}
	return find_by_name(s, name, cancel, err); /* a name may look so, too */
}

/* --- all about it ---------------------------------------------------------------------------------------------------------- */

/* Since microversion 2.47 the flavor is in the server; before it is another object, which may have been deleted since. */
static json_t *flavor_of(struct openstack_session *s, const json_t *server, struct cancel *cancel, struct error **err)
{
	json_t *embedded = json_object_get(server, "flavor"), *specs;
	const char *id = answer_id(embedded, "id");
	AUTO_JSON json_t *answer = NULL, *extra = NULL, *flavor = NULL;
	AUTO_ERROR struct error *failed = NULL;

	if (json_object_get(embedded, "vcpus"))
		return json_incref(embedded);
	if (!id) {
		error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the server names no flavor");
		return NULL;
	}
	answer = openstack_get(s, OPENSTACK_COMPUTE, cancel, &failed, "/flavors/%s", id);
	if (!answer && failed->class == ERROR_NOT_FOUND) {
		error_set(err, ERROR_PERMANENT, "NoConfiguration",
			  "the flavor %s of the server was deleted, and this version of Nova tells its size nowhere else", id);
		return NULL;
	}
	if (!answer) {
		error_move(err, move_ptr(failed));
		return NULL;
	}
	extra = openstack_get(s, OPENSTACK_COMPUTE, cancel, &failed, "/flavors/%s/os-extra_specs", id);
	if (!extra && failed->class != ERROR_NOT_FOUND && failed->code != 403) {
		error_move(err, move_ptr(failed));
		return NULL;
	}
	flavor = json_copy(json_object_get(answer, "flavor"));
	specs = json_object_get(extra, "extra_specs");
	if (!flavor || json_object_set(flavor, "extra_specs", specs ? specs : json_null()) < 0 ||
	    json_object_set(flavor, "ephemeral", json_object_get(flavor, "OS-FLV-EXT-DATA:ephemeral")) < 0 ||
	    json_object_set(flavor, "original_name", json_object_get(flavor, "name")) < 0) {
		error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the answer to GET /flavors/%s describes no flavor", id);
		return NULL;
	}
	return move_ptr(flavor);
}

/* NULL without an error: there is none (any more). */
static json_t *image_of(struct openstack_session *s, const json_t *server, struct cancel *cancel, struct error **err)
{
	const char *id = answer_id(json_object_get(server, "image"), "id");
	AUTO_ERROR struct error *failed = NULL;
	json_t *image;

	if (!id)
		return NULL;
	image = openstack_get(s, OPENSTACK_IMAGE, cancel, &failed, "/images/%s", id);
	if (!image && failed->class != ERROR_NOT_FOUND && failed->code != 403)
		error_move(err, move_ptr(failed));
	return image;
}

static int add_volume(struct openstack_session *s, const json_t *attachment, json_t *list, struct cancel *cancel, struct error **err)
{
	const char *id = answer_id(attachment, "volumeId");
	AUTO_JSON json_t *answer = NULL;
	json_t *device = json_object_get(attachment, "device");

	if (!id)
		return error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "an attachment of the server names no volume");
	answer = openstack_get(s, OPENSTACK_VOLUME, cancel, err, "/volumes/%s", id);
	if (!answer)
		return -1;
	if (!answer_id(json_object_get(answer, "volume"), "id"))
		return error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the answer to GET /volumes/%s describes no volume", id);
	return json_array_append_new(list, json_pack("{s:O, s:O?}", "volume", json_object_get(answer, "volume"), "device",
						     json_is_string(device) ? device : NULL)) < 0
		       ? no_memory(err)
		       : 0;
}

/* All at once: where it is asked for a part of them, Nova takes that part of all the server's disks, and leaves out then what are no volumes,
 * without a word that there are more. */
static json_t *volumes_of(struct openstack_session *s, const char *id, struct cancel *cancel, struct error **err)
{
	AUTO_JSON json_t *answer = NULL, *list = json_array();
	const json_t *attachments, *attachment;
	size_t i;

	if (!list)
		return no_memory(err), NULL;
	answer = openstack_get(s, OPENSTACK_COMPUTE, cancel, err, "/servers/%s/os-volume_attachments", id);
	if (!answer)
		return NULL;
	attachments = json_object_get(answer, "volumeAttachments");
	if (!json_is_array(attachments)) {
		error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the answer to GET /servers/%s/os-volume_attachments holds no list", id);
		return NULL;
	}
	if (json_array_size(attachments) > VOLUMES_MAX) {
		error_set(err, ERROR_PERMANENT, "TooManyDevices", "the server has %zu volumes; at most %d can be imported",
			  json_array_size(attachments), VOLUMES_MAX);
		return NULL;
	}
	json_array_foreach (attachments, i, attachment)
		if (add_volume(s, attachment, list, cancel, err) < 0)
			return NULL;
	return move_ptr(list);
}

/* id -> name of each network that a port is of. One that we may not see keeps its id. */
static json_t *networks_of(struct openstack_session *s, const json_t *ports, struct cancel *cancel, struct error **err)
{
	AUTO_JSON json_t *names = json_object();
	const json_t *port;
	size_t i;

	json_array_foreach (ports, i, port) {
		const char *id = answer_id(port, "network_id"), *name;
		AUTO_JSON json_t *answer = NULL;
		AUTO_ERROR struct error *failed = NULL;

		if (!id || json_object_get(names, id))
			continue;
		answer = openstack_get(s, OPENSTACK_NETWORK, cancel, &failed, "/networks/%s", id);
		if (!answer && failed->class != ERROR_NOT_FOUND && failed->code != 403) {
			error_move(err, move_ptr(failed));
			return NULL;
		}
		name = answer_text(json_object_get(answer, "network"), "name");
		if (name)
			json_object_set_new(names, id, json_string(name));
	}
	if (!names)
		no_memory(err);
	return move_ptr(names);
}

json_t *openstack_gather(struct openstack_session *s, const char *id, struct cancel *cancel, struct error **err)
{
	AUTO_JSON json_t *server = NULL, *flavor = NULL, *image = NULL, *volumes = NULL, *ports = NULL, *networks = NULL;
	AUTO_ERROR struct error *failed = NULL;
	AUTO_FREE char *path = NULL;
	json_t *all;

	if (asprintf(&path, "/ports?device_id=%s", id) < 0)
		path = NULL;
	if (!path)
		return no_memory(err), NULL;
	server = openstack_server(s, id, cancel, &failed);
	flavor = server ? flavor_of(s, server, cancel, &failed) : NULL;
	image = flavor ? image_of(s, server, cancel, &failed) : NULL;
	volumes = flavor && !failed ? volumes_of(s, id, cancel, &failed) : NULL;
	ports = volumes ? openstack_list(s, OPENSTACK_NETWORK, path, "ports", cancel, &failed) : NULL;
	networks = ports ? networks_of(s, ports, cancel, &failed) : NULL;
	if (failed && failed->class == ERROR_NOT_FOUND && !server) {
		error_set(err, ERROR_NOT_FOUND, "VirtualMachineNotFound",
			  "the project has no server with the id %s; correct spec.virtualMachineName", id);
		return NULL;
	}
	if (!networks) {
		/* What was listed a moment ago and is gone now will not be listed again. */
		if (failed && failed->class == ERROR_NOT_FOUND)
			failed->class = ERROR_TRANSIENT;
		error_move(err, move_ptr(failed));
		return NULL;
	}
	if (json_array_size(ports) > PORTS_MAX) {
		error_set(err, ERROR_PERMANENT, "TooManyDevices", "the server has %zu ports; at most %d can be imported",
			  json_array_size(ports), PORTS_MAX);
		return NULL;
	}
	all = json_pack("{s:O, s:O, s:O?, s:O, s:O, s:O}", "server", server, "flavor", flavor, "image", image, "volumes", volumes, "ports",
			ports, "networks", networks);
	if (!all)
		no_memory(err);
	return all;
}
