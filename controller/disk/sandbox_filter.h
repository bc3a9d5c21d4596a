/* What the kernel is to refuse a program of disk/sandbox.h. Internal to disk/. */
#pragma once

#include <stdbool.h>
#include <unistd.h>

struct sandbox_filter {
	int rules; /* Landlock's; -1: the kernel has none */
};

/* In the parent: which files may be read, of the system and beside the program. */
void sandbox_filter_prepare(struct sandbox_filter *f, const char *program);
/* In the child, which has no_new_privs, before exec: safe in a signal handler. False when it must not go on. First the files, while it still
 * has the descriptor; last the calls. */
bool sandbox_filter_files(const struct sandbox_filter *f);
bool sandbox_filter_calls(void);

static inline void sandbox_filter_close_p(struct sandbox_filter *f)
{
	if (f->rules >= 0)
		close(f->rules);
}
