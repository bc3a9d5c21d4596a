/* The certificate of the image server: a chain and its key in PEM files, which may be replaced while it runs. Internal to web/. */
#pragma once

#include <stdbool.h>

#include "base/error.h"

struct certificate {
	const char *chain, *key;   /* paths */
	unsigned char seen[2][32]; /* SHA-256 of what was in the files when they were last good */
};

/* Whether both can be read and belong together. */
int certificate_check(const struct certificate *certificate, struct error **err);
/* Whether the files hold a pair other than the last time this said so, and a good one: half of an exchange is not. The first time is one. */
bool certificate_changed(struct certificate *certificate);
