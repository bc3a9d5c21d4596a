#include "net/driver.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define STREAMS_MAX 1000L /* the server's own limit is lower */
#define ROUND_MS 1000
#define KEEP_BUFFER (64u << 10) /* an empty buffer that is larger is given back */

struct socket {
	curl_socket_t fd;
	struct socket *next;
};

struct driver {
	CURLM *multi;
	struct trust_view *trust;
	struct driver_limits limits;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* guards arriving, leaving and stopped; before a task's lock */
	pthread_cond_t left;
	struct driver_task *arriving;
	bool stopped, someone_leaves;
	/* The thread's own: */
	struct driver_task *active;
	struct socket *sockets;
	CURL *probe;
	bool probing, multiplexed;
	uint64_t probed;
	atomic_uint connections;
};

static void tell(struct driver_task *t)
{
	uint64_t one = 1;

	if (write(t->news, &one, sizeof one) < 0) {
		/* cannot happen: the counter is far from full */
	}
}

static bool is_tcp(const struct curl_sockaddr *address)
{
	return (address->family == AF_INET || address->family == AF_INET6) && address->socktype == SOCK_STREAM;
}

static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct driver *d = arg;
	struct socket *s = calloc(1, sizeof *s);
	int probes = 3, patience = 30000;

	(void)purpose;
	if (!s)
		return CURL_SOCKET_BAD;
	s->fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	if (s->fd < 0) {
		free(s);
		return CURL_SOCKET_BAD;
	}
	if (is_tcp(address)) { /* a peer that is gone is found out within a minute, whether we send or not; without, the defaults hold */
		setsockopt(s->fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
		setsockopt(s->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience, sizeof patience);
	}
	s->next = d->sockets;
	d->sockets = s;
	d->connections++;
	return s->fd;
}

static int close_socket(void *arg, curl_socket_t fd)
{
	struct driver *d = arg;

	for (struct socket **p = &d->sockets; *p; p = &(*p)->next)
		if ((*p)->fd == fd) {
			struct socket *s = *p;

			*p = s->next;
			free(s);
			break;
		}
	return close(fd);
}

/* Gives up the connections that brought nothing for so long. What is on them fails. */
static void shut_silent(struct driver *d, uint64_t ms)
{
	if (!d->multiplexed) /* the connection was that one request's, and ends with it */
		return;
	for (struct socket *s = d->sockets; s; s = s->next) {
		struct tcp_info info = { 0 };
		socklen_t len = sizeof info;

		if (getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_state == TCP_ESTABLISHED &&
		    info.tcpi_last_data_recv + 100u >= ms)
			shutdown(s->fd, SHUT_RDWR);
	}
}

/* How long the connection that is silent for longest is so. */
static unsigned silence(const struct driver *d)
{
	unsigned longest = 0;

	for (const struct socket *s = d->sockets; s; s = s->next) {
		struct tcp_info info = { 0 };
		socklen_t len = sizeof info;

		if (getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_state == TCP_ESTABLISHED &&
		    info.tcpi_last_data_recv > longest)
			longest = info.tcpi_last_data_recv;
	}
	return longest;
}

static void end_probe(struct driver *d, bool answered)
{
	curl_multi_remove_handle(d->multi, d->probe);
	d->probing = false;
	if (!answered)
		shut_silent(d, clock_monotonic_ms() - d->probed);
}

/* Asks for something when there is cause to doubt that the connection lives. One of HTTP/1.1 cannot be asked beside its request. */
static void check(struct driver *d)
{
	uint64_t now = clock_monotonic_ms();
	unsigned silent, limit = d->limits.streaming_ms;

	if (!d->active || d->probing || !d->multiplexed || !d->probe) /* the probe was set before the first task came */
		return;
	for (const struct driver_task *t = d->active; t; t = t->next)
		if (!t->answered && now - t->started >= d->limits.waiting_ms)
			limit = d->limits.waiting_ms;
	silent = silence(d);
	if (silent < limit || now - d->probed < limit)
		return;
	d->probed = now;
	d->probing = curl_multi_add_handle(d->multi, d->probe) == CURLM_OK;
}

static void take_in(struct driver *d)
{
	struct driver_task *t;

	pthread_mutex_lock(&d->lock);
	t = d->arriving;
	d->arriving = NULL;
	pthread_mutex_unlock(&d->lock);
	while (t) {
		struct driver_task *next = t->next;

		t->started = clock_monotonic_ms();
		t->next = d->active;
		d->active = t;
		if (curl_multi_add_handle(d->multi, t->easy) != CURLM_OK) {
			LOCK_GUARD(&t->lock);
			t->ended = t->done = true;
			t->code = CURLE_FAILED_INIT;
			tell(t);
		}
		t = next;
	}
}

/* The lock is held: driver_remove does not wait for long, and nothing here calls back. */
static void let_out_of(struct driver *d, struct driver_task **list)
{
	while (*list) {
		struct driver_task *t = *list;

		if (!t->leaving) {
			list = &t->next;
			continue;
		}
		*list = t->next;
		if (t->started && !t->ended)
			curl_multi_remove_handle(d->multi, t->easy);
		if (t->silent_ms)
			shut_silent(d, t->silent_ms);
		t->removed = true;
	}
}

static void let_out(struct driver *d)
{
	LOCK_GUARD(&d->lock);
	if (!d->someone_leaves)
		return;
	d->someone_leaves = false;
	let_out_of(d, &d->active);
	let_out_of(d, &d->arriving);
	pthread_cond_broadcast(&d->left);
}

static void finish(struct driver *d, CURL *easy, CURLcode code)
{
	struct driver_task *t = d->active;

	if (easy == d->probe) {
		end_probe(d, code == CURLE_OK);
		return;
	}
	while (t && t->easy != easy)
		t = t->next;
	if (!t)
		return;
	curl_multi_remove_handle(d->multi, easy);
	t->ended = true;
	if (code == CURLE_OPERATION_TIMEDOUT && !t->answered)
		shut_silent(d, clock_monotonic_ms() - t->started);
	LOCK_GUARD(&t->lock);
	t->trust = *d->trust;
	t->code = code;
	t->done = true;
	if (code != CURLE_OK)
		*d->trust->why = 0; /* said once: the next handshake has its own */
	tell(t);
}

static void *drive(void *arg)
{
	struct driver *d = arg;

	for (;;) {
		int running = 0, left = 0;
		bool stopped;

		take_in(d);
		let_out(d);
		pthread_mutex_lock(&d->lock);
		stopped = d->stopped;
		pthread_mutex_unlock(&d->lock);
		if (stopped)
			return NULL;
		curl_multi_perform(d->multi, &running);
		for (CURLMsg *m; (m = curl_multi_info_read(d->multi, &left));)
			if (m->msg == CURLMSG_DONE)
				finish(d, m->easy_handle, m->data.result);
		check(d);
		curl_multi_poll(d->multi, NULL, 0, ROUND_MS, NULL);
	}
}

struct driver *driver_start(struct trust_view *trust, const struct driver_limits *limits, struct error **err)
{
	struct driver *d = calloc(1, sizeof *d);
	int code = ENOMEM;

	if (d) {
		pthread_mutex_init(&d->lock, NULL);
		pthread_cond_init(&d->left, NULL);
		d->trust = trust;
		d->limits = limits ? *limits : (struct driver_limits){ .waiting_ms = 5000, .streaming_ms = 30000, .probe_ms = 5000 };
		d->multi = curl_multi_init();
		if (d->multi && curl_multi_setopt(d->multi, CURLMOPT_MAX_CONCURRENT_STREAMS, STREAMS_MAX) == CURLM_OK)
			code = pthread_create(&d->thread, NULL, drive, d);
		d->started = code == 0;
		if (d->started)
			return d;
		driver_stop(d);
	}
	error_set_errno(err, code, "cannot start the thread of a connection");
	return NULL;
}

void driver_stop(struct driver *d)
{
	if (!d)
		return;
	pthread_mutex_lock(&d->lock);
	d->stopped = true;
	pthread_mutex_unlock(&d->lock);
	if (d->started) {
		curl_multi_wakeup(d->multi);
		pthread_join(d->thread, NULL);
	}
	if (d->probing)
		curl_multi_remove_handle(d->multi, d->probe);
	if (d->multi)
		curl_multi_cleanup(d->multi); /* closes the connections */
	if (d->probe)
		curl_easy_cleanup(d->probe);
	pthread_cond_destroy(&d->left);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

CURLcode driver_prepare(struct driver *d, CURL *easy)
{
	CURLcode code = curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L); /* rather wait for the connection than open another */

	if (!code)
		code = curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	if (!code)
		code = curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, d);
	if (!code)
		code = curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
	return code ? code : curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, d);
}

static size_t drop(char *data, size_t size, size_t count, void *arg)
{
	(void)data;
	(void)arg;
	return size * count;
}

void driver_set_probe(struct driver *d, CURL *easy)
{
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, drop);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, drop);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)d->limits.probe_ms);
	d->probe = easy;
}

int driver_task_init(struct driver_task *t, CURL *easy, struct error **err)
{
	*t = (struct driver_task){ .news = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	if (t->news < 0)
		return error_set_errno(err, errno, "cannot make the request");
	t->easy = easy;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->room, NULL);
	buffer_init(&t->in, DRIVER_HANDOFF_MAX);
	return 0;
}

void driver_task_free(struct driver_task *t)
{
	close(t->news);
	buffer_free(&t->in);
	pthread_cond_destroy(&t->room);
	pthread_mutex_destroy(&t->lock);
}

void driver_add(struct driver *d, struct driver_task *t)
{
	pthread_mutex_lock(&d->lock);
	t->next = d->arriving;
	d->arriving = t;
	pthread_mutex_unlock(&d->lock);
	curl_multi_wakeup(d->multi);
}

void driver_remove(struct driver *d, struct driver_task *t, unsigned silent_ms)
{
	pthread_mutex_lock(&t->lock);
	t->abandoned = true;
	pthread_cond_signal(&t->room);
	pthread_mutex_unlock(&t->lock);
	pthread_mutex_lock(&d->lock);
	t->leaving = true;
	t->silent_ms = silent_ms;
	d->someone_leaves = true;
	curl_multi_wakeup(d->multi);
	while (!t->removed)
		pthread_cond_wait(&d->left, &d->lock);
	pthread_mutex_unlock(&d->lock);
}

void driver_task_answered(struct driver *d, struct driver_task *t, bool multiplexed)
{
	t->answered = true;
	d->multiplexed = multiplexed;
}

bool driver_task_put(struct driver_task *t, const void *data, size_t len)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += DRIVER_SLOW_MS / 1000;
	LOCK_GUARD(&t->lock);
	while (!t->abandoned && t->in.len && t->in.len + len > t->in.max)
		if (pthread_cond_timedwait(&t->room, &t->lock, &until) == ETIMEDOUT)
			return false;
	if (t->abandoned || buffer_add(&t->in, data, len) < 0)
		return false;
	tell(t);
	return true;
}

bool driver_task_take(struct driver_task *t, struct buffer *out)
{
	struct buffer empty = *out;
	uint64_t count;

	if (empty.cap > KEEP_BUFFER) {
		buffer_free(&empty);
		buffer_init(&empty, out->max);
	}
	/* Before the data is taken: news of what comes between the two is kept, and is of nothing new at worst. */
	if (read(t->news, &count, sizeof count) < 0) {
		/* nothing new: harmless */
	}
	LOCK_GUARD(&t->lock);
	*out = t->in;
	t->in = empty;
	pthread_cond_signal(&t->room);
	return t->done;
}

unsigned driver_connections(const struct driver *d)
{
	return d->connections;
}
