/* Versions and microversions of OpenStack's services. No I/O, no state.
 *
 * Source: OpenStack API-SIG guidelines, "Microversion Specification" and "Version discovery". */
#pragma once

#include <jansson.h>

/* The highest minor version, at most `known`, that a version document offers of this major one: {"version": {...}} or {"versions": [{...}]}.
 * 0: it tells of none. */
unsigned openstack_negotiate(const json_t *document, unsigned major, unsigned known);
/* Where the URL's path has this component ("/v2.1"): behind it, in the URL; NULL: nowhere. */
char *openstack_version_end(char *url, const char *version);
