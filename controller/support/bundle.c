#include "support/bundle.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "store/kube/kube.h"
#include "support/redact.h"
#include "json/codec.h"

#define OBJECTS_MAX (128u << 20)
#define LOG_MAX (16u << 20)
#define NAME_SELECTOR "labelSelector=app.kubernetes.io%2Fname%3Dharvester-vm-import-controller"
#define IMPORTED_SELECTOR "labelSelector=migration.harvesterhci.io%2Fimported%3Dtrue"
#define OURS "/apis/migration.harvesterhci.io/v1beta1/"

/* NAMESPACE stands for the controller's. */
static const struct {
	const char *file, *path;
} lists[] = {
	{ "version.json", "/version" },
	{ "objects/virtualmachineimports.json", OURS "virtualmachineimports" },
	{ "objects/vmwaresources.json", OURS "vmwaresources" },
	{ "objects/openstacksources.json", OURS "openstacksources" },
	{ "objects/ovasources.json", OURS "ovasources" },
	{ "objects/kvmsources.json", OURS "kvmsources" },
	{ "objects/virtualmachineimages.json", "/apis/harvesterhci.io/v1beta1/virtualmachineimages" },
	{ "objects/virtualmachines.json", "/apis/kubevirt.io/v1/virtualmachines?" IMPORTED_SELECTOR },
	{ "objects/persistentvolumeclaims.json", "/api/v1/persistentvolumeclaims?" IMPORTED_SELECTOR },
	{ "objects/storageclasses.json", "/apis/storage.k8s.io/v1/storageclasses" },
	{ "objects/network-attachment-definitions.json", "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions" },
	{ "controller/deployments.json", "/apis/apps/v1/namespaces/NAMESPACE/deployments?" NAME_SELECTOR },
	{ "controller/pods.json", "/api/v1/namespaces/NAMESPACE/pods?" NAME_SELECTOR },
	{ "controller/persistentvolumeclaims.json", "/api/v1/namespaces/NAMESPACE/persistentvolumeclaims?" NAME_SELECTOR },
	{ "controller/services.json", "/api/v1/namespaces/NAMESPACE/services?" NAME_SELECTOR },
	{ "controller/leases.json", "/apis/coordination.k8s.io/v1/namespaces/NAMESPACE/leases" },
	{ "events/imports.json", "/apis/events.k8s.io/v1/events?fieldSelector=reportingController%3Dvm-import-controller" },
	{ "events/controller.json", "/apis/events.k8s.io/v1/namespaces/NAMESPACE/events" },
};

static const char *const source_lists[] = { OURS "vmwaresources", OURS "openstacksources", OURS "ovasources", OURS "kvmsources" };

static const char *const definitions[] = { "virtualmachineimports", "vmwaresources", "openstacksources", "ovasources", "kvmsources" };

struct bundle {
	const struct bundle_options *options;
	struct archive *archive;
	struct redactor *redactor;
	struct buffer errors;
	char directory[64]; /* in the archive */
	struct bundle_result result;
};

/* --- reading --------------------------------------------------------------------------------------------------------- */

static int keep(void *arg, const void *data, size_t len, struct error **err)
{
	return buffer_add(arg, data, len) < 0 ? error_set(err, ERROR_PERMANENT, "TooLarge", "there is more of it than is taken") : 0;
}

static int read_path(struct bundle *b, const char *path, struct buffer *out, struct error **err)
{
	AUTO_FREE char *whole = NULL;
	const char *hole = strstr(path, "NAMESPACE");
	int made = hole ? asprintf(&whole, "%.*s%s%s", (int)(hole - path), path, b->options->ns, hole + strlen("NAMESPACE"))
			: asprintf(&whole, "%s", path);

	if (made < 0) {
		whole = NULL;
		return error_set_errno(err, ENOMEM, "cannot read %s", path);
	}
	return kube_store_read(b->options->store, whole, keep, out, err);
}

static json_t *read_json(struct bundle *b, const char *path, struct error **err)
{
	AUTO_BUFFER struct buffer text = { 0 };
	json_t *json;

	buffer_init(&text, OBJECTS_MAX);
	if (read_path(b, path, &text, err) < 0)
		return NULL;
	json = json_loadb(text.data ? text.data : "", text.len, JSON_DISABLE_EOF_CHECK, NULL);
	if (!json)
		error_set(err, ERROR_PERMANENT, "NotJSON", "the answer to %s is no JSON", path);
	return json;
}

/* --- writing --------------------------------------------------------------------------------------------------------- */

static int add_file(struct bundle *b, const char *name, const char *text, struct error **err)
{
	struct archive_entry *entry = archive_entry_new();
	size_t len = strlen(text);
	char path[512];
	int result = -1;

	snprintf(path, sizeof path, "%s/%s", b->directory, name);
	if (entry) {
		archive_entry_set_pathname(entry, path);
		archive_entry_set_size(entry, (la_int64_t)len);
		archive_entry_set_filetype(entry, AE_IFREG);
		archive_entry_set_perm(entry, 0600);
		archive_entry_set_mtime(entry, (time_t)clock_unix(), 0);
		if (archive_write_header(b->archive, entry) == ARCHIVE_OK && archive_write_data(b->archive, text, len) == (la_ssize_t)len)
			result = 0;
	}
	archive_entry_free(entry);
	if (result < 0)
		return error_set_errno(err, archive_errno(b->archive), "cannot write the bundle");
	b->result.files++;
	return 0;
}

static void note_missing(struct bundle *b, const char *what, const struct error *why)
{
	AUTO_FREE char *clean = redact_text(b->redactor, error_message(why));

	b->result.missing++;
	buffer_addf(&b->errors, "%s: %s\n", what, clean ? clean : "");
}

static int add_json(struct bundle *b, const char *name, const json_t *json, struct error **err)
{
	AUTO_JSON json_t *clean = redact_json(b->redactor, json);
	AUTO_FREE char *text = clean ? json_dumps(clean, JSON_INDENT(2) | JSON_ENCODE_ANY) : NULL;

	return text ? add_file(b, name, text, err) : error_set_errno(err, ENOMEM, "cannot write %s", name);
}

/* --- what is collected ----------------------------------------------------------------------------------------------- */

/* What of a Secret is no secret: it helps to see whom a log speaks of, and whose certificate. */
static bool is_harmless(const char *key)
{
	static const char *const keys[] = { "username", "project_name", "domain_name", "caCert",    "ca_cert",
					    "ca.crt",   "client.crt",   "knownHosts",  "thumbprint" };

	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		if (!strcmp(key, keys[i]))
			return true;
	return false;
}

static int learn_value(struct bundle *b, const char *base64, struct error **err)
{
	size_t len = strlen(base64);
	AUTO_FREE unsigned char *value = len < (1u << 20) ? calloc(1, len + 4) : NULL;
	int got = value ? EVP_DecodeBlock(value, (const unsigned char *)base64, (int)len) : -1;

	if (got < 0)
		return 0;
	/* Each line of a key is one, too. */
	for (char *save = NULL, *line = strtok_r((char *)value, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save))
		if (redactor_add(b->redactor, line, err) < 0)
			return -1;
	return 0;
}

/* Learns the secrets that sources use, so that they are found wherever they may be. */
static int learn_secrets(struct bundle *b, json_t *seen, struct error **err)
{
	for (size_t k = 0; k < sizeof source_lists / sizeof *source_lists; k++) {
		AUTO_JSON json_t *list = read_json(b, source_lists[k], NULL);
		const json_t *source;
		size_t i;

		json_array_foreach (json_object_get(list, "items"), i, source) {
			const char *name = json_path_string(source, "spec.credentials.name"),
				   *ns = json_path_string(source, "spec.credentials.namespace");
			AUTO_ERROR struct error *failed = NULL;
			AUTO_FREE char *path = NULL;
			AUTO_JSON json_t *secret = NULL;
			const char *key;
			json_t *value;

			if (!name || strchr(name, '/') || (ns && strchr(ns, '/')))
				continue;
			if (asprintf(&path, "/api/v1/namespaces/%s/secrets/%s",
				     ns && *ns ? ns : json_path_string(source, "metadata.namespace"), name) < 0) {
				path = NULL;
				return error_set_errno(err, ENOMEM, "cannot read secrets");
			}
			secret = read_json(b, path, &failed);
			if (!secret) {
				note_missing(b, path, failed);
				continue;
			}
			json_object_foreach (json_object_get(secret, "data"), key, value)
				if (!is_harmless(key) && json_is_string(value) && learn_value(b, json_string_value(value), err) < 0)
					return -1;
			json_object_set_new(secret, "kind", json_string("Secret"));
			json_array_append(seen, secret);
		}
	}
	return 0;
}

static int add_text(struct bundle *b, const char *name, const char *path, struct error **err)
{
	AUTO_BUFFER struct buffer text = { 0 };
	AUTO_ERROR struct error *failed = NULL;
	AUTO_FREE char *clean = NULL;

	buffer_init(&text, LOG_MAX);
	if (read_path(b, path, &text, &failed) < 0) {
		note_missing(b, name, failed);
		return 0;
	}
	for (size_t i = 0; i < text.len; i++)
		if (!text.data[i])
			text.data[i] = '?';
	clean = redact_text(b->redactor, text.data ? text.data : "");
	return clean ? add_file(b, name, clean, err) : error_set_errno(err, ENOMEM, "cannot write %s", name);
}

static int add_metrics_of(struct bundle *b, const char *url, struct error **err)
{
	struct http_trust trust = { .insecure = true }; /* what it says is no secret, and it is told none */
	AUTO_ERROR struct error *failed = NULL;
	struct http_client *client = http_client_new(&trust, &failed);
	struct http_request request = { .url = url, .timeout_ms = 30000, .max_body = LOG_MAX };
	struct http_response response = { 0 };
	AUTO_FREE char *clean = NULL;
	int result = -1;

	if (!client || http_fetch(client, &request, &response, &failed) < 0) {
		note_missing(b, "metrics/metrics.txt", failed);
		result = 0;
	} else if ((clean = redact_text(b->redactor, response.body))) {
		result = add_file(b, "metrics/metrics.txt", clean, err);
	} else {
		error_set_errno(err, ENOMEM, "cannot write the metrics");
	}
	http_response_free(&response);
	http_client_free(client);
	return result;
}

static bool speaks_tls(const json_t *container)
{
	const json_t *arg;
	size_t i;

	json_array_foreach (json_object_get(container, "args"), i, arg)
		if (json_is_string(arg) && !strncmp(json_string_value(arg), "--tls-certificate", 17))
			return true;
	return false;
}

static int add_pod(struct bundle *b, const json_t *pod, struct error **err)
{
	const char *name = json_path_string(pod, "metadata.name");
	const json_t *container, *status;
	size_t i, k;

	json_array_foreach (json_path(pod, "spec.containers"), i, container) {
		const char *cname = json_path_string(container, "name");
		char file[384], path[640];
		int64_t restarts = 0;

		if (!name || !cname)
			continue;
		json_array_foreach (json_path(pod, "status.containerStatuses"), k, status)
			if (json_path_string(status, "name") && !strcmp(json_path_string(status, "name"), cname))
				restarts = json_integer_value(json_object_get(status, "restartCount"));
		for (int previous = 0; previous < (restarts ? 2 : 1); previous++) {
			snprintf(file, sizeof file, "logs/%s.%s%s.log", name, cname, previous ? ".previous" : "");
			snprintf(path, sizeof path, "/api/v1/namespaces/NAMESPACE/pods/%s/log?container=%s&tailLines=50000&limitBytes=%u%s",
				 name, cname, LOG_MAX - 1, previous ? "&previous=true" : "");
			if (add_text(b, file, path, err) < 0)
				return -1;
		}
		if (b->options->metrics)
			continue;
		snprintf(file, sizeof file, "metrics/%s.txt", name);
		snprintf(path, sizeof path, "/api/v1/namespaces/NAMESPACE/pods/%s%s:8080/proxy/metrics",
			 speaks_tls(container) ? "https:" : "", name);
		if (add_text(b, file, path, err) < 0)
			return -1;
	}
	return 0;
}

static int add_definitions(struct bundle *b, struct error **err)
{
	AUTO_JSON json_t *all = json_array();

	for (size_t i = 0; i < sizeof definitions / sizeof *definitions; i++) {
		AUTO_ERROR struct error *failed = NULL;
		char path[160];

		snprintf(path, sizeof path, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/%s.migration.harvesterhci.io",
			 definitions[i]);
		AUTO_JSON json_t *crd = read_json(b, path, &failed);
		if (!crd) {
			note_missing(b, path, failed);
			continue;
		}
		json_array_append_new(all, json_pack("{s:O*, s:O*, s:O*}", "metadata", json_object_get(crd, "metadata"), "conditions",
						     json_path(crd, "status.conditions"), "storedVersions",
						     json_path(crd, "status.storedVersions")));
	}
	return add_json(b, "objects/definitions.json", all, err);
}

static int collect(struct bundle *b, struct error **err)
{
	AUTO_JSON json_t *secrets = json_array(), *pods = NULL;
	char now[CLOCK_RFC3339_SIZE];
	AUTO_FREE char *about = NULL;
	const json_t *pod;
	size_t i;

	/* Before anything is written. */
	if (learn_secrets(b, secrets, err) < 0)
		return -1;
	clock_rfc3339(now);
	if (asprintf(&about, "vm-import-controller %s\ntime %s\nnamespace %s\n", b->options->version, now, b->options->ns) < 0)
		about = NULL;
	if (!about || add_file(b, "about.txt", about, err) < 0 || add_json(b, "objects/secrets.json", secrets, err) < 0 ||
	    add_definitions(b, err) < 0)
		return err && *err ? -1 : error_set_errno(err, ENOMEM, "cannot write the bundle");
	for (i = 0; i < sizeof lists / sizeof *lists; i++) {
		AUTO_ERROR struct error *failed = NULL;
		AUTO_JSON json_t *json = read_json(b, lists[i].path, &failed);

		if (!json)
			note_missing(b, lists[i].file, failed);
		else if (add_json(b, lists[i].file, json, err) < 0)
			return -1;
		if (json && !strcmp(lists[i].file, "controller/pods.json"))
			pods = json_incref(json);
	}
	json_array_foreach (json_object_get(pods, "items"), i, pod)
		if (add_pod(b, pod, err) < 0)
			return -1;
	if (b->options->metrics && add_metrics_of(b, b->options->metrics, err) < 0)
		return -1;
	return b->errors.len ? add_file(b, "errors.txt", b->errors.data, err) : 0;
}

static int open_archive(struct bundle *b, int fd, struct error **err)
{
	b->archive = archive_write_new();
	if (!b->archive || archive_write_set_format_pax_restricted(b->archive) != ARCHIVE_OK ||
	    archive_write_add_filter_gzip(b->archive) != ARCHIVE_OK || archive_write_open_fd(b->archive, fd) != ARCHIVE_OK)
		return error_set(err, ERROR_PERMANENT, "CannotWrite", "cannot write the bundle: %s",
				 b->archive ? archive_error_string(b->archive) : "no memory");
	return 0;
}

int bundle_write(const struct bundle_options *options, struct bundle_result *result, struct error **err)
{
	struct bundle b = { .options = options };
	AUTO_JSON json_t *version = NULL;
	AUTO_FD int fd = -1;
	char now[CLOCK_RFC3339_SIZE];
	int done = -1;

	buffer_init(&b.errors, 1 << 20);
	clock_rfc3339(now);
	snprintf(b.directory, sizeof b.directory, "vm-import-support-%.10s", now);
	version = read_json(&b, "/version", err);
	if (!version)
		return error_wrap(err, "the cluster does not answer");
	/* Not for others to read, whatever is in it. */
	fd = strcmp(options->path, "-") ? open(options->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : dup(STDOUT_FILENO);
	if (fd < 0)
		return error_set_errno(err, errno, "cannot write %s", options->path);
	b.redactor = redactor_new(err);
	if (b.redactor && open_archive(&b, fd, err) == 0 && collect(&b, err) == 0) {
		done = archive_write_close(b.archive) == ARCHIVE_OK
			       ? 0
			       : error_set_errno(err, archive_errno(b.archive), "cannot write the bundle");
		*result = b.result;
	}
	archive_write_free(b.archive);
	redactor_free(b.redactor);
	buffer_free(&b.errors);
	if (done < 0 && strcmp(options->path, "-"))
		unlink(options->path);
	return done;
}
