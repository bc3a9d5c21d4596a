#include "web/web.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libwebsockets.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "web/certificate.h"
#include "web/image.h"
#include "web/range.h"
#include "web/signature.h"

#define CHUNK (256u * 1024) /* the best size measured with this library */
#define CONNECTIONS_MAX 200
#define REQUEST_SECONDS 10 /* for the head of a request to arrive */
#define IDLE_SECONDS 300   /* for a client that reads nothing: its disk may be busy */
#define KEEPALIVE_SECONDS 30
#define PATH_MAX_LEN 1024
#define TLS_RELOAD_MS 30000

#define TYPE_TEXT "text/plain; charset=utf-8"
#define TYPE_METRICS "text/plain; version=0.0.4; charset=utf-8" /* Prometheus's text format */
#define TYPE_IMAGE "application/octet-stream"

struct web {
	struct web_options options;
	char *advertise;
	struct certificate certificate; /* chain NULL: HTTP */
	lws_sorted_usec_list_t reload;
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
	struct image *image;
	uint64_t at, end;     /* bytes of the image still to send */
	unsigned char *chunk; /* of CHUNK bytes behind LWS_PRE, for the time of the answer */
	char *text;           /* or a text */
	size_t text_len, text_at;
	bool close; /* the connection ends with this answer */
};

/* The head of one. */
struct head {
	unsigned status;
	const char *type;
	uint64_t length;
	const char *content_range, *etag, *allow; /* NULL: left out */
};

static void answer_clear(struct answer *a)
{
	image_close(a->image);
	free(a->text);
	free(a->chunk);
	*a = (struct answer){ 0 };
}

/* Adds a header; 0 or -1. */
static int add_header(struct lws *wsi, enum lws_token_indexes token, const char *value, unsigned char **p, unsigned char *end)
{
	return lws_add_http_header_by_token(wsi, token, (const unsigned char *)value, (int)strlen(value), p, end) ? -1 : 0;
}

static int send_head(struct lws *wsi, const struct head *h)
{
	unsigned char head[LWS_PRE + 2048], *start = head + LWS_PRE, *p = start, *end = head + sizeof head - 1;
	const struct {
		enum lws_token_indexes token;
		const char *value;
	} headers[] = {
		{ WSI_TOKEN_HTTP_CACHE_CONTROL, "no-store" },
		{ WSI_TOKEN_HTTP_ACCEPT_RANGES, !strcmp(h->type, TYPE_IMAGE) ? "bytes" : NULL },
		{ WSI_TOKEN_HTTP_CONTENT_RANGE, h->content_range },
		{ WSI_TOKEN_HTTP_ETAG, h->etag },
		{ WSI_TOKEN_HTTP_ALLOW, h->allow },
	};

	if (lws_add_http_common_headers(wsi, h->status, h->type, (lws_filepos_t)h->length, &p, end))
		return -1;
	for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
		if (headers[i].value && add_header(wsi, headers[i].token, headers[i].value, &p, end) < 0)
			return -1;
	return lws_finalize_write_http_header(wsi, start, &p, end) ? -1 : 0;
}

/* The answer is out: on to the next request of the connection, or its end. */
static int done(struct lws *wsi, struct answer *a)
{
	bool end = a->close;

	answer_clear(a);
	return lws_http_transaction_completed(wsi) || end ? -1 : 0;
}

/* The library cuts an answer off after REQUEST_SECONDS unless told otherwise at each piece. */
static void go_on(struct lws *wsi)
{
	lws_set_timeout(wsi, PENDING_TIMEOUT_HTTP_CONTENT, IDLE_SECONDS);
	lws_callback_on_writable(wsi);
}

/* Answers with a text, which is freed. */
static int send_text(struct lws *wsi, struct answer *a, unsigned status, const char *type, char *text, bool head_only)
{
	struct head head = { .status = text ? status : 500, .type = type, .allow = status == 405 ? "GET, HEAD" : NULL };

	a->text = text;
	a->text_len = head.length = text ? strlen(text) : 0;
	if (send_head(wsi, &head) < 0)
		return -1;
	if (head_only || !head.length)
		return done(wsi, a);
	go_on(wsi);
	return 0;
}

static int send_not_found(struct lws *wsi, struct answer *a, bool head_only)
{
	return send_text(wsi, a, 404, TYPE_TEXT, strdup("not found\n"), head_only);
}

/* "ok", or 503 and what is wrong. */
static int send_verdict(struct web *w, struct lws *wsi, struct answer *a, char *(*complain)(void *arg), bool head_only)
{
	AUTO_FREE char *complaint = complain ? complain(w->options.arg) : NULL;
	char *line = NULL;

	if (asprintf(&line, "%s\n", complaint ? complaint : "ok") < 0)
		line = NULL;
	return send_text(wsi, a, complaint ? 503 : 200, TYPE_TEXT, line, head_only);
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

/* Whether a range is asked for, and of the image as it is now. */
static enum range_kind range_of(struct lws *wsi, const struct image *image, uint64_t *first, uint64_t *last)
{
	char range[128], condition[128];

	/* A header that is too long for us is none that we answer. */
	if (lws_hdr_copy(wsi, range, sizeof range, WSI_TOKEN_HTTP_RANGE) <= 0)
		return RANGE_WHOLE;
	if (lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_IF_RANGE) > 0 &&
	    (lws_hdr_copy(wsi, condition, sizeof condition, WSI_TOKEN_HTTP_IF_RANGE) <= 0 || strcmp(condition, image_etag(image))))
		return RANGE_WHOLE;
	return range_parse(range, image_size(image), first, last);
}

static int send_image(struct web *w, struct lws *wsi, struct answer *a, const char *uri, bool head_only)
{
	const char *path = signed_path(w, uri);
	struct image *image = a->image = path ? image_open(w->root, path) : NULL;
	struct head head = { .status = 200, .type = TYPE_IMAGE };
	char content_range[96];
	uint64_t first = 0, last = 0, size;

	if (!image)
		return send_not_found(wsi, a, head_only);
	size = head.length = image_size(image);
	head.etag = image_etag(image);
	/* Ranges are defined for GET alone: RFC 9110, section 14.2. */
	switch (head_only ? RANGE_WHOLE : range_of(wsi, image, &first, &last)) {
	case RANGE_UNSATISFIABLE:
		snprintf(content_range, sizeof content_range, "bytes */%llu", (unsigned long long)size);
		head = (struct head){ .status = 416, .type = TYPE_TEXT, .content_range = content_range };
		break;
	case RANGE_PART:
		snprintf(content_range, sizeof content_range, "bytes %llu-%llu/%llu", (unsigned long long)first, (unsigned long long)last,
			 (unsigned long long)size);
		head.status = 206;
		head.content_range = content_range;
		head.length = last - first + 1;
		break;
	case RANGE_WHOLE:
		break;
	}
	if (send_head(wsi, &head) < 0)
		return -1;
	if (head_only || !head.length)
		return done(wsi, a);
	a->chunk = malloc(LWS_PRE + CHUNK);
	if (!a->chunk)
		return -1;
	image_advise(image, first, head.length);
	a->at = first;
	a->end = first + head.length;
	go_on(wsi);
	return 0;
}

/* The next piece of what is being sent. */
static int send_more(struct lws *wsi, struct answer *a)
{
	unsigned char piece[LWS_PRE + 4096], *data = piece + LWS_PRE;
	size_t len;
	bool last;

	if (a->text) {
		len = a->text_len - a->text_at < 4096 ? a->text_len - a->text_at : 4096;
		memcpy(data, a->text + a->text_at, len);
		a->text_at += len;
		last = a->text_at == a->text_len;
	} else if (a->chunk) {
		uint64_t left = a->end - a->at;
		ssize_t got = image_read(a->image, a->at, a->chunk + LWS_PRE, left < CHUNK ? (size_t)left : CHUNK);

		if (got <= 0)
			return -1; /* the file became shorter: better a broken connection than a wrong image */
		data = a->chunk + LWS_PRE;
		len = (size_t)got;
		a->at += len;
		last = a->at == a->end;
	} else {
		return 0;
	}
	if (lws_write(wsi, data, len, last ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP) < 0)
		return -1;
	if (last)
		return done(wsi, a);
	go_on(wsi);
	return 0;
}

static int answer_request(struct web *w, struct lws *wsi, struct answer *a)
{
	char uri[PATH_MAX_LEN];
	bool head = lws_hdr_total_length(wsi, WSI_TOKEN_HEAD_URI) > 0, get = lws_hdr_total_length(wsi, WSI_TOKEN_GET_URI) > 0;
	int len;

	answer_clear(a);
	if (!head && !get) {
		a->close = true; /* there may be a body, which we do not read */
		return send_text(wsi, a, 405, TYPE_TEXT, strdup("only GET and HEAD\n"), false);
	}
	len = lws_hdr_copy(wsi, uri, sizeof uri, head ? WSI_TOKEN_HEAD_URI : WSI_TOKEN_GET_URI); /* decoded, without the query */
	if (len <= 0 || strlen(uri) != (size_t)len)
		return send_not_found(wsi, a, head);
	if (!strcmp(uri, "/healthz"))
		return send_verdict(w, wsi, a, w->options.sick, head);
	if (!strcmp(uri, "/readyz"))
		return send_verdict(w, wsi, a, w->options.unready, head);
	if (!strcmp(uri, "/metrics") && w->options.metrics)
		return send_text(wsi, a, 200, TYPE_METRICS, w->options.metrics(w->options.arg), head);
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

static const struct lws_protocols protocols[] = {
	{ .name = "http", .callback = on_http, .per_session_data_size = sizeof(struct answer) },
	{ 0 },
};

/* Port 0 on failure. */
static int listen_on(struct web *w, uint64_t more_options)
{
	struct lws_context_creation_info info = {
		.port = w->options.port,
		.iface = w->options.bind,
		.protocols = protocols,
		.user = w,
		.pt_serv_buf_size = CHUNK + LWS_PRE + 1024,
		.max_http_header_data = 4096,
		.max_http_header_pool = CONNECTIONS_MAX,
		.fd_limit_per_thread = CONNECTIONS_MAX + 1, /* and the one that listens */
		.timeout_secs = REQUEST_SECONDS,
		.keepalive_timeout = KEEPALIVE_SECONDS,
		/* Peers that went without a word. */
		.ka_time = 60,
		.ka_interval = 15,
		.ka_probes = 4,
		.ssl_cert_filepath = w->certificate.chain,
		.ssl_private_key_filepath = w->certificate.key,
		.alpn = "http/1.1", /* its HTTP/2 would want smaller chunks */
		.ssl_options_set = SSL_OP_NO_TLSv1 | SSL_OP_NO_TLSv1_1 | SSL_OP_NO_RENEGOTIATION,
		.options = LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS | LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
			   (w->certificate.chain ? LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT : 0) | LWS_SERVER_OPTION_FAIL_UPON_UNABLE_TO_BIND |
			   more_options,
	};
	struct lws_vhost *vhost;

	/* In two steps: with an address that cannot be had, the one step leaks. */
	w->context = lws_create_context(&info);
	vhost = w->context ? lws_create_vhost(w->context, &info) : NULL;
	if (vhost)
		return lws_get_vhost_listen_port(vhost);
	if (w->context)
		lws_context_destroy(w->context);
	w->context = NULL;
	return 0;
}

/* With IPv6 the library takes such an address for "all". */
static bool is_ipv4(const char *address)
{
	struct in_addr ignored;

	return address && inet_pton(AF_INET, address, &ignored) == 1;
}

static uint64_t reload_us(const struct web *w)
{
	return (w->options.tls_reload_ms ? w->options.tls_reload_ms : TLS_RELOAD_MS) * (uint64_t)LWS_US_PER_MS;
}

/* On the server's thread. */
static void on_reload(lws_sorted_usec_list_t *list)
{
	struct web *w = lws_container_of(list, struct web, reload);

	if (certificate_changed(&w->certificate))
		lws_tls_cert_updated(w->context, w->certificate.chain, w->certificate.key, NULL, 0, NULL, 0);
	lws_sul_schedule(w->context, 0, &w->reload, on_reload, (lws_usec_t)reload_us(w));
}

static int start_server(struct web *w, struct error **err)
{
	int failed;

	lws_set_log_level(0, quiet);
	w->port = listen_on(w, is_ipv4(w->options.bind) ? LWS_SERVER_OPTION_DISABLE_IPV6 : 0);
	if (w->port <= 0 && !w->options.bind)
		w->port = listen_on(w, LWS_SERVER_OPTION_DISABLE_IPV6); /* a machine without it */
	if (w->port <= 0)
		return error_set(err, ERROR_PERMANENT, "CannotListen",
				 "cannot listen on port %d%s%s; is it in use, or the address not of this machine?", w->options.port,
				 w->options.bind ? " of " : "", w->options.bind ? w->options.bind : "");
	if (w->certificate.chain) {
		certificate_changed(&w->certificate);
		lws_sul_schedule(w->context, 0, &w->reload, on_reload, (lws_usec_t)reload_us(w));
	}
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
	w->advertise = strdup(options->advertise && *options->advertise ? options->advertise : "localhost");
	w->certificate = (struct certificate){ .chain = options->certificate, .key = options->key };
	w->root = open(options->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!w->advertise || w->root < 0)
		error_set_errno(err, errno, "cannot serve the directory %s", options->root);
	else if ((!options->certificate || certificate_check(&w->certificate, err) == 0) &&
		 signature_load_key(options->root, w->key, err) == 0 && start_server(w, err) == 0)
		return w;
	web_stop(w);
	return NULL;
}

int web_port(const struct web *w)
{
	return w->port;
}

/* HOST:PORT; an IPv6 address may come with or without brackets, and only with them it can name a port. */
static void add_host(struct buffer *b, const char *host, int port)
{
	const char *bracket = strrchr(host, ']'), *colon = strrchr(host, ':');
	bool bare = colon && !bracket && strchr(host, ':') != colon;

	buffer_addf(b, bare ? "[%s]" : "%s", host);
	if (bare || !colon || (bracket && colon < bracket))
		buffer_addf(b, ":%d", port);
}

static void add_encoded(struct buffer *b, const char *path)
{
	for (; *path; path++) {
		unsigned char c = (unsigned char)*path;

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		    strchr("-._~/", c)) /* RFC 3986, section 2.3 */
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
	buffer_add_string(&b, w->certificate.chain ? "https://" : "http://");
	add_host(&b, w->advertise, w->port);
	buffer_addf(&b, "/images/%s/", signature);
	add_encoded(&b, path);
	url = buffer_steal(&b);
	if (!url)
		error_set(err, ERROR_PERMANENT, "PathTooLong", "the path of an image is too long");
	return url;
}

int web_scratch_id(const struct web *w, char out[WEB_SCRATCH_ID_SIZE])
{
	char signature[SIGNATURE_TEXT_SIZE];

	/* Of no path: it opens nothing. */
	if (signature_make(w->key, "", signature) < 0)
		return -1;
	snprintf(out, WEB_SCRATCH_ID_SIZE, "%.16s", signature);
	return 0;
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
