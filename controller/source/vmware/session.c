#include "source/vmware/session.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "json/codec.h"

#define CALL_MS 60000
#define ANSWER_MAX (64u << 20)
#define TASK_POLL_MS 300
#define PAGE "1000"

struct vmware_session {
	struct http_client *http;
	char *endpoint, *host, *user, *password;
	char *property_collector, *session_manager, *root_folder;
	pthread_mutex_t lock;  /* guards cookie, key and generation */
	char *cookie, *key;
	unsigned generation;   /* counts logins */
	pthread_mutex_t login; /* one login at a time; taken before lock */
};

/* The class of a fault by its type; what is not listed may pass. */
static enum error_class class_of_fault(const char *type)
{
	static const char *const permanent[] = { "InvalidLogin",     "InvalidPowerState", "ToolsUnavailable", "NoPermission", "InvalidArgument",
						 "NotSupported",     "InvalidLocale",	  "InvalidProperty",  "MethodNotFound", "RestrictedVersion" };

	if (!strcmp(type, "ManagedObjectNotFound") || !strcmp(type, "NotFound"))
		return ERROR_NOT_FOUND;
	for (size_t i = 0; i < sizeof permanent / sizeof *permanent; i++)
		if (!strcmp(type, permanent[i]))
			return ERROR_PERMANENT;
	return ERROR_TRANSIENT;
}

static int fault_error(const char *method, const xmlNode *fault, struct error **err)
{
	const xmlNode *detail = xml_first(xml_child(fault, "detail"));
	AUTO_FREE char *text = xml_path_text(fault, "faultstring"), *type = xml_type(detail);
	size_t len;

	if (!type && detail) /* <InvalidLoginFault> */
		type = strdup((const char *)detail->name);
	len = type ? strlen(type) : 0;
	if (len > 5 && !strcmp(type + len - 5, "Fault") && strcmp(type, "FileFault") && strcmp(type, "RuntimeFault") && strcmp(type, "SystemFault"))
		type[len - 5] = 0;
	return error_set(err, class_of_fault(type ? type : ""), type ? type : "SOAPFault", "%s: %s%s%s%s", method, text && *text ? text : "the server refused",
			 type ? " (" : "", type ? type : "", type ? ")" : "");
}

/* One exchange, as whoever is logged in. */
static xmlDoc *exchange(struct vmware_session *s, const char *method, struct vmware_ref self, const char *arguments, xmlNode **result,
			struct cancel *cancel, struct error **err)
{
	CLEANUP(buffer_free) struct buffer body = { 0 };
	AUTO_RESPONSE struct http_response response = { 0 };
	AUTO_FREE char *cookie = NULL, *set_cookie = NULL, *header = NULL;
	AUTO_XML xmlDoc *doc = NULL;
	const xmlNode *fault, *soap_body;

	buffer_init(&body, 1 << 20);
	buffer_add_string(&body, "<?xml version=\"1.0\" encoding=\"UTF-8\"?><soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" "
				 "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\"><soapenv:Body>");
	buffer_addf(&body, "<%s xmlns=\"urn:vim25\"><_this type=\"%s\">", method, self.type);
	xml_add_escaped(&body, self.value);
	buffer_addf(&body, "</_this>%s</%s></soapenv:Body></soapenv:Envelope>", arguments, method);
	pthread_mutex_lock(&s->lock);
	cookie = s->cookie ? strdup(s->cookie) : NULL;
	pthread_mutex_unlock(&s->lock);
	if (body.failed || asprintf(&header, "Cookie: %s", cookie ? cookie : "") < 0) {
		error_set_errno(err, ENOMEM, "cannot make the request %s", method);
		return NULL;
	}
	const char *headers[] = { "Content-Type: text/xml; charset=utf-8", "SOAPAction: \"urn:vim25/6.5\"", cookie ? header : NULL, NULL };
	struct http_request request = { .method = "POST",
					.url = s->endpoint,
					.headers = headers,
					.body = body.data,
					.body_len = body.len,
					.timeout_ms = CALL_MS,
					.max_body = ANSWER_MAX,
					.cancel = cancel };
	if (http_perform(s->http, &request, &response, err) < 0)
		return NULL;
	if (response.status != 200 && response.status != 500) {
		error_set_code(err, response.status == 404 || response.status == 403 || response.status == 401 ? ERROR_PERMANENT : ERROR_TRANSIENT, "HTTPStatus",
			       response.status, "%s answered %s with status %d; is this the URL of a vSphere SDK (https://HOST/sdk)?", s->endpoint, method,
			       response.status);
		return NULL;
	}
	doc = xml_parse(response.body, response.body_len, err);
	if (!doc) {
		error_wrap(err, "%s", s->endpoint);
		return NULL;
	}
	soap_body = xml_child(xmlDocGetRootElement(doc), "Body");
	fault = xml_child(soap_body, "Fault");
	if (fault) {
		fault_error(method, fault, err);
		return NULL;
	}
	if (!xml_first(soap_body)) {
		error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "%s answered %s with no SOAP body", s->endpoint, method);
		return NULL;
	}
	set_cookie = http_response_header(&response, "Set-Cookie");
	if (set_cookie && !strncmp(set_cookie, "vmware_soap_session=", 20)) {
		set_cookie[strcspn(set_cookie, ";")] = 0;
		LOCK_GUARD(&s->lock);
		free(s->cookie);
		s->cookie = move_ptr(set_cookie);
	}
	*result = xml_first(soap_body);
	return move_ptr(doc);
}

static int log_in(struct vmware_session *s, struct cancel *cancel, struct error **err)
{
	CLEANUP(buffer_free) struct buffer arguments = { 0 };
	AUTO_XML xmlDoc *doc = NULL;
	AUTO_ERROR struct error *failed = NULL;
	xmlNode *result = NULL;

	buffer_init(&arguments, 65536);
	xml_add(&arguments, "userName", s->user);
	xml_add(&arguments, "password", s->password);
	pthread_mutex_lock(&s->lock);
	free(s->cookie);
	s->cookie = NULL;
	pthread_mutex_unlock(&s->lock);
	doc = exchange(s, "Login", (struct vmware_ref){ "SessionManager", s->session_manager }, arguments.data, &result, cancel, &failed);
	explicit_bzero(arguments.data, arguments.len);
	if (!doc && !strcmp(failed->reason, "InvalidLogin"))
		return error_set(err, ERROR_PERMANENT, "InvalidLogin",
				 "%s refused the login of user %s; correct username and password in the Secret that spec.credentials names", s->endpoint, s->user);
	if (!doc)
		return error_move(err, move_ptr(failed));
	LOCK_GUARD(&s->lock);
	free(s->key);
	s->key = xml_path_text(result, "returnval/key");
	s->generation++;
	return 0;
}

static unsigned generation_of(struct vmware_session *s)
{
	LOCK_GUARD(&s->lock);
	return s->generation;
}

xmlDoc *vmware_call(struct vmware_session *s, const char *method, struct vmware_ref self, const char *arguments, xmlNode **result,
		    struct cancel *cancel, struct error **err)
{
	unsigned generation = generation_of(s);
	AUTO_ERROR struct error *failed = NULL;
	xmlDoc *doc = exchange(s, method, self, arguments, result, cancel, &failed);

	if (!doc && !strcmp(failed->reason, "NotAuthenticated")) {
		{
			LOCK_GUARD(&s->login);
			/* Somebody else may have done it meanwhile. */
			if (generation_of(s) == generation && log_in(s, cancel, err) < 0)
				return NULL;
		}
		error_free(move_ptr(failed));
		doc = exchange(s, method, self, arguments, result, cancel, &failed);
	}
	if (!doc)
		error_move(err, move_ptr(failed));
	return doc;
}

static int retrieve_content(struct vmware_session *s, struct cancel *cancel, struct error **err)
{
	AUTO_XML xmlDoc *doc = NULL;
	xmlNode *result = NULL;

	doc = exchange(s, "RetrieveServiceContent", (struct vmware_ref){ "ServiceInstance", "ServiceInstance" }, "", &result, cancel, err);
	if (!doc)
		return -1;
	s->property_collector = xml_path_text(result, "returnval/propertyCollector");
	s->session_manager = xml_path_text(result, "returnval/sessionManager");
	s->root_folder = xml_path_text(result, "returnval/rootFolder");
	if (!s->property_collector || !s->session_manager || !s->root_folder)
		return error_set(err, ERROR_PERMANENT, "NotVSphere", "%s is no vSphere endpoint: it names no property collector", s->endpoint);
	return 0;
}

/* A required key of the Secret, borrowed. */
static const char *key_of(const json_t *secret, const char *key, struct error **err)
{
	const char *value = json_string_value(json_object_get(secret, key));

	if (!secret)
		error_set(err, ERROR_PERMANENT, "SecretMissing", "spec.credentials names no Secret; it must hold the keys username and password");
	else if (!value || !*value)
		error_set(err, ERROR_PERMANENT, "SecretKeyMissing", "the Secret that spec.credentials names has no key \"%s\"; add it", key);
	return secret && value && *value ? value : NULL;
}

/* The certificate of an endpoint is not trusted: what the user can do about it. */
static void advise(struct error **err)
{
	char *message = NULL;

	if (!err || !*err || strcmp((*err)->reason, "TLSFailed") || (*err)->class != ERROR_PERMANENT)
		return;
	if (asprintf(&message, "%s; put the CA's certificate into the Secret's key caCert, or the certificate's fingerprint into its key thumbprint",
		     (*err)->message) < 0)
		return;
	free((*err)->message);
	(*err)->message = message;
}

static void set_trust(const json_t *secret, struct http_trust *trust)
{
	const char *thumbprint = json_string_value(json_object_get(secret, "thumbprint"));
	const char *insecure = json_string_value(json_object_get(secret, "insecure"));
	const char *ca = json_string_value(json_object_get(secret, "caCert"));

	if (ca && *ca)
		trust->ca_pem = ca;
	else if (thumbprint && *thumbprint)
		*(strlen(thumbprint) > 60 ? &trust->pin_sha256 : &trust->pin_sha1) = thumbprint;
	else if (insecure && !strcmp(insecure, "true"))
		trust->insecure = true;
}

struct vmware_session *vmware_session_open(const char *endpoint, const json_t *secret, struct cancel *cancel, struct error **err)
{
	const char *user = key_of(secret, "username", err), *password = user ? key_of(secret, "password", err) : NULL;
	const char *host = strstr(endpoint, "://");
	struct http_trust trust = { 0 };
	struct vmware_session *s;

	if (!password)
		return NULL;
	if (!host || (strncmp(endpoint, "https://", 8) && strncmp(endpoint, "http://", 7)) || !host[3]) {
		error_set(err, ERROR_PERMANENT, "InvalidEndpoint", "spec.endpoint \"%s\" is no URL such as https://vcenter.example.com/sdk", endpoint);
		return NULL;
	}
	s = calloc(1, sizeof *s);
	if (!s) {
		error_set_errno(err, ENOMEM, "cannot open a session");
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->login, NULL);
	host += 3;
	s->host = strndup(host, strcspn(host, "/?#"));
	/* A bare host means its SDK. */
	const char *path = host + strlen(s->host ? s->host : "");
	if (asprintf(&s->endpoint, "%.*s%s", (int)(path - endpoint), endpoint, !*path || !strcmp(path, "/") ? "/sdk" : path) < 0)
		s->endpoint = NULL;
	s->user = strdup(user);
	s->password = strdup(password);
	set_trust(secret, &trust);
	s->http = http_client_new(&trust, err);
	if (!s->http || !s->endpoint || !s->host || retrieve_content(s, cancel, err) < 0 || log_in(s, cancel, err) < 0) {
		advise(err);
		vmware_session_close(s);
		return NULL;
	}
	return s;
}

void vmware_session_close(struct vmware_session *s)
{
	if (!s)
		return;
	if (s->key) {
		xmlNode *result;
		AUTO_XML xmlDoc *doc = exchange(s, "Logout", (struct vmware_ref){ "SessionManager", s->session_manager }, "", &result, NULL, NULL);

		(void)doc; /* a session that is gone already is logged out */
	}
	http_client_free(s->http);
	if (s->password)
		explicit_bzero(s->password, strlen(s->password));
	free(s->endpoint);
	free(s->host);
	free(s->user);
	free(s->password);
	free(s->property_collector);
	free(s->session_manager);
	free(s->root_folder);
	free(s->cookie);
	free(s->key);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->login);
	free(s);
}

xmlNode *vmware_property(const xmlNode *objects, const char *name)
{
	for (xmlNode *set = xml_child(objects, "propSet"); set; set = xml_next(set, "propSet"))
		if (xml_path_is(set, "name", name))
			return xml_child(set, "val");
	return NULL;
}

xmlDoc *vmware_properties(struct vmware_session *s, struct vmware_ref object, const char *const *paths, xmlNode **node, struct cancel *cancel,
			  struct error **err)
{
	CLEANUP(buffer_free) struct buffer a = { 0 };
	AUTO_XML xmlDoc *doc = NULL;
	xmlNode *result = NULL;

	buffer_init(&a, 65536);
	buffer_addf(&a, "<specSet><propSet><type>%s</type>", object.type);
	for (; *paths; paths++)
		xml_add(&a, "pathSet", *paths);
	buffer_addf(&a, "</propSet><objectSet><obj type=\"%s\">", object.type);
	xml_add_escaped(&a, object.value);
	buffer_add_string(&a, "</obj></objectSet></specSet><options/>");
	doc = vmware_call(s, "RetrievePropertiesEx", (struct vmware_ref){ "PropertyCollector", s->property_collector }, a.data, &result, cancel, err);
	if (!doc)
		return NULL;
	*node = xml_path(result, "returnval/objects");
	if (!*node) {
		error_set(err, ERROR_NOT_FOUND, "ManagedObjectNotFound", "the %s %s does not exist", object.type, object.value);
		return NULL;
	}
	return move_ptr(doc);
}

int vmware_retrieve(struct vmware_session *s, const char *spec_set, int (*each)(void *arg, const xmlNode *objects), void *arg,
		    struct cancel *cancel, struct error **err)
{
	struct vmware_ref collector = { "PropertyCollector", s->property_collector };
	AUTO_FREE char *arguments = NULL, *token = NULL;
	const char *method = "RetrievePropertiesEx";

	if (asprintf(&arguments, "%s<options><maxObjects>" PAGE "</maxObjects></options>", spec_set) < 0) {
		arguments = NULL;
		return error_set_errno(err, ENOMEM, "cannot read the inventory");
	}
	for (;;) {
		CLEANUP(buffer_free) struct buffer next = { 0 };
		AUTO_XML xmlDoc *doc = NULL;
		xmlNode *result = NULL;

		buffer_init(&next, 65536);
		doc = vmware_call(s, method, collector, arguments, &result, cancel, err);
		if (!doc)
			return -1;
		for (xmlNode *o = xml_path(result, "returnval/objects"); o; o = xml_next(o, "objects"))
			if (each(arg, o) < 0)
				return error_set_errno(err, ENOMEM, "cannot keep the inventory");
		free(token);
		token = xml_path_text(result, "returnval/token");
		if (!token || !*token)
			return 0;
		xml_add(&next, "token", token);
		free(arguments);
		arguments = buffer_steal(&next);
		method = "ContinueRetrievePropertiesEx";
	}
}

int vmware_wait_task(struct vmware_session *s, const xmlNode *result, struct cancel *cancel, struct error **err)
{
	static const char *const paths[] = { "info.state", "info.error", NULL };
	AUTO_FREE char *task = xml_path_text(result, "returnval");

	if (!task)
		return error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "the server named no task");
	for (;;) {
		xmlNode *objects = NULL;
		AUTO_XML xmlDoc *doc = vmware_properties(s, (struct vmware_ref){ "Task", task }, paths, &objects, cancel, err);
		AUTO_FREE char *state = xml_text(vmware_property(objects, "info.state"));

		if (!doc)
			return -1;
		if (state && !strcmp(state, "success"))
			return 0;
		if (state && !strcmp(state, "error")) {
			const xmlNode *fault = vmware_property(objects, "info.error");
			AUTO_FREE char *text = xml_path_text(fault, "localizedMessage"), *type = xml_type(xml_child(fault, "fault"));

			return error_set(err, class_of_fault(type ? type : ""), type ? type : "TaskFailed", "the task failed: %s", text && *text ? text : type ? type : "no reason given");
		}
		if (cancel_wait(cancel, TASK_POLL_MS))
			return cancel_check(cancel, err);
	}
}

const char *vmware_root_folder(const struct vmware_session *s)
{
	return s->root_folder;
}

const char *vmware_session_manager(const struct vmware_session *s)
{
	return s->session_manager;
}

const char *vmware_endpoint_host(const struct vmware_session *s)
{
	return s->host;
}

char *vmware_session_key(struct vmware_session *s)
{
	LOCK_GUARD(&s->lock);
	return s->key ? strdup(s->key) : NULL;
}
