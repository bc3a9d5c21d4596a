/* Which addresses lead to this host or its link: what a URL that a user names must not reach. Internal to net/. */
#pragma once

#include <stddef.h>
#include <sys/socket.h>

/* Why the address is refused, such as "a loopback address"; NULL when it is not. IPv4 in its IPv6 forms (RFC 4291 2.5.5, RFC 6052, RFC 3056)
 * counts as that IPv4 address. Also refused: unspecified and multicast addresses, broadcast, and the metadata address fd00:ec2::254. */
const char *address_refusal(const struct sockaddr *address, size_t len);
