#include "web/web.h"

#include <errno.h>
#include <fcntl.h>
#include <libwebsockets.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/buffer.h"
#include "web/range.h"
#include "web/signature.h"

#define CHUNK (256u * 1024) /* the best size measured with this library */
#define CONNECTIONS_MAX 200
#define IDLE_SECONDS 60
#define PATH_MAX_LEN 1024

struct web {
	struct web_options options;
	char *advertise;
	int root; /* directory */
	unsigned char key[SIGNATURE_KEY_SIZE];
	struct lws_context *context;
	int port;
	pthread_t thread;
	bool running;
	atomic_bool stopping;
};

/* What a connection is being answered. Zeroed by the library for each one. */
struct answer {
	int fd;           /* plus one, so that zero means none */
	uint64_t at, end; /* bytes of the file still to send */
	char *text;       /* or a text, owned */
	size_t text_len, text_at;
	unsigned char *chunk; /* of CHUNK bytes behind LWS_PRE, for the time of the answer */
};

static void answer_clear(struct answer *a)
{
	if (a->fd)
		close(a->fd - 1);
	free(a->text);
	free(a->chunk);
	*a = (struct answer){ 0 };
}

/* Adds a header; 0 or -1. */
static int add_header(struct lws *wsi, enum lws_token_indexes token, const char *value, unsigned char **p, unsigned char *end)
{
	return lws_add_http_header_by_token(wsi, token, (const unsigned char *)value, (int)strlen(value), p, end) ? -1 : 0;
}

/* Sends the head of an answer. */
static int send_head(struct lws *wsi, unsigned status, const char *type, uint64_t length, const char *content_range)
{
	unsigned char head[LWS_PRE + 2048], *start = head + LWS_PRE, *p = start, *end = head + sizeof head - 1;

	if (lws_add_http_common_headers(wsi, status, type, (lws_filepos_t)length, &p, end) ||
	    add_header(wsi, WSI_TOKEN_HTTP_CACHE_CONTROL, "no-store", &p, end) < 0)
		return -1;
	if (!strcmp(type, "application/octet-stream") && add_header(wsi, WSI_TOKEN_HTTP_ACCEPT_RANGES, "bytes", &p, end) < 0)
		return -1;
	if (content_range && add_header(wsi, WSI_TOKEN_HTTP_CONTENT_RANGE, content_range, &p, end) < 0)
		return -1;
	return lws_finalize_write_http_header(wsi, start, &p, end) ? -1 : 0;
}

static int done(struct lws *wsi)
{
	return lws_http_transaction_completed(wsi) ? -1 : 0;
}

/* Answers with a text, which is freed. */
static int send_text(struct lws *wsi, struct answer *a, unsigned status, char *text, bool head_only)
{
	size_t len = text ? strlen(text) : 0;

	if (send_head(wsi, status, "text/plain; charset=utf-8", len, NULL) < 0) {
		free(text);
		return -1;
	}
	if (head_only || !len) {
		free(text);
		return done(wsi);
	}
	a->text = text;
	a->text_len = len;
	a->text_at = 0;
	lws_callback_on_writable(wsi);
	return 0;
}

/* The path behind the signature when that is right; NULL otherwise. */
static const char *signed_path(const struct web *w, const char *uri)
{
	static const char prefix[] = "/images/";
	const char *signature, *slash;

	if (strncmp(uri, prefix, sizeof prefix - 1))
		return NULL;
	signature = uri + sizeof prefix - 1;
	slash = strchr(signature, '/');
	if (!slash || !slash[1] || !signature_valid(w->key, slash + 1, signature, (size_t)(slash - signature)))
		return NULL;
	return slash + 1;
}

/* A regular file below the root; no link is followed anywhere. */
static int open_below(const struct web *w, const char *path, uint64_t *size)
{
	struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS };
	AUTO_FD int fd = (int)syscall(SYS_openat2, w->root, path, &how, sizeof how);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return -1;
	*size = (uint64_t)st.st_size;
	return move_fd(&fd);
}

static int send_image(struct web *w, struct lws *wsi, struct answer *a, const char *uri, bool head_only)
{
	const char *path = signed_path(w, uri);
	char range_text[128] = "", content_range[96];
	uint64_t size, first = 0, last = 0;
	AUTO_FD int fd = path ? open_below(w, path, &size) : -1;
	unsigned status = 200;

	if (fd < 0)
		return send_text(wsi, a, 404, strdup("not found\n"), head_only);
	if (lws_hdr_copy(wsi, range_text, sizeof range_text, WSI_TOKEN_HTTP_RANGE) < 0)
		range_text[0] = 0; /* a header that long is none that we answer */
	switch (head_only ? RANGE_WHOLE : range_parse(range_text, size, &first, &last)) {
	case RANGE_UNSATISFIABLE:
		snprintf(content_range, sizeof content_range, "bytes */%llu", (unsigned long long)size);
		if (send_head(wsi, 416, "text/plain", 0, content_range) < 0)
			return -1;
		return done(wsi);
	case RANGE_PART:
		status = 206;
		snprintf(content_range, sizeof content_range, "bytes %llu-%llu/%llu", (unsigned long long)first, (unsigned long long)last,
			 (unsigned long long)size);
		break;
	case RANGE_WHOLE:
		last = size ? size - 1 : 0;
		break;
	}
	uint64_t length = size ? last - first + 1 : 0;
	if (send_head(wsi, status, "application/octet-stream", length, status == 206 ? content_range : NULL) < 0)
		return -1;
	if (head_only || !length)
		return done(wsi);
	posix_fadvise(fd, (off_t)first, (off_t)length, POSIX_FADV_SEQUENTIAL);
	a->chunk = malloc(LWS_PRE + CHUNK);
	if (!a->chunk)
		return -1;
	a->fd = move_fd(&fd) + 1;
	a->at = first;
	a->end = last + 1;
	lws_callback_on_writable(wsi);
	return 0;
}

/* The next piece of what is being sent. */
static int send_more(struct lws *wsi, struct answer *a)
{
	bool last;
	int n;

	if (a->text) {
		unsigned char piece[LWS_PRE + 4096];
		size_t left = a->text_len - a->text_at, len = left < 4096 ? left : 4096;

		memcpy(piece + LWS_PRE, a->text + a->text_at, len);
		a->text_at += len;
		last = a->text_at == a->text_len;
		n = lws_write(wsi, piece + LWS_PRE, len, last ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP);
	} else if (a->fd) {
		uint64_t left = a->end - a->at;
		ssize_t got = pread(a->fd - 1, a->chunk + LWS_PRE, left < CHUNK ? (size_t)left : CHUNK, (off_t)a->at);

		if (got <= 0)
			return -1; /* the file became shorter: better a broken connection than a wrong image */
		a->at += (uint64_t)got;
		last = a->at == a->end;
		n = lws_write(wsi, a->chunk + LWS_PRE, (size_t)got, last ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP);
	} else {
		return 0;
	}
	if (n < 0)
		return -1;
	/* The library cuts an answer off after 5 s unless told otherwise at each piece. */
	lws_set_timeout(wsi, PENDING_TIMEOUT_HTTP_CONTENT, IDLE_SECONDS);
	if (last) {
		answer_clear(a);
		return done(wsi);
	}
	lws_callback_on_writable(wsi);
	return 0;
}

static int answer_request(struct web *w, struct lws *wsi, struct answer *a)
{
	char uri[PATH_MAX_LEN];
	bool head = lws_hdr_total_length(wsi, WSI_TOKEN_HEAD_URI) > 0, get = lws_hdr_total_length(wsi, WSI_TOKEN_GET_URI) > 0;

	answer_clear(a);
	if (!head && !get)
		return send_text(wsi, a, 405, strdup("only GET and HEAD\n"), false);
	if (lws_hdr_copy(wsi, uri, sizeof uri, head ? WSI_TOKEN_HEAD_URI : WSI_TOKEN_GET_URI) <= 0)
		return send_text(wsi, a, 404, strdup("not found\n"), head);
	if (!strcmp(uri, "/healthz"))
		return send_text(wsi, a, 200, strdup("ok\n"), head);
	if (!strcmp(uri, "/readyz")) {
		bool ready = !w->options.ready || w->options.ready(w->options.arg);

		return send_text(wsi, a, ready ? 200 : 503, strdup(ready ? "ok\n" : "not ready\n"), head);
	}
	if (!strcmp(uri, "/metrics") && w->options.metrics)
		return send_text(wsi, a, 200, w->options.metrics(w->options.arg), head);
	return send_image(w, wsi, a, uri, head);
}

static int on_http(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	struct web *w = lws_context_user(lws_get_context(wsi));
	struct answer *a = user;

	(void)in;
	(void)len;
	switch (reason) {
	case LWS_CALLBACK_HTTP:
		return answer_request(w, wsi, a);
	case LWS_CALLBACK_HTTP_WRITEABLE:
		return a ? send_more(wsi, a) : 0;
	case LWS_CALLBACK_CLOSED_HTTP:
	case LWS_CALLBACK_HTTP_DROP_PROTOCOL:
		if (a)
			answer_clear(a);
		return 0;
	default:
		return 0; /* no upgrade, no default handling */
	}
}

static void *serve(void *arg)
{
	struct web *w = arg;

	while (!w->stopping && lws_service(w->context, 0) >= 0)
		;
	return NULL;
}

static void quiet(int level, const char *line)
{
	(void)level;
	(void)line;
}

static int start_server(struct web *w, struct error **err)
{
	static const struct lws_protocols protocols[] = {
		{ .name = "http", .callback = on_http, .per_session_data_size = sizeof(struct answer) },
		{ 0 },
	};
	struct lws_context_creation_info info = {
		.port = w->options.port,
		.iface = w->options.bind,
		.protocols = protocols,
		.user = w,
		.pt_serv_buf_size = CHUNK + LWS_PRE + 1024,
		.max_http_header_data = 4096,
		.max_http_header_pool = CONNECTIONS_MAX,
		.fd_limit_per_thread = CONNECTIONS_MAX + 16,
		.timeout_secs = IDLE_SECONDS,
		.keepalive_timeout = 30,
		.options = LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS,
	};
	struct lws_vhost *vhost;
	int failed;

	lws_set_log_level(0, quiet);
	w->context = lws_create_context(&info);
	vhost = w->context ? lws_get_vhost_by_name(w->context, "default") : NULL;
	w->port = vhost ? lws_get_vhost_listen_port(vhost) : 0;
	if (w->port <= 0)
		return error_set(err, ERROR_PERMANENT, "CannotListen", "cannot listen on port %d%s%s; is it in use?", w->options.port,
				 w->options.bind ? " of " : "", w->options.bind ? w->options.bind : "");
	failed = pthread_create(&w->thread, NULL, serve, w);
	if (failed)
		return error_set_errno(err, failed, "cannot start the image server");
	w->running = true;
	return 0;
}

struct web *web_start(const struct web_options *options, struct error **err)
{
	struct web *w = calloc(1, sizeof *w);

	if (!w) {
		error_set_errno(err, ENOMEM, "cannot start the image server");
		return NULL;
	}
	w->options = *options;
	w->advertise = strdup(options->advertise ? options->advertise : "localhost");
	w->root = open(options->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!w->advertise || w->root < 0) {
		error_set_errno(err, errno, "cannot serve the directory %s", options->root);
		web_stop(w);
		return NULL;
	}
	if (signature_load_key(options->root, w->key, err) < 0 || start_server(w, err) < 0) {
		web_stop(w);
		return NULL;
	}
	return w;
}

int web_port(const struct web *w)
{
	return w->port;
}

/* Whether the host names a port: a colon that is not inside of an IPv6 address. */
static bool has_port(const char *host)
{
	const char *bracket = strrchr(host, ']'), *colon = strrchr(host, ':');

	return colon && (!bracket || colon > bracket);
}

static void add_encoded(struct buffer *b, const char *path)
{
	for (; *path; path++) {
		unsigned char c = (unsigned char)*path;

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._~/", c))
			buffer_add(b, path, 1);
		else
			buffer_addf(b, "%%%02X", c);
	}
}

char *web_url(const struct web *w, const char *path, struct error **err)
{
	char signature[SIGNATURE_TEXT_SIZE];
	struct buffer b;
	char *url;

	buffer_init(&b, 8192);
	if (signature_make(w->key, path, signature) < 0) {
		error_set(err, ERROR_TRANSIENT, "SigningFailed", "cannot sign a URL");
		return NULL;
	}
	buffer_addf(&b, "http://%s", w->advertise);
	if (!has_port(w->advertise))
		buffer_addf(&b, ":%d", w->port);
	buffer_addf(&b, "/images/%s/", signature);
	add_encoded(&b, path);
	url = buffer_steal(&b);
	if (!url)
		error_set(err, ERROR_PERMANENT, "PathTooLong", "the path of an image is too long");
	return url;
}

void web_silence(struct web *w)
{
	if (!w || !w->running)
		return;
	w->stopping = true;
	lws_cancel_service(w->context);
	pthread_join(w->thread, NULL);
	w->running = false;
}

void web_stop(struct web *w)
{
	if (!w)
		return;
	web_silence(w);
	if (w->context)
		lws_context_destroy(w->context);
	if (w->root >= 0)
		close(w->root);
	free(w->advertise);
	free(w);
}
