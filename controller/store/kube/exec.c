#include "store/kube/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "store/kube/credential.h"
#include "json/codec.h"

#define WORDS_MAX 600
#define ENV_NAME "KUBERNETES_EXEC_INFO="

extern char **environ;

void exec_credential_free(struct exec_credential *c)
{
	free(c->token);
	free(c->cert_pem);
	if (c->key_pem)
		explicit_bzero(c->key_pem, strlen(c->key_pem));
	free(c->key_pem);
	*c = (struct exec_credential){ 0 };
}

/* --- what it prints ----------------------------------------------------------------------------------------------------- */

struct answer {
	char *kind, *api_version;
	struct {
		char *expires, *token, *cert, *key;
	} status;
};

#define FIELD(name, member) { name, JSON_FIELD_STRING, offsetof(struct answer, member), 0, NULL, 0 }
#define STATUS_FIELD(name, member) \
	{ name, JSON_FIELD_STRING, offsetof(struct answer, status.member) - offsetof(struct answer, status), 0, NULL, 0 }

static const struct json_field status_fields[] = {
	STATUS_FIELD("expirationTimestamp", expires),
	STATUS_FIELD("token", token),
	STATUS_FIELD("clientCertificateData", cert),
	STATUS_FIELD("clientKeyData", key),
};
static const struct json_type status_type = { "status", sizeof(((struct answer *)0)->status), status_fields, 4 };
static const struct json_field answer_fields[] = {
	FIELD("kind", kind),
	FIELD("apiVersion", api_version),
	{ "status", JSON_FIELD_OBJECT, offsetof(struct answer, status), JSON_FIELD_REQUIRED, &status_type, 0 },
};
static const struct json_type answer_type = { "ExecCredential", sizeof(struct answer), answer_fields, 3 };

static int invalid(struct error **err, const char *what)
{
	return error_set(err, ERROR_TRANSIENT, "InvalidCredential", "it printed what is no ExecCredential: %s", what);
}

static int convert(struct answer *a, const char *api_version, struct exec_credential *out, struct error **err)
{
	int64_t expires = a->status.expires ? clock_parse_rfc3339(a->status.expires) : 0;

	if (!a->kind || strcmp(a->kind, "ExecCredential"))
		return invalid(err, "its kind is another");
	if (!a->api_version || strcmp(a->api_version, api_version))
		return error_set(err, ERROR_TRANSIENT, "InvalidCredential", "it answered in apiVersion %s, but the kubeconfig asks for %s",
				 a->api_version ? a->api_version : "(none)", api_version);
	if (expires < 0)
		return invalid(err, "status.expirationTimestamp is no RFC 3339 time");
	if (!a->status.cert != !a->status.key)
		return invalid(err, "it has only one of status.clientCertificateData and status.clientKeyData");
	if (!a->status.token && !a->status.cert)
		return invalid(err, "it has neither a token nor a client certificate");
	if (a->status.token && !credential_fits_header(a->status.token))
		return invalid(err, "status.token holds characters that no token has");
	*out = (struct exec_credential){ .token = move_ptr(a->status.token),
					 .cert_pem = move_ptr(a->status.cert),
					 .key_pem = move_ptr(a->status.key),
					 .expires = expires };
	return 0;
}

int exec_credential_parse(const char *text, size_t len, const char *api_version, struct exec_credential *out, struct error **err)
{
	AUTO_JSON json_t *json = json_loadb(text, len, 0, NULL); /* the parser's message could quote a part of a secret */
	AUTO_ERROR struct error *why = NULL;
	struct answer a = { 0 };
	int result;

	if (!json)
		return invalid(err, "it is no JSON");
	if (!json_is_object(json))
		return invalid(err, "it is no object");
	if (json_decode(&answer_type, json, &a, &why) < 0)
		return invalid(err, error_message(why));
	result = convert(&a, api_version, out, err);
	json_type_free(&answer_type, &a);
	return result;
}

/* --- what it is told ---------------------------------------------------------------------------------------------------- */

static json_t *base64(const char *text)
{
	size_t len = strlen(text);
	AUTO_FREE char *out = malloc(4 * ((len + 2) / 3) + 1);

	if (!out)
		return NULL;
	EVP_EncodeBlock((unsigned char *)out, (const unsigned char *)text, (int)len);
	return json_string(out);
}

/* The value of KUBERNETES_EXEC_INFO with its name before it; owned. */
static char *exec_info(const struct kube_config *c, bool interactive)
{
	AUTO_JSON json_t *info = json_pack("{s:s, s:s, s:{s:b}}", "apiVersion", c->exec.api_version, "kind", "ExecCredential", "spec",
					   "interactive", interactive);
	AUTO_FREE char *text = NULL;
	char *line = NULL;

	if (info && c->exec.wants_cluster) {
		json_t *cluster =
			json_pack("{s:s, s:s*, s:s*}", "server", c->server, "tls-server-name", c->server_name, "proxy-url", c->proxy_url);

		if (cluster && c->insecure)
			json_object_set_new(cluster, "insecure-skip-tls-verify", json_true());
		if (cluster && c->ca_pem)
			json_object_set_new(cluster, "certificate-authority-data", base64(c->ca_pem));
		if (cluster && c->exec.cluster_config)
			json_object_set_new(cluster, "config", json_loads(c->exec.cluster_config, JSON_DECODE_ANY, NULL));
		json_object_set_new(json_object_get(info, "spec"), "cluster", cluster);
	}
	text = info ? json_dumps(info, JSON_COMPACT) : NULL;
	return text && asprintf(&line, "%s%s", ENV_NAME, text) >= 0 ? line : NULL;
}

/* --- how it runs -------------------------------------------------------------------------------------------------------- */

struct run {
	pid_t pid;
	bool interactive; /* it has our terminal */
	int out, err;     /* our ends of its pipes */
	struct buffer output;
	char words[WORDS_MAX + 1]; /* the end of what it complained of */
	size_t words_len;
};

static bool is_set(char *const *env, const char *line)
{
	size_t len = strcspn(line, "=") + 1;

	for (; *env; env++)
		if (!strncmp(*env, line, len))
			return true;
	return false;
}

/* Returns an errno. */
static int spawn(struct run *r, const struct kube_exec *x, char *info, int out, int err)
{
	size_t args = 0, env = 0, own = 0, n = 0;
	AUTO_FREE char **argv = NULL, **envp = NULL;
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int code;

	while (x->args && x->args[args])
		args++;
	while (x->env && x->env[env])
		env++;
	while (environ && environ[own])
		own++;
	argv = calloc(args + 2, sizeof *argv);
	envp = calloc(own + env + 2, sizeof *envp);
	if (!argv || !envp)
		return ENOMEM;
	argv[0] = x->command;
	for (size_t i = 0; i < args; i++)
		argv[i + 1] = x->args[i];
	envp[n++] = info;
	for (size_t i = 0; i < env; i++)
		envp[n++] = x->env[i];
	for (size_t i = 0; i < own; i++)
		if (!is_set(envp, environ[i]))
			envp[n++] = environ[i];
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	/* A process group of its own, to be killed as a whole; but a terminal hears only the group in the foreground. */
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | (r->interactive ? 0 : POSIX_SPAWN_SETPGROUP));
	if (!r->interactive)
		posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, out, 1);
	posix_spawn_file_actions_adddup2(&actions, err, 2);
	code = posix_spawnp(&r->pid, x->command, &actions, &attr, argv, envp);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return code;
}

static void keep_words(struct run *r, const char *data, size_t len)
{
	size_t drop;

	if (len > WORDS_MAX) {
		data += len - WORDS_MAX;
		len = WORDS_MAX;
	}
	drop = r->words_len + len > WORDS_MAX ? r->words_len + len - WORDS_MAX : 0;
	memmove(r->words, r->words + drop, r->words_len - drop);
	memcpy(r->words + r->words_len - drop, data, len);
	r->words_len += len - drop;
}

/* Reads what is there. False at the end. */
static bool hear(struct run *r, int fd)
{
	char data[4096];
	ssize_t n = read(fd, data, sizeof data);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n > 0 && fd == r->out)
		buffer_add(&r->output, data, (size_t)n);
	else if (n > 0)
		keep_words(r, data, (size_t)n);
	return n > 0;
}

/* Reads until both pipes end. */
static int listen_to(struct run *r, struct cancel *cancel, uint64_t deadline, struct error **err)
{
	struct pollfd p[3] = { { .fd = r->out, .events = POLLIN },
			       { .fd = r->err, .events = POLLIN },
			       { .fd = cancel_fd(cancel), .events = POLLIN } };

	while (p[0].fd >= 0 || p[1].fd >= 0) {
		uint64_t now = clock_monotonic_ms();

		if (cancel_check(cancel, err) < 0)
			return -1;
		if (now >= deadline)
			return error_set(err, ERROR_TRANSIENT, "ExecPluginTimedOut", "it did not end in time");
		if (poll(p, 3, (int)(deadline - now)) < 0 && errno != EINTR)
			return error_set_errno(err, errno, "cannot wait for it");
		for (int i = 0; i < 2; i++)
			if (p[i].fd >= 0 && p[i].revents && !hear(r, p[i].fd))
				p[i].fd = -1;
		if (r->output.failed)
			return error_set(err, ERROR_TRANSIENT, "InvalidCredential", "it printed more than %u KiB", EXEC_OUTPUT_MAX >> 10);
	}
	return 0;
}

/* Waits for the end and returns the status. What does not end by then is killed. */
static int reap(struct run *r, struct cancel *cancel, uint64_t deadline)
{
	int status = 0;

	while (clock_monotonic_ms() < deadline && !cancel_requested(cancel)) {
		if (waitpid(r->pid, &status, WNOHANG) != 0)
			return status;
		cancel_wait(cancel, 5);
	}
	kill(r->interactive ? r->pid : -r->pid, SIGKILL);
	while (waitpid(r->pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

/* Its last words, on one line. */
static const char *last_words(struct run *r)
{
	for (size_t i = 0; i < r->words_len; i++)
		if ((unsigned char)r->words[i] < 0x20 || (unsigned char)r->words[i] >= 0x7f)
			r->words[i] = ' ';
	while (r->words_len && r->words[r->words_len - 1] == ' ')
		r->words_len--;
	r->words[r->words_len] = 0;
	return *r->words ? r->words : "it says nothing on standard error";
}

static int not_started(const struct kube_exec *x, int code, struct error **err)
{
	char text[128];

	return error_set_code(err, ERROR_PERMANENT, "ExecPluginMissing", code, "it cannot be started: %s%s%s",
			      strerror_r(code, text, sizeof text), x->install_hint ? ". " : "", x->install_hint ? x->install_hint : "");
}

static int run(struct run *r, const struct kube_config *c, struct cancel *cancel, uint64_t deadline, struct error **err)
{
	AUTO_FREE char *info = exec_info(c, r->interactive);
	int out[2], complaint[2], code, status, heard;

	if (!info)
		return error_set_errno(err, ENOMEM, "it cannot be started");
	if (pipe2(out, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "it cannot be started");
	AUTO_FD int out_read = out[0], out_write = out[1];
	if (pipe2(complaint, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "it cannot be started");
	AUTO_FD int complaint_read = complaint[0], complaint_write = complaint[1];
	r->out = out_read;
	r->err = complaint_read;
	code = spawn(r, &c->exec, info, out_write, complaint_write);
	if (code)
		return not_started(&c->exec, code, err);
	close(move_fd(&out_write));
	close(move_fd(&complaint_write));
	heard = listen_to(r, cancel, deadline, err);
	status = reap(r, cancel, heard < 0 ? 0 : deadline);
	if (heard < 0)
		return -1;
	if (WIFSIGNALED(status))
		return error_set(err, ERROR_TRANSIENT, "ExecPluginFailed", "it was killed by signal %d: %s", WTERMSIG(status),
				 last_words(r));
	if (WEXITSTATUS(status))
		return error_set(err, ERROR_TRANSIENT, "ExecPluginFailed", "it failed with status %d: %s", WEXITSTATUS(status),
				 last_words(r));
	return 0;
}

int exec_credential_fetch(const struct kube_config *c, struct cancel *cancel, unsigned timeout_ms, struct exec_credential *out,
			  struct error **err)
{
	const struct kube_exec *x = &c->exec;
	struct run r = { .interactive = x->interactive != EXEC_NEVER && isatty(STDIN_FILENO) };
	int result = -1;

	buffer_init(&r.output, EXEC_OUTPUT_MAX);
	if (x->interactive == EXEC_ALWAYS && !r.interactive)
		error_set(err, ERROR_PERMANENT, "ExecPluginNeedsTerminal",
			  "it wants to ask somebody (interactiveMode: Always), but there is no terminal");
	else
		result = run(&r, c, cancel, clock_monotonic_ms() + timeout_ms, err);
	if (result == 0)
		result = exec_credential_parse(r.output.data ? r.output.data : "", r.output.len, x->api_version, out, err);
	if (r.output.data)
		explicit_bzero(r.output.data, r.output.len);
	buffer_free(&r.output);
	return result < 0 ? error_wrap(err, "the exec plugin %s", x->command) : 0;
}
