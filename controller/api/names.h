/* Names that Kubernetes accepts, made of names that people gave. */
#pragma once

#include <stdbool.h>

/* A DNS-1123 label of at most 63 characters: lower-cased, other characters become '-', ends trimmed; shortened with a hash of the
 * whole name when it is too long, and "vm-<hash>" when nothing is left. Owned by the caller. */
char *name_dns1123_label(const char *name);
bool name_is_dns1123_label(const char *name);
/* What objects may be called: labels with dots between them, 253 characters at most in all. */
bool name_is_dns1123_subdomain(const char *name);
/* A valid label value of at most 63 characters, shortened with a hash when longer; characters outside [A-Za-z0-9._-] become '-'. */
char *name_label_value(const char *text);
/* "namespace/name" or "name" (then in default_ns) -> two owned strings. */
void name_split(const char *text, const char *default_ns, char **ns, char **name);
