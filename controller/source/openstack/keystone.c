#include "source/openstack/keystone.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "source/openstack/answer.h"
#include "json/codec.h"

#define LIFE_MAX_MS (UINT64_C(30) * 86400 * 1000)
#define URL_MAX 2000

/* What a catalogue may call a service (service types authority, with the names in use before it), and where in the URL its version is. */
static const struct {
	const char *name, *types[4], *version, *other_version;
	bool project; /* the project's id follows the version */
	bool last;    /* nothing ever follows it: elsewhere in a URL it is of something else, a gateway say */
} services[OPENSTACK_SERVICES] = {
	[OPENSTACK_COMPUTE] = { "compute", { "compute" }, "v2.1", "v2", false, false },
	[OPENSTACK_VOLUME] = { "block storage", { "block-storage", "volumev3", "block-store", "volume" }, "v3", "v3", true, false },
	[OPENSTACK_IMAGE] = { "image", { "image" }, "v2", "v2", false, true },
	[OPENSTACK_NETWORK] = { "network", { "network" }, "v2.0", "v2.0", false, true },
};

static bool is_http(const char *url)
{
	const char *host = !strncasecmp(url, "https://", 8) ? url + 8 : !strncasecmp(url, "http://", 7) ? url + 7 : NULL;

	return host && strcspn(host, "/?#") && !strpbrk(url, " \t\r\n");
}

/* The length without query, fragment, and slashes at the end. */
static size_t plain_len(const char *url)
{
	size_t len = strcspn(url, "?#");

	while (len && url[len - 1] == '/')
		len--;
	return len;
}

char *keystone_url(const char *endpoint, struct error **err)
{
	char *url = NULL;
	size_t len;

	if (!endpoint || !is_http(endpoint) || strlen(endpoint) > URL_MAX || memchr(endpoint, '@', strcspn(endpoint, "?#"))) {
		error_set(err, ERROR_PERMANENT, "InvalidEndpoint",
			  "spec.endpoint is no URL of Keystone, such as https://keystone.example.com:5000/v3");
		return NULL;
	}
	len = plain_len(endpoint);
	if (len > 5 && !strncmp(endpoint + len - 5, "/v2.0", 5)) {
		error_set(err, ERROR_PERMANENT, "InvalidEndpoint",
			  "spec.endpoint \"%s\" is of version 2 of Keystone's API; version 3 is needed, its URL ends in /v3", endpoint);
		return NULL;
	}
	if (asprintf(&url, "%.*s%s", (int)len, endpoint, len > 3 && !strncmp(endpoint + len - 3, "/v3", 3) ? "" : "/v3") < 0) {
		error_set_errno(err, ENOMEM, "cannot open the source");
		return NULL;
	}
	return url;
}

/* A key of the Secret that must be there. */
static const char *need(const json_t *secret, const char *key, struct error **err)
{
	const char *value = answer_text(secret, key);

	if (!value)
		error_set(err, ERROR_PERMANENT, "SecretKeyMissing", "the Secret that spec.credentials names has no key \"%s\"; add it",
			  key);
	return value;
}

static json_t *application_request(const json_t *secret, char **who, struct error **err)
{
	const char *id = need(secret, "application_credential_id", err);
	const char *key = id ? need(secret, "application_credential_secret", err) : NULL;

	if (!key)
		return NULL;
	if (asprintf(who, "the application credential %s", id) < 0)
		*who = NULL;
	return json_pack("{s:{s:{s:[s], s:{s:s, s:s}}}}", "auth", "identity", "methods", "application_credential", "application_credential",
			 "id", id, "secret", key);
}

static json_t *password_request(const json_t *secret, char **who, struct error **err)
{
	const char *user = need(secret, "username", err), *password = user ? need(secret, "password", err) : NULL;
	const char *project_id = answer_text(secret, "project_id"), *project = answer_text(secret, "project_name");
	const char *user_domain = answer_text(secret, "user_domain_name"), *project_domain = answer_text(secret, "project_domain_name");
	json_t *scope;

	if (!password)
		return NULL;
	if (!project && !project_id)
		return need(secret, "project_name", err), NULL;
	if (!user_domain && !(user_domain = need(secret, "domain_name", err)))
		return NULL;
	if (!project_domain && !(project_domain = answer_text(secret, "domain_name")))
		project_domain = user_domain;
	scope = project_id ? json_pack("{s:{s:s}}", "project", "id", project_id)
			   : json_pack("{s:{s:s, s:{s:s}}}", "project", "name", project, "domain", "name", project_domain);
	if (asprintf(who, "the user %s of the domain %s, project %s", user, user_domain, project_id ? project_id : project) < 0)
		*who = NULL;
	return json_pack("{s:{s:{s:[s], s:{s:{s:s, s:{s:s}, s:s}}}, s:o}}", "auth", "identity", "methods", "password", "password", "user",
			 "name", user, "domain", "name", user_domain, "password", password, "scope", scope);
}

json_t *keystone_request(const json_t *secret, char **who, struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;
	AUTO_FREE char *name = NULL;
	json_t *body;

	if (!secret) {
		error_set(err, ERROR_PERMANENT, "SecretMissing",
			  "spec.credentials names no Secret; it must hold the keys username, password, project_name and domain_name, or "
			  "application_credential_id and application_credential_secret");
		return NULL;
	}
	body = answer_text(secret, "application_credential_id") ? application_request(secret, &name, &failed)
								: password_request(secret, &name, &failed);
	if (body && name) {
		*who = move_ptr(name);
		return body;
	}
	json_decref(body);
	if (failed)
		error_move(err, move_ptr(failed));
	else
		error_set_errno(err, ENOMEM, "cannot open the source");
	return NULL;
}

/* --- what it grants -------------------------------------------------------------------------------------------------------- */

static bool has_component(const char *path, size_t len, const char *component)
{
	size_t n = strlen(component);

	for (const char *p = path; (p = memchr(p, '/', len - (size_t)(p - path))); p++)
		if (len - (size_t)(p - path) > n && !strncmp(p + 1, component, n) && (p + 1 + n == path + len || p[1 + n] == '/'))
			return true;
	return false;
}

static bool ends_with(const char *text, size_t len, const char *component)
{
	size_t n = strlen(component);

	return len > n && text[len - n - 1] == '/' && !strncmp(text + len - n, component, n);
}

static const char *path_of(const char *url)
{
	const char *host = strstr(url, "://") + 3;

	return host + strcspn(host, "/?#");
}

/* Versions 1 and 2 of block storage may stand under the old name of the service. */
static bool is_old_volume(const char *url)
{
	const char *path = path_of(url);
	size_t len = strcspn(path, "?#");

	return (has_component(path, len, "v1") || has_component(path, len, "v2")) && !has_component(path, len, "v3");
}

/* The URL of the API's version out of a catalogue's, which may or may not have it, and the project's id after it. */
static char *service_url(enum openstack_service service, const char *url, const char *project)
{
	const char *version = services[service].version, *path = path_of(url);
	size_t len = plain_len(url), path_len = url + len > path ? (size_t)(url + len - path) : 0;
	char *out = NULL;
	bool versioned = services[service].last
				 ? ends_with(path, path_len, version)
				 : has_component(path, path_len, version) || has_component(path, path_len, services[service].other_version);

	if (asprintf(&out, "%.*s%s%s", (int)len, url, versioned ? "" : "/", versioned ? "" : version) < 0)
		return NULL;
	if (services[service].project && ends_with(out, strlen(out), version)) {
		char *longer = NULL;

		if (asprintf(&longer, "%s/%s", out, project) < 0)
			longer = NULL;
		free(out);
		out = longer;
	}
	return out;
}

static bool in_region(const json_t *endpoint, const char *region)
{
	const char *name = answer_text(endpoint, "region"), *id = answer_text(endpoint, "region_id");

	return (name && !strcmp(name, region)) || (id && !strcmp(id, region));
}

static bool of_interface(const json_t *endpoint, const char *interface)
{
	const char *name = answer_text(endpoint, "interface");

	/* Old catalogues say "publicURL". */
	return name && !strncasecmp(name, interface, strlen(interface)) &&
	       (!name[strlen(interface)] || !strcasecmp(name + strlen(interface), "URL"));
}

static void add_word(struct buffer *words, const char *word)
{
	AUTO_FREE char *around = NULL, *all = NULL;

	if (!word || asprintf(&around, " %s,", word) < 0)
		return;
	if (asprintf(&all, " %s,", words->data ? words->data : "") < 0) {
		all = NULL;
		return;
	}
	if (!strstr(all, around))
		buffer_addf(words, "%s%s", words->len ? ", " : "", word);
}

/* The regions of the services we need, as text and, if it is only one, in *only (owned). */
static void list_regions(const json_t *catalog, struct buffer *words, char **only)
{
	const json_t *service, *endpoint;
	size_t i, k;

	json_array_foreach (catalog, i, service) {
		const char *type = answer_text(service, "type");

		if (!type || strcmp(type, "compute"))
			continue;
		json_array_foreach (json_object_get(service, "endpoints"), k, endpoint) {
			const char *region = answer_text(endpoint, "region_id");

			add_word(words, region ? region : answer_text(endpoint, "region"));
		}
	}
	if (words->len && !strstr(words->data, ", "))
		*only = strdup(words->data);
}

/* The first endpoint of the service in the region and of the interface. *types_seen: the catalogue has the service at all. */
static const char *find_endpoint(const json_t *catalog, enum openstack_service s, const char *region, const char *interface)
{
	for (size_t t = 0; t < 4 && services[s].types[t]; t++) {
		const json_t *service, *endpoint;
		size_t i, k;

		json_array_foreach (catalog, i, service) {
			const char *type = answer_text(service, "type");

			if (!type || strcmp(type, services[s].types[t]))
				continue;
			json_array_foreach (json_object_get(service, "endpoints"), k, endpoint) {
				const char *url = answer_text(endpoint, "url");

				if (url && is_http(url) && strlen(url) <= URL_MAX && in_region(endpoint, region) &&
				    of_interface(endpoint, interface) && !(s == OPENSTACK_VOLUME && is_old_volume(url)))
					return url;
			}
		}
	}
	return NULL;
}

static int fill_urls(const json_t *catalog, const char *region, const char *interface, struct keystone_grant *g, struct error **err)
{
	AUTO_BUFFER struct buffer words;
	AUTO_FREE char *only = NULL;

	buffer_init(&words, 2000);
	list_regions(catalog, &words, &only);
	if (!region || !*region)
		region = only;
	if (!region)
		return error_set(err, ERROR_PERMANENT, "RegionMissing", "spec.region is empty, and Keystone's catalogue has %s%s",
				 words.len ? "several regions: " : "no region with a compute service", words.len ? words.data : "");
	for (int s = 0; s < OPENSTACK_SERVICES; s++) {
		const char *url = find_endpoint(catalog, s, region, interface);

		if (!url)
			return error_set(
				err, ERROR_PERMANENT, "EndpointMissing",
				"Keystone's catalogue has no %s endpoint of the %s service in the region %s (regions: %s); correct "
				"spec.region or spec.interface",
				interface, services[s].name, region, words.len ? words.data : "none");
		g->urls[s] = service_url(s, url, g->project);
		if (!g->urls[s])
			return error_set_errno(err, ENOMEM, "cannot read the catalogue");
	}
	return 0;
}

int keystone_parse(const json_t *answer, const char *region, const char *interface, struct keystone_grant *grant, struct error **err)
{
	const json_t *token = json_object_get(answer, "token");
	const char *project = answer_id(json_object_get(token, "project"), "id");
	int64_t issued = clock_parse_rfc3339(answer_text(token, "issued_at"));
	int64_t ends = clock_parse_rfc3339(answer_text(token, "expires_at"));
	struct keystone_grant g = { 0 };

	if (!token || ends < 0)
		return error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "Keystone's answer holds no token with an end");
	if (!project)
		return error_set(err, ERROR_PERMANENT, "ProjectMissing",
				 "Keystone's token is for no project; name one in the Secret's key project_name");
	if (issued < 0 || issued > ends)
		issued = clock_unix();
	g.life_ms = ends > issued ? (uint64_t)(ends - issued) * 1000 : 0;
	if (g.life_ms > LIFE_MAX_MS)
		g.life_ms = LIFE_MAX_MS;
	g.project = strdup(project);
	if (!g.project || fill_urls(json_object_get(token, "catalog"), region, interface, &g, err) < 0) {
		if (!g.project)
			error_set_errno(err, ENOMEM, "cannot read the token");
		keystone_grant_clear(&g);
		return -1;
	}
	*grant = g;
	return 0;
}

void keystone_grant_clear(struct keystone_grant *g)
{
	free(g->project);
	for (int s = 0; s < OPENSTACK_SERVICES; s++)
		free(g->urls[s]);
	*g = (struct keystone_grant){ 0 };
}
