// links: web base
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "scratch.h"
#include "web/web.h"
#include "web_client.h"

#define DISK "5f1a/disk-0.raw"
#define DISK_SIZE (16u << 20)
#define ODD "5f1a/odd %41?#+&=;[\xc3\xbc]%.raw"
#define ODD_TEXT "what an odd name\n"

/* Below the directory: root/ is served, outside is not. */
static char root[96];
static unsigned char *disk;
static atomic_bool ready_now;
static atomic_bool sick_now;

static const char *at(const char *path)
{
	static __thread char full[512];

	snprintf(full, sizeof full, "%s/%s", directory, path);
	return full;
}

static void put(const char *path, const void *data, size_t len)
{
	int fd = open(at(path), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	close(fd);
}

/* A disk as the sparse writer leaves it: data at the start, in the middle, over a chunk's edge and at the very end. */
static void put_disk(void)
{
	static const struct {
		size_t at, len;
	} data[] = {
		{ 0, 70000 }, { (1 << 20) - 5000, 10000 }, { 5 << 20, 1 << 20 }, { (8 << 20) + 4096, 4096 }, { DISK_SIZE - 4096, 4096 }
	};
	int fd = open(at("root/" DISK), O_RDWR | O_CREAT | O_TRUNC, 0600);
	uint64_t random = 88172645463325252u;

	assert_true(fd >= 0 && ftruncate(fd, DISK_SIZE) == 0);
	disk = calloc(1, DISK_SIZE);
	assert_non_null(disk);
	for (size_t i = 0; i < sizeof data / sizeof *data; i++) {
		for (size_t k = 0; k < data[i].len; k++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			disk[data[i].at + k] = (unsigned char)random;
		}
		assert_int_equal(pwrite(fd, disk + data[i].at, data[i].len, (off_t)data[i].at), data[i].len);
	}
	close(fd);
}

static int set_up(void **state)
{
	if (scratch_make(state) < 0)
		return -1;
	snprintf(root, sizeof root, "%s/root", directory);
	assert_int_equal(mkdir(root, 0700), 0);
	assert_int_equal(mkdir(at("root/5f1a"), 0700), 0);
	assert_int_equal(mkdir(at("outside"), 0700), 0);
	put("outside/secret", "secret", 6);
	put("root/empty", "", 0);
	put("root/" ODD, ODD_TEXT, sizeof ODD_TEXT - 1);
	put("root/.hidden", "hidden", 6);
	assert_int_equal(symlink("../outside/secret", at("root/link")), 0);
	assert_int_equal(symlink("../outside", at("root/dirlink")), 0);
	assert_int_equal(symlink("5f1a", at("root/inner")), 0);
	assert_int_equal(mkfifo(at("root/fifo"), 0600), 0);
	put_disk();
	return 0;
}

static int tear_down(void **state)
{
	free(disk);
	return scratch_remove(state);
}

static char *unready(void *arg)
{
	(void)arg;
	return ready_now ? NULL : strdup("not ready: no list yet");
}

static char *sick(void *arg)
{
	(void)arg;
	return sick_now ? strdup("a worker is stuck") : NULL;
}

static char *numbers(void *arg)
{
	(void)arg;
	return strdup("imports_total 3\n");
}

static struct web *start(void)
{
	struct web_options options = {
		.bind = "127.0.0.1", .root = root, .advertise = "127.0.0.1", .sick = sick, .unready = unready, .metrics = numbers
	};
	AUTO_ERROR struct error *err = NULL;
	struct web *w = web_start(&options, &err);

	assert_string_equal(error_message(err), "");
	return w;
}

/* The URL's path, signed. */
static char *signed_route(struct web *w, const char *path)
{
	AUTO_ERROR struct error *err = NULL;
	AUTO_FREE char *url = web_url(w, path, &err);

	assert_string_equal(error_message(err), "");
	return strdup(strstr(url, "/images/"));
}

static struct reply ask(struct web *w, const char *method, const char *route)
{
	return ask_with(web_port(w), method, route, "");
}

static void whole_image(void **state)
{
	struct web *w = start();
	AUTO_FREE char *route = signed_route(w, DISK);
	AUTO_REPLY got = ask(w, "GET", route), head = ask(w, "HEAD", route);

	(void)state;
	assert_int_equal(got.status, 200);
	assert_body(&got, disk, DISK_SIZE);
	assert_string_equal(header(&got, "Content-Length"), "16777216");
	assert_string_equal(header(&got, "Content-Type"), "application/octet-stream");
	assert_string_equal(header(&got, "Accept-Ranges"), "bytes");
	assert_string_equal(header(&got, "Content-Range"), "");
	assert_int_equal(head.status, 200);
	assert_int_equal(head.len, 0);
	assert_string_equal(header(&head, "Content-Length"), "16777216");
	assert_string_equal(header(&head, "Accept-Ranges"), "bytes");
	web_stop(w);
}

static void empty_image(void **state)
{
	struct web *w = start();
	AUTO_FREE char *route = signed_route(w, "empty");
	AUTO_REPLY got = ask(w, "GET", route), part = ask_with(web_port(w), "GET", route, "Range: bytes=0-0\r\n");

	(void)state;
	assert_int_equal(got.status, 200);
	assert_string_equal(header(&got, "Content-Length"), "0");
	assert_int_equal(part.status, 416);
	assert_string_equal(header(&part, "Content-Range"), "bytes */0");
	web_stop(w);
}

static void ranges_of_an_image(void **state)
{
	static const struct {
		const char *range;
		int status;
		size_t from, len;
		const char *content_range;
	} cases[] = {
		{ "bytes=0-127", 206, 0, 128, "bytes 0-127/16777216" },
		{ "bytes=0-0", 206, 0, 1, "bytes 0-0/16777216" },
		{ "bytes=16777215-", 206, 16777215, 1, "bytes 16777215-16777215/16777216" },
		{ "bytes=1040000-1060000", 206, 1040000, 20001, "bytes 1040000-1060000/16777216" },
		{ "bytes=100000-9000000", 206, 100000, 8900001, "bytes 100000-9000000/16777216" },
		{ "bytes=-4096", 206, DISK_SIZE - 4096, 4096, "bytes 16773120-16777215/16777216" },
		{ "bytes=-99999999", 206, 0, DISK_SIZE, "bytes 0-16777215/16777216" },
		{ "bytes=16000000-99999999999999999999999", 206, 16000000, DISK_SIZE - 16000000, "bytes 16000000-16777215/16777216" },
		{ "bytes=16777216-", 416, 0, 0, "bytes */16777216" },
		{ "bytes=99999999999999999999-", 416, 0, 0, "bytes */16777216" },
		{ "bytes=-0", 416, 0, 0, "bytes */16777216" },
		{ "bytes=0-1,4-5", 200, 0, DISK_SIZE, "" },
		{ "bytes=5-4", 200, 0, DISK_SIZE, "" },
		{ "lines=0-1", 200, 0, DISK_SIZE, "" },
	};
	struct web *w = start();
	AUTO_FREE char *route = signed_route(w, DISK);

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char line[128], length[32];

		snprintf(line, sizeof line, "Range: %s\r\n", cases[i].range);
		AUTO_REPLY got = ask_with(web_port(w), "GET", route, line);
		assert_int_equal(got.status, cases[i].status);
		assert_body(&got, disk + cases[i].from, cases[i].len);
		assert_string_equal(header(&got, "Content-Range"), cases[i].content_range);
		snprintf(length, sizeof length, "%zu", cases[i].len);
		assert_string_equal(header(&got, "Content-Length"), length);
	}
	web_stop(w);
}

static void resumption_only_of_the_same_image(void **state)
{
	struct web *w = start();
	AUTO_FREE char *route = signed_route(w, DISK);
	char headers[256], tag[128];
	struct timespec times[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };

	(void)state;
	{
		AUTO_REPLY head = ask(w, "HEAD", route);

		snprintf(tag, sizeof tag, "%s", header(&head, "ETag"));
		assert_true(tag[0] == '"' && strlen(tag) > 8);
	}
	snprintf(headers, sizeof headers, "Range: bytes=5-9\r\nIf-Range: %s\r\n", tag);
	{
		AUTO_REPLY same = ask_with(web_port(w), "GET", route, headers);

		assert_int_equal(same.status, 206);
		assert_body(&same, disk + 5, 5);
	}
	assert_int_equal(utimensat(AT_FDCWD, at("root/" DISK), times, 0), 0);
	{
		AUTO_REPLY other = ask_with(web_port(w), "GET", route, headers);

		assert_int_equal(other.status, 200);
		assert_body(&other, disk, DISK_SIZE);
	}
	web_stop(w);
}

static void assert_hidden(struct web *w, const char *route)
{
	AUTO_REPLY got = ask(w, "GET", route), head = ask(w, "HEAD", route);

	assert_int_equal(got.status, 404);
	assert_body(&got, "not found\n", 10); /* the same for all: no hint at what exists */
	assert_int_equal(head.status, 404);
	assert_int_equal(head.len, 0);
}

static void signatures(void **state)
{
	struct web *w = start();
	AUTO_FREE char *route = signed_route(w, DISK), *other = signed_route(w, "empty");
	char wrong[512];

	(void)state;
	for (size_t i = strlen("/images/"); i < strlen("/images/") + 43; i += 7) { /* any letter of it */
		snprintf(wrong, sizeof wrong, "%s", route);
		wrong[i] = wrong[i] == 'A' ? 'B' : 'A';
		assert_hidden(w, wrong);
	}
	snprintf(wrong, sizeof wrong, "%.*s/" DISK, (int)(strrchr(other, '/') - other), other); /* that of another file */
	assert_hidden(w, wrong);
	snprintf(wrong, sizeof wrong, "/images/%s", route + strlen("/images/") + 1); /* too short */
	assert_hidden(w, wrong);
	snprintf(wrong, sizeof wrong, "/images/A%s", route + strlen("/images/")); /* too long */
	assert_hidden(w, wrong);
	assert_hidden(w, "/images//" DISK);
	assert_hidden(w, "/images/" DISK);
	assert_hidden(w, "/" DISK);
	assert_hidden(w, "/images/");
	assert_hidden(w, "/images");
	assert_hidden(w, "/");
	assert_hidden(w, "/.image-key");
	web_stop(w);
}

/* Even what is signed: the server does not rely on the signer. */
static void only_regular_files_below(void **state)
{
	static const char *const paths[] = {
		"../outside/secret",
		"5f1a/../../outside/secret",
		"link",
		"dirlink/secret",
		"inner/disk-0.raw",
		"5f1a",
		"5f1a/",
		"fifo",
		".",
		".image-key",
		"5f1a/../.image-key",
		"./.image-key",
		".hidden",
		"absent",
		"",
		"/etc/hostname",
	};
	struct web *w = start();
	char outside[256];

	(void)state;
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		AUTO_FREE char *route = signed_route(w, paths[i]);

		assert_hidden(w, route);
	}
	snprintf(outside, sizeof outside, "%s/outside/secret", directory);
	AUTO_FREE char *absolute = signed_route(w, outside);
	assert_hidden(w, absolute);
	web_stop(w);
}

/* The same, spelt by a client that holds a signature. */
static void traversal_by_the_client(void **state)
{
	static const char *const ends[] = { "/../outside/secret",
					    "/%2e%2e/outside/secret",
					    "/5f1a/%2e%2e/%2e%2e/outside/secret",
					    "/..%2foutside%2fsecret",
					    "/5f1a/disk-0.raw%00",
					    "/%00",
					    "/%",
					    "/%zz",
					    "/../../../../../../etc/passwd" };
	struct web *w = start();
	AUTO_FREE char *route = signed_route(w, DISK), *up = signed_route(w, "../outside/secret");
	char wrong[512];

	(void)state;
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
		for (int k = 0; k < 2; k++) {
			int len = (int)strlen("/images/") + 43;

			snprintf(wrong, sizeof wrong, "%.*s%s", len, k ? up : route, ends[i]);
			AUTO_REPLY got = ask(w, "GET", wrong);
			assert_true(got.status == 404 || got.status == 0 || (got.status >= 400 && got.status < 500));
			assert_true(!got.len || !memmem(got.body, got.len, "secret", 6));
		}
	}
	AUTO_REPLY after = ask(w, "HEAD", route);
	assert_int_equal(after.status, 200);
	web_stop(w);
}

static void odd_names(void **state)
{
	struct web *w = start();
	AUTO_FREE char *route = signed_route(w, ODD);
	AUTO_REPLY got = ask(w, "GET", route);

	(void)state;
	for (const char *p = route; *p; p++)
		assert_true((*p > ' ' && *p < 127) && !strchr("?#+&=;[]\"<>\\^`{|}", *p));
	assert_non_null(strstr(route, "/5f1a/odd%20%2541%3F%23%2B%26%3D%3B%5B%C3%BC%5D%25.raw"));
	assert_int_equal(got.status, 200);
	assert_body(&got, ODD_TEXT, sizeof ODD_TEXT - 1);
	web_stop(w);
}

static void other_methods(void **state)
{
	static const char *const methods[] = { "POST", "PUT", "DELETE", "PATCH", "OPTIONS" };
	struct web *w = start();
	AUTO_FREE char *route = signed_route(w, DISK);

	(void)state;
	for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
		AUTO_REPLY got = ask_with(web_port(w), methods[i], route, "Content-Length: 0\r\n");

		assert_int_equal(got.status, 405);
		assert_string_equal(header(&got, "Allow"), "GET, HEAD");
	}
	AUTO_REPLY body = ask_with(web_port(w), "POST", "/healthz", "Content-Length: 5\r\n");
	assert_true(body.status == 405 || body.status == 0);
	AUTO_REPLY unknown = ask_with(web_port(w), "BREW", route, "");
	assert_true(unknown.status == 0 || unknown.status >= 400);
	AUTO_REPLY after = ask(w, "GET", "/healthz");
	assert_int_equal(after.status, 200);
	web_stop(w);
}

static void health_and_metrics(void **state)
{
	struct web *w = start();

	(void)state;
	{
		AUTO_REPLY health = ask(w, "GET", "/healthz"), head = ask(w, "HEAD", "/healthz"), metrics = ask(w, "GET", "/metrics");
		AUTO_REPLY query = ask(w, "GET", "/healthz?verbose=1");

		assert_int_equal(health.status, 200);
		assert_body(&health, "ok\n", 3);
		assert_int_equal(head.status, 200);
		assert_int_equal(head.len, 0);
		assert_string_equal(header(&head, "Content-Length"), "3");
		assert_int_equal(metrics.status, 200);
		assert_body(&metrics, "imports_total 3\n", 16);
		assert_non_null(strstr(header(&metrics, "Content-Type"), "version=0.0.4"));
		assert_int_equal(query.status, 200);
	}
	for (int i = 0; i < 2; i++) {
		ready_now = i;
		AUTO_REPLY got = ask(w, "GET", "/readyz");
		assert_int_equal(got.status, i ? 200 : 503);
		if (i)
			assert_body(&got, "ok\n", 3);
		else
			assert_body(&got, "not ready: no list yet\n", 23);
	}
	sick_now = true;
	{
		AUTO_REPLY got = ask(w, "GET", "/healthz"), head = ask(w, "HEAD", "/healthz"), ready = ask(w, "GET", "/readyz");
		assert_int_equal(got.status, 503);
		assert_body(&got, "a worker is stuck\n", 18);
		assert_int_equal(head.status, 503);
		assert_int_equal(ready.status, 200);
	}
	sick_now = false;
	web_stop(w);

	struct web_options bare = { .bind = "127.0.0.1", .root = root };
	w = web_start(&bare, NULL);
	assert_non_null(w);
	AUTO_REPLY ready = ask(w, "GET", "/readyz"), none = ask(w, "GET", "/metrics");
	assert_int_equal(ready.status, 200);
	assert_int_equal(none.status, 404);
	web_stop(w);
}

static void one_connection_many_requests(void **state)
{
	struct web *w = start();
	AUTO_FREE char *route = signed_route(w, DISK);
	char request[1024];
	int fd = dial(web_port(w)), len, seen = 0;

	(void)state;
	len = snprintf(request, sizeof request,
		       "HEAD %s HTTP/1.1\r\nHost: x\r\n\r\n"
		       "GET %s HTTP/1.1\r\nHost: x\r\nRange: bytes=0-99\r\n\r\n"
		       "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
		       "GET %s HTTP/1.1\r\nHost: x\r\nRange: bytes=-99999999\r\n\r\n"
		       "GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		       route, route, route);
	assert_int_equal(send(fd, request, (size_t)len, MSG_NOSIGNAL), len);
	AUTO_REPLY got = receive(fd);
	close(fd);
	assert_int_equal(got.status, 200);
	for (const unsigned char *p = got.body; p && (p = memmem(p, got.len - (size_t)(p - got.body), "HTTP/1.1 ", 9)); p += 9)
		seen++;
	assert_int_equal(seen, 4); /* after the first */
	assert_true(got.len > DISK_SIZE);
	web_stop(w);
}

static void several_at_once(void **state)
{
	enum { CLIENTS = 20 };
	struct web *w = start();
	AUTO_FREE char *route = signed_route(w, DISK);
	struct pollfd fds[CLIENTS];
	size_t got[CLIENTS] = { 0 }, body[CLIENTS] = { 0 }, open_ones = CLIENTS;
	bool same = true;
	char request[1024];
	int len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", route);

	(void)state;
	for (int i = 0; i < CLIENTS; i++) {
		fds[i] = (struct pollfd){ .fd = dial(web_port(w)), .events = POLLIN };
		assert_int_equal(send(fds[i].fd, request, (size_t)len, MSG_NOSIGNAL), len);
	}
	while (open_ones) {
		static unsigned char piece[256 * 1024];

		assert_true(poll(fds, CLIENTS, 20000) > 0);
		for (int i = 0; i < CLIENTS; i++) {
			ssize_t n = fds[i].revents ? recv(fds[i].fd, piece, sizeof piece, 0) : -1;
			unsigned char *from = piece;

			if (!fds[i].revents)
				continue;
			if (n <= 0) {
				close(fds[i].fd);
				fds[i].fd = -1;
				open_ones--;
				continue;
			}
			if (!body[i]) { /* the head comes in one piece */
				from = (unsigned char *)memmem(piece, (size_t)n, "\r\n\r\n", 4) + 4;
				body[i] = 1;
			}
			size_t part = (size_t)(piece + n - from);
			same = same && got[i] + part <= DISK_SIZE && !memcmp(disk + got[i], from, part);
			got[i] += part;
		}
	}
	assert_true(same);
	for (int i = 0; i < CLIENTS; i++)
		assert_int_equal(got[i], DISK_SIZE);
	web_stop(w);
}

/* The library's own limit for an answer would have cut it. */
static void slow_client(void **state)
{
	struct web *w = start();
	AUTO_FREE char *route = signed_route(w, DISK);
	char request[1024];
	unsigned char byte[1 << 20];
	int fd = dial(web_port(w)), small = 65536, len;

	(void)state;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", route);
	assert_int_equal(send(fd, request, (size_t)len, MSG_NOSIGNAL), len);
	for (int i = 0; i < 2; i++) {
		usleep(6000000);
		assert_int_equal(recv(fd, byte, 1, MSG_PEEK), 1);
		if (!i)
			assert_true(recv(fd, byte, 1, 0) == 1);
	}
	struct buffer b;
	ssize_t n;

	buffer_init(&b, 64u << 20);
	while ((n = recv(fd, byte, sizeof byte, 0)) > 0)
		buffer_add(&b, byte, (size_t)n);
	close(fd);
	assert_true(b.len > DISK_SIZE);
	assert_memory_equal(b.data + b.len - DISK_SIZE, disk, DISK_SIZE);
	buffer_free(&b);
	web_stop(w);
}

static void stop_with_open_downloads(void **state)
{
	struct web *w = start();
	AUTO_FREE char *route = signed_route(w, DISK);
	char request[1024];
	int fds[8], len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", route);
	uint64_t began;

	(void)state;
	for (size_t i = 0; i < 8; i++) {
		fds[i] = dial(web_port(w));
		assert_int_equal(send(fds[i], request, (size_t)len, MSG_NOSIGNAL), len);
		assert_true(recv(fds[i], request + 512, 16, 0) > 0);
	}
	began = clock_monotonic_ms();
	web_stop(w);
	assert_in_range(clock_monotonic_ms() - began, 0, 1000);
	for (size_t i = 0; i < 8; i++)
		close(fds[i]);
	web_stop(NULL);
}

/* On the way out the callbacks' argument goes first; who still needs a URL gets the same. */
static void silence(void **state)
{
	struct web *w = start();
	AUTO_FREE char *before = signed_route(w, DISK), *after = NULL;
	struct pollfd answer = { .fd = dial(web_port(w)), .events = POLLIN };
	static const char request[] = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

	(void)state;
	web_silence(w);
	web_silence(w);
	web_silence(NULL);
	after = signed_route(w, DISK);
	assert_string_equal(after, before);
	assert_int_equal(send(answer.fd, request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
	assert_int_equal(poll(&answer, 1, 300), 0);
	close(answer.fd);
	web_stop(w);
}

/* A wrong image must not look like a whole one. */
static void file_that_shrinks(void **state)
{
	struct web *w = start();
	AUTO_FREE char *route = signed_route(w, "shrinks");
	char request[1024];
	int fd, file, small = 65536,
		      len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", route);

	(void)state;
	file = open(at("root/shrinks"), O_RDWR | O_CREAT, 0600);
	assert_int_equal(ftruncate(file, 256 << 20), 0);
	fd = dial(web_port(w));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	assert_int_equal(send(fd, request, (size_t)len, MSG_NOSIGNAL), len);
	assert_true(recv(fd, request, 1, MSG_PEEK) == 1);
	assert_int_equal(ftruncate(file, 1 << 20), 0);
	close(file);
	AUTO_REPLY got = receive(fd);
	close(fd);
	assert_int_equal(got.status, 200);
	assert_string_equal(header(&got, "Content-Length"), "268435456");
	assert_true(got.len < 256 << 20);
	web_stop(w);
}

static void key_is_kept(void **state)
{
	struct web *w = start(), *second;
	AUTO_FREE char *before = signed_route(w, DISK), *again = NULL, *anew = NULL;
	struct stat st;

	(void)state;
	assert_int_equal(stat(at("root/.image-key"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, 32);
	web_stop(w);
	w = start();
	second = start();
	again = signed_route(w, DISK);
	assert_string_equal(again, before);
	free(again);
	again = signed_route(second, DISK);
	assert_string_equal(again, before);
	web_stop(second);
	web_stop(w);

	put("root/.image-key", "half of it", 10); /* a crash of an older program */
	w = start();
	anew = signed_route(w, DISK);
	assert_string_not_equal(anew, before);
	AUTO_REPLY got = ask(w, "HEAD", anew), old = ask(w, "HEAD", before);
	assert_int_equal(got.status, 200);
	assert_int_equal(old.status, 404);
	web_stop(w);
}

static void scratch_is_told_from_another(void **state)
{
	AUTO_FREE char *other = NULL;
	char first[WEB_SCRATCH_ID_SIZE], again[WEB_SCRATCH_ID_SIZE], elsewhere[WEB_SCRATCH_ID_SIZE];
	struct web *w = start(), *twin = start(), *stranger;

	(void)state;
	assert_true(asprintf(&other, "%s/other", directory) > 0);
	assert_int_equal(mkdir(other, 0700), 0);
	stranger = web_start(&(struct web_options){ .bind = "127.0.0.1", .root = other }, NULL);
	assert_non_null(stranger);
	assert_int_equal(web_scratch_id(w, first), 0);
	assert_int_equal(web_scratch_id(twin, again), 0);
	assert_int_equal(web_scratch_id(stranger, elsewhere), 0);
	assert_string_equal(first, again);
	assert_string_not_equal(first, elsewhere);
	web_stop(w);
	web_stop(twin);
	web_stop(stranger);
}

static void key_that_cannot_be_read(void **state)
{
	struct web_options options = { .bind = "127.0.0.1", .root = root };
	AUTO_ERROR struct error *err = NULL;

	(void)state;
	unlink(at("root/.image-key"));
	assert_int_equal(symlink("../outside/secret", at("root/.image-key")), 0);
	assert_null(web_start(&options, &err));
	assert_non_null(strstr(error_message(err), ".image-key"));
	unlink(at("root/.image-key"));
}

static void wrong_places(void **state)
{
	struct web *w = start();
	struct web_options taken = { .bind = "127.0.0.1", .port = web_port(w), .root = root },
			   absent = { .root = "/nonexistent/of/test_web" };
	struct web_options nowhere = { .bind = "192.0.2.1", .root = root };
	AUTO_ERROR struct error *err = NULL, *err2 = NULL, *err3 = NULL;

	(void)state;
	assert_null(web_start(&taken, &err));
	assert_non_null(strstr(error_message(err), "in use"));
	assert_null(web_start(&absent, &err2));
	assert_non_null(strstr(error_message(err2), "/nonexistent/of/test_web"));
	assert_null(web_start(&nowhere, &err3));
	assert_non_null(strstr(error_message(err3), "192.0.2.1"));
	AUTO_REPLY got = ask(w, "GET", "/healthz");
	assert_int_equal(got.status, 200);
	web_stop(w);
}

/* "127.0.0.1" means that one, not all. */
static void only_the_address_asked_for(void **state)
{
	struct web *w = start();
	struct web_options all = { .bind = "0.0.0.0", .root = root };
	int fd = dial_at(INADDR_LOOPBACK, web_port(w));

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(dial_at(INADDR_LOOPBACK + 1, web_port(w)), -1); /* 127.0.0.2 */
	web_stop(w);
	w = web_start(&all, NULL);
	assert_non_null(w);
	fd = dial_at(INADDR_LOOPBACK + 1, web_port(w));
	assert_true(fd >= 0);
	close(fd);
	web_stop(w);
}

static void both_protocols(void **state)
{
	struct web_options all = { .root = root };
	struct web *w = web_start(&all, NULL);
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	static const char request[] = "GET /healthz HTTP/1.0\r\n\r\n";
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	assert_non_null(w);
	AUTO_REPLY four = ask(w, "GET", "/healthz");
	assert_int_equal(four.status, 200);
	to.sin6_port = htons((uint16_t)web_port(w));
	if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) < 0 && errno == EADDRNOTAVAIL) {
		print_message("no IPv6 on this machine\n");
	} else {
		assert_int_equal(send(fd, request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
		AUTO_REPLY six = receive(fd);
		assert_int_equal(six.status, 200);
	}
	if (fd >= 0)
		close(fd);
	web_stop(w);
}

/* True once a connection. */
static bool is_answered(int fd, bool *known)
{
	char piece[256];

	if (*known || fd < 0 || recv(fd, piece, sizeof piece, MSG_DONTWAIT) <= 0)
		return false;
	return *known = true;
}

/* The server has not ended it. */
static bool is_open(int fd)
{
	char piece[256];
	ssize_t got;

	while ((got = recv(fd, piece, sizeof piece, MSG_DONTWAIT)) > 0)
		;
	return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

/* What the header promises is how many are served at a time. One that the server ends makes room for another, so the sum over a while may
 * be any; those that had their answer before an instant and are still open after it were served at that instant. */
static void too_many_connections(void **state)
{
	enum { MANY = 400, PROMISED = 200, AT_LEAST = 150 };
	static const char request[] = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
	struct web *w = start();
	int fds[MANY];
	bool answered[MANY] = { false };
	size_t served = 0, at_once = 0;

	(void)state;
	for (size_t i = 0; i < MANY; i++)
		fds[i] = dial(web_port(w));
	for (size_t i = 0; i < MANY; i++)
		if (fds[i] >= 0 && send(fds[i], request, sizeof request - 1, MSG_NOSIGNAL) < 0)
			assert_true(errno == EPIPE || errno == ECONNRESET);
	for (int waited = 0; waited < 600 && served < AT_LEAST; waited++) {
		usleep(100000);
		for (size_t i = 0; i < MANY; i++)
			served += is_answered(fds[i], &answered[i]);
	}
	assert_true(served >= AT_LEAST);
	usleep(300000);
	for (size_t i = 0; i < MANY; i++)
		is_answered(fds[i], &answered[i]);
	/* This is the instant. */
	for (size_t i = 0; i < MANY; i++) {
		at_once += answered[i] && is_open(fds[i]);
		if (fds[i] >= 0)
			close(fds[i]);
	}
	assert_in_range(at_once, 0, PROMISED);
	AUTO_REPLY got = ask(w, "GET", "/healthz");
	assert_int_equal(got.status, 200);
	web_stop(w);
}

static void long_requests(void **state)
{
	struct web *w = start();
	char *headers = malloc(70000), *path = malloc(7000);
	int fd = dial(web_port(w));

	(void)state;
	memset(path, 'a', 7000);
	path[0] = '/';
	path[6999] = 0;
	{
		AUTO_REPLY got = ask(w, "GET", path);
		assert_true(got.status == 0 || (got.status >= 400 && got.status < 500));
	}
	path[2000] = 0;
	{
		AUTO_REPLY got = ask(w, "GET", path);
		assert_true(got.status == 0 || (got.status >= 400 && got.status < 500));
	}
	memset(headers, 'b', 70000);
	memcpy(headers, "GET /healthz HTTP/1.1\r\nRange: ", 30);
	(void)!send(fd, headers, 70000, MSG_NOSIGNAL);
	shutdown(fd, SHUT_WR);
	AUTO_REPLY got = receive(fd);
	assert_true(got.status == 0 || got.status >= 400);
	close(fd);
	free(headers);
	free(path);
	AUTO_REPLY after = ask(w, "GET", "/healthz");
	assert_int_equal(after.status, 200);
	web_stop(w);
}

static void urls(void **state)
{
	static const struct {
		const char *advertise, *begin; /* %d: the port */
	} cases[] = {
		{ "vm-import.harvester-system.svc", "http://vm-import.harvester-system.svc:%d/images/" },
		{ "10.0.0.5:9090", "http://10.0.0.5:9090/images/" },
		{ "[fd00::1]", "http://[fd00::1]:%d/images/" },
		{ "[fd00::1]:80", "http://[fd00::1]:80/images/" },
		{ "fd00::1", "http://[fd00::1]:%d/images/" },
		{ NULL, "http://localhost:%d/images/" },
		{ "", "http://localhost:%d/images/" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct web_options options = { .bind = "127.0.0.1", .root = root, .advertise = cases[i].advertise };
		struct web *w = web_start(&options, NULL);
		AUTO_FREE char *url = NULL, *begin = NULL;
		const char *percent = strstr(cases[i].begin, "%d");

		assert_non_null(w);
		url = web_url(w, DISK, NULL);
		if (percent)
			assert_true(asprintf(&begin, "%.*s%d%s", (int)(percent - cases[i].begin), cases[i].begin, web_port(w),
					     percent + 2) > 0);
		else
			begin = strdup(cases[i].begin);
		assert_memory_equal(url, begin, strlen(begin));
		assert_int_equal(strlen(url), strlen(begin) + 43 + 1 + strlen(DISK));
		web_stop(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_image),
		cmocka_unit_test(empty_image),
		cmocka_unit_test(ranges_of_an_image),
		cmocka_unit_test(resumption_only_of_the_same_image),
		cmocka_unit_test(signatures),
		cmocka_unit_test(only_regular_files_below),
		cmocka_unit_test(traversal_by_the_client),
		cmocka_unit_test(odd_names),
		cmocka_unit_test(other_methods),
		cmocka_unit_test(health_and_metrics),
		cmocka_unit_test(one_connection_many_requests),
		cmocka_unit_test(several_at_once),
		cmocka_unit_test(slow_client),
		cmocka_unit_test(stop_with_open_downloads),
		cmocka_unit_test(silence),
		cmocka_unit_test(file_that_shrinks),
		cmocka_unit_test(key_is_kept),
		cmocka_unit_test(scratch_is_told_from_another),
		cmocka_unit_test(key_that_cannot_be_read),
		cmocka_unit_test(wrong_places),
		cmocka_unit_test(only_the_address_asked_for),
		cmocka_unit_test(both_protocols),
		cmocka_unit_test(too_many_connections),
		cmocka_unit_test(long_requests),
		cmocka_unit_test(urls),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
