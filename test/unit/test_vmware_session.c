// links: source/vmware net api json base PkgConfig::jansson PkgConfig::xml PkgConfig::ssl PkgConfig::crypto
/* A session with a vSphere that loses sessions, hands out cookies of nobody's, and gives its inventory in pages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "http_server.h"
#include "source/vmware/property.h"
#include "source/vmware/session.h"
#include "source/vmware/wait.h"
#include "json/codec.h"

#define PASSWORD "p<a>&ss"

static struct {
	atomic_uint session, logins, logouts, refused, pages, drop_at_page;
	atomic_uint collectors, destroyed, waits, drop_at_wait, leave_at_wait;
	_Atomic(const char *) password;
	atomic_bool wrong_action, cookie_at_login, enough, endless;
} vsphere;

static bool soap(struct conn *c, int status, const char *cookies, const char *body)
{
	char text[4096];
	int len = snprintf(
		text, sizeof text,
		"<e:Envelope xmlns:e=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><e:Body>%s"
		"</e:Body></e:Envelope>",
		body);

	return conn_answer(c, status, cookies, text, (size_t)len);
}

static bool fault(struct conn *c, const char *type)
{
	char body[512];

	vsphere.refused++;
	snprintf(body, sizeof body, "<e:Fault><faultstring>no</faultstring><detail><%sFault xsi:type=\"%s\"/></detail></e:Fault>", type,
		 type);
	return soap(c, 500, "Set-Cookie: vmware_soap_session=\"nobody\"; Path=/\r\n", body);
}

static bool page(struct conn *c, bool first)
{
	unsigned n = first ? 1 : ++vsphere.pages;
	char body[512];

	if (first)
		vsphere.pages = 1;
	if (n == vsphere.drop_at_page) {
		vsphere.drop_at_page = 0;
		vsphere.session++;
		return fault(c, "NotAuthenticated");
	}
	snprintf(body, sizeof body, "<R><returnval>%s<objects><obj type=\"Folder\">group-%u</obj></objects></returnval></R>",
		 n < 3 || vsphere.endless ? "<token>t</token>" : "", n);
	return soap(c, 200, "", body);
}

/* A task that is first running, then nothing new is to be told of it, then it is done. A collector lives as long as its session. */
static bool update(struct conn *c, const char *text)
{
	unsigned n = ++vsphere.waits;
	char body[512], own[64];

	snprintf(own, sizeof own, "type=\"PropertyCollector\">collector-%u<", vsphere.session);
	if (!strstr(text, own))
		return fault(c, "ManagedObjectNotFound");
	if (n == vsphere.drop_at_wait) {
		vsphere.session++;
		return fault(c, "NotAuthenticated");
	}
	snprintf(body, sizeof body,
		 "<R><returnval><version>%u</version><filterSet><objectSet><kind>%s</kind><changeSet><name>info.state</name><val>%s</val>"
		 "</changeSet></objectSet></filterSet></returnval></R>",
		 n, n == vsphere.leave_at_wait ? "leave" : "modify", n < 3 ? "running" : "success");
	return soap(c, 200, "", n == 2 && n != vsphere.leave_at_wait ? "<R/>" : body);
}

static bool collect(struct conn *c, const char *text)
{
	char body[128];

	if (strstr(text, "<WaitForUpdatesEx "))
		return update(c, text);
	if (strstr(text, "<DestroyPropertyCollector "))
		vsphere.destroyed++;
	if (!strstr(text, "<CreatePropertyCollector "))
		return soap(c, 200, "", "<R><returnval>fine</returnval></R>");
	vsphere.collectors++;
	snprintf(body, sizeof body, "<R><returnval type=\"PropertyCollector\">collector-%u</returnval></R>", vsphere.session);
	return soap(c, 200, "", body);
}

static bool handle(struct conn *c, const struct server_request *r, void *arg)
{
	char cookie[64];
	const char *wanted_action = "SOAPAction: \"urn:vim25/6.7\"";

	(void)arg;
	if (strstr(r->body, "<RetrieveServiceContent ")) {
		return soap(c, 200, "Set-Cookie: vmware_soap_session=\"nobody\"; Path=/\r\n",
			    "<R><returnval><rootFolder type=\"Folder\">group-d1</rootFolder><propertyCollector>pc</propertyCollector>"
			    "<about><apiVersion>8.0.1.0</apiVersion></about><sessionManager>sm</sessionManager></returnval></R>");
	}
	if (!strstr(r->headers, wanted_action))
		vsphere.wrong_action = true;
	if (strstr(r->body, "<Login ")) {
		char body[256], cookies[256];

		if (strstr(r->headers, "Cookie:"))
			vsphere.cookie_at_login = true;
		if (!strstr(r->body, vsphere.password))
			return fault(c, "InvalidLogin");
		vsphere.logins++;
		snprintf(body, sizeof body, "<R><returnval><key>key-%u</key></returnval></R>", vsphere.session);
		snprintf(cookies, sizeof cookies, "Set-Cookie: lb=1\r\nset-cookie: vmware_soap_session=\"s%u\"; Path=/; HttpOnly\r\n",
			 vsphere.session);
		usleep(20000);
		return soap(c, 200, cookies, body);
	}
	snprintf(cookie, sizeof cookie, "\r\nCookie: vmware_soap_session=\"s%u\"\r\n", vsphere.session);
	if (!strstr(r->headers, cookie))
		return fault(c, "NotAuthenticated");
	if (strstr(r->body, "<Logout "))
		vsphere.logouts++;
	if (strstr(r->body, "<Silent "))
		conn_hang(c);
	if (strstr(r->body, "PropertyCollector ") || strstr(r->body, "<CreateFilter ") || strstr(r->body, "<WaitForUpdatesEx "))
		return collect(c, r->body);
	if (strstr(r->body, "<RetrievePropertiesEx "))
		return page(c, true);
	if (strstr(r->body, "<ContinueRetrievePropertiesEx "))
		return page(c, false);
	return soap(c, 200, "Set-Cookie: vmware_soap_session=\"nobody\"; Path=/\r\n", "<R><returnval>fine</returnval></R>");
}

static struct server *server;

static struct vmware_session *open_session(const char *password, struct error **err)
{
	AUTO_JSON json_t *secret = json_pack("{s:s, s:s}", "username", "me", "password", password);
	char url[64];

	snprintf(url, sizeof url, "http://127.0.0.1:%u", server->port);
	return vmware_session_open(url, secret, NULL, NULL, err);
}

static int call(struct vmware_session *s, const char *method, struct cancel *cancel, struct error **err)
{
	xmlNode *result = NULL;
	AUTO_XML xmlDoc *doc = vmware_call(s, method, (struct vmware_ref){ "Thing", "thing-1" }, "", &result, cancel, err);

	return doc && xml_path_is(result, "returnval", "fine") ? 0 : -1;
}

static void test_login_and_logout(void **state)
{
	AUTO_ERROR struct error *err = NULL;
	struct vmware_session *s = open_session(PASSWORD, &err);
	AUTO_FREE char *key = NULL;

	(void)state;
	if (!s)
		fail_msg("%s", err->message);
	key = vmware_session_key(s);
	assert_string_equal(key, "key-1");
	assert_string_equal(vmware_session_content(s)->root_folder, "group-d1");
	for (int i = 0; i < 3; i++)
		assert_int_equal(call(s, "Any", NULL, NULL), 0);
	assert_int_equal(vsphere.logins, 1);
	assert_int_equal(vsphere.refused, 0);
	vmware_session_close(s);
	assert_int_equal(vsphere.logouts, 1);
	assert_false(vsphere.wrong_action);
	assert_false(vsphere.cookie_at_login);
	assert_null(open_session("wrong", &err));
	assert_string_equal(err->reason, "InvalidLogin");
	assert_int_equal(err->class, ERROR_PERMANENT);
	assert_null(strstr(err->message, "wrong"));
	vmware_session_close(NULL);
}

static void *caller(void *arg)
{
	long bad = 0;

	while (!vsphere.enough)
		bad += call(arg, "Any", NULL, NULL) != 0;
	return (void *)bad;
}

static void test_a_lost_session_is_made_once_for_all(void **state)
{
	struct vmware_session *s = open_session(PASSWORD, NULL);
	unsigned logins = vsphere.logins;
	pthread_t threads[6];

	(void)state;
	assert_non_null(s);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, caller, s), 0);
	for (unsigned i = 1; i <= 3; i++) {
		vsphere.session++;
		while (vsphere.logins != logins + i)
			usleep(1000);
		usleep(50000);
	}
	vsphere.enough = true;
	for (size_t i = 0; i < 6; i++) {
		void *bad;

		pthread_join(threads[i], &bad);
		assert_null(bad);
	}
	assert_int_equal(call(s, "Any", NULL, NULL), 0);
	assert_int_equal(vsphere.logins, logins + 3);
	assert_int_equal(vmware_session_logins(s), 4);
	assert_false(vsphere.cookie_at_login);
	vmware_session_close(s);
}

static void test_a_password_that_was_changed(void **state)
{
	struct vmware_session *s = open_session(PASSWORD, NULL);
	AUTO_ERROR struct error *err = NULL;

	(void)state;
	vsphere.session++;
	vsphere.password = "something else";
	assert_int_equal(call(s, "Any", NULL, &err), -1);
	assert_string_equal(err->reason, "InvalidLogin");
	vsphere.password = "p&lt;a&gt;&amp;ss";
	assert_int_equal(call(s, "Any", NULL, NULL), 0);
	vmware_session_close(s);
}

static int count(void *arg, const xmlNode *objects)
{
	char *seen = arg;
	AUTO_FREE char *ref = xml_path_text(objects, "obj");

	strcat(seen, ref + strlen("group-"));
	return 0;
}

static int count_only(void *arg, const xmlNode *objects)
{
	(void)objects;
	++*(unsigned *)arg;
	return 0;
}

static void test_pages(void **state)
{
	struct vmware_session *s = open_session(PASSWORD, NULL);
	AUTO_ERROR struct error *err = NULL;
	unsigned pages = 0;
	char seen[64] = "";

	(void)state;
	assert_int_equal(vmware_retrieve(s, "<specSet/>", count, seen, NULL, NULL), 0);
	assert_string_equal(seen, "123");
	/* A session that is lost between two pages takes their token with it. */
	*seen = 0;
	vsphere.drop_at_page = 2;
	assert_int_equal(vmware_retrieve(s, "<specSet/>", count, seen, NULL, NULL), 0);
	assert_non_null(strstr(seen, "3"));
	/* Some would go on for ever. */
	vsphere.endless = true;
	assert_int_equal(vmware_retrieve(s, "<specSet/>", count_only, &pages, NULL, &err), -1);
	assert_non_null(strstr(err->message, "does not end"));
	assert_int_equal(pages, 1000);
	vsphere.endless = false;
	vmware_session_close(s);
}

static int wait_for_task(struct vmware_session *s, unsigned timeout_ms, size_t *which, struct error **err)
{
	vsphere.waits = vsphere.collectors = vsphere.destroyed = 0;
	return vmware_wait_property(s, (struct vmware_ref){ "Task", "task-1" }, "info.state",
				    (const char *const[]){ "error", "success", NULL }, timeout_ms, which, NULL, err);
}

static void test_waits(void **state)
{
	struct vmware_session *s = open_session(PASSWORD, NULL);
	AUTO_ERROR struct error *left = NULL, *late = NULL;
	size_t which = 9;

	(void)state;
	assert_int_equal(wait_for_task(s, 60000, &which, NULL), 0);
	assert_int_equal(which, 1);
	assert_int_equal(vsphere.waits, 3);
	assert_int_equal(vsphere.collectors, 1);
	assert_int_equal(vsphere.destroyed, 1);
	/* A session that is lost takes the collector with it: the wait begins anew. */
	vsphere.drop_at_wait = 2;
	assert_int_equal(wait_for_task(s, 60000, &which, NULL), 0);
	assert_int_equal(which, 1);
	assert_int_equal(vsphere.collectors, 2);
	vsphere.drop_at_wait = 0;
	vsphere.leave_at_wait = 2;
	assert_int_equal(wait_for_task(s, 60000, &which, &left), -1);
	assert_int_equal(left->class, ERROR_NOT_FOUND);
	vsphere.leave_at_wait = 0;
	assert_int_equal(wait_for_task(s, 0, &which, &late), -1);
	assert_string_equal(late->reason, "TimedOut");
	assert_int_equal(late->class, ERROR_TRANSIENT);
	vmware_session_close(s);
}

static void *cancel_soon(void *arg)
{
	usleep(200000);
	cancel_request(arg);
	return NULL;
}

static void test_calls_end_when_cancelled(void **state)
{
	struct vmware_session *s = open_session(PASSWORD, NULL);
	struct cancel *cancel = cancel_new(NULL);
	uint64_t begun = clock_monotonic_ms();
	AUTO_ERROR struct error *err = NULL;
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, cancel_soon, cancel), 0);
	assert_int_equal(call(s, "Silent", cancel, &err), -1);
	assert_int_equal(err->class, ERROR_CANCELLED);
	assert_in_range(clock_monotonic_ms() - begun, 150, 450);
	pthread_join(thread, NULL);
	cancel_free(cancel);
	vmware_session_close(s);
}

static int start(void **state)
{
	(void)state;
	vsphere.session = 1;
	vsphere.password = "p&lt;a&gt;&amp;ss";
	server = server_start(NULL, handle, NULL);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	server_stop(server);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_login_and_logout),
		cmocka_unit_test(test_a_lost_session_is_made_once_for_all),
		cmocka_unit_test(test_a_password_that_was_changed),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_waits),
		cmocka_unit_test(test_calls_end_when_cancelled),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
