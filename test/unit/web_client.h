/* An HTTP client that says exactly what a test wants said, and reads to the end of the connection. */
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/buffer.h"

static int dial_at(in_addr_t address, int port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(address) };
	struct timeval limit = { .tv_sec = 20 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
		return fd;
	close(fd);
	return -1;
}

static int dial(int port)
{
	return dial_at(INADDR_LOOPBACK, port);
}

struct reply {
	int status;
	char *head; /* with its last line's end */
	unsigned char *body;
	size_t len;
};

static void reply_free(struct reply *r)
{
	free(r->head);
}
#define AUTO_REPLY CLEANUP(reply_free) struct reply

/* Reads to the end of the connection. */
static struct reply receive(int fd)
{
	struct reply r = { 0 };
	struct buffer b;
	char piece[65536], *end;
	ssize_t n;

	buffer_init(&b, 64u << 20);
	while ((n = recv(fd, piece, sizeof piece, 0)) > 0)
		buffer_add(&b, piece, (size_t)n);
	end = b.data ? strstr(b.data, "\r\n\r\n") : NULL;
	if (!end || sscanf(b.data, "HTTP/1.%*d %d", &r.status) != 1) {
		buffer_free(&b);
		return (struct reply){ .head = strdup("") };
	}
	r.len = b.len - (size_t)(end + 4 - b.data);
	end[2] = 0;
	r.body = (unsigned char *)end + 4;
	r.head = b.data; /* owned, body points into it */
	return r;
}

static struct reply ask_with(int port, const char *method, const char *route, const char *headers)
{
	char request[8192];
	int fd = dial(port), len;
	struct reply r;

	assert_true(fd >= 0);
	len = snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: localhost\r\n%sConnection: close\r\n\r\n", method, route, headers);
	assert_int_equal(send(fd, request, (size_t)len, MSG_NOSIGNAL), len);
	r = receive(fd);
	close(fd);
	return r;
}

static const char *header(const struct reply *r, const char *name)
{
	static __thread char value[256];
	char wanted[64];
	const char *found;

	snprintf(wanted, sizeof wanted, "\r\n%s:", name);
	found = strcasestr(r->head, wanted);
	if (!found)
		return "";
	found += strlen(wanted);
	found += strspn(found, " ");
	snprintf(value, sizeof value, "%.*s", (int)strcspn(found, "\r"), found);
	return value;
}

static void assert_body(const struct reply *r, const void *data, size_t len)
{
	assert_int_equal(r->len, len);
	assert_memory_equal(r->body, data, len);
}
