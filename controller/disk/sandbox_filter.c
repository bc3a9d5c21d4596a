#include "disk/sandbox_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "base/cleanup.h"

/* --- files ---------------------------------------------------------------------------------------------------------------- */

#define READING (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FILE_READING (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE)
/* All rights of Landlock's first version. */
#define HANDLED ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1)

static void allow(int rules, const char *path, uint64_t access)
{
	AUTO_FD int fd = open(path, O_PATH | O_CLOEXEC);
	struct landlock_path_beneath_attr rule = { .allowed_access = access, .parent_fd = fd };

	if (fd >= 0)
		syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
}

void sandbox_filter_prepare(struct sandbox_filter *f, const char *program)
{
	static const char *const system[] = { "/usr", "/lib", "/lib64", "/bin" };
	static const char *const files[] = { "/etc/ld.so.cache", "/dev/null", "/dev/urandom", "/dev/zero" };
	struct landlock_ruleset_attr attr = { .handled_access_fs = HANDLED };
	AUTO_FREE char *real = realpath(program, NULL);

	f->rules = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
	if (f->rules < 0)
		return;
	fcntl(f->rules, F_SETFD, FD_CLOEXEC);
	for (size_t i = 0; i < sizeof system / sizeof *system; i++)
		allow(f->rules, system[i], READING);
	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		allow(f->rules, files[i], FILE_READING);
	/* Installed elsewhere, as PREFIX/bin/program. */
	for (int up = 0; real && up < 2; up++) {
		char *slash = strrchr(real, '/');

		if (!slash || slash == real)
			return;
		*slash = 0;
	}
	if (real)
		allow(f->rules, real, READING);
}

bool sandbox_filter_files(const struct sandbox_filter *f)
{
	return f->rules < 0 || syscall(SYS_landlock_restrict_self, f->rules, 0) == 0;
}

/* --- calls ---------------------------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

#ifdef ARCHITECTURE

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define REFUSE(error) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
/* With the call's number loaded. */
#define FORBID(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), REFUSE(EPERM)
#define UNKNOWN(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), REFUSE(ENOSYS)
/* The low half of the argument is what open flags are; both architectures are little-endian. */
#define FORBID_WRITING(call, argument)                                                                                        \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 4), LOAD(args[argument]),                                          \
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_TMPFILE_BIT, 0, 1), \
		REFUSE(EACCES), ALLOW
#define O_TMPFILE_BIT (O_TMPFILE & ~O_DIRECTORY)

static const struct sock_filter filter[] = {
	LOAD(arch),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	LOAD(nr),
#ifdef __x86_64__
	BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1), /* x32 */
	REFUSE(ENOSYS),
	FORBID_WRITING(open, 1),
	FORBID(creat),
	FORBID(unlink),
	FORBID(rename),
	FORBID(link),
	FORBID(symlink),
	FORBID(mkdir),
	FORBID(rmdir),
	FORBID(mknod),
	FORBID(chmod),
	FORBID(chown),
	FORBID(lchown),
	FORBID(utime),
	FORBID(utimes),
	FORBID(futimesat),
	FORBID(fork),
	FORBID(vfork),
#endif
	FORBID_WRITING(openat, 2),
	UNKNOWN(openat2),
	UNKNOWN(clone3), /* its flags cannot be seen; threads are made with clone then */
	/* A clone without CLONE_THREAD would be another process. */
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 4),
	LOAD(args[0]),
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0),
	REFUSE(EPERM),
	ALLOW,
	FORBID(socket),
	FORBID(socketpair),
	FORBID(connect),
	FORBID(bind),
	FORBID(listen),
	FORBID(accept),
	FORBID(accept4),
	FORBID(unlinkat),
	FORBID(renameat),
	FORBID(renameat2),
	FORBID(linkat),
	FORBID(symlinkat),
	FORBID(mkdirat),
	FORBID(mknodat),
	FORBID(truncate),
	FORBID(ftruncate),
	FORBID(fallocate),
	FORBID(fchmod),
	FORBID(fchmodat),
	FORBID(fchown),
	FORBID(fchownat),
	FORBID(utimensat),
	FORBID(setxattr),
	FORBID(lsetxattr),
	FORBID(fsetxattr),
	FORBID(removexattr),
	FORBID(lremovexattr),
	FORBID(fremovexattr),
	FORBID(kill),
	FORBID(tkill),
	FORBID(pidfd_open),
	FORBID(pidfd_getfd),
	FORBID(pidfd_send_signal),
	FORBID(ptrace),
	FORBID(process_vm_readv),
	FORBID(process_vm_writev),
	FORBID(unshare),
	FORBID(setns),
	FORBID(mount),
	FORBID(umount2),
	FORBID(pivot_root),
	FORBID(chroot),
	FORBID(open_tree),
	FORBID(move_mount),
	FORBID(fsopen),
	FORBID(fsmount),
	FORBID(open_by_handle_at),
	FORBID(name_to_handle_at),
	UNKNOWN(io_uring_setup),
	FORBID(userfaultfd),
	FORBID(perf_event_open),
	FORBID(bpf),
	FORBID(keyctl),
	FORBID(add_key),
	FORBID(request_key),
	FORBID(init_module),
	FORBID(finit_module),
	FORBID(delete_module),
	FORBID(kexec_load),
	FORBID(reboot),
	FORBID(swapon),
	FORBID(swapoff),
	FORBID(sethostname),
	FORBID(settimeofday),
	FORBID(clock_settime),
	FORBID(acct),
	FORBID(quotactl),
	FORBID(memfd_create),
	FORBID(execveat),
	ALLOW,
};
#endif

bool sandbox_filter_calls(void)
{
#ifdef ARCHITECTURE
	const struct sock_fprog program = { .len = sizeof filter / sizeof *filter, .filter = (struct sock_filter *)filter };

	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
#else
	return true;
#endif
}
