/*
 * The floor: what the kernel alone takes for a usual container, from nothing to nothing.
 *
 *     floor ROOTFS CGROUP PROGRAM [ARGUMENT…]
 *
 * Makes the cgroup, clones into it with six new namespaces, makes the mounts that the measured spec has (the tree made
 * private, the root bound, and its seven), pivots, executes, waits, removes the cgroup. No spec is read, nothing is
 * checked, masked, limited, recorded or dropped: a runtime cannot be faster and still be one, so the distance to this
 * program is what a runtime costs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	_exit(125);
}

struct place {
	const char *type, *target, *options;
	unsigned long flags;
	int make; /* whether the directory is not in the image */
};

static const struct place places[] = {
	{ "proc", "proc", NULL, MS_NOSUID | MS_NOEXEC | MS_NODEV, 0 },
	{ "tmpfs", "dev", "mode=755,size=65536k", MS_NOSUID | MS_STRICTATIME, 0 },
	{ "devpts", "dev/pts", "newinstance,ptmxmode=0666,mode=0620,gid=5", MS_NOSUID | MS_NOEXEC, 1 },
	{ "sysfs", "sys", NULL, MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY, 0 },
	{ "tmpfs", "tmp", "mode=1777", MS_NOSUID | MS_NODEV, 0 },
	{ "tmpfs", "dev/shm", "mode=1777,size=65536k", MS_NOSUID | MS_NOEXEC | MS_NODEV, 1 },
	{ "mqueue", "dev/mqueue", NULL, MS_NOSUID | MS_NOEXEC | MS_NODEV, 1 },
};

static void contain(const char *rootfs, char **program)
{
	static char *environment[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		die("make the tree private");
	if (mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL) || chdir(rootfs))
		die(rootfs);
	for (size_t n = 0; n < sizeof places / sizeof places[0]; n++) {
		const struct place *p = &places[n];
		if (p->make && mkdir(p->target, 0755))
			die(p->target);
		if (mount(p->type, p->target, p->type, p->flags, p->options))
			die(p->target);
	}
	/* The old root comes to lie over the new one, and is taken off. */
	if (syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
		die("pivot_root");
	execve(program[0], program, environment);
	die(program[0]);
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: floor ROOTFS CGROUP PROGRAM [ARGUMENT…]\n");
		return 125;
	}
	if (mkdir(argv[2], 0755) && errno != EEXIST)
		die(argv[2]);
	int cgroup = open(argv[2], O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (cgroup < 0)
		die(argv[2]);

	struct clone_args how = {
		.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP |
			 CLONE_INTO_CGROUP,
		.exit_signal = SIGCHLD,
		.cgroup = (unsigned)cgroup,
	};
	long pid = syscall(SYS_clone3, &how, sizeof how);
	if (pid < 0)
		die("clone3");
	if (pid == 0)
		contain(argv[1], argv + 3);

	int status;
	if (waitpid((pid_t)pid, &status, 0) < 0)
		die("wait");
	if (rmdir(argv[2]))
		die(argv[2]);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
