/* One connection for many requests: a curl multi handle that a thread of its own drives. Where the server speaks HTTP/2, all requests are
 * streams of one connection (RFC 9113); where not, each has one of HTTP/1.1. Internal to net/.
 *
 * A request is a task: its thread sets up the easy handle, hands it over and waits. What comes in for a sink is handed back in pieces, at
 * most DRIVER_HANDOFF_MAX bytes of it unread; a reader that is slower holds the connection up, and is cut off after DRIVER_SLOW_MS.
 *
 * A shared connection that died silently would take every request with it. So when nothing was heard for a while, the driver asks for
 * something small (the probe), and when that brings nothing either it shuts the socket down: all requests on it fail as lost, and the
 * next ones connect anew. */
#pragma once

#include <curl/curl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "net/trust.h"

#define DRIVER_HANDOFF_MAX (512u << 10)
#define DRIVER_SLOW_MS 10000

struct driver;

/* How long a connection may be silent before it is probed, in milliseconds: while an answer is waited for, and while only streams are open;
 * and how long the probe may take. */
struct driver_limits {
	unsigned waiting_ms, streaming_ms, probe_ms;
};

struct driver_task {
	CURL *easy;
	int news; /* an eventfd: readable when there is data or the end */
	pthread_mutex_t lock;
	pthread_cond_t room;
	struct buffer in;              /* for the sink; this and the next three are guarded by lock */
	bool abandoned, done, removed; /* nobody reads any more; the end is there; the driver has forgotten it */
	CURLcode code;
	struct trust_view trust; /* what the connection attempt saw; to be read once it is done */
	/* The driver's own: */
	bool answered; /* something of the answer has come */
	uint64_t started;
	unsigned silent_ms;
	bool leaving, ended;
	struct driver_task *next;
};

/* The trust view is the one that trust_install was given for all handles; it must outlive the driver. limits NULL: the usual ones. */
struct driver *driver_start(struct trust_view *trust, const struct driver_limits *limits, struct error **err);
void driver_stop(struct driver *d); /* when no task is left; accepts NULL */

/* What is to be asked for when a connection is silent: a handle with all options set, which the driver owns from now on. */
void driver_set_probe(struct driver *d, CURL *easy);
/* Sets the options of a handle that belong to the shared connection. */
CURLcode driver_prepare(struct driver *d, CURL *easy);

int driver_task_init(struct driver_task *t, CURL *easy, struct error **err);
void driver_task_free(struct driver_task *t); /* when the driver does not have it */
void driver_add(struct driver *d, struct driver_task *t);
/* Takes the task back; afterwards the driver touches it no more. To be called once for each task added. silent_ms, when not 0: for so long
 * nothing was heard; if that is so of the connection as a whole, it is given up. */
void driver_remove(struct driver *d, struct driver_task *t, unsigned silent_ms);

/* From the handle's callbacks: the answer has begun, over HTTP/2 or not. */
void driver_task_answered(struct driver *d, struct driver_task *t, bool multiplexed);
/* From the handle's callbacks: hands data to the task's thread. False: it is not wanted any more, or the reader is too slow. */
bool driver_task_put(struct driver_task *t, const void *data, size_t len);
/* Moves what has come to out, which must be empty. True when it was the last. */
bool driver_task_take(struct driver_task *t, struct buffer *out);

unsigned driver_connections(const struct driver *d); /* opened so far */
