#include "net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* In network byte order. RFC 6890 lists the special blocks. */
static const char *refusal4(const unsigned char a[4])
{
	if (a[0] == 127)
		return "a loopback address";
	if (a[0] == 0)
		return "an unspecified address, which is this host";
	if (a[0] == 169 && a[1] == 254)
		return "a link-local address";
	return a[0] >= 224 && a[0] < 240 ? "a multicast address" : a[0] == 255 ? "a broadcast address" : NULL;
}

static bool begins(const unsigned char a[16], const void *prefix, size_t len)
{
	return !memcmp(a, prefix, len);
}

static const char *refusal6(const unsigned char a[16])
{
	static const unsigned char zeros[15], mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	static const unsigned char nat64[12] = { 0x00, 0x64, 0xff, 0x9b }, six_to_four[2] = { 0x20, 0x02 };
	static const unsigned char metadata[16] = { 0xfd, 0x00, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54 };

	if (begins(a, zeros, 15) && a[15] <= 1)
		return a[15] ? "a loopback address" : "an unspecified address, which is this host";
	if (begins(a, mapped, 12) || begins(a, zeros, 12) || begins(a, nat64, 12))
		return refusal4(a + 12);
	if (begins(a, six_to_four, 2))
		return refusal4(a + 2);
	if (a[0] == 0xfe && (a[1] & 0xc0) == 0x80)
		return "a link-local address";
	if (a[0] == 0xff)
		return "a multicast address";
	return begins(a, metadata, 16) ? "a cloud's metadata address" : NULL;
}

const char *address_refusal(const struct sockaddr *address, size_t len)
{
	if (address->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
		unsigned char a[4];

		memcpy(a, &((const struct sockaddr_in *)(const void *)address)->sin_addr, sizeof a);
		return refusal4(a);
	}
	if (address->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
		unsigned char a[16];

		memcpy(a, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, sizeof a);
		return refusal6(a);
	}
	return "no internet address";
}
