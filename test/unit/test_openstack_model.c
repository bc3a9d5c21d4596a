// links: source/openstack net xml api json base PkgConfig::jansson PkgConfig::crypto
/* What OpenStack's services say of a server, as a vm_model, whatever they say; catalogues, CPU layouts, checks, quotas, disks that are filled up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "source/openstack/answer.h"
#include "source/openstack/check.h"
#include "source/openstack/fill.h"
#include "source/openstack/keystone.h"
#include "source/openstack/model.h"
#include "source/openstack/quota.h"
#include "source/openstack/server.h"
#include "source/openstack/topology.h"
#include "json/codec.h"

#define GIB (UINT64_C(1) << 30)
#define MIB (UINT64_C(1) << 20)
#define VOLUME_A "aaaaaaaa-0000-4000-8000-000000000001"
#define VOLUME_B "bbbbbbbb-0000-4000-8000-000000000002"
#define VOLUME_C "cccccccc-0000-4000-8000-000000000003"

/* JSON with ' for ". */
static json_t *json(const char *text)
{
	char *copy = strdup(text);
	json_error_t error;
	json_t *value;

	for (char *p = copy; (p = strchr(p, '\''));)
		*p = '"';
	value = json_loads(copy, JSON_DECODE_ANY, &error);
	if (!value)
		fail_msg("%s at %d of %s", error.text, error.position, copy);
	free(copy);
	return value;
}

static void assert_contains(const char *text, const char *part)
{
	if (!text || !strstr(text, part))
		fail_msg("\"%s\" is not in \"%s\"", part, text ? text : "(null)");
}

/* --- Keystone -------------------------------------------------------------------------------------------------------------- */

static void test_endpoints(void **state)
{
	static const struct {
		const char *endpoint, *url;
	} table[] = {
		{ "https://k:5000/v3", "https://k:5000/v3" },
		{ "https://k:5000/v3/", "https://k:5000/v3" },
		{ "https://k:5000/v3//", "https://k:5000/v3" },
		{ "https://k:5000", "https://k:5000/v3" },
		{ "https://k/identity/", "https://k/identity/v3" },
		{ "HTTP://k/identity/v3", "HTTP://k/identity/v3" },
		{ "https://k:5000/v2.0", NULL },
		{ "k:5000/v3", NULL },
		{ "ftp://k/v3", NULL },
		{ "https:///v3", NULL },
		{ "https://user:pw@k/v3", NULL },
		{ "https://k/v3\r\nX: y", NULL },
		{ "", NULL },
		{ NULL, NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		AUTO_ERROR struct error *err = NULL;
		AUTO_FREE char *url = keystone_url(table[i].endpoint, &err);

		if (table[i].url)
			assert_string_equal(url, table[i].url);
		else
			assert_string_equal(err->reason, "InvalidEndpoint");
		assert_true(!err == !!url);
	}
}

static void test_credentials(void **state)
{
	static const struct {
		const char *secret, *body, *missing;
	} table[] = {
		{ "{'username': 'u', 'password': 'p', 'project_name': 'q', 'domain_name': 'd'}",
		  "{'auth': {'identity': {'methods': ['password'], 'password': {'user': {'name': 'u', 'domain': {'name': 'd'}, 'password': 'p'}}},"
		  "'scope': {'project': {'name': 'q', 'domain': {'name': 'd'}}}}}",
		  NULL },
		{ "{'username': 'u', 'password': 'p', 'project_id': '12', 'user_domain_name': 'e', 'domain_name': 'd'}",
		  "{'auth': {'identity': {'methods': ['password'], 'password': {'user': {'name': 'u', 'domain': {'name': 'e'}, 'password': 'p'}}},"
		  "'scope': {'project': {'id': '12'}}}}",
		  NULL },
		{ "{'username': 'u', 'password': 'p', 'project_name': 'q', 'domain_name': 'd', 'project_domain_name': 'f'}",
		  "{'auth': {'identity': {'methods': ['password'], 'password': {'user': {'name': 'u', 'domain': {'name': 'd'}, 'password': 'p'}}},"
		  "'scope': {'project': {'name': 'q', 'domain': {'name': 'f'}}}}}",
		  NULL },
		{ "{'application_credential_id': 'i', 'application_credential_secret': 's', 'username': 'u'}",
		  "{'auth': {'identity': {'methods': ['application_credential'], 'application_credential': {'id': 'i', 'secret': 's'}}}}",
		  NULL },
		/* A form leaves what is not filled in empty. */
		{ "{'application_credential_id': '', 'application_credential_secret': '', 'username': 'u', 'password': 'p', 'project_id': '12',"
		  "'domain_name': 'd'}",
		  "{'auth': {'identity': {'methods': ['password'], 'password': {'user': {'name': 'u', 'domain': {'name': 'd'}, 'password': 'p'}}},"
		  "'scope': {'project': {'id': '12'}}}}",
		  NULL },
		{ "{'application_credential_id': 'i'}", NULL, "\"application_credential_secret\"" },
		{ "{'password': 'p', 'project_name': 'q', 'domain_name': 'd'}", NULL, "\"username\"" },
		{ "{'username': 'u', 'password': '', 'project_name': 'q', 'domain_name': 'd'}", NULL, "\"password\"" },
		{ "{'username': 'u', 'password': 'p', 'domain_name': 'd'}", NULL, "\"project_name\"" },
		{ "{'username': 'u', 'password': 'p', 'project_name': 'q'}", NULL, "\"domain_name\"" },
		{ NULL, NULL, "application_credential_id" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		AUTO_ERROR struct error *err = NULL;
		AUTO_JSON json_t *secret = table[i].secret ? json(table[i].secret) : NULL;
		AUTO_FREE char *who = NULL;
		AUTO_JSON json_t *body = keystone_request(secret, &who, &err);

		if (table[i].body) {
			AUTO_JSON json_t *wanted = json(table[i].body);

			assert_non_null(body);
			assert_true(json_equal(body, wanted));
			assert_null(strstr(who, "secret"));
		} else {
			assert_null(body);
			assert_int_equal(err->class, ERROR_PERMANENT);
			assert_contains(err->message, table[i].missing);
		}
	}
}

#define TOKEN(catalog)                                                                                                                 \
	"{'token': {'expires_at': '2026-11-25T20:00:00.000000Z', 'issued_at': '2026-11-25T19:00:00.000000Z', 'project': {'id': 'p1'}," \
	"'catalog': [" catalog "]}}"
#define SERVICE(type, endpoints) "{'type': '" type "', 'endpoints': [" endpoints "]}"
#define ENDPOINT(region, interface, url) \
	"{'region_id': '" region "', 'region': '" region "', 'interface': '" interface "', 'url': '" url "'}"
#define REST                                                        \
	SERVICE("image", ENDPOINT("R", "public", "http://i:9292/")) \
	"," SERVICE("network", ENDPOINT("R", "public", "http://n:9696"))

static void test_catalogues(void **state)
{
	static const struct {
		const char *answer, *region, *interface, *compute, *volume, *image, *network, *reason, *text;
	} table[] = {
		{ TOKEN(SERVICE("compute", ENDPOINT("R", "public", "http://c:8774/v2.1/")) "," SERVICE(
			  "volumev3", ENDPOINT("R", "public", "http://v:8776/v3/p1/")) "," REST),
		  "R", "public", "http://c:8774/v2.1", "http://v:8776/v3/p1", "http://i:9292/v2", "http://n:9696/v2.0", NULL, NULL },
		/* Without versions and with paths; the region is the only one; a path that only looks like a version. */
		{ TOKEN(SERVICE("compute", ENDPOINT("R", "public", "https://x/compute")) "," SERVICE(
			  "block-storage",
			  ENDPOINT(
				  "R", "public",
				  "https://x/volume")) "," SERVICE("image",
								   ENDPOINT(
									   "R", "public",
									   "https://x/image/v2/")) "," SERVICE("network",
													       ENDPOINT(
														       "R", "public",
														       "https://x/v2.0net//"))),
		  "", "public", "https://x/compute/v2.1", "https://x/volume/v3/p1", "https://x/image/v2", "https://x/v2.0net/v2.0", NULL,
		  NULL },
		/* The old name of block storage with an old version beside it; interfaces; versions with the project. */
		{ TOKEN(SERVICE("compute", ENDPOINT("R", "internal", "http://in/v2.1/p1") "," ENDPOINT("R", "public", "http://out/v2.1/p1")) "," SERVICE(
			  "volume",
			  ENDPOINT("R", "internal", "http://v/v1/p1") "," ENDPOINT(
				  "R", "internal",
				  "http://v/v3/p1")) "," SERVICE("image",
								 ENDPOINT("R", "internal",
									  "http://i/v2/")) "," SERVICE("network",
												       ENDPOINT("R", "internal",
														"http://n/v2.0/"))),
		  "R", "internal", "http://in/v2.1/p1", "http://v/v3/p1", "http://i/v2", "http://n/v2.0", NULL, NULL },
		/* A gateway with a version of its own before the services. */
		{ TOKEN(SERVICE("compute", ENDPOINT("R", "public", "https://x/v2/c/v2.1")) "," SERVICE(
			  "volumev3",
			  ENDPOINT(
				  "R", "public",
				  "https://x/v2/v/v3/p1")) "," SERVICE("image",
								       ENDPOINT(
									       "R", "public",
									       "https://x/v2/i")) "," SERVICE("network",
													      ENDPOINT(
														      "R", "public",
														      "https://x/v2.0/n/"))),
		  "R", "public", "https://x/v2/c/v2.1", "https://x/v2/v/v3/p1", "https://x/v2/i/v2", "https://x/v2.0/n/v2.0", NULL, NULL },
		{ TOKEN(SERVICE("compute", ENDPOINT("R", "public", "http://c") "," ENDPOINT("S", "public", "http://s")) "," REST), "",
		  "public", NULL, NULL, NULL, NULL, "RegionMissing", "R, S" },
		{ TOKEN(SERVICE("compute", ENDPOINT("R", "public", "http://c")) "," REST), "T", "public", NULL, NULL, NULL, NULL,
		  "EndpointMissing", "(regions: R)" },
		{ TOKEN(SERVICE("compute", ENDPOINT("R", "public", "http://c")) "," REST), "R", "public", NULL, NULL, NULL, NULL,
		  "EndpointMissing", "block storage" },
		{ TOKEN(SERVICE("compute", ENDPOINT("R", "public", "file:///etc/passwd")) "," REST), "R", "public", NULL, NULL, NULL, NULL,
		  "EndpointMissing", "compute" },
		{ "{'token': {'expires_at': '2026-11-25T20:00:00Z', 'catalog': []}}", "R", "public", NULL, NULL, NULL, NULL,
		  "ProjectMissing", "project_name" },
		{ "{'token': {'expires_at': 'never'}}", "R", "public", NULL, NULL, NULL, NULL, "InvalidAnswer", "no token" },
		{ "[1]", "R", "public", NULL, NULL, NULL, NULL, "InvalidAnswer", "no token" },
		{ TOKEN("1, {'type': 5}, {'type': 'compute', 'endpoints': {'a': 1}}, {'type': 'compute', 'endpoints': [7, {'url': 7}]}"),
		  "R", "public", NULL, NULL, NULL, NULL, "EndpointMissing", "compute" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		AUTO_ERROR struct error *err = NULL;
		AUTO_JSON json_t *answer = json(table[i].answer);
		struct keystone_grant g = { 0 };
		int result = keystone_parse(answer, table[i].region, table[i].interface, &g, &err);

		if (table[i].reason) {
			assert_int_equal(result, -1);
			assert_string_equal(err->reason, table[i].reason);
			assert_contains(err->message, table[i].text);
			assert_null(g.project);
			continue;
		}
		if (result < 0)
			fail_msg("%zu: %s", i, err->message);
		assert_string_equal(g.urls[OPENSTACK_COMPUTE], table[i].compute);
		assert_string_equal(g.urls[OPENSTACK_VOLUME], table[i].volume);
		assert_string_equal(g.urls[OPENSTACK_IMAGE], table[i].image);
		assert_string_equal(g.urls[OPENSTACK_NETWORK], table[i].network);
		assert_int_equal(g.life_ms, 3600000);
		keystone_grant_clear(&g);
	}
}

static void test_name_filters(void **state)
{
	static const char *const table[][2] = {
		{ "web1", "%5Eweb1$" },
		{ "web 1", "%5Eweb.*1$" },
		{ "a+b(c)&d=%", "%5Ea.*b.*c.*d.*$" },
		{ "m\xc3\xbcller", "%5Em.*ller$" },
		{ "...", "%5E.*$" },
		{ "db-01.example", "%5Edb.*01.*example$" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		AUTO_FREE char *filter = openstack_name_filter(table[i][0]);

		assert_string_equal(filter, table[i][1]);
	}
}

static void test_ids_and_numbers(void **state)
{
	AUTO_JSON json_t *o =
		json("{'a': '../x', 'b': 'a-b_c.d', 'c': '..', 'd': '', 'e': 5, 'f': '12', 'g': '1x', 'h': -1, 'i': '18446744073709551616',"
		     "'j': 1.5, 'k': 'True', 'l': 'no', 'm': true}");
	uint64_t n = 7;

	(void)state;
	assert_null(answer_id(o, "a"));
	assert_string_equal(answer_id(o, "b"), "a-b_c.d");
	assert_null(answer_id(o, "c"));
	assert_null(answer_id(o, "d"));
	assert_null(answer_id(o, "e"));
	assert_true(answer_number(o, "e", &n) && n == 5);
	assert_true(answer_number(o, "f", &n) && n == 12);
	for (const char *key = "ghij"; *key; key++)
		assert_false(answer_number(o, (char[]){ *key, 0 }, &n));
	assert_int_equal(n, 12);
	assert_true(answer_true(o, "k") && answer_true(o, "m"));
	assert_false(answer_true(o, "l") || answer_true(o, "e"));
	assert_true(answer_is_uuid(VOLUME_A));
	assert_false(answer_is_uuid(VOLUME_A "0") || answer_is_uuid("aaaaaaaa-0000") || answer_is_uuid(NULL) ||
		     answer_is_uuid("g" VOLUME_A));
}

static void test_text_for_messages(void **state)
{
	char text[1001];

	(void)state;
	assert_string_equal(answer_shown(NULL).text, "");
	assert_string_equal(answer_shown("m\xc3\xbcller \xff\xc3 \x01\n\x7f \xe2\x82").text, "m\xc3\xbcller ?? ??? ??");
	for (size_t i = 0; i < 1000; i += 2)
		memcpy(text + i, "\xc3\xbc", 2);
	text[1000] = 0;
	struct answer_shown shown = answer_shown(text);
	assert_true(strlen(shown.text) < sizeof shown.text);
	assert_string_equal(shown.text + strlen(shown.text) - 5, "\xc3\xbc...");
	AUTO_JSON json_t *value = json_string(shown.text);
	assert_non_null(value);
}

static void test_topology(void **state)
{
	static const struct {
		unsigned vcpus;
		const char *specs, *properties;
		unsigned sockets, cores, threads;
	} table[] = {
		{ 4, "{}", "{}", 4, 1, 1 },
		{ 4, "null", "null", 4, 1, 1 },
		{ 4, "{'hw:cpu_sockets': '2'}", "{}", 2, 2, 1 },
		{ 4, "{'hw:cpu_sockets': '2', 'hw:cpu_cores': '1', 'hw:cpu_threads': '2'}", "{}", 2, 1, 2 },
		{ 8, "{'hw:cpu_cores': 4}", "{'hw_cpu_cores': '2'}", 2, 4, 1 },
		{ 8, "{}", "{'hw_cpu_cores': '2', 'hw_cpu_threads': '2'}", 2, 2, 2 },
		{ 6, "{'hw:cpu_max_sockets': '2'}", "{}", 2, 3, 1 },
		{ 6, "{'hw:cpu_max_sockets': '1', 'hw:cpu_max_cores': '3'}", "{}", 1, 3, 2 },
		{ 5, "{'hw:cpu_sockets': '2'}", "{}", 5, 1, 1 },
		{ 7, "{'hw:cpu_max_sockets': '1', 'hw:cpu_max_cores': '1', 'hw:cpu_max_threads': '1'}", "{}", 7, 1, 1 },
		{ 2, "{'hw:cpu_sockets': 'many', 'hw:cpu_cores': '-2', 'hw:cpu_threads': '99999999999999999999'}", "{}", 2, 1, 1 },
		{ 4096, "{'hw:cpu_threads': '2'}", "{}", 2048, 1, 2 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		AUTO_JSON json_t *specs = json(table[i].specs), *properties = json(table[i].properties);
		unsigned s, c, t;

		openstack_topology(table[i].vcpus, specs, properties, &s, &c, &t);
		if (s != table[i].sockets || c != table[i].cores || t != table[i].threads)
			fail_msg("%zu: %u sockets, %u cores, %u threads", i, s, c, t);
	}
}

/* --- the model ------------------------------------------------------------------------------------------------------------- */

static struct vm_model *model_of(const json_t *gathered)
{
	struct error *err = NULL;
	struct vm_model *m = openstack_model(gathered, &err);

	if (!m)
		fail_msg("%s", err->message);
	return m;
}

/* The base of the table, with a merge patch for each case. */
static const char base[] =
	"{'server': {'id': 's-1', 'name': 'web', 'status': 'ACTIVE', 'image': '', 'description': 'web', 'OS-EXT-STS:task_state': null,"
	" 'addresses': {}, 'security_groups': []},"
	" 'flavor': {'vcpus': 2, 'ram': 512, 'disk': 0, 'ephemeral': 0, 'swap': 0, 'original_name': 'm1', 'extra_specs': {}},"
	" 'image': null,"
	" 'volumes': [{'device': '/dev/vda', 'volume': {'id': '" VOLUME_A
	"', 'name': 'root', 'size': 3, 'bootable': 'true', 'status': 'in-use',"
	"   'encrypted': false, 'multiattach': false, 'attachments': [{}], 'volume_image_metadata': {}}}],"
	" 'ports': [], 'networks': {}}";

static const char image_root[] =
	"{'server': {'image': {'id': 'i-1'}}, 'flavor': {'disk': 10}, 'image': {'id': 'i-1', 'disk_format': 'qcow2'}}";

static json_t *patched(const char *patch)
{
	AUTO_JSON json_t *from = json(base), *with = json(patch);

	return json_merge_apply(from, with);
}

#define VOLUME(device, id, size, bootable)                                                                           \
	"{'device': " device ", 'volume': {'id': '" id "', 'size': " size ", 'bootable': '" bootable "', 'status': " \
	"'in-use', 'attachments': [{}]}}"

static void test_disks(void **state)
{
	static const struct {
		const char *patch, *disks; /* "id:GiB id:GiB" */
	} table[] = {
		{ "{}", VOLUME_A ":3" },
		{ "{'volumes': [" VOLUME("'/dev/vdc'", VOLUME_C, "1", "false") "," VOLUME("'/dev/vda'", VOLUME_A, "3", "true") "," VOLUME(
			  "'/dev/vdb'", VOLUME_B, "2", "true") "]}",
		  VOLUME_A ":3 " VOLUME_B ":2 " VOLUME_C ":1" },
		/* The boot volume is not the first device. */
		{ "{'volumes': [" VOLUME("'/dev/sda'", VOLUME_A, "3", "false") "," VOLUME("'/dev/sdb'", VOLUME_B, "2", "true") "]}",
		  VOLUME_B ":2 " VOLUME_A ":3" },
		{ "{'server': {'OS-EXT-SRV-ATTR:root_device_name': '/dev/vdb'}, 'volumes': [" VOLUME(
			  "'/dev/vda'", VOLUME_A, "3", "true") "," VOLUME("'/dev/vdb'", VOLUME_B, "2", "true") "]}",
		  VOLUME_B ":2 " VOLUME_A ":3" },
		/* More than 26, other names, none. */
		{ "{'volumes': [" VOLUME("null", VOLUME_C, "1", "false") "," VOLUME("'/dev/xvdaa'", VOLUME_B, "2", "false") "," VOLUME(
			  "'/dev/xvdz'", VOLUME_A, "3", "false") "]}",
		  VOLUME_A ":3 " VOLUME_B ":2 " VOLUME_C ":1" },
		{ "{'server': {'image': {'id': 'i'}}, 'flavor': {'disk': 10}}", "root:10 " VOLUME_A ":3" },
		{ "{'server': {'image': {'id': 'i'}}, 'flavor': {'disk': 10, 'ephemeral': 4, 'swap': 2048}}",
		  "root:10 ephemeral:4 swap:2 " VOLUME_A ":3" },
		{ "{'flavor': {'ephemeral': 4, 'swap': ''}}", VOLUME_A ":3 ephemeral:4" },
		{ "{'server': {'image': {'id': 'i'}}, 'image': {'virtual_size': 1073741824}, 'volumes': []}", "root:1" },
		{ "{'server': {'image': {'id': 'i'}}, 'image': {'disk_format': 'raw', 'size': 2147483648}, 'volumes': []}", "root:2" },
		{ "{'volumes': []}", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		AUTO_JSON json_t *gathered = patched(table[i].patch);
		AUTO_VM_MODEL struct vm_model *m = model_of(gathered);
		struct buffer got;

		buffer_init(&got, 4096);
		buffer_add_string(&got, "");
		for (size_t k = 0; k < m->disk_count; k++) {
			assert_int_equal(m->disks[k].boot_order, k + 1);
			buffer_addf(&got, "%s%s:%llu", k ? " " : "", m->disks[k].id, (unsigned long long)(m->disks[k].capacity / GIB));
		}
		assert_string_equal(got.data ? got.data : "", table[i].disks);
		buffer_free(&got);
	}
}

static void test_hardware(void **state)
{
	static const struct {
		const char *patch;
		unsigned vcpus, cores;
		bool efi, secure, tpm;
		enum vm_bus bus;
		const char *notes; /* part of them; "": there are none */
	} table[] = {
		{ "{}", 2, 1, false, false, false, VM_BUS_VIRTIO, "" },
		{ "{'flavor': {'vcpus': 8, 'extra_specs': {'hw:cpu_cores': '2', 'hw:cpu_threads': '2'}}}", 8, 4, false, false, false,
		  VM_BUS_VIRTIO, "2 threads of a core become cores" },
		{ "{'volumes': [{'volume': {'id': '" VOLUME_A
		  "', 'size': 1, 'volume_image_metadata': {'hw_firmware_type': 'uefi', 'os_secure_boot': "
		  "'required', 'hw_disk_bus': 'scsi', 'hw_tpm_version': '2.0'}}}]}",
		  2, 1, true, true, true, VM_BUS_SCSI, "what the TPM holds does not come along" },
		{ "{'server': {'image': {'id': 'i'}}, 'flavor': {'disk': 1}, 'image': {'hw_firmware_type': 'uefi', 'os_secure_boot': 'optional', "
		  "'hw_disk_bus': 'ide'}}",
		  2, 1, true, false, false, VM_BUS_IDE, "secure boot, which is optional for the server, is off" },
		{ "{'flavor': {'extra_specs': {'os:secure_boot': 'required', 'hw:tpm_model': 'tpm-crb'}}}", 2, 1, false, false, true,
		  VM_BUS_VIRTIO, "TPM" },
		{ "{'server': {'image': {'id': 'i'}}, 'flavor': {'disk': 1}}", 2, 1, false, false, false, VM_BUS_VIRTIO,
		  "the image of the server is gone" },
		{ "{'flavor': {'ephemeral': 4}}", 2, 1, false, false, false, VM_BUS_VIRTIO, "the ephemeral disk of 4 GiB arrives empty" },
		{ "{'server': {'security_groups': [{'name': 'default'}, {'name': 'web'}, {'name': 'default'}, 5]}}", 2, 1, false, false,
		  false, VM_BUS_VIRTIO, "security groups do not come along: default, web" },
		{ "{'server': {'addresses': {'n': [{'OS-EXT-IPS:type': 'floating', 'OS-EXT-IPS-MAC:mac_addr': 'fa:16:3e:00:00:01'}]}}}", 2,
		  1, false, false, false, VM_BUS_VIRTIO, "floating IP addresses do not come along" },
		{ "{'volumes': [{'volume': {'id': '" VOLUME_A
		  "', 'size': 1, 'name': 'shared', 'multiattach': true, 'attachments': [{}, {}]}}]}",
		  2, 1, false, false, false, VM_BUS_VIRTIO, "the volume shared is attached to 2 servers" },
		{ "{'ports': [{'id': 'p', 'mac_address': 'fa:16:3e:00:00:01', 'network_id': 'n', 'binding:vnic_type': 'direct'}]}", 2, 1,
		  false, false, false, VM_BUS_VIRTIO, "is of the type direct" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		AUTO_JSON json_t *gathered = patched(table[i].patch);
		AUTO_VM_MODEL struct vm_model *m = model_of(gathered);

		assert_int_equal(m->vcpus, table[i].vcpus);
		assert_int_equal(m->cores_per_socket, table[i].cores);
		assert_int_equal(m->memory, 512 * MIB);
		assert_int_equal(m->efi, table[i].efi);
		assert_int_equal(m->secure_boot, table[i].secure);
		assert_int_equal(m->tpm, table[i].tpm);
		assert_int_equal(m->disks[0].bus, table[i].bus);
		assert_string_equal(m->source_id, "s-1");
		assert_string_equal(m->path, "web (s-1)");
		assert_null(m->description);
		if (*table[i].notes)
			assert_contains(m->notes, table[i].notes);
		else
			assert_null(m->notes);
	}
}

static void test_nics(void **state)
{
	/* Nova's order, twice the same network, then what has no address by the time of its making; a port that we may not see. */
	AUTO_JSON json_t *gathered = patched(
		"{'server': {'addresses': {'net b': [{'OS-EXT-IPS-MAC:mac_addr': 'FA:16:3e:00:00:03'}, {'OS-EXT-IPS-MAC:mac_addr': 'fa:16:3e:00:00:01'},"
		"   {'OS-EXT-IPS-MAC:mac_addr': 'fa:16:3e:00:00:03'}], 'hidden': [{'OS-EXT-IPS-MAC:mac_addr': 'fa:16:3e:00:00:09'}, {'addr': 7}, 7]}},"
		" 'ports': [{'id': '1', 'mac_address': 'fa:16:3e:00:00:05', 'network_id': 'c', 'created_at': '2026-01-02T00:00:00Z'},"
		"   {'id': '2', 'mac_address': 'fa:16:3e:00:00:01', 'network_id': 'b', 'name': 'first'},"
		"   {'id': '3', 'mac_address': 'fa:16:3e:00:00:03', 'network_id': 'b', 'admin_state_up': false},"
		"   {'id': '4', 'mac_address': 'fa:16:3e:00:00:04', 'network_id': 'd', 'created_at': '2026-01-01T00:00:00Z'}, {'id': 5}, null],"
		" 'networks': {'b': 'net b', 'c': 'net c'},"
		" 'volumes': [{'volume': {'id': '" VOLUME_A "', 'size': 1, 'volume_image_metadata': {'hw_vif_model': 'e1000'}}}]}");
	static const char *const wanted[][2] = { { "FA:16:3e:00:00:03", "net b" },
						 { "fa:16:3e:00:00:01", "net b" },
						 { "fa:16:3e:00:00:09", "hidden" },
						 { "fa:16:3e:00:00:04", "d" },
						 { "fa:16:3e:00:00:05", "net c" } };
	AUTO_VM_MODEL struct vm_model *m = model_of(gathered);

	(void)state;
	assert_int_equal(m->nic_count, 5);
	for (size_t i = 0; i < 5; i++) {
		assert_string_equal(m->nics[i].mac, wanted[i][0]);
		assert_string_equal(m->nics[i].network, wanted[i][1]);
		assert_string_equal(m->nics[i].model, "e1000");
	}
	assert_false(m->nics[0].connected);
	assert_true(m->nics[1].connected);
	assert_string_equal(m->nics[1].label, "first");
}

static void test_power(void **state)
{
	static const struct {
		const char *server;
		enum vm_power power;
	} table[] = {
		{ "{'status': 'ACTIVE'}", VM_POWER_ON },
		{ "{'status': 'ACTIVE', 'OS-EXT-STS:task_state': 'powering-off'}", VM_POWER_ON },
		{ "{'status': 'SHUTOFF', 'OS-EXT-STS:task_state': 'powering-on'}", VM_POWER_ON },
		{ "{'status': 'SHUTOFF'}", VM_POWER_OFF },
		{ "{'status': 'PAUSED'}", VM_POWER_SUSPENDED },
		{ "{'status': 'SUSPENDED'}", VM_POWER_SUSPENDED },
		{ "{'status': 'SHELVED_OFFLOADED', 'OS-EXT-STS:power_state': 4}", VM_POWER_OFF },
		{ "{'status': 'ERROR', 'OS-EXT-STS:power_state': 1}", VM_POWER_ON },
		{ "{'status': 'ERROR', 'OS-EXT-STS:power_state': 0}", VM_POWER_UNKNOWN },
		{ "{'status': 7}", VM_POWER_UNKNOWN },
		{ "{}", VM_POWER_UNKNOWN },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		AUTO_JSON json_t *server = json(table[i].server);

		assert_int_equal(openstack_power(server), table[i].power);
	}
}

static void test_refused_descriptions(void **state)
{
	static const struct {
		const char *patch, *reason, *text;
	} table[] = {
		{ "{'flavor': {'vcpus': 0}}", "NoConfiguration", "m1" },
		{ "{'flavor': {'vcpus': 99999999}}", "NoConfiguration", "m1" },
		{ "{'flavor': {'ram': null}}", "NoConfiguration", "m1" },
		{ "{'flavor': {'ram': 9223372036854775807}}", "NoConfiguration", "m1" },
		{ "{'volumes': [{'volume': {'id': 'x', 'size': 1}}]}", "InvalidAnswer", "no id" },
		{ "{'volumes': [{'volume': {'id': '" VOLUME_A "', 'size': 0}}]}", "InvalidDisk", VOLUME_A },
		{ "{'volumes': [{'volume': {'id': '" VOLUME_A "', 'size': 9223372036854775807}}]}", "InvalidDisk", VOLUME_A },
		{ "{'server': {'image': {'id': 'i'}}}", "InvalidDisk", "is gone" },
		{ "{'server': {'image': {'id': 'i'}}, 'image': {'disk_format': 'qcow2', 'size': 5}}", "InvalidDisk", "virtual_size" },
		{ "{'server': {'image': {'id': 'i'}}, 'flavor': {'disk': 9223372036854775807}}", "InvalidDisk", "PiB" },
		{ "{'flavor': {'ephemeral': 9223372036854775807}}", "InvalidDisk", "PiB" },
		{ "{'server': {'id': '../x'}}", "InvalidAnswer", "no id" },
		{ "{'server': null}", "InvalidAnswer", "no id" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		AUTO_JSON json_t *gathered = patched(table[i].patch);
		AUTO_ERROR struct error *err = NULL;
		AUTO_VM_MODEL struct vm_model *m = openstack_model(gathered, &err);

		assert_null(m);
		assert_string_equal(err->reason, table[i].reason);
		assert_contains(err->message, table[i].text);
	}
}

/* Every value of an answer replaced by one of another kind: nothing but a model or an error may come of it. */
static size_t try_all(json_t *root, json_t *at)
{
	static const char *const others[] = { "null", "true",   "-1", "9223372036854775807", "1e300", "'../../x'", "''",
					      "[]",   "[[[]]]", "{}", "{'id': {}}" };
	size_t tried = 0, n = json_is_array(at) ? json_array_size(at) : json_object_size(at), i = 0;
	void *iter = json_object_iter(at);

	for (; i < n; i++) {
		json_t *child = json_is_array(at) ? json_array_get(at, i) : json_object_iter_value(iter);
		AUTO_JSON json_t *kept = json_incref(child);

		tried += try_all(root, child);
		for (size_t k = 0; k < sizeof others / sizeof *others; k++) {
			AUTO_JSON json_t *problems = json_array();
			AUTO_ERROR struct error *err = NULL;
			struct quota_need left = { 0 };

			if (json_is_array(at))
				json_array_set_new(at, i, json(others[k]));
			else
				json_object_iter_set_new(at, iter, json(others[k]));
			AUTO_VM_MODEL struct vm_model *m = openstack_model(root, &err);
			assert_true(!m == !!err);
			if (m) {
				openstack_check_server(root, m, problems);
				openstack_check_quota(root, m, &left, root, problems);
			}
			tried++;
		}
		if (json_is_array(at))
			json_array_set(at, i, kept);
		else
			json_object_iter_set(at, iter, kept);
		iter = json_object_iter_next(at, iter);
	}
	return tried;
}

static void test_hostile_answers(void **state)
{
	AUTO_JSON json_t *with_volume = patched(
		"{'server': {'addresses': {'n': [{'OS-EXT-IPS-MAC:mac_addr': 'fa:16:3e:00:00:01', 'OS-EXT-IPS:type': 'fixed'}]},"
		"  'security_groups': [{'name': 'default'}], 'fault': {'message': 'x'}}, 'ports': [{'mac_address': 'fa:16:3e:00:00:01', 'network_id': 'n'}],"
		" 'networks': {'n': 'net'}, 'flavor': {'ephemeral': 1, 'swap': 5, 'extra_specs': {'hw:cpu_cores': '2'}}}");
	AUTO_JSON json_t *with_image = patched(image_root);
	size_t tried = try_all(with_volume, with_volume) + try_all(with_image, with_image);

	(void)state;
	assert_true(tried > 500);
}

/* --- preflight ------------------------------------------------------------------------------------------------------------- */

static void test_checks(void **state)
{
	static const struct {
		const char *patch, *problem; /* "": none */
	} table[] = {
		{ "{}", "" },
		{ "{'server': {'status': 'SHUTOFF'}}", "" },
		{ "{'server': {'status': 'PAUSED'}}", "" },
		{ "{'server': {'status': 'ERROR', 'fault': {'message': 'No valid host'}}}", "has the status ERROR" },
		{ "{'server': {'status': 'ERROR', 'fault': {'message': 'No valid host'}}}", "No valid host" },
		{ "{'server': {'status': 'VERIFY_RESIZE'}}", "confirm or revert the resize" },
		{ "{'server': {'status': 'RESCUE'}}", "unrescue it" },
		{ "{'server': {'status': 'BUILD'}}", "BUILD" },
		{ "{'server': {'status': 'SHELVED_OFFLOADED'}}", "" },
		{ "{'server': {'status': 'SHELVED_OFFLOADED', 'image': {'id': 'i'}}, 'flavor': {'disk': 1}}", "is shelved" },
		{ "{'server': {'locked': true}}", "is locked" },
		{ "{'server': {'locked': true, 'status': 'SHUTOFF'}}", "" },
		{ "{'volumes': [{'volume': {'id': '" VOLUME_A "', 'name': 'secret', 'size': 1, 'status': 'in-use', 'encrypted': true}}]}",
		  "the volume secret (" VOLUME_A ") of web (s-1) is encrypted" },
		{ "{'volumes': [{'volume': {'id': '" VOLUME_A "', 'size': 1, 'status': 'error'}}]}", "has the status error" },
		{ "{'volumes': []}", "web (s-1) has no disks to import" },
		{ "{'volumes': [{'volume': {'id': '" VOLUME_A "', 'name': 'shared', 'size': 1, 'status': 'in-use', 'multiattach': true, "
		  "'attachments': [{'server_id': 's-1'}, {'server_id': 's-2'}]}}]}",
		  "the volume shared (" VOLUME_A ") of web (s-1) is shared with servers that may write to it: a server (s-2);" },
		{ "{'volumes': [{'volume': {'id': '" VOLUME_A "', 'name': 'shared', 'size': 1, 'status': 'in-use', 'multiattach': true, "
		  "'attachments': [{'server_id': 's-1'}, {'server_id': 's-2'}]}}], 'others': {'s-2': {'name': 'peer', 'status': 'ACTIVE'}}}",
		  "may write to it: peer (s-2);" },
		{ "{'volumes': [{'volume': {'id': '" VOLUME_A "', 'name': 'shared', 'size': 1, 'status': 'in-use', 'multiattach': true, "
		  "'attachments': [{'server_id': 's-1'}, {'server_id': 's-2'}]}}], 'others': {'s-2': {'name': 'peer', 'status': 'PAUSED'}}}",
		  "may write to it: peer (s-2);" },
		{ "{'volumes': [{'volume': {'id': '" VOLUME_A "', 'name': 'shared', 'size': 1, 'status': 'in-use', 'multiattach': true, "
		  "'attachments': [{'server_id': 's-1'}, {'server_id': 's-2'}]}}], 'others': {'s-2': {'name': 'peer', 'status': 'SHUTOFF'}}}",
		  "" },
		{ "{'volumes': [{'volume': {'id': '" VOLUME_A "', 'name': 'shared', 'size': 1, 'status': 'in-use', 'multiattach': true, "
		  "'attachments': [{'server_id': 's-1'}]}}]}",
		  "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		AUTO_JSON json_t *gathered = patched(table[i].patch), *problems = json_array();
		AUTO_VM_MODEL struct vm_model *m = model_of(gathered);

		openstack_check_server(gathered, m, problems);
		if (*table[i].problem) {
			assert_int_equal(json_array_size(problems), 1);
			assert_contains(json_string_value(json_array_get(problems, 0)), table[i].problem);
		} else if (json_array_size(problems)) {
			fail_msg("%zu: %s", i, json_string_value(json_array_get(problems, 0)));
		}
	}
}

#define LIMITS(volumes, snapshots, gigabytes)                                                                             \
	"{'limits': {'absolute': {'maxTotalVolumes': " volumes ", 'totalVolumesUsed': 4, 'maxTotalSnapshots': " snapshots \
	", 'totalSnapshotsUsed': 1, 'maxTotalVolumeGigabytes': " gigabytes ", 'totalGigabytesUsed': 10}}}"

static void test_quotas(void **state)
{
	static const struct {
		const char *limits, *images, *problem;
	} table[] = {
		{ LIMITS("-1", "-1", "-1"), "null", "" },
		{ "{}", "{}", "" },
		{ LIMITS("5", "2", "16"), "null", "" },
		{ LIMITS("5", "1", "13"), "null", "" }, /* no snapshot, but a copy */
		{ LIMITS("5", "2", "15"), "null", "" }, /* the same */
		{ LIMITS("5", "1", "12"), "null", "lacks 1 GiB to copy \"root\"" },
		{ LIMITS("4", "-1", "-1"), "null", "lacks 1 volume to copy" },
		{ LIMITS("3", "-1", "11"), "null", "lacks 1 volume, 2 GiB to copy" },
		{ LIMITS("-1", "-1", "-1"), "{'usage': {'image_count_total': {'limit': 5, 'usage': 5}}}", "quota of images is used up" },
		{ LIMITS("-1", "-1", "-1"), "{'usage': {'image_size_total': {'limit': 3071, 'usage': 0}}}", "has 3071 MiB left" },
		{ LIMITS("-1", "-1", "-1"),
		  "{'usage': {'image_size_total': {'limit': 4096, 'usage': 1024}, 'image_count_total': {'limit': -1}}}", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		AUTO_JSON json_t *limits = json(table[i].limits), *images = json(table[i].images), *gathered = json(base),
				 *problems = json_array();
		AUTO_VM_MODEL struct vm_model *m = model_of(gathered);
		struct quota_need left = quota_left(limits);

		openstack_check_quota(gathered, m, &left, images, problems);
		if (*table[i].problem) {
			assert_int_equal(json_array_size(problems), 1);
			assert_contains(json_string_value(json_array_get(problems, 0)), table[i].problem);
		} else {
			assert_int_equal(json_array_size(problems), 0);
		}
	}
}

static void test_shares(void **state)
{
	struct quota_need left = { .volumes = 1, .snapshots = 1, .gigabytes = 6 }, small = quota_by_snapshot(3), large = quota_by_copy(7);
	struct cancel *cancel = cancel_new(NULL);
	struct quota *q = quota_new(&left, NULL);
	AUTO_ERROR struct error *err = NULL;

	(void)state;
	assert_int_equal(quota_take(q, &large, cancel, &err), -1);
	assert_string_equal(err->reason, "QuotaExceeded");
	assert_contains(err->message, "1 GiB");
	error_free(move_ptr(err));
	assert_int_equal(quota_take(q, &small, cancel, &err), 0);
	cancel_request(cancel);
	assert_int_equal(quota_take(q, &small, cancel, &err), -1); /* waits, until it is cancelled */
	assert_int_equal(err->class, ERROR_CANCELLED);
	quota_give(q, &small);
	error_free(move_ptr(err));
	assert_int_equal(quota_take(q, &small, NULL, &err), 0);
	/* Nobody waits for what may never be given back. */
	quota_set_stuck(q, &small, true);
	assert_int_equal(quota_take(q, &small, NULL, &err), -1);
	assert_int_equal(err->class, ERROR_TRANSIENT);
	assert_contains(err->message, "1 volume");
	error_free(move_ptr(err));
	quota_set_stuck(q, &small, false);
	quota_give(q, &small);
	assert_int_equal(quota_take(q, &small, NULL, &err), 0);
	quota_free(q);
	cancel_free(cancel);
}

/* --- filling up ------------------------------------------------------------------------------------------------------------ */

static int take(void *arg, const void *data, size_t len, struct error **err)
{
	(void)err;
	return buffer_add(arg, data, len);
}

static void test_filling(void **state)
{
	static const char data[600] = { 'a', 'b' }, more[2] = { 0, 1 };
	struct buffer got;
	struct fill f = { .sink = take, .arg = &got, .capacity = 700000 };
	AUTO_ERROR struct error *err = NULL;

	(void)state;
	buffer_init(&got, 1 << 20);
	assert_int_equal(fill_push(&f, data, sizeof data, &err), 0);
	assert_int_equal(fill_rest(&f, NULL, &err), 0);
	assert_int_equal(got.len, 700000);
	assert_memory_equal(got.data, data, sizeof data);
	for (size_t i = sizeof data; i < got.len; i++)
		assert_int_equal(got.data[i], 0);
	assert_int_equal(fill_push(&f, more, 1, &err), 0); /* zeros behind the end are none of the disk's */
	assert_int_equal(got.len, 700000);
	assert_int_equal(fill_push(&f, more, 2, &err), -1);
	assert_string_equal(err->reason, "DiskLarger");
	buffer_free(&got);
}

static void test_swap_header(void **state)
{
	struct buffer got;
	struct fill f = { .sink = take, .arg = &got, .capacity = MIB };
	AUTO_ERROR struct error *err = NULL;

	(void)state;
	buffer_init(&got, 2 * MIB);
	assert_int_equal(fill_swap(&f, NULL, &err), 0);
	assert_int_equal(got.len, MIB);
	assert_memory_equal(got.data + 4086, "SWAPSPACE2", 10);
	assert_memory_equal(got.data + 1024, "\1\0\0\0\xff\0\0\0\0\0\0\0", 12); /* version, last page, no bad pages */
	buffer_free(&got);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_endpoints),       cmocka_unit_test(test_credentials),
		cmocka_unit_test(test_catalogues),      cmocka_unit_test(test_name_filters),
		cmocka_unit_test(test_ids_and_numbers), cmocka_unit_test(test_text_for_messages),
		cmocka_unit_test(test_topology),        cmocka_unit_test(test_disks),
		cmocka_unit_test(test_hardware),        cmocka_unit_test(test_nics),
		cmocka_unit_test(test_power),           cmocka_unit_test(test_refused_descriptions),
		cmocka_unit_test(test_hostile_answers), cmocka_unit_test(test_checks),
		cmocka_unit_test(test_quotas),          cmocka_unit_test(test_shares),
		cmocka_unit_test(test_filling),         cmocka_unit_test(test_swap_header),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
