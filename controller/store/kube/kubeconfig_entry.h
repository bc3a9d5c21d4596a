/* One entry of a kubeconfig (a cluster, a user, a context) with where it stands. Internal to store/kube. */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "base/error.h"
#include "store/kube/kubeconfig.h"

struct entry {
	const char *kind, *name;
	const char *file, *text, *path; /* path: in the file, such as "users[1].user" */
	const json_t *json;
};

/* Sets the error "FILE, line L, column C: user "NAME": MEMBER: ..." and returns -1. member NULL: of the entry as a whole. */
int entry_fail(const struct entry *e, const char *member, struct error **err, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Puts the same before the message of *err. */
int entry_wrap(const struct entry *e, const char *member, struct error **err);

/* A member that is a string, borrowed; NULL when it is absent, null or empty. */
int entry_string(const struct entry *e, const char *member, const char **out, struct error **err);
/* The same as a copy. */
int entry_copy(const struct entry *e, const char *member, char **out, struct error **err);
/* The same with what fits into a header's value only. */
int entry_header(const struct entry *e, const char *member, char **out, struct error **err);
/* A member that is true or false; absent: false. */
int entry_boolean(const struct entry *e, const char *member, bool *out, struct error **err);
/* The file that a member names, seen from the entry's file; owned. NULL when memory is out. */
char *entry_path(const struct entry *e, const char *path);
/* MEMBER-data holds base64, MEMBER the path of a file; the former wins. *file (may be NULL) becomes the path when it was read from there. */
int entry_pem(const struct entry *e, const char *member, char **out, char **file, struct error **err);

/* A user's credentials and whom it impersonates. cluster: what an exec plugin may be told of. */
int kubeconfig_use_user(const struct entry *user, const struct entry *cluster, struct kube_config *c, struct error **err);
/* A user's exec plugin. */
int kubeconfig_use_exec(const struct entry *user, const struct entry *cluster, struct kube_config *c, struct error **err);
