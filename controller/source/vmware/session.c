#include "source/vmware/session.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "json/codec.h"

#define CALL_MS 60000
#define CALL_TRIES 3 /* as often a call goes out when the session is lost each time */
#define LOGOUT_MS 5000
#define ANSWER_MAX (16u << 20)
#define COOKIE "vmware_soap_session="

struct vmware_session {
	struct http_client *http;
	char *endpoint, *host, *user, *password;
	const char *action;  /* the SOAPAction header's value */
	const char *trusted; /* what certificates are checked by, for messages */
	struct vmware_content content;
	pthread_mutex_t lock; /* guards cookie, key and logins */
	char *cookie, *key;
	unsigned logins;
	pthread_mutex_t login; /* one login at a time; taken before lock */
};

/* The certificate of the endpoint is not trusted: what the user can do about it. */
static void advise(const struct vmware_session *s, struct error **err)
{
	char *message = NULL;

	if (!err || !*err || strcmp((*err)->reason, "TLSFailed") || (*err)->class != ERROR_PERMANENT)
		return;
	if (asprintf(&message,
		     "%s; it was checked by %s: if this is the right one, put its CA's certificate into the Secret's key caCert, or its "
		     "fingerprint into the key thumbprint",
		     (*err)->message, s->trusted) < 0)
		return;
	free((*err)->message);
	(*err)->message = message;
}

/* The session's cookie in an answer as "name=value", owned, or NULL. */
static char *cookie_of(const struct http_response *response)
{
	static const char name[] = "Set-Cookie:";

	for (const char *line = response->headers; line && *line; line = strchr(line, '\n'), line += line != NULL) {
		const char *value = line + sizeof name - 1;

		if (strncasecmp(line, name, sizeof name - 1))
			continue;
		value += strspn(value, " \t");
		if (!strncmp(value, COOKIE, sizeof COOKIE - 1))
			return strndup(value, strcspn(value, ";\r\n"));
	}
	return NULL;
}

static int status_error(const struct vmware_session *s, const char *method, const struct http_response *r, struct error **err)
{
	bool elsewhere = r->status < 400 || r->status == 404 || r->status == 405;

	return error_set_code(err, r->status < 500 && r->status != 408 && r->status != 429 ? ERROR_PERMANENT : ERROR_TRANSIENT,
			      "HTTPStatus", r->status, "%s answered %s with HTTP status %d%s", s->endpoint, method, r->status,
			      elsewhere ? "; spec.endpoint must be the URL of a vSphere SDK, as https://vcenter.example.com/sdk" : "");
}

static void wipe(struct buffer *b)
{
	if (b->data)
		explicit_bzero(b->data, b->len);
	buffer_free(b);
}

/* One exchange. With new_cookie it is one of nobody, and *new_cookie becomes what the server gave; else of whoever is logged in. */
static xmlDoc *exchange(struct vmware_session *s, unsigned timeout_ms, const char *method, struct vmware_ref self, const char *arguments,
			xmlNode **result, char **new_cookie, struct cancel *cancel, struct error **err)
{
	CLEANUP(wipe) struct buffer body;
	AUTO_RESPONSE struct http_response response = { 0 };
	AUTO_FREE char *action = NULL, *header = NULL;
	xmlDoc *doc;

	buffer_init(&body, 1 << 20);
	if (soap_add_request(&body, method, self, arguments) < 0 || asprintf(&action, "SOAPAction: %s", s->action) < 0) {
		action = NULL;
		goto memory;
	}
	if (!new_cookie) {
		LOCK_GUARD(&s->lock);
		if (asprintf(&header, "Cookie: %s", s->cookie ? s->cookie : "") < 0) {
			header = NULL;
			goto memory;
		}
	}
	const char *headers[] = { "Content-Type: text/xml; charset=utf-8", action, header, NULL };
	struct http_request request = { .method = "POST",
					.url = s->endpoint,
					.headers = headers,
					.body = body.data,
					.body_len = body.len,
					.timeout_ms = timeout_ms,
					.max_body = ANSWER_MAX,
					.cancel = cancel };
	if (http_perform(s->http, &request, &response, err) < 0) {
		advise(s, err);
		return NULL;
	}
	if (response.status != 200 && response.status != 500) { /* a fault comes with 500: SOAP 1.1, section 6.2 */
		status_error(s, method, &response, err);
		return NULL;
	}
	doc = soap_decode(method, response.body, response.body_len, result, err);
	if (!doc && err && *err && !strcmp((*err)->reason, "InvalidAnswer"))
		error_wrap(err, "%s", s->endpoint);
	if (doc && new_cookie)
		*new_cookie = cookie_of(&response);
	return doc;
memory:
	error_set_errno(err, ENOMEM, "cannot make the request %s", method);
	return NULL;
}

static struct vmware_ref manager_of(const struct vmware_session *s)
{
	return (struct vmware_ref){ "SessionManager", s->content.session_manager };
}

static int log_in(struct vmware_session *s, unsigned timeout_ms, struct cancel *cancel, struct error **err)
{
	CLEANUP(wipe) struct buffer arguments;
	AUTO_XML xmlDoc *doc = NULL;
	AUTO_ERROR struct error *failed = NULL;
	AUTO_FREE char *cookie = NULL, *key = NULL;
	xmlNode *result = NULL;

	buffer_init(&arguments, 65536);
	xml_add(&arguments, "userName", s->user);
	xml_add(&arguments, "password", s->password);
	if (arguments.failed)
		return error_set_errno(err, ENOMEM, "cannot log in");
	/* Without a cookie, so that the server must give one: those of other answers may be of sessions that nobody is logged in to. */
	doc = exchange(s, timeout_ms, "Login", manager_of(s), arguments.data, &result, &cookie, cancel, &failed);
	if (!doc && !strcmp(failed->reason, "InvalidLogin"))
		return error_set(err, ERROR_PERMANENT, "InvalidLogin",
				 "%s refused the login of user %s; correct username and password in the Secret that spec.credentials names",
				 s->endpoint, s->user);
	if (!doc) {
		error_wrap(&failed, "user %s cannot log in", s->user);
		return error_move(err, move_ptr(failed));
	}
	key = xml_path_text(result, "returnval/key");
	if (!cookie || !key)
		return error_set(err, ERROR_TRANSIENT, "InvalidAnswer", "%s answered the login with no session", s->endpoint);
	LOCK_GUARD(&s->lock);
	free(s->cookie);
	s->cookie = move_ptr(cookie);
	free(s->key);
	s->key = move_ptr(key);
	s->logins++;
	return 0;
}

unsigned vmware_session_logins(struct vmware_session *s)
{
	LOCK_GUARD(&s->lock);
	return s->logins;
}

static void log_out(struct vmware_session *s, struct cancel *cancel)
{
	xmlNode *result;
	AUTO_XML xmlDoc *doc = exchange(s, LOGOUT_MS, "Logout", manager_of(s), "", &result, NULL, cancel, NULL);

	(void)doc; /* a session that is gone already is logged out */
}

xmlDoc *vmware_call_within(struct vmware_session *s, unsigned timeout_ms, const char *method, struct vmware_ref self, const char *arguments,
			   xmlNode **result, struct cancel *cancel, struct error **err)
{
	for (unsigned attempt = 1;; attempt++) {
		unsigned logins = vmware_session_logins(s);
		AUTO_ERROR struct error *failed = NULL;
		xmlDoc *doc = exchange(s, timeout_ms, method, self, arguments, result, NULL, cancel, &failed);

		if (doc)
			return doc;
		if (strcmp(failed->reason, "NotAuthenticated") || attempt == CALL_TRIES) {
			error_move(err, move_ptr(failed));
			return NULL;
		}
		LOCK_GUARD(&s->login);
		/* Somebody else may have done it meanwhile. */
		if (vmware_session_logins(s) != logins)
			continue;
		/* Whatever was lost, nothing of the old session may stay: its leases would hold their machines. */
		log_out(s, cancel);
		if (log_in(s, timeout_ms, cancel, err) < 0)
			return NULL;
	}
}

xmlDoc *vmware_call(struct vmware_session *s, const char *method, struct vmware_ref self, const char *arguments, xmlNode **result,
		    struct cancel *cancel, struct error **err)
{
	return vmware_call_within(s, CALL_MS, method, self, arguments, result, cancel, err);
}

static int retrieve_content(struct vmware_session *s, struct cancel *cancel, struct error **err)
{
	AUTO_XML xmlDoc *doc = NULL;
	AUTO_FREE char *version = NULL, *cookie = NULL;
	xmlNode *result = NULL;

	doc = exchange(s, CALL_MS, "RetrieveServiceContent", (struct vmware_ref){ "ServiceInstance", "ServiceInstance" }, "", &result,
		       &cookie, cancel, err);
	if (!doc)
		return -1;
	version = xml_path_text(result, "returnval/about/apiVersion");
	s->action = soap_action(version);
	s->content.property_collector = xml_path_text(result, "returnval/propertyCollector");
	s->content.session_manager = xml_path_text(result, "returnval/sessionManager");
	s->content.root_folder = xml_path_text(result, "returnval/rootFolder");
	s->content.authorization_manager = xml_path_text(result, "returnval/authorizationManager");
	if (!s->content.property_collector || !s->content.session_manager || !s->content.root_folder)
		return error_set(err, ERROR_PERMANENT, "NotVSphere", "%s is no vSphere endpoint: it names no property collector",
				 s->endpoint);
	return 0;
}

/* A required key of the Secret, borrowed. */
static const char *key_of(const json_t *secret, const char *key, struct error **err)
{
	const char *value = json_string_value(json_object_get(secret, key));

	if (!secret)
		error_set(err, ERROR_PERMANENT, "SecretMissing",
			  "spec.credentials names no Secret; it must hold the keys username and password");
	else if (!value || !*value)
		error_set(err, ERROR_PERMANENT, "SecretKeyMissing", "the Secret that spec.credentials names has no key \"%s\"; add it",
			  key);
	return secret && value && *value ? value : NULL;
}

/* Trust by the Secret's keys; when it has none of them, by the system's CAs or first use. */
static struct http_client *client_of(const json_t *secret, const char *pin, const char **trusted, struct error **err)
{
	const char *thumbprint = json_string_value(json_object_get(secret, "thumbprint"));
	const char *insecure = json_string_value(json_object_get(secret, "insecure"));
	const char *ca = json_string_value(json_object_get(secret, "caCert")), *key = NULL;
	struct http_trust trust = { 0 };
	struct http_client *http;

	if (ca && *ca) {
		trust.ca_pem = ca;
		key = "caCert";
		*trusted = "the CA that the Secret gives in caCert";
	} else if (thumbprint && *thumbprint) {
		*(strlen(thumbprint) > 60 ? &trust.pin_sha256 : &trust.pin_sha1) = thumbprint; /* 40 digits and 19 colons */
		key = "thumbprint";
		*trusted = "the fingerprint that the Secret gives in thumbprint";
	} else if (insecure && !strcasecmp(insecure, "true")) {
		trust.insecure = true;
	} else {
		*trusted = "the system's CAs, or what was seen first";
		trust.first_use = true;
		trust.pin_sha256 = pin && *pin ? pin : NULL;
	}
	http = http_client_new(&trust, err);
	if (!http && key)
		error_wrap(err, "key %s of the Secret that spec.credentials names", key);
	return http;
}

/* The endpoint's URL without user and password, with /sdk where it names no path. */
static int set_endpoint(struct vmware_session *s, const char *endpoint, struct error **err)
{
	const char *host = strstr(endpoint, "://"), *at;
	size_t len, path;

	if (!host || (strncasecmp(endpoint, "https://", 8) && strncasecmp(endpoint, "http://", 7)) || !strcspn(host + 3, "/?#")) {
		error_set(err, ERROR_PERMANENT, "InvalidEndpoint", "spec.endpoint \"%s\" is no URL such as https://vcenter.example.com/sdk",
			  endpoint);
		return -1;
	}
	host += 3;
	len = strcspn(host, "/?#");
	at = memrchr(host, '@', len);
	s->host = at ? strndup(at + 1, len - (size_t)(at + 1 - host)) : strndup(host, len);
	path = strcspn(host + len, "?#");
	while (path && host[len + path - 1] == '/')
		path--;
	if (!s->host || asprintf(&s->endpoint, "%.*s%s%.*s", (int)(host - endpoint), endpoint, s->host, path ? (int)path : 4,
				 path ? host + len : "/sdk") < 0) {
		s->endpoint = NULL;
		return error_set_errno(err, ENOMEM, "cannot open a session");
	}
	return 0;
}

struct vmware_session *vmware_session_open(const char *endpoint, const json_t *secret, const char *pin, struct cancel *cancel,
					   struct error **err)
{
	const char *user = key_of(secret, "username", err), *password = user ? key_of(secret, "password", err) : NULL;
	struct vmware_session *s;

	if (!password)
		return NULL;
	s = calloc(1, sizeof *s);
	if (!s) {
		error_set_errno(err, ENOMEM, "cannot open a session");
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->login, NULL);
	s->action = soap_action(NULL);
	s->trusted = "nothing"; /* insecure */
	s->user = strdup(user);
	s->password = strdup(password);
	if (!s->user || !s->password)
		error_set_errno(err, ENOMEM, "cannot open a session");
	else if (set_endpoint(s, endpoint, err) == 0 && (s->http = client_of(secret, pin, &s->trusted, err)) &&
		 retrieve_content(s, cancel, err) == 0 && log_in(s, CALL_MS, cancel, err) == 0)
		return s;
	vmware_session_close(s);
	return NULL;
}

void vmware_session_close(struct vmware_session *s)
{
	if (!s)
		return;
	if (s->key)
		log_out(s, NULL);
	http_client_free(s->http);
	if (s->password)
		explicit_bzero(s->password, strlen(s->password));
	free(s->endpoint);
	free(s->host);
	free(s->user);
	free(s->password);
	free(s->content.property_collector);
	free(s->content.session_manager);
	free(s->content.root_folder);
	free(s->content.authorization_manager);
	free(s->cookie);
	free(s->key);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->login);
	free(s);
}

const struct vmware_content *vmware_session_content(const struct vmware_session *s)
{
	return &s->content;
}

const char *vmware_session_host(const struct vmware_session *s)
{
	return s->host;
}

struct http_client *vmware_session_http(struct vmware_session *s)
{
	return s->http;
}

char *vmware_session_pin(struct vmware_session *s)
{
	return http_client_first_use(s->http);
}

char *vmware_session_cookie(struct vmware_session *s)
{
	LOCK_GUARD(&s->lock);
	return strdup(s->cookie ? s->cookie : "");
}

char *vmware_session_key(struct vmware_session *s)
{
	LOCK_GUARD(&s->lock);
	return s->key ? strdup(s->key) : NULL;
}
