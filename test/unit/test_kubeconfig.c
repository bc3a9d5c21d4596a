// links: store/kube base
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "scratch.h"
#include "store/kube/credential.h"
#include "store/kube/kubeconfig.h"

/* The path of a file below the directory; a ring of static buffers. */
static const char *path_of(const char *name)
{
	static char paths[4][128];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof paths[0], "%s/%s", directory, name);
	return path;
}

static void write_file(const char *name, const char *text)
{
	FILE *f = fopen(path_of(name), "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static const char one[] =
	"apiVersion: v1\n"
	"kind: Config\n"
	"current-context: main\n"
	"clusters:\n"
	"- name: c\n"
	"  cluster: {server: \"https://one.example:6443/k8s/\", certificate-authority-data: Q0EgUEVN, tls-server-name: kube, proxy-url: \"http://p:3128\"}\n"
	"users:\n"
	"- name: u\n"
	"  user: {client-certificate-data: Q0VSVA==, client-key-data: S0VZ}\n"
	"- name: t\n"
	"  user: {token: geheim, as: jane, as-groups: [a, b]}\n"
	"contexts:\n"
	"- name: main\n"
	"  context: {cluster: c, user: u, namespace: team}\n"
	"- name: other\n"
	"  context: {cluster: c, user: t}\n"
	"- name: anonymous\n"
	"  context: {cluster: c}\n";

/* The message of the failure; "" when it worked. */
static char *resolve(const char *text, const char *context, struct kube_config *out)
{
	AUTO_KUBECONFIG struct kubeconfig *k = kubeconfig_new();
	AUTO_ERROR struct error *err = NULL;

	if (kubeconfig_add(k, text, strlen(text), "/etc/kube.yaml", &err) == 0)
		kubeconfig_resolve(k, context, out, &err);
	if (err)
		assert_int_equal(err->class, ERROR_PERMANENT);
	return strdup(error_message(err));
}

static void assert_resolves(const char *text, const char *context, struct kube_config *out)
{
	AUTO_FREE char *told = resolve(text, context, out);

	assert_string_equal(told, "");
}

static void assert_refused(const char *text, const char *context, const char *part)
{
	struct kube_config c = { 0 };
	AUTO_FREE char *told = resolve(text, context, &c);

	if (!strstr(told, part))
		fail_msg("\"%s\" does not say \"%s\"", told, part);
	assert_null(c.server); /* untouched */
}

static void test_a_context_becomes_a_configuration(void **state)
{
	AUTO_KUBE_CONFIG struct kube_config main_context = { 0 }, other = { 0 };
	AUTO_KUBE_CONFIG struct kube_config anonymous = { 0 };

	(void)state;
	assert_resolves(one, NULL, &main_context);
	assert_string_equal(main_context.server, "https://one.example:6443/k8s");
	assert_string_equal(main_context.ca_pem, "CA PEM");
	assert_string_equal(main_context.cert_pem, "CERT");
	assert_string_equal(main_context.key_pem, "KEY");
	assert_string_equal(main_context.server_name, "kube");
	assert_string_equal(main_context.proxy_url, "http://p:3128");
	assert_string_equal(main_context.namespace_, "team");
	assert_null(main_context.token);
	assert_false(main_context.insecure);
	assert_resolves(one, "other", &other);
	assert_string_equal(other.token, "geheim");
	assert_string_equal(other.namespace_, "default");
	assert_string_equal(other.as_user, "jane");
	assert_string_equal(other.as_groups[0], "a");
	assert_string_equal(other.as_groups[1], "b");
	assert_null(other.as_groups[2]);
	assert_null(other.cert_pem);
	assert_resolves(one, "anonymous", &anonymous);
	assert_null(anonymous.token);
	kube_config_free(&other);
}

#define CLUSTER(members)                                                                                            \
	"current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\n" \
	"clusters: [{name: c, cluster: {" members "}}]\n"
#define USER(members)                                                                                                        \
	"current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: " \
	"\"https://h\"}}]\nusers: [{name: u, user: {" members "}}]\n"

static void test_what_is_wrong_is_named(void **state)
{
	(void)state;
	assert_refused("a: b\n  c: d\n", NULL, "/etc/kube.yaml, line 2, column");
	assert_refused("a: [\n", NULL, "/etc/kube.yaml, line");
	assert_refused("[a]", NULL, "/etc/kube.yaml, line 1, column 1: this is no kubeconfig");
	assert_refused("kind: Pod", NULL, "line 1, column 7: kind: this is no kubeconfig");
	assert_refused("{}\n---\n{}\n", NULL, "more than one document");
	assert_refused("clusters: {a: b}", NULL, "clusters: expected a list");
	assert_refused("clusters: [{cluster: {}}]", NULL, "clusters[0]: an entry needs a name");
	assert_refused("users: [{name: a}, {name: b, user: text}]", NULL, "users[1].user: expected a mapping");
	assert_refused("users: [{name: a}, {name: a}]", NULL, "users[1]: another entry has this name");
	assert_refused("current-context: [x]", NULL, "current-context: expected a string");
	assert_refused("", NULL, "no current-context");
	assert_refused("contexts: [{name: a, context: {}}, {name: b}]", NULL, "a, b");
	assert_refused(one, "absent", "there is no context \"absent\" in /etc/kube.yaml; there main, other, anonymous");
	assert_refused("current-context: x\ncontexts: [{name: x, context: {cluster: gone}}]", NULL, "there is no cluster \"gone\"");
	assert_refused("current-context: x\ncontexts: [{name: x}]", NULL, "context \"x\": it names no cluster");
	assert_refused(CLUSTER(""), NULL, "/etc/kube.yaml, line 4, column 31: cluster \"c\": it has no server");
	assert_refused(CLUSTER("server: 12"), NULL, "/etc/kube.yaml, line 4, column 40: cluster \"c\": server: expected a string");
	assert_refused(CLUSTER("server: \"ftp://h\""), NULL, "no http or https URL");
	assert_refused(CLUSTER("server: h, certificate-authority-data: \"a*b\""), NULL, "certificate-authority-data: no valid base64");
	assert_refused(CLUSTER("server: h, certificate-authority: /nonexistent/ca"), NULL, "/nonexistent/ca");
	assert_refused(CLUSTER("server: h, certificate-authority: /dev/zero"), NULL, "no regular file");
	assert_refused(CLUSTER("server: h, insecure-skip-tls-verify: 1"), NULL, "expected true or false");
	assert_refused(CLUSTER("server: h, insecure-skip-tls-verify: true, certificate-authority-data: Q0E="), NULL, "remove one");
	assert_refused(USER("token: 12"), NULL, "token: expected a string");
	assert_refused(USER("token: \"a\\r\\nX: y\""), NULL, "token: it holds characters");
	assert_refused(USER("as: \"a\\nb\""), NULL, "as: it holds control characters");
	assert_refused(USER("as: a, as-groups: [\"a\\nb\"]"), NULL, "as-groups: it holds control characters");
	assert_refused(USER("client-certificate-data: Q0E="), NULL, "user \"u\": it has a client certificate without its key");
	assert_refused(USER("client-key-data: Q0E="), NULL, "it has a client key without its certificate");
}

static void test_unsupported_credentials_are_refused(void **state)
{
	struct kube_config c = { 0 };

	(void)state;
	assert_refused(USER("auth-provider: {name: gcp}"), NULL, "auth-provider");
	assert_refused(USER("username: a, password: b"), NULL,
		       "line 4, column 36: user \"u\": username: this asks for basic authentication");
	/* What is empty or null asks for nothing. */
	assert_resolves(USER("token: t, username: \"\", exec: null"), NULL, &c);
	kube_config_free(&c);
}

#define V1 "apiVersion: client.authentication.k8s.io/v1"
#define EXEC(members) USER("exec: {" members "}")

static void test_exec_plugins(void **state)
{
	struct kube_config c = { 0 };

	(void)state;
	assert_resolves(
		"current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: "
		"'https://h', extensions: [{name: other, extension: 1}, {name: client.authentication.k8s.io/exec, extension: {a: [b]}}]}}]\n"
		"users: [{name: u, user: {exec: {" V1 ", command: bin/plugin, args: [get, token], env: [{name: A, value: b}, {name: C}], "
		"installHint: get it, provideClusterInfo: true, interactiveMode: Never}}}]",
		NULL, &c);
	assert_string_equal(c.exec.api_version, "client.authentication.k8s.io/v1");
	assert_string_equal(c.exec.command, "/etc/bin/plugin"); /* relative to the file */
	assert_string_equal(c.exec.args[1], "token");
	assert_null(c.exec.args[2]);
	assert_string_equal(c.exec.env[0], "A=b");
	assert_string_equal(c.exec.env[1], "C=");
	assert_string_equal(c.exec.install_hint, "get it");
	assert_string_equal(c.exec.cluster_config, "{\"a\":[\"b\"]}");
	assert_int_equal(c.exec.interactive, EXEC_NEVER);
	kube_config_free(&c);
	assert_resolves(EXEC("apiVersion: client.authentication.k8s.io/v1beta1, command: aws"), NULL, &c);
	assert_string_equal(c.exec.command, "aws"); /* looked for in PATH */
	assert_int_equal(c.exec.interactive, EXEC_IF_AVAILABLE);
	kube_config_free(&c);
	/* A token wins. */
	assert_resolves(USER("token: t, exec: {command: aws}"), NULL, &c);
	assert_null(c.exec.api_version);
	kube_config_free(&c);
	assert_refused(EXEC("command: a"), NULL, "the exec plugin of user \"u\": its apiVersion is missing");
	assert_refused(EXEC(V1 ", interactiveMode: Never"), NULL, "its command is missing");
	assert_refused(EXEC(V1 ", command: a"), NULL, "interactiveMode is missing");
	assert_refused(EXEC(V1 ", command: a, interactiveMode: Perhaps"), NULL, "interactiveMode: \"Perhaps\" is none of");
	assert_refused(EXEC("apiVersion: client.authentication.k8s.io/v1alpha1, command: a"), NULL, "v1alpha1\" is not supported");
	assert_refused(EXEC(V1 ", command: a, args: x"), NULL, "args: expected a list");
	assert_refused(EXEC(V1 ", command: a, args: [1]"), NULL, "args[0]: expected a string");
	assert_refused(EXEC(V1 ", command: a, env: [{value: x}]"), NULL, "env[0]: expected a name and a value");
	assert_refused(EXEC(V1 ", command: a, env: [{name: x, value: 1}]"), NULL, "env[0]: expected a name and a value");
	assert_refused(EXEC(V1 ", command: a, provideClusterInfo: 1"), NULL, "expected true or false");
	assert_refused(USER("exec: aws"), NULL, "exec: expected a mapping");
}

static void test_impersonation(void **state)
{
	struct kube_config c = { 0 };

	(void)state;
	assert_resolves(USER("token: t, as: jane, as-uid: '7', as-groups: [a], as-user-extra: {example.com/x y: [one, two]}"), NULL, &c);
	assert_string_equal(c.as_uid, "7");
	assert_string_equal(c.as_extra[0], "Impersonate-Extra-example.com%2Fx%20y: one");
	assert_string_equal(c.as_extra[1], "Impersonate-Extra-example.com%2Fx%20y: two");
	assert_null(c.as_extra[2]);
	kube_config_free(&c);
	assert_refused(USER("as-uid: x"), NULL, "need a user to impersonate (as)");
	assert_refused(USER("as-groups: [a]"), NULL, "need a user to impersonate (as)");
	assert_refused(USER("as: j, as-user-extra: {a: b}"), NULL, "as-user-extra: a: expected a list");
	assert_refused(USER("as: j, as-user-extra: {a: [\"x\\ny\"]}"), NULL, "without control characters");
}

static void test_places(void **state)
{
	static const char text[] = "clusters:\n- name: c\n  cluster:\n    server: https://h\n    proxy-url: ftp://p\n"
				   "contexts:\n- name: x\n  context: {cluster: c}\n";

	(void)state;
	assert_refused(text, "x", "/etc/kube.yaml, line 5, column 16: cluster \"c\": proxy-url: expected a URL");
	assert_refused("users:\n- name: a\n\n- nam: b\n", NULL, "/etc/kube.yaml, line 4, column 3: users[1]: an entry needs a name");
}

static void test_a_server_without_a_scheme(void **state)
{
	struct kube_config c = { 0 };

	(void)state;
	assert_resolves(CLUSTER("server: \"h:80\""), NULL, &c);
	assert_string_equal(c.server, "http://h:80");
	kube_config_free(&c);
	assert_resolves(CLUSTER("server: \"h:443\", insecure-skip-tls-verify: true"), NULL, &c);
	assert_string_equal(c.server, "https://h:443");
	assert_true(c.insecure);
	kube_config_free(&c);
}

static void test_files_are_merged(void **state)
{
	AUTO_KUBECONFIG struct kubeconfig *k = kubeconfig_new();
	struct kube_config c = { 0 };
	AUTO_ERROR struct error *err = NULL;
	char list[512];

	(void)state;
	write_file("first", "users: [{name: red, user: {token: first}}]\ncontexts: [{name: x, context: {cluster: c, user: red}}]\n");
	write_file("second", "current-context: x\nusers: [{name: red, user: {token: second, as: root}}, {name: blue, user: {token: b}}]\n"
			     "clusters: [{name: c, cluster: {server: 'https://second'}}]\n");
	write_file("third",
		   "current-context: y\ncontexts: [{name: x, context: {cluster: d}}, {name: y, context: {cluster: c, user: blue}}]\n");
	snprintf(list, sizeof list, "%s::%s:%s:%s", path_of("first"), path_of("absent"), path_of("second"), path_of("third"));
	assert_int_equal(kubeconfig_add_files(k, list, false, &err), 0);
	assert_int_equal(kubeconfig_resolve(k, NULL, &c, &err), 0);
	assert_string_equal(c.server, "https://second");
	assert_string_equal(c.token, "first"); /* the first red-user, whole: nothing of the second */
	assert_null(c.as_user);
	kube_config_free(&c);
	assert_int_equal(kubeconfig_resolve(k, "y", &c, &err), 0);
	assert_string_equal(c.token, "b");
	kube_config_free(&c);
	assert_int_equal(kubeconfig_add_files(k, path_of("absent"), true, &err), -1);
	assert_non_null(strstr(err->message, "absent"));
}

static void test_paths_are_relative_to_their_file(void **state)
{
	AUTO_KUBECONFIG struct kubeconfig *k = kubeconfig_new();
	struct kube_config c = { 0 };

	(void)state;
	mkdir(path_of("sub"), 0700);
	write_file("sub/ca", "the CA");
	write_file("sub/cert", "the certificate");
	write_file("sub/key", "the key");
	write_file("sub/config",
		   "current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\n"
		   "clusters: [{name: c, cluster: {server: 'https://h', certificate-authority: ca}}]\n"
		   "users: [{name: u, user: {client-certificate: cert, client-key: ./key, client-key-data: REFUQQ==, tokenFile: tok}}]\n");
	assert_int_equal(kubeconfig_add_files(k, path_of("sub/config"), true, NULL), 0);
	assert_int_equal(kubeconfig_resolve(k, NULL, &c, NULL), 0);
	assert_string_equal(c.ca_pem, "the CA");
	assert_string_equal(c.cert_pem, "the certificate");
	assert_string_equal(c.key_pem, "DATA"); /* data wins over a file */
	assert_string_equal(c.token_file, path_of("sub/tok"));
	kube_config_free(&c);
}

static void test_the_service_account_of_a_pod(void **state)
{
	struct kube_config c = { 0 };
	AUTO_ERROR struct error *err = NULL;

	(void)state;
	assert_int_equal(kube_config_in_cluster(directory, "10.0.0.1", "443", &c, &err), -1);
	assert_non_null(strstr(err->message, "service account"));
	write_file("token", " abc.def \n");
	write_file("ca.crt", "the CA");
	write_file("namespace", "harvester-system\n");
	assert_int_equal(kube_config_in_cluster(directory, "10.0.0.1", "443", &c, NULL), 0);
	assert_string_equal(c.server, "https://10.0.0.1:443");
	assert_string_equal(c.token, "abc.def");
	assert_string_equal(c.token_file, path_of("token"));
	assert_string_equal(c.ca_pem, "the CA");
	assert_string_equal(c.namespace_, "harvester-system");
	kube_config_free(&c);
	remove(path_of("namespace"));
	assert_int_equal(kube_config_in_cluster(directory, "fd00::1", "6443", &c, NULL), 0);
	assert_string_equal(c.server, "https://[fd00::1]:6443");
	assert_string_equal(c.namespace_, "default");
	kube_config_free(&c);
}

static void test_tokens(void **state)
{
	AUTO_ERROR struct error *err = NULL;
	static const char *const bad[] = { "", " \n", "a\nb", "a\x01" };

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		write_file("t", bad[i]);
		assert_null(kube_token_read(path_of("t"), &err));
		assert_non_null(strstr(err->message, "no token"));
		error_free(move_ptr(err));
	}
	assert_null(kube_token_read(directory, &err));
	assert_non_null(strstr(err->message, "no regular file"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_make, scratch_remove)
	const struct CMUnitTest tests[] = {
		TEST(test_a_context_becomes_a_configuration),
		TEST(test_what_is_wrong_is_named),
		TEST(test_unsupported_credentials_are_refused),
		TEST(test_exec_plugins),
		TEST(test_impersonation),
		TEST(test_places),
		TEST(test_a_server_without_a_scheme),
		TEST(test_files_are_merged),
		TEST(test_paths_are_relative_to_their_file),
		TEST(test_the_service_account_of_a_pod),
		TEST(test_tokens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
