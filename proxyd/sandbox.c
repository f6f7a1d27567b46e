/*
 * sandbox.c - give privileges away, once and for good
 *
 * Does: user, groups, capabilities, empty root, Landlock, seccomp, in the
 * order in which each step is still permitted. Does not: decide who gets what
 * beyond the kinds of sandbox.h; that is one table of calls per kind.
 *
 * Called once by every child before it reads a byte from a peer, and by the
 * parent after it has made what needs more than it keeps. Nobody outside
 * controls anything here; what must hold is that a failed step ends the
 * process: a child with half a sandbox never runs.
 *
 * Works in a user namespace too (chroot and the capability calls are asked of
 * the namespace). Landlock is taken as far as the kernel has it and left out
 * where it has none. Sanitizer builds keep /proc and ptrace, which the leak
 * checker needs: no empty root, no Landlock, dumpable, and the filter only
 * denies by name.
 */
#include "proxyd/sandbox.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/landlock.h>
#include <pwd.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/log.h"

#define RUN_DIR "/run/sallyport"

#ifdef SANITIZED
static const bool sanitized = true;
#else
static const bool sanitized = false;
#endif

/* ---- user and capabilities ---- */

static int
failed(const char *doing)
{
	log_error("sandbox: %s: %s", doing, strerror(errno));
	return -1;
}

/* A root directory that nobody can put a file into: it is deleted before it
 * becomes the root. */
static int
empty_root(void)
{
	char dir[] = RUN_DIR "/root.XXXXXX";

	if (mkdir(RUN_DIR, 0750) != 0 && errno != EEXIST)
		return failed("mkdir " RUN_DIR);
	if (mkdtemp(dir) == NULL)
		return failed("mkdtemp " RUN_DIR);
	if (chdir(dir) != 0 || rmdir(dir) != 0 || chroot(".") != 0)
		return failed("chroot to an empty directory");
	return 0;
}

/* The one capability a kind keeps, or -1. */
static int
kept(enum sandbox kind)
{
	return kind == SANDBOX_NFQ ? CAP_NET_ADMIN : -1;
}

static int
become(const struct passwd *pw, int keep)
{
	if (setgroups(0, NULL) != 0)
		return failed("setgroups");
	if (setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) != 0)
		return failed("setresgid");
	/* the bounding set needs CAP_SETPCAP, so it goes before the user */
	capng_clear(CAPNG_SELECT_BOTH);
	if (capng_apply(CAPNG_SELECT_BOUNDS) < 0)
		return failed("clear the capability bounding set");
	if (prctl(PR_SET_KEEPCAPS, keep >= 0, 0, 0, 0) != 0)
		return failed("prctl PR_SET_KEEPCAPS");
	if (setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) != 0)
		return failed("setresuid");
	capng_clear(CAPNG_SELECT_BOTH);
	if (keep >= 0 && capng_update(CAPNG_ADD, CAPNG_EFFECTIVE |
			CAPNG_PERMITTED, (unsigned)keep) != 0)
		return failed("choose the capability that stays");
	if (capng_apply(CAPNG_SELECT_CAPS) < 0)
		return failed("clear the capability sets");
	if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) != 0)
		return failed("prctl PR_SET_KEEPCAPS");
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0)
		return failed("clear the ambient capabilities");
	return 0;
}

/* Trust nothing that was called above: look. */
static int
verify(const struct passwd *pw, int keep)
{
	if (capng_get_caps_process() != 0)
		return failed("read back the capabilities");
	if (keep >= 0) {
		if (!capng_have_capability(CAPNG_EFFECTIVE, (unsigned)keep))
			return failed("keep a capability");
		/* without this one nothing must be there */
		if (capng_update(CAPNG_DROP, CAPNG_EFFECTIVE |
				CAPNG_PERMITTED, (unsigned)keep) != 0)
			return failed("look at the capabilities");
	}
	if (capng_have_capabilities(CAPNG_SELECT_BOTH) != CAPNG_NONE) {
		log_error("sandbox: capabilities are left");
		return -1;
	}
	if (getuid() != pw->pw_uid || geteuid() != pw->pw_uid ||
		getgid() != pw->pw_gid || getegid() != pw->pw_gid ||
		setuid(0) == 0) {
		log_error("sandbox: the user did not change");
		return -1;
	}
	return 0;
}

static int
limits(void)
{
	const struct rlimit none = { 0, 0 };

	/* a core holds passwords */
	if (setrlimit(RLIMIT_CORE, &none) != 0)
		return failed("setrlimit");
	if (prctl(PR_SET_DUMPABLE, sanitized ? 1 : 0, 0, 0, 0) != 0)
		return failed("prctl PR_SET_DUMPABLE");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return failed("prctl PR_SET_NO_NEW_PRIVS");
	return 0;
}

/* ---- Landlock, by raw calls: Debian 12's libc has no names for them ---- */

/* The header of Linux 6.1 ends after handled_access_fs; zeros behind what a
 * kernel knows are accepted. */
struct ruleset {
	uint64_t handled_access_fs;
	uint64_t handled_access_net;
	uint64_t scoped;
};

#define FS_ABI1 ((UINT64_C(1) << 13) - 1)
#define FS_REFER (UINT64_C(1) << 13)	/* ABI 2 */
#define FS_TRUNCATE (UINT64_C(1) << 14)	/* ABI 3 */
#define FS_IOCTL_DEV (UINT64_C(1) << 15)	/* ABI 5 */
#define SCOPE_ALL UINT64_C(3)	/* ABI 6: abstract sockets, signals */

static void
allow_reading(int ruleset, const char *path)
{
	struct landlock_path_beneath_attr rule = {
		.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE |
			LANDLOCK_ACCESS_FS_READ_DIR,
		.parent_fd = open(path, O_PATH | O_CLOEXEC | O_DIRECTORY),
	};

	if (rule.parent_fd < 0)
		return; /* not there: nothing to read */
	if (syscall(SYS_landlock_add_rule, ruleset,
			LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0)
		log_warn("sandbox: Landlock rule for %s: %s", path,
			strerror(errno));
	close(rule.parent_fd);
}

static char writable[PATH_MAX];

void
sandbox_writable(const char *file)
{
	char *slash;

	snprintf(writable, sizeof(writable), "%s", file);
	slash = strrchr(writable, '/');
	if (slash != NULL && slash != writable)
		*slash = '\0';
	else
		writable[0] = '\0';
}

/* A database makes, cuts and removes its own journal beside itself. */
static void
allow_writing(int ruleset, long abi)
{
	struct landlock_path_beneath_attr rule = {
		.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE |
			LANDLOCK_ACCESS_FS_WRITE_FILE |
			LANDLOCK_ACCESS_FS_READ_DIR |
			LANDLOCK_ACCESS_FS_MAKE_REG |
			LANDLOCK_ACCESS_FS_REMOVE_FILE |
			(abi >= 3 ? FS_TRUNCATE : 0),
		.parent_fd = open(writable, O_PATH | O_CLOEXEC | O_DIRECTORY),
	};

	if (rule.parent_fd < 0)
		return; /* the ledger will say that it is not there */
	if (syscall(SYS_landlock_add_rule, ruleset,
			LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0)
		log_warn("sandbox: Landlock rule for %s: %s", writable,
			strerror(errno));
	close(rule.parent_fd);
}

/* What a resolver reads. resolv.conf is often a link to somewhere in /run. */
static void
allow_resolver(int ruleset)
{
	char real[PATH_MAX];

	allow_reading(ruleset, "/etc");
	allow_reading(ruleset, "/usr/share/zoneinfo");
	if (realpath("/etc/resolv.conf", real) != NULL) {
		char *slash = strrchr(real, '/');

		if (slash != NULL && slash != real) {
			*slash = '\0';
			allow_reading(ruleset, real);
		}
	}
}

static int
landlock(enum sandbox kind)
{
	struct ruleset attr = { 0 };
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0,
		LANDLOCK_CREATE_RULESET_VERSION);
	int fd;

	if (abi < 1) {
		log_info("sandbox: this kernel has no Landlock");
		return 0;
	}
	attr.handled_access_fs = FS_ABI1 | (abi >= 2 ? FS_REFER : 0) |
		(abi >= 3 ? FS_TRUNCATE : 0) | (abi >= 5 ? FS_IOCTL_DEV : 0);
	attr.scoped = abi >= 6 ? SCOPE_ALL : 0;
	fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (fd < 0)
		return failed("landlock_create_ruleset");
	if (kind == SANDBOX_CONTROL)
		allow_resolver(fd);
	if (kind == SANDBOX_CONTROL && writable[0] != '\0')
		allow_writing(fd, abi);
	if (syscall(SYS_landlock_restrict_self, fd, 0) != 0) {
		close(fd);
		return failed("landlock_restrict_self");
	}
	close(fd);
	return 0;
}

/* ---- seccomp ---- */

/* Nobody here has a use for these: whoever calls one is not our program. */
static const char *const deadly[] = {
	"execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev",
	"bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key",
	"request_key", "io_uring_setup", "io_uring_enter", "io_uring_register",
	"mount", "umount2", "move_mount", "open_tree", "fsopen", "fsmount",
	"pivot_root", "chroot", "setns", "unshare", "init_module",
	"finit_module", "delete_module", "kexec_load", "kexec_file_load",
	"open_by_handle_at", "mknod", "mknodat", "setuid", "setresuid",
	"setgid", "setresgid", "setgroups", "capset", "reboot", "swapon",
	"swapoff", "acct", "quotactl", "iopl", "ioperm", "personality",
	"pidfd_getfd", "kcmp", "modify_ldt",
};

/* What the leak checker of a sanitizer build cannot do without. */
static const char *const checker[] = { "ptrace" };

/* A relay lives on descriptors it was given. */
static const char *const relay_calls[] = {
	/* sockets and pipes it holds */
	"read", "readv", "recvfrom", "recvmsg", "recvmmsg", "write", "writev",
	"sendto", "sendmsg", "sendmmsg", "accept", "accept4", "close",
	"shutdown", "bind", "connect", "getsockname", "getpeername",
	"getsockopt", "setsockopt", "fcntl", "dup", "pipe2", "splice",
	/* the loop */
	"epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait",
	"epoll_pwait2", "poll", "ppoll", "eventfd2", "timerfd_create",
	"timerfd_settime", "timerfd_gettime", "signalfd4",
	/* time and chance */
	"clock_gettime", "clock_getres", "gettimeofday", "time", "nanosleep",
	"clock_nanosleep", "getrandom",
	/* memory */
	"munmap", "mremap", "madvise", "brk", "futex", "membarrier",
	/* the process itself */
	"exit", "exit_group", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn",
	"sigaltstack", "getpid", "gettid", "tgkill", "sched_yield",
	"sched_getaffinity", "restart_syscall", "getuid", "geteuid", "getgid",
	"getegid", "getrlimit", "getrusage", "sysinfo", "uname", "times",
	"set_robust_list", "rseq", "newfstatat", "fstat", "lseek",
};

/* nfq reads one queue and one channel, and writes verdicts and log lines. */
static const char *const nfq_calls[] = {
	"read", "recvfrom", "recvmsg", "recvmmsg", "write", "writev", "sendto",
	"sendmsg", "close", "poll", "ppoll", "fcntl",
	"clock_gettime", "gettimeofday", "time", "nanosleep",
	"clock_nanosleep", "getrandom",
	"munmap", "mremap", "madvise", "brk", "futex",
	"exit", "exit_group", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn",
	"getpid", "gettid", "tgkill", "restart_syscall", "newfstatat", "fstat",
};

/* The keeper reads files it is handed, and answers over channels. */
static const char *const keeper_calls[] = {
	"read", "pread64", "recvmsg", "write", "writev", "sendto", "sendmsg",
	"close", "fcntl", "epoll_ctl", "epoll_wait", "epoll_pwait",
	"epoll_pwait2", "poll", "ppoll",
	"clock_gettime", "gettimeofday", "time", "nanosleep",
	"clock_nanosleep", "getrandom",
	"munmap", "mremap", "madvise", "brk", "futex",
	"exit", "exit_group", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn",
	"getpid", "gettid", "tgkill", "restart_syscall", "newfstatat", "fstat",
};

static int
name_rule(scmp_filter_ctx f, uint32_t action, const char *name)
{
	int nr = seccomp_syscall_resolve_name(name);

	if (nr == __NR_SCMP_ERROR)
		return 0; /* not on this architecture */
	return seccomp_rule_add(f, action, nr, 0);
}

static bool
is_in(const char *name, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(name, list[i]) == 0)
			return true;
	return false;
}

#define COUNT(list) (sizeof(list) / sizeof(*(list)))

static int
deny_deadly(scmp_filter_ctx f)
{
	int bad = 0;

	for (size_t i = 0; i < COUNT(deadly); i++)
		if (!sanitized || !is_in(deadly[i], checker, COUNT(checker)))
			bad |= name_rule(f, SCMP_ACT_KILL_PROCESS, deadly[i]);
	return bad;
}

/* For those who live on descriptors they were given: what is not in the list
 * is refused, and a new socket is the end. */
static int
listed_filter(scmp_filter_ctx f, const char *const *calls, size_t n)
{
	int bad = deny_deadly(f);

	bad |= name_rule(f, SCMP_ACT_KILL_PROCESS, "socket");
	if (sanitized)
		return bad;
	for (size_t i = 0; i < n; i++)
		bad |= name_rule(f, SCMP_ACT_ALLOW, calls[i]);
	/* memory never becomes code */
	bad |= seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
		SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	bad |= seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
		SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	return bad;
}

static int
relay_filter(scmp_filter_ctx f)
{
	int bad = listed_filter(f, relay_calls, COUNT(relay_calls));

	if (sanitized)
		return bad;
	bad |= seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
		SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
	bad |= seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
		SCMP_A1(SCMP_CMP_EQ, 0x541b)); /* FIONREAD */
	/* asking for a limit, not setting one */
	bad |= seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1,
		SCMP_A2(SCMP_CMP_EQ, 0));
	return bad;
}

/* Control opens sockets, but only those of a resolver and of a log. */
static int
control_filter(scmp_filter_ctx f)
{
	int bad = deny_deadly(f);

	bad |= seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 1,
		SCMP_A0(SCMP_CMP_GT, 10)); /* above AF_INET6 */
	for (int type = 3; type <= 10; type++) /* raw, rdm, packet */
		if (type != 5)
			bad |= seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM),
				SCMP_SYS(socket), 1,
				SCMP_A1(SCMP_CMP_MASKED_EQ, 0xf, type));
	bad |= name_rule(f, SCMP_ACT_ERRNO(EPERM), "listen");
	if (!sanitized) {
		bad |= name_rule(f, SCMP_ACT_ERRNO(EPERM), "fork");
		bad |= name_rule(f, SCMP_ACT_ERRNO(EPERM), "vfork");
	}
	return bad;
}

static int
seccomp(enum sandbox kind)
{
	bool listed = kind != SANDBOX_CONTROL && !sanitized;
	scmp_filter_ctx f = seccomp_init(
		listed ? SCMP_ACT_ERRNO(EPERM) : SCMP_ACT_ALLOW);
	int bad;

	if (f == NULL)
		return failed("seccomp_init");
	(void)seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	bad = kind == SANDBOX_RELAY ? relay_filter(f) :
		kind == SANDBOX_NFQ ?
		listed_filter(f, nfq_calls, COUNT(nfq_calls)) :
		kind == SANDBOX_KEEPER ?
		listed_filter(f, keeper_calls, COUNT(keeper_calls)) :
		control_filter(f);
	if (bad == 0)
		bad = seccomp_load(f);
	seccomp_release(f);
	if (bad == 0)
		return 0;
	log_error("sandbox: the seccomp filter was not taken (%d)", bad);
	return -1;
}

static const struct passwd *
unprivileged(const char *user)
{
	const struct passwd *pw = getpwnam(user);

	if (pw != NULL && pw->pw_uid != 0)
		return pw;
	log_error("sandbox: user \"%s\" %s", user, pw == NULL ?
		"does not exist" : "is root");
	return NULL;
}

int
sandbox_program(const char *user)
{
	const struct passwd *pw = unprivileged(user);

	return pw == NULL || become(pw, -1) != 0 || verify(pw, -1) != 0 ||
		limits() != 0 ? -1 : 0;
}

int
sandbox_enter(enum sandbox kind, const char *user)
{
	const struct passwd *pw = unprivileged(user);

	if (pw == NULL)
		return -1;
	if (kind != SANDBOX_CONTROL && !sanitized && empty_root() != 0)
		return -1;
	if (become(pw, kept(kind)) != 0 || verify(pw, kept(kind)) != 0 ||
		limits() != 0)
		return -1;
	if (!sanitized && landlock(kind) != 0)
		return -1;
	return seccomp(kind);
}

int
sandbox_parent(void)
{
	static const unsigned keep[] = {
		CAP_NET_ADMIN, CAP_NET_RAW, CAP_NET_BIND_SERVICE, CAP_SETUID,
		CAP_SETGID, CAP_SETPCAP, CAP_SYS_CHROOT, CAP_KILL,
	};

	capng_clear(CAPNG_SELECT_BOTH);
	for (size_t i = 0; i < COUNT(keep); i++)
		if (capng_update(CAPNG_ADD,
				CAPNG_EFFECTIVE | CAPNG_PERMITTED |
				CAPNG_BOUNDING_SET, keep[i]) != 0)
			return failed("choose the parent's capabilities");
	if (capng_apply(CAPNG_SELECT_BOTH) < 0)
		return failed("set the parent's capabilities");
	if (prctl(PR_SET_DUMPABLE, sanitized ? 1 : 0, 0, 0, 0) != 0)
		return failed("prctl PR_SET_DUMPABLE");
	return 0;
}
