// links: source/openstack disk net xml api json base PkgConfig::jansson PkgConfig::ssl PkgConfig::crypto
/* A session with a cloud whose tokens end, whose services fail for a while, whose lists have pages, and whose answers get lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/wait.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "http_server.h"
#include "source/openstack/answer.h"
#include "source/openstack/artifact.h"
#include "source/openstack/download.h"
#include "source/openstack/image_input.h"
#include "source/openstack/session.h"
#include "json/codec.h"

#define BYTES 300000
#define BIG (100u << 20)

static struct {
	atomic_uint logins, life_s, failures, endless, posts, lost_posts, deletes, gets, cuts;
	atomic_uint gone_after, gone_status; /* bytes of an image, of which nothing is to be had from then on */
	atomic_uint limited;                 /* requests that come too soon */
	atomic_bool wrong_secret, no_ranges, flip, exists, deleting, refuse_post, no_filter, gateway;
	_Atomic(const char *) name;
	char image[BYTES];
	char *big;
	atomic_uint parts; /* requests of parts of it */
	char made_name[128];
	pthread_mutex_t lock;
} cloud = { .lock = PTHREAD_MUTEX_INITIALIZER };

static uint16_t port;

static bool text(struct conn *c, int status, const char *headers, const char *body)
{
	return conn_answer(c, status, headers, body, strlen(body));
}

static bool on_login(struct conn *c, const struct server_request *r)
{
	char headers[128], body[4096], now[CLOCK_RFC3339_SIZE], end[CLOCK_RFC3339_SIZE];
	time_t t = time(NULL), e = t + (time_t)cloud.life_s;
	struct tm tm;

	cloud.logins++;
	if (!strstr(r->body, "p<a>ss") || cloud.wrong_secret)
		return text(c, 401, "", "{\"error\": {\"message\": \"no\"}}");
	strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%S.000000Z", gmtime_r(&t, &tm));
	strftime(end, sizeof end, "%Y-%m-%dT%H:%M:%S.000000Z", gmtime_r(&e, &tm));
	snprintf(headers, sizeof headers, "X-Subject-Token: token-%u\r\n", (unsigned)cloud.logins);
	snprintf(
		body, sizeof body,
		"{\"token\": {\"issued_at\": \"%s\", \"expires_at\": \"%s\", \"project\": {\"id\": \"p\"}, \"catalog\": ["
		"{\"type\": \"compute\", \"endpoints\": [{\"interface\": \"public\", \"region\": \"R\", \"url\": \"http://127.0.0.1:%u/compute/v2.1\"}]},"
		"{\"type\": \"volumev3\", \"endpoints\": [{\"interface\": \"public\", \"region\": \"R\", \"url\": \"http://127.0.0.1:%u%s/volume/v3/p\"}]},"
		"{\"type\": \"image\", \"endpoints\": [{\"interface\": \"public\", \"region\": \"R\", \"url\": \"http://127.0.0.1:%u/image\"}]},"
		"{\"type\": \"network\", \"endpoints\": [{\"interface\": \"public\", \"region\": \"R\", \"url\": \"http://127.0.0.1:%u/network\"}]}]}}",
		now, end, port, port, cloud.gateway ? "/v3gateway" : "", port, port);
	return text(c, 201, headers, body);
}

/* Pages of one, as Nova's; without end when told so. */
static bool on_list(struct conn *c, const struct server_request *r, const char *key)
{
	char body[256];
	unsigned n = 0;
	bool image = !strcmp(key, "images");
	const char *marker = strstr(r->path, "marker=id");

	if (marker)
		n = (unsigned)atoi(marker + 9) + 1;
	if (cloud.endless)
		n = 1;
	snprintf(body, sizeof body, "{\"%s\": [{\"id\": \"id%u\"}]%s%s%s}", key, n,
		 n >= 3  ? ""
		 : image ? ", \"next\": \"/v2/images?marker=x"
			 : ", \"",
		 n < 3 && !image ? key : "",
		 n >= 3  ? ""
		 : image ? "\""
			 : "_links\": [{\"rel\": \"next\", \"href\": \"http://elsewhere.invalid/\"}]");
	return text(c, 200, "", body);
}

static bool on_file(struct conn *c, const struct server_request *r, const char *bytes, size_t size)
{
	const char *range = strcasestr(r->headers, "\r\nRange: bytes=");
	char *end = NULL;
	size_t from = range && !cloud.no_ranges ? strtoul(range + 15, &end, 10) : 0, len = size - from;
	char first = bytes[from];
	bool ok;

	if (cloud.gone_status && from >= cloud.gone_after)
		return text(c, (int)cloud.gone_status, "", "{}");
	if (end && end[0] == '-' && end[1] >= '0' && end[1] <= '9') {
		len = strtoul(end + 1, NULL, 10) - from + 1;
		cloud.parts++;
	}
	if (range && !cloud.no_ranges)
		conn_printf(c, "HTTP/1.1 206 X\r\nContent-Range: bytes %zu-%zu/%zu\r\nContent-Length: %zu\r\n\r\n", from, from + len - 1,
			    size, len);
	else
		conn_printf(c, "HTTP/1.1 200 X\r\nContent-Length: %zu\r\n\r\n", len);
	if (cloud.flip)
		first ^= 1;
	if (cloud.gone_status && from + len > cloud.gone_after) {
		conn_write(c, bytes + from, cloud.gone_after - from);
		return false;
	}
	if (cloud.cuts && cloud.cuts--) {
		conn_write(c, &first, 1);
		conn_write(c, bytes + from + 1, len / 3);
		return false;
	}
	ok = conn_write(c, &first, 1) && conn_write(c, bytes + from + 1, len - 1);
	return ok;
}

static bool on_snapshots(struct conn *c, const struct server_request *r)
{
	char body[512];

	if (!strcmp(r->method, "POST")) {
		const char *name = strstr(r->body, "vm-import-");

		cloud.posts++;
		if (cloud.refuse_post)
			return text(
				c, 413, "Retry-After: 0\r\n", /* Cinder */
				"{\"overLimit\": {\"code\": 413, \"message\": \"SnapshotLimitExceeded: Maximum number of snapshots allowed (1) "
				"exceeded\", \"retryAfter\": \"0\"}}");
		pthread_mutex_lock(&cloud.lock);
		snprintf(cloud.made_name, sizeof cloud.made_name, "%.*s", (int)strcspn(name ? name : "", "\""), name ? name : "");
		pthread_mutex_unlock(&cloud.lock);
		if (cloud.lost_posts && cloud.lost_posts--)
			return false;
		cloud.exists = true;
		return text(c, 202, "", "{\"snapshot\": {\"id\": \"snap-1\"}}");
	}
	if (!strcmp(r->method, "DELETE")) {
		cloud.deletes++;
		if (cloud.deletes == 1) /* busy at first */
			return text(c, 400, "", "{\"badRequest\": {\"message\": \"status must be available\"}}");
		cloud.deleting = true;
		return text(c, 202, "", "");
	}
	if (strstr(r->path, "/detail")) {
		if (cloud.no_filter && strstr(r->path, "name="))
			return text(c, 400, "", "{\"badRequest\": {\"message\": \"Invalid filters name are found in query options.\"}}");
		LOCK_GUARD(&cloud.lock);
		snprintf(body, sizeof body, "{\"snapshots\": [{\"id\": \"other\", \"name\": \"x%s\"}%s%s%s]}", cloud.made_name,
			 cloud.exists ? ", {\"id\": \"snap-1\", \"name\": \"" : "", cloud.exists ? cloud.made_name : "",
			 cloud.exists ? "\"}" : "");
		return text(c, 200, "", body);
	}
	if (cloud.deleting && cloud.exists && ++cloud.gets > 2)
		cloud.exists = false;
	if (!cloud.exists)
		return text(c, 404, "", "{\"itemNotFound\": {\"message\": \"gone\"}}");
	return text(c, 200, "",
		    cloud.deleting ? "{\"snapshot\": {\"id\": \"snap-1\", \"status\": \"deleting\"}}"
				   : "{\"snapshot\": {\"id\": \"snap-1\", \"status\": \"available\"}}");
}

static bool handle(struct conn *c, const struct server_request *r, void *arg)
{
	const char *token = strcasestr(r->headers, "\r\nX-Auth-Token: token-");

	(void)arg;
	if (!strcmp(r->path, "/id/v3/auth/tokens"))
		return on_login(c, r);
	if (!strcmp(r->path, "/compute/v2.1/"))
		return text(c, 200, "", "{\"version\": {\"id\": \"v2.1\", \"version\": \"2.60\", \"min_version\": \"2.1\"}}");
	if (!strcmp(r->path, "/volume/v3/") || !strcmp(r->path, "/v3gateway/volume/v3/"))
		return text(c, 300, "", "{\"versions\": [{\"version\": \"2.0\"}, {\"version\": \"3.99\", \"min_version\": \"3.0\"}]}");
	if (!token || strtoul(token + 22, NULL, 10) != cloud.logins)
		return text(c, 401, "", "{\"error\": {\"message\": \"no\"}}");
	/* The rate limit of services before 2014, of gateways still. */
	if (cloud.limited && cloud.limited--)
		return text(
			c, 413, cloud.limited % 2 ? "Retry-After: 1\r\n" : "",
			"{\"overLimit\": {\"code\": 413, \"message\": \"This request was rate-limited.\", \"details\": \"Only 1 POST request(s) can "
			"be made to * every minute.\"}}");
	if (cloud.failures && cloud.failures--)
		return text(c, 503, "", "<html>");
	if (!strncmp(r->path, "/compute/v2.1/servers", 21) && strcmp(r->method, "POST"))
		return on_list(c, r, "servers");
	if (!strncmp(r->path, "/image/v2/images?", 17))
		return on_list(c, r, "images");
	if (!strncmp(r->path, "/volume/v3/p/volumes/detail", 27))
		return on_list(c, r, "volumes");
	if (!strncmp(r->path, "/network/v2.0/ports", 19))
		return on_list(c, r, "ports");
	if (!strcmp(r->path, "/image/v2/images/i/file"))
		return on_file(c, r, cloud.image, BYTES);
	if (!strcmp(r->path, "/image/v2/images/big/file"))
		return on_file(c, r, cloud.big, BIG);
	if (!strncmp(r->path, "/volume/v3/p/snapshots", 22))
		return on_snapshots(c, r);
	if (!strcmp(r->path, "/network/v2.0/echo")) {
		bool minor = strcasestr(r->headers, "OpenStack-API-Version") != NULL;

		return text(c, 200, "", minor ? "{\"version\": true}" : "{\"version\": false}");
	}
	if (!strcmp(r->path, "/compute/v2.1/echo"))
		return text(c, 200, "",
			    strcasestr(r->headers, "OpenStack-API-Version: compute 2.60") ? "{\"version\": true}" : "{\"version\": false}");
	if (!strcmp(r->path, "/volume/v3/p/echo"))
		return text(c, 200, "",
			    strcasestr(r->headers, "OpenStack-API-Version: volume 3.59") ? "{\"version\": true}" : "{\"version\": false}");
	if (!strcmp(r->path, "/volume/v3/p/volumes/v/action"))
		return text(c, 202, "",
			    strstr(r->body, "\"visibility\":\"private\"") && strstr(r->body, "\"disk_format\":\"raw\"")
				    ? "{\"os-volume_upload_image\": {\"image_id\": \"i\"}}"
				    : "{}");
	if (!strcmp(r->path, "/volume/v3/p/volumes"))
		return text(c, 202, "",
			    strstr(r->body, "\"snapshot_id\":\"s1\"") && !strstr(r->body, "imageRef") ? "{\"volume\": {\"id\": \"v1\"}}"
												      : "{}");
	if (!strcmp(r->path, "/compute/v2.1/servers/s/action"))
		return text(c, 202, "", "{\"image_id\": \"i2\"}");
	if (!strcmp(r->method, "PATCH") && !strcmp(r->path, "/image/v2/images/i"))
		return text(c, strcasestr(r->headers, "Content-Type: application/openstack-images-v2.1-json-patch") ? 200 : 415, "", "{}");
	if (!strcmp(r->path, "/volume/v3/p/glance-is-down"))
		return text(
			c, 400, "",
			"{\"badRequest\": {\"message\": \"Connection to glance failed: Unable to establish connection to http://g/\"}}");
	if (!strcmp(r->path, "/compute/v2.1/moved"))
		return text(c, 301, "Location: https://cloud.example.com/compute/v2.1/moved\r\n", "");
	if (!strcmp(r->path, "/compute/v2.1/conflict"))
		return text(c, 409, "", "{\"conflictingRequest\": {\"message\": \"in vm_state stopped\"}}");
	return text(c, 404, "", "{\"itemNotFound\": {\"message\": \"no such thing\"}}");
}

static struct server *server;

static struct openstack_session *open_session(struct error **err)
{
	char url[64];
	AUTO_JSON json_t *object = NULL, *secret = json_pack("{s:s, s:s, s:s, s:s}", "username", "u", "password", "p<a>ss", "project_name",
							     "p", "domain_name", "d");

	snprintf(url, sizeof url, "http://127.0.0.1:%u/id/", port);
	object = json_pack("{s:{s:s, s:s, s:i, s:i}}", "spec", "endpoint", url, "region", "R", "uploadImageRetryCount", 20,
			   "uploadImageRetryDelay", 1);
	return openstack_session_open(object, secret, NULL, err);
}

static int reset(void **state)
{
	cloud.life_s = 3600;
	cloud.logins = cloud.failures = cloud.endless = cloud.posts = cloud.lost_posts = cloud.deletes = cloud.gets = cloud.cuts =
		cloud.parts = 0;
	cloud.gone_status = cloud.limited = 0;
	cloud.wrong_secret = cloud.no_ranges = cloud.flip = cloud.exists = cloud.deleting = cloud.refuse_post = cloud.no_filter =
		cloud.gateway = false;
	*state = open_session(NULL);
	return *state ? 0 : -1;
}

static int close_session(void **state)
{
	openstack_session_close(*state);
	return 0;
}

static void test_login(void **state)
{
	AUTO_ERROR struct error *err = NULL;

	assert_int_equal(cloud.logins, 1);
	assert_int_equal(openstack_minor(*state, OPENSTACK_COMPUTE), 60);
	assert_int_equal(openstack_minor(*state, OPENSTACK_VOLUME), 59);
	assert_int_equal(openstack_patience_ms(*state), 20000);
	cloud.wrong_secret = true;
	assert_null(open_session(&err));
	assert_string_equal(err->reason, "InvalidLogin");
	assert_int_equal(err->class, ERROR_PERMANENT);
	assert_null(strstr(err->message, "p<a>ss"));
}

static void test_versions_are_told(void **state)
{
	static const enum openstack_service with[] = { OPENSTACK_COMPUTE, OPENSTACK_VOLUME };

	for (size_t i = 0; i < 2; i++) {
		AUTO_JSON json_t *answer = openstack_get(*state, with[i], NULL, NULL, "/echo");

		assert_true(json_is_true(json_object_get(answer, "version")));
	}
	AUTO_JSON json_t *answer = openstack_get(*state, OPENSTACK_NETWORK, NULL, NULL, "/echo");
	assert_true(json_is_false(json_object_get(answer, "version")));
	/* Where the URL has something before that begins like the version. */
	cloud.gateway = true;
	struct openstack_session *other = open_session(NULL);
	assert_non_null(other);
	assert_int_equal(openstack_minor(other, OPENSTACK_VOLUME), 59);
	openstack_session_close(other);
}

static void test_tokens(void **state)
{
	AUTO_JSON json_t *answer = openstack_get(*state, OPENSTACK_COMPUTE, NULL, NULL, "/echo");

	assert_non_null(answer);
	assert_int_equal(cloud.logins, 1);
	/* One that the cloud forgot is renewed, once. */
	cloud.logins = 7;
	json_decref(answer);
	answer = openstack_get(*state, OPENSTACK_COMPUTE, NULL, NULL, "/echo");
	assert_non_null(answer);
	assert_int_equal(cloud.logins, 8);
	/* One that ends soon is renewed before it does. */
	cloud.life_s = 0;
	assert_int_equal(openstack_session_renew(*state, NULL, NULL), 0);
	json_decref(answer);
	answer = openstack_get(*state, OPENSTACK_COMPUTE, NULL, NULL, "/echo");
	assert_int_equal(cloud.logins, 10);
}

static void test_failures_that_pass(void **state)
{
	AUTO_ERROR struct error *err = NULL;
	bool unknown = false;

	cloud.failures = 3;
	AUTO_JSON json_t *answer = openstack_get(*state, OPENSTACK_COMPUTE, NULL, &err, "/echo");
	assert_non_null(answer);
	assert_null(openstack_get(*state, OPENSTACK_COMPUTE, NULL, &err, "/absent"));
	assert_int_equal(err->class, ERROR_NOT_FOUND);
	assert_non_null(strstr(err->message, "no such thing"));
	error_free(move_ptr(err));
	/* Too many requests in a while, which is no quota, is waited for; also by what changes something, for it was not done. */
	cloud.limited = 2;
	json_decref(answer);
	answer = openstack_get(*state, OPENSTACK_COMPUTE, NULL, &err, "/echo");
	assert_non_null(answer);
	cloud.limited = 2;
	struct openstack_deed limited = { .service = OPENSTACK_VOLUME, .method = "POST", .path = "/snapshots", .body = answer };
	assert_int_equal(openstack_do(*state, &limited, NULL, &unknown, &err), 0);
	assert_int_equal(cloud.posts, 1);
	assert_false(unknown);
	/* A redirect is not followed, for it would carry the token, but told. */
	assert_null(openstack_get(*state, OPENSTACK_COMPUTE, NULL, &err, "/moved"));
	assert_int_equal(err->class, ERROR_PERMANENT);
	assert_non_null(strstr(err->message, "is redirected to https://cloud.example.com/compute/v2.1/moved"));
	error_free(move_ptr(err));
	/* What changes something is done once: nobody knows whether it was done. */
	cloud.failures = 1;
	struct openstack_deed deed = { .service = OPENSTACK_COMPUTE, .method = "POST", .path = "/conflict" };
	assert_int_equal(openstack_do(*state, &deed, NULL, &unknown, &err), -1);
	assert_int_equal(err->code, 503);
	assert_true(unknown);
	error_free(move_ptr(err));
	assert_int_equal(openstack_do(*state, &deed, NULL, &unknown, &err), -1);
	assert_string_equal(err->reason, "InvalidState");
	assert_false(unknown);
	error_free(move_ptr(err));
	/* A service that cannot reach another says so with a status of the caller's fault. */
	deed.service = OPENSTACK_VOLUME;
	deed.path = "/glance-is-down";
	assert_int_equal(openstack_do(*state, &deed, NULL, &unknown, &err), -1);
	assert_int_equal(err->class, ERROR_TRANSIENT);
}

static void test_pages(void **state)
{
	AUTO_ERROR struct error *err = NULL;
	AUTO_JSON json_t *all = openstack_list(*state, OPENSTACK_COMPUTE, "/servers?name=x", "servers", NULL, &err);

	assert_int_equal(json_array_size(all), 4);
	assert_string_equal(answer_id(json_array_get(all, 3), "id"), "id3");
	cloud.endless = 1;
	assert_null(openstack_list(*state, OPENSTACK_COMPUTE, "/servers", "servers", NULL, &err));
	assert_non_null(strstr(err->message, "does not end"));
	error_free(move_ptr(err));
	assert_null(openstack_list(*state, OPENSTACK_COMPUTE, "/servers", "images", NULL, &err));
	assert_string_equal(err->reason, "InvalidAnswer");
}

/* Each service says in its own way that there is more. */
static void test_pages_of_each_service(void **state)
{
	static const struct {
		enum openstack_service service;
		const char *path, *key;
	} lists[] = { { OPENSTACK_IMAGE, "/images?name=x", "images" },
		      { OPENSTACK_VOLUME, "/volumes/detail", "volumes" },
		      { OPENSTACK_NETWORK, "/ports?device_id=x", "ports" } };

	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
		AUTO_ERROR struct error *err = NULL;
		AUTO_JSON json_t *all = openstack_list(*state, lists[i].service, lists[i].path, lists[i].key, NULL, &err);

		if (!all)
			fail_msg("%s", err->message);
		assert_int_equal(json_array_size(all), 4);
	}
}

/* --- downloads ------------------------------------------------------------------------------------------------------------- */

static int take(void *arg, const void *data, size_t len, struct error **err)
{
	(void)err;
	return buffer_add(arg, data, len);
}

static int download(struct openstack_session *s, const char *sum, size_t size, struct error **err)
{
	AUTO_BUFFER struct buffer got;
	AUTO_JSON json_t *image =
		json_pack("{s:s, s:s, s:s, s:I}", "id", "i", "os_hash_algo", "sha256", "os_hash_value", sum, "size", (json_int_t)size);
	int result;

	buffer_init(&got, 2 * BYTES);
	result = openstack_download(s, image, take, &got, NULL, err);
	if (result == 0) {
		assert_int_equal(got.len, BYTES);
		assert_memory_equal(got.data, cloud.image, BYTES);
	}
	return result;
}

static void test_downloads(void **state)
{
	unsigned char sum[32];
	char hex[65];
	AUTO_ERROR struct error *err = NULL;

	assert_true(EVP_Digest(cloud.image, BYTES, sum, NULL, EVP_sha256(), NULL));
	for (int i = 0; i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02X", sum[i]);
	assert_int_equal(download(*state, hex, BYTES, &err), 0);
	cloud.cuts = 3;
	assert_int_equal(download(*state, hex, BYTES, &err), 0);
	cloud.no_ranges = true;
	cloud.cuts = 3;
	assert_int_equal(download(*state, hex, BYTES, &err), 0);
	assert_int_equal(cloud.cuts, 0);
	cloud.logins = 20; /* a token that is refused in between */
	assert_int_equal(download(*state, hex, BYTES, &err), 0);
	assert_int_equal(download(*state, hex, BYTES + 1, &err), -1);
	assert_string_equal(err->reason, "StreamTruncated");
	error_free(move_ptr(err));
	assert_int_equal(download(*state, hex, BYTES - 1, &err), -1);
	assert_string_equal(err->reason, "InvalidAnswer");
	error_free(move_ptr(err));
	cloud.flip = true;
	assert_int_equal(download(*state, hex, BYTES, &err), -1);
	assert_string_equal(err->reason, "ChecksumMismatch");
	assert_int_equal(err->class, ERROR_TRANSIENT);
}

/* Images of old have an MD5 sum only; of an algorithm that is not known here, too. */
static void test_checksums(void **state)
{
	static const char *const images[] = { "{s:s, s:n, s:n, s:s, s:I}", "{s:s, s:s, s:s, s:s, s:I}" };
	unsigned char sum[16];
	char hex[33];

	assert_true(EVP_Digest(cloud.image, BYTES, sum, NULL, EVP_md5(), NULL));
	for (int i = 0; i < 16; i++)
		snprintf(hex + 2 * i, 3, "%02x", sum[i]);
	for (unsigned i = 0; i < 4; i++) {
		AUTO_ERROR struct error *err = NULL;
		AUTO_BUFFER struct buffer got;
		AUTO_JSON json_t *image = i % 2 ? json_pack(images[1], "id", "i", "os_hash_algo", "blake9", "os_hash_value", "00",
							    "checksum", hex, "size", (json_int_t)BYTES)
						: json_pack(images[0], "id", "i", "os_hash_algo", "os_hash_value", "checksum", hex, "size",
							    (json_int_t)BYTES);

		assert_non_null(image);
		buffer_init(&got, BYTES);
		cloud.flip = i >= 2;
		assert_int_equal(openstack_download(*state, image, take, &got, NULL, &err), i >= 2 ? -1 : 0);
		if (i >= 2)
			assert_string_equal(err->reason, "ChecksumMismatch");
	}
}

/* --- images that are read at any place -------------------------------------------------------------------------------------- */

static const char *why_unusable;

static void count(void *arg, const char *reason)
{
	++*(unsigned *)arg;
	why_unusable = reason;
}

static void read_and_compare(struct disk_input *in, uint64_t offset, size_t len)
{
	AUTO_FREE char *data = malloc(len);
	AUTO_ERROR struct error *err = NULL;

	if (disk_input_read(in, offset, data, len, &err) < 0)
		fail_msg("%s", err->message);
	assert_memory_equal(data, cloud.big + offset, len);
}

static json_t *big_image(void)
{
	unsigned char sum[64];
	char hex[129];

	assert_true(EVP_Digest(cloud.big, BIG, sum, NULL, EVP_sha512(), NULL));
	for (int i = 0; i < 64; i++)
		snprintf(hex + 2 * i, 3, "%02x", sum[i]);
	return json_pack("{s:s, s:s, s:s, s:s, s:I}", "id", "big", "name", "big", "os_hash_algo", "sha512", "os_hash_value", hex, "size",
			 (json_int_t)BIG);
}

static void test_reading_at_any_place(void **state)
{
	AUTO_JSON json_t *image = big_image();
	AUTO_ERROR struct error *err = NULL;
	struct disk_input *in;
	unsigned told = 0;
	char byte;

	cloud.parts = 0;
	in = openstack_image_input(*state, image, count, &told, NULL, &err);
	assert_int_equal(disk_input_size(in), BIG);
	/* Tables and data as they come in the stream, with looks back. */
	read_and_compare(in, 0, 512);
	read_and_compare(in, 65536, 65536);
	for (uint32_t at = 1 << 20; at < 20u << 20; at += 1 << 20) {
		read_and_compare(in, at, 1 << 20);
		read_and_compare(in, at - 100000, 16384);
	}
	assert_int_equal(cloud.parts, 0);
	/* A table at the end, and what is long past. */
	read_and_compare(in, BIG - 16384, 16384);
	read_and_compare(in, 0, 512);
	assert_int_equal(cloud.parts, 2);
	cloud.cuts = 2; /* of the part, and of nothing else */
	read_and_compare(in, 5, 1 << 20);
	for (uint32_t at = 20u << 20; at < BIG; at += 5 << 20)
		read_and_compare(in, at, 1 << 20);
	assert_int_equal(disk_input_read(in, BIG - 1, &byte, 2, &err), -1);
	error_free(move_ptr(err));
	assert_int_equal(disk_input_finish(in, &err), 0);
	disk_input_close(in);
	assert_int_equal(told, 0);

	/* A store that gives no parts. */
	cloud.no_ranges = true;
	in = openstack_image_input(*state, image, count, &told, NULL, &err);
	read_and_compare(in, 30u << 20, 1 << 20); /* on which the stream hurries */
	assert_int_equal(disk_input_read(in, 0, &byte, 1, &err), -1);
	assert_string_equal(err->reason, NO_RANGES);
	assert_int_equal(err->class, ERROR_TRANSIENT);
	assert_int_equal(told, 1);
	error_free(move_ptr(err));
	disk_input_close(in); /* in the middle */
	cloud.no_ranges = false;

	/* Other bytes than the checksum says are found out at the end, also when they were not read. */
	cloud.flip = true;
	in = openstack_image_input(*state, image, count, &told, NULL, &err);
	read_and_compare(in, 10u << 20, 1 << 20);
	assert_int_equal(disk_input_finish(in, &err), -1);
	assert_string_equal(err->reason, "ChecksumMismatch");
	disk_input_close(in);
}

/* Somebody removes the image, or an administrator withdraws it, while it is read: another one can be made. */
static void test_images_that_go(void **state)
{
	AUTO_JSON json_t *image = big_image();

	for (unsigned i = 0; i < 6; i++) {
		AUTO_ERROR struct error *err = NULL;
		AUTO_FREE char *data = malloc(1 << 20);
		struct disk_input *in;
		unsigned told = 0;

		cloud.gone_after = 50u << 20;
		cloud.gone_status = i >= 4 ? 0 : i % 2 ? 404 : 403;
		in = openstack_image_input(*state, image, count, &told, NULL, &err);
		read_and_compare(in, 0, 1 << 20);
		if (i < 2) { /* met by a read */
			assert_int_equal(disk_input_read(in, 60u << 20, data, 1 << 20, &err), -1);
		} else if (i < 4) { /* by the rest that is not read */
			assert_int_equal(disk_input_finish(in, &err), -1);
		} else { /* by a part, while the stream still comes */
			read_and_compare(in, 40u << 20, 1 << 20);
			cloud.gone_after = 0;
			cloud.gone_status = i % 2 ? 404 : 403;
			assert_int_equal(disk_input_read(in, 0, data, 512, &err), -1);
		}
		assert_string_equal(err->reason, IMAGE_GONE);
		assert_int_equal(err->class, ERROR_TRANSIENT);
		assert_int_equal(told, 1);
		assert_string_equal(why_unusable, IMAGE_GONE);
		disk_input_close(in);
		cloud.gone_status = 0;
	}
	/* One that may not be had from the start is no such. */
	AUTO_ERROR struct error *err = NULL;
	cloud.gone_after = 0;
	cloud.gone_status = 403;
	assert_int_equal(download(*state, "", BYTES, &err), -1);
	assert_string_not_equal(err->reason, IMAGE_GONE);
	assert_int_equal(err->class, ERROR_PERMANENT);
}

/* The window is shared by all disks that are under way, whatever the order in which they are read. */
static void test_small_windows(void **state)
{
	static const size_t shares[] = { 2 << 20, 256 << 10, 1 << 20, 100, 2 << 20 };
	AUTO_JSON json_t *image = big_image();
	AUTO_ERROR struct error *err = NULL;
	_Atomic size_t most = 2 << 20;
	unsigned told = 0, seed = 7, at = 0;
	struct disk_input *in = openstack_image_input(*state, image, count, &told, NULL, &err);

	disk_input_share_ahead(in, &most);
	for (unsigned n = 0; at < BIG - (2u << 20); n++) {
		size_t len = 1 + (size_t)rand_r(&seed) % (1 << 20);

		most = shares[n / 20 % 5];
		read_and_compare(in, at, len);
		at += (unsigned)len;
		if (n % 3 == 0 && at > 40000)
			read_and_compare(in, at - 40000, 16384);
	}
	assert_int_equal(cloud.parts, 0);
	assert_int_equal(disk_input_finish(in, &err), 0);
	disk_input_close(in);
	assert_int_equal(told, 0);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED 0
#endif

struct together {
	pthread_t thread;
	struct openstack_session *session;
	json_t *image;
	const _Atomic size_t *most;
	bool failed;
};

static void ignore_trouble(void *arg, const char *reason)
{
	(void)reason;
	((struct together *)arg)->failed = true;
}

static void *read_all(void *arg)
{
	struct together *t = arg;
	char data[65536];
	struct disk_input *in = openstack_image_input(t->session, t->image, ignore_trouble, t, NULL, NULL);

	t->failed = !in;
	if (in)
		disk_input_share_ahead(in, t->most);
	for (uint64_t at = 0; !t->failed && at < BIG; at += sizeof data)
		t->failed = disk_input_read(in, at, data, sizeof data, NULL) < 0 || memcmp(data, cloud.big + at, sizeof data) != 0;
	disk_input_close(in);
	return NULL;
}

static long kib_of(const char *what)
{
	FILE *f = fopen("/proc/self/status", "re");
	size_t len = strlen(what);
	char line[256];
	long kib = -1;

	while (f && kib < 0 && fgets(line, sizeof line, f))
		if (!strncmp(line, what, len))
			kib = strtol(line + len + 1, NULL, 10);
	if (f)
		fclose(f);
	return kib;
}

/* Eight images that are read at once, in a process of its own whose memory is measured from then on. */
static void test_memory_of_eight(void **state)
{
	int ends[2];
	long kib = 0;
	pid_t child;

	(void)state;
	if (SANITIZED)
		skip();
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	child = fork();
	if (!child) {
		struct together all[8] = { 0 };
		_Atomic size_t most = DISK_INPUT_AHEAD / 8;
		json_t *image = big_image();
		struct openstack_session *s = open_session(NULL);
		FILE *peak = fopen("/proc/self/clear_refs", "we");
		bool failed = !s || !peak || fputs("5", peak) < 0 || fclose(peak);
		long before = kib_of("VmRSS");

		for (int i = 0; i < 8 && !failed; i++) {
			all[i] = (struct together){ .session = s, .image = image, .most = &most };
			failed = pthread_create(&all[i].thread, NULL, read_all, &all[i]);
		}
		for (int i = 0; i < 8 && !failed; i++) {
			pthread_join(all[i].thread, NULL);
			failed = all[i].failed;
		}
		kib = failed ? -1 : kib_of("VmHWM") - before;
		_exit(write(ends[1], &kib, sizeof kib) != sizeof kib);
	}
	close(ends[1]);
	assert_int_equal(read(ends[0], &kib, sizeof kib), sizeof kib);
	close(ends[0]);
	assert_int_equal(waitpid(child, NULL, 0), child);
	print_message("eight images: %ld KiB\n", kib);
	assert_in_range(kib, 1024, 16 * 1024);
}

/* --- what is made in the cloud --------------------------------------------------------------------------------------------- */

static char ledger[512];

static int write_ledger(void *arg, bool made, const char *kind, const char *id, struct error **err)
{
	size_t len = strlen(ledger);

	(void)err;
	assert_true(strncmp(id, "vm-import-", 10) == 0);
	snprintf(ledger + len, sizeof ledger - len, "%s%s ", made ? "+" : "-", kind);
	return *(bool *)arg ? error_set(err, ERROR_CANCELLED, "ImportGone", "gone") : 0;
}

static void test_artifacts(void **state)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	bool full = false;
	struct artifact_maker m = { .session = *state, .server = "s", .ledger = write_ledger, .ledger_arg = &full, .ledger_lock = &lock };
	struct artifact a = { 0 };
	struct poll poll = poll_within(20000, 200);
	AUTO_ERROR struct error *err = NULL;

	*ledger = 0;
	assert_int_equal(artifact_snapshot(&m, "v", &a, &err), 0);
	assert_string_equal(a.id, "snap-1");
	pthread_mutex_lock(&cloud.lock);
	assert_string_equal(a.name, cloud.made_name);
	pthread_mutex_unlock(&cloud.lock);
	assert_string_equal(ledger, "+Snapshot ");
	assert_int_equal(artifact_wait(&m, &a, NULL, NULL, &err), 0);
	/* Refused once, then on its way for a while; asked for no more than it takes. */
	assert_int_equal(artifact_undo(&m, &a, &poll, &err), 0);
	assert_null(a.name);
	assert_string_equal(ledger, "+Snapshot -Snapshot ");
	assert_int_equal(cloud.deletes, 2);
	/* Refused: nothing is left in the ledger. */
	*ledger = 0;
	cloud.refuse_post = true;
	assert_int_equal(artifact_snapshot(&m, "v", &a, &err), -1);
	assert_string_equal(err->reason, "QuotaExceeded");
	assert_null(a.name);
	assert_string_equal(ledger, "+Snapshot -Snapshot ");
	error_free(move_ptr(err));
	/* What cannot be written down is not made. */
	cloud.refuse_post = false;
	cloud.posts = 0;
	full = true;
	assert_int_equal(artifact_snapshot(&m, "v", &a, &err), -1);
	assert_int_equal(cloud.posts, 0);
	artifact_clear(&a);
}

static void test_other_artifacts(void **state)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	bool full = false;
	struct artifact_maker m = { .session = *state, .server = "s", .ledger = write_ledger, .ledger_arg = &full, .ledger_lock = &lock };
	struct artifact a = { 0 };
	AUTO_ERROR struct error *err = NULL;

	*ledger = 0;
	assert_int_equal(artifact_upload(&m, "v", true, &a, &err), 0);
	assert_string_equal(a.id, "i");
	artifact_clear(&a);
	assert_int_equal(artifact_volume(&m, "s1", NULL, NULL, 3, &a, &err), 0);
	assert_string_equal(a.id, "v1");
	artifact_clear(&a);
	assert_int_equal(artifact_create_image(&m, &a, &err), 0);
	assert_string_equal(a.id, "i2");
	assert_true(a.of_server);
	artifact_clear(&a);
	assert_string_equal(ledger, "+Image +Volume +Image ");
	/* An answer that names nothing: what was made is found by its name, which is kept. */
	assert_int_equal(artifact_volume(&m, NULL, "v", NULL, 3, &a, &err), -1);
	assert_string_equal(err->reason, "InvalidAnswer");
	assert_non_null(a.name);
	artifact_clear(&a);
}

static void test_lost_answers(void **state)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	bool full = false;
	struct artifact_maker m = { .session = *state, .server = "s", .ledger = write_ledger, .ledger_arg = &full, .ledger_lock = &lock };
	struct artifact a = { 0 };
	struct poll poll = poll_within(20000, 200);
	AUTO_ERROR struct error *err = NULL;

	/* Lost before it was done: it is done again, for nothing of this name is there. */
	cloud.lost_posts = 1;
	assert_int_equal(artifact_snapshot(&m, "v", &a, &err), 0);
	assert_true(cloud.posts >= 2);
	artifact_clear(&a);
	/* Lost when it was done: it is found by its name, and not asked for again. */
	cloud.posts = 0;
	cloud.lost_posts = 1;
	cloud.exists = true;
	assert_int_equal(artifact_snapshot(&m, "v", &a, &err), 0);
	assert_int_equal(cloud.posts, 1);
	assert_string_equal(a.id, "snap-1");
	/* Another process knows its name only. One that is young and not there may still come. */
	assert_int_equal(artifact_remove(*state, ARTIFACT_SNAPSHOT, a.name, &poll, NULL, &err), 0);
	assert_false(cloud.exists);
	assert_int_equal(artifact_remove(*state, ARTIFACT_SNAPSHOT, "vm-import-00000001-0000000000000000-snapshot", &poll, NULL, &err), 0);
	/* A cloud that cannot be asked for names. */
	cloud.no_filter = cloud.exists = true;
	cloud.deleting = false;
	assert_int_equal(artifact_remove(*state, ARTIFACT_SNAPSHOT, a.name, &poll, NULL, &err), 0);
	assert_false(cloud.exists);
	artifact_clear(&a);
}

static int start(void **state)
{
	(void)state;
	cloud.big = malloc(BIG);
	if (!cloud.big)
		return -1;
	for (uint32_t i = 0; i < BIG; i += 4)
		memcpy(cloud.big + i, &(uint32_t){ i * 2654435761u }, 4);
	for (size_t i = 0; i < BYTES; i++)
		cloud.image[i] = (char)(i * 7 / 3 + i / 1000);
	server = server_start(NULL, handle, NULL);
	port = server->port;
	return 0;
}

static int stop(void **state)
{
	(void)state;
	server_stop(server);
	free(cloud.big);
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, reset, close_session)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_login),
		TEST(test_versions_are_told),
		TEST(test_tokens),
		TEST(test_failures_that_pass),
		TEST(test_pages),
		TEST(test_downloads),
		TEST(test_reading_at_any_place),
		TEST(test_pages_of_each_service),
		TEST(test_checksums),
		TEST(test_images_that_go),
		TEST(test_small_windows),
		TEST(test_memory_of_eight),
		TEST(test_artifacts),
		TEST(test_other_artifacts),
		TEST(test_lost_answers),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
