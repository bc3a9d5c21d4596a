/* What an HTTP client keeps between requests: its trust, and handles with their open connections. Internal to net/. */
#pragma once

#include <curl/curl.h>
#include <pthread.h>

#include "net/driver.h"
#include "net/http.h"
#include "net/trust.h"

/* An easy handle and the multi handle that drives it; connections live in the latter. The trust view must live as long as they do. */
struct slot {
	CURLM *multi;
	CURL *easy;
	struct trust_view trust;
	char refused[128]; /* the address that a request was not to reach, and why not; "" when there was none */
	bool failed;       /* a request: curl may keep a buffer in the handle, which then takes no more requests */
	struct slot *next;
};

struct http_client {
	char *ca_pem, *pin_sha1, *pin_sha256, *cert_pem, *key_pem, *server_name, *proxy_url;
	bool insecure, refuse_local, first_use;
	struct trust_first_use first; /* with first_use */
	pthread_mutex_t lock;         /* guards idle */
	struct slot *idle;
	size_t idle_count;
	struct driver *driver; /* NULL: each request drives a connection of its own */
	struct trust_view shared_trust;
	struct curl_slist *probe_connect_to;
};

/* A handle for one request, with the connections of earlier ones; NULL when memory is out. */
struct slot *http_slot_take(struct http_client *client);
void http_slot_give(struct http_client *client, struct slot *slot);
/* Sets whom the handle trusts and who we are. */
int http_slot_set_trust(struct http_client *client, struct slot *slot, struct error **err);
