// links: net base PkgConfig::cmocka
/* Which addresses a URL that a user names must not lead to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netdb.h>
#include <string.h>

#include "net/address.h"

static const char *refusal(const char *text)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM }, *found = NULL;
	const char *why;

	if (getaddrinfo(text, "80", &hints, &found))
		fail_msg("%s is no address", text);
	why = address_refusal(found->ai_addr, found->ai_addrlen);
	freeaddrinfo(found);
	return why;
}

static void test_refused(void **state)
{
	static const char *const texts[] = { "127.0.0.1",
					     "127.255.255.254",
					     "0.0.0.0",
					     "0.1.2.3",
					     "169.254.169.254",
					     "169.254.0.1",
					     "224.0.0.1",
					     "239.255.255.250",
					     "255.255.255.255",
					     "::1",
					     "::",
					     "fe80::1",
					     "febf::1",
					     "ff02::1",
					     "::ffff:127.0.0.1",
					     "::ffff:a9fe:1",
					     "::127.0.0.1",
					     "64:ff9b::7f00:1",
					     "2002:7f00:1::1",
					     "fd00:ec2::254",
					     "2002:a9fe:a9fe::" };

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (!refusal(texts[i]))
			fail_msg("%s is not refused", texts[i]);
}

static void test_allowed(void **state)
{
	static const char *const texts[] = { "192.0.2.1",        "10.0.0.1",          "128.0.0.1",        "126.255.255.255", "169.253.1.1",
					     "169.255.1.1",      "192.168.1.1",       "2001:db8::1",      "fd00::1",         "fec0::1",
					     "::ffff:192.0.2.1", "64:ff9b::c000:201", "2002:c000:201::1", "fd00:ec2::253" };

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (refusal(texts[i]))
			fail_msg("%s is refused as %s", texts[i], refusal(texts[i]));
	assert_non_null(address_refusal(&(struct sockaddr){ .sa_family = AF_UNIX }, sizeof(struct sockaddr)));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_refused), cmocka_unit_test(test_allowed) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
