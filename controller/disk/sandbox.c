#include "disk/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "disk/sandbox_filter.h"

#define SAID_MAX 600 /* bytes of what it said that go into an error */
#define DESCRIPTORS_MAX 8
#define END_MS 60000
#define NOT_STARTED 125 /* exit status: exec failed */

struct sandbox {
	pid_t pid;
	int said; /* its standard error's other end */
	const char *program;
	unsigned seconds;
};

char *sandbox_find(const char *program)
{
	const char *path = getenv("PATH");

	for (const char *from = path ? path : "/usr/bin:/bin", *end; *from; from = *end ? end + 1 : end) {
		AUTO_FREE char *candidate = NULL;
		struct stat st;

		end = strchrnul(from, ':');
		if (*from == '/' && asprintf(&candidate, "%.*s/%s", (int)(end - from), from, program) >= 0 && stat(candidate, &st) == 0 &&
		    S_ISREG(st.st_mode) && access(candidate, X_OK) == 0)
			return move_ptr(candidate);
	}
	return NULL;
}

static bool limit(int resource, rlim_t value)
{
	struct rlimit old, new = { value, value };

	if (getrlimit(resource, &old) < 0)
		return false;
	if (old.rlim_max != RLIM_INFINITY && old.rlim_max < value)
		new.rlim_cur = new.rlim_max = old.rlim_max;
	return setrlimit(resource, &new) == 0;
}

/* Between fork and exec of a process with threads: calls that are safe in a signal handler only, and no memory is asked for. */
_Noreturn static void become(const struct sandbox_options *o, const char *path, const struct sandbox_filter *filter, int null, int said,
			     pid_t parent)
{
	static char *const environment[] = { (char *)"LC_ALL=C", (char *)"MALLOC_ARENA_MAX=1", NULL };
	int high[DESCRIPTORS_MAX + 3], count = 0;
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(NOT_STARTED);
	setsid();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || !sandbox_filter_files(filter))
		_exit(NOT_STARTED);
	/* Out of the way first, so that none is overwritten before it is in its place. */
	high[count++] = null;
	high[count++] = o->output >= 0 ? o->output : null;
	high[count++] = said;
	for (size_t i = 0; i < o->descriptor_count; i++)
		high[count++] = o->descriptors[i];
	for (int i = 0; i < count; i++)
		if ((high[i] = fcntl(high[i], F_DUPFD_CLOEXEC, 64)) < 0)
			_exit(NOT_STARTED);
	for (int i = 0; i < count; i++)
		if (dup2(high[i], i) < 0)
			_exit(NOT_STARTED);
	if (close_range((unsigned)count, ~0u, 0) < 0 || chdir("/") < 0 || !limit(RLIMIT_CORE, 0) || !limit(RLIMIT_FSIZE, 0) ||
	    !limit(RLIMIT_NOFILE, 64) || !limit(RLIMIT_STACK, 1 << 20) || !limit(RLIMIT_AS, o->memory) || !limit(RLIMIT_CPU, o->seconds))
		_exit(NOT_STARTED);
	(void)!unshare(geteuid() ? CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC : CLONE_NEWNET | CLONE_NEWIPC); /* may be forbidden */
	if (!sandbox_filter_calls())
		_exit(NOT_STARTED);
	execve(path, o->arguments, environment);
	_exit(NOT_STARTED);
}

struct sandbox *sandbox_start(const struct sandbox_options *o, struct error **err)
{
	AUTO_FREE char *path = sandbox_find(o->program);
	AUTO_FD int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	CLEANUP(sandbox_filter_close_p) struct sandbox_filter filter = { .rules = -1 };
	struct sandbox *s;
	int ends[2];
	pid_t parent = getpid();

	if (!path) {
		error_set(err, ERROR_NOT_FOUND, "ProgramMissing", "the program %s is not installed", o->program);
		return NULL;
	}
	s = calloc(1, sizeof *s);
	/* What it says beyond a pipe's room is lost: it never waits for a reader. */
	if (!s || null < 0 || o->descriptor_count > DESCRIPTORS_MAX || pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
		free(s);
		error_set_errno(err, errno, "cannot start %s", o->program);
		return NULL;
	}
	sandbox_filter_prepare(&filter, path);
	*s = (struct sandbox){ .said = ends[0], .program = o->program, .seconds = o->seconds };
	s->pid = fork();
	if (!s->pid)
		become(o, path, &filter, null, ends[1], parent);
	int failed = errno;
	close(ends[1]);
	if (s->pid > 0)
		return s;
	error_set_errno(err, failed, "cannot start %s", o->program);
	close(s->said);
	free(s);
	return NULL;
}

void sandbox_kill(struct sandbox *s)
{
	kill(s->pid, SIGKILL);
}

/* The end of what it said, in one line that can be shown. */
static void read_said(int fd, char text[SAID_MAX + 1])
{
	char piece[512];
	size_t len = 0;
	ssize_t n;

	while ((n = read(fd, piece, sizeof piece)) > 0) {
		size_t keep = len + (size_t)n > SAID_MAX ? SAID_MAX - (size_t)n : len;

		memmove(text, text + len - keep, keep);
		memcpy(text + keep, piece, (size_t)n);
		len = keep + (size_t)n;
	}
	while (len && (text[len - 1] == '\n' || text[len - 1] == ' '))
		len--;
	text[len] = 0;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 127)
			text[i] = text[i] == '\n' ? ';' : '?';
}

/* Kills it when it does not end by itself. */
static void await_end(struct sandbox *s, struct cancel *cancel)
{
	AUTO_FD int process = (int)syscall(SYS_pidfd_open, s->pid, 0);
	struct pollfd fds[] = { { .fd = process, .events = POLLIN }, { .fd = cancel_fd(cancel), .events = POLLIN } };

	if (process >= 0)
		poll(fds, 2, END_MS);
	if (!fds[0].revents)
		sandbox_kill(s);
}

int sandbox_end(struct sandbox *s, struct cancel *cancel, struct error **err)
{
	char said[SAID_MAX + 1];
	int status = 0, code;

	await_end(s, cancel);
	while (waitpid(s->pid, &status, 0) < 0 && errno == EINTR)
		;
	read_said(s->said, said);
	close(s->said);
	code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	const char *program = s->program, *colon = *said ? ": " : "";
	unsigned seconds = s->seconds;

	free(s);
	if (!code)
		return 0;
	if (code == NOT_STARTED)
		return error_set(err, ERROR_PERMANENT, "ProgramFailed", "%s does not start within its limits%s%s", program, colon, said);
	if (code > 0)
		return error_set(err, ERROR_PERMANENT, "ProgramFailed", "%s failed%s%s", program, colon, said);
	if (WTERMSIG(status) == SIGXCPU || WTERMSIG(status) == SIGKILL)
		return error_set(err, ERROR_PERMANENT, "ProgramKilled", "%s was killed; it may use %u seconds of processor time%s%s",
				 program, seconds, colon, said);
	return error_set(err, ERROR_PERMANENT, "ProgramFailed", "%s crashed (signal %d)%s%s", program, WTERMSIG(status), colon, said);
}
