//! With what may a system call fail, by its man page, that has nothing wrong in its arguments?

use nix::errno::Errno;

/// A call by its number.
pub fn name(nr: i64) -> String {
    let known = LISTED.iter().find(|(number, _, _)| *number == nr);
    known.map_or_else(|| format!("call {nr}"), |(_, name, _)| (*name).to_string())
}

/// The errnos that are tried on a descriptor that /proc names `subject`. None for a call that can't fail without being
/// at fault itself, or whose failure would not be one: close gives the descriptor back whatever it says, and that a
/// file isn't there is an answer.
pub fn errnos(nr: i64, subject: &str) -> &'static [Errno] {
    let known = LISTED.iter().find(|(number, _, _)| *number == nr);
    let errnos = known.map_or::<&[Errno], _>(&[], |(_, _, errnos)| errnos);
    let (reads, writes) = (errnos == READ, errnos == WRITE);
    match subject.split(':').next() {
        // An eventfd, a signalfd, an inotify.
        Some("anon_inode") if reads || writes => &[],
        Some("socket") if reads => &[Errno::ENOMEM, Errno::ECONNRESET],
        Some("socket") if writes => SEND,
        Some("pipe") if reads => AWAIT,
        Some("pipe") if writes => &[Errno::EINTR, Errno::EPIPE],
        _ => errnos,
    }
}

/// Whether a call asks for memory of the process itself.
pub fn is_for_memory(nr: i64) -> bool {
    errnos(nr, "") == MEMORY
}

const OPEN: &[Errno] = &[Errno::EMFILE, Errno::ENOMEM, Errno::EACCES, Errno::EIO];
const MAKE_FD: &[Errno] = &[Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM];
const READ: &[Errno] = &[Errno::EIO, Errno::EINTR, Errno::ENOMEM];
const WRITE: &[Errno] = &[Errno::EIO, Errno::ENOSPC, Errno::EINTR, Errno::EPIPE];
const CHANGE: &[Errno] = &[
    Errno::ENOSPC,
    Errno::EACCES,
    Errno::EIO,
    Errno::EROFS,
    Errno::ENOMEM,
];
const LOOK: &[Errno] = &[Errno::EACCES, Errno::EIO, Errno::ENOMEM];
const MOUNT: &[Errno] = &[Errno::EPERM, Errno::ENOMEM, Errno::ENOSPC, Errno::EINVAL];
const UNMOUNT: &[Errno] = &[Errno::EPERM, Errno::ENOMEM];
const LOCK: &[Errno] = &[Errno::EINTR, Errno::ENOLCK];
const BIRTH: &[Errno] = &[Errno::EAGAIN, Errno::ENOMEM, Errno::ENOSPC];
const IDENTITY: &[Errno] = &[Errno::EPERM, Errno::EAGAIN, Errno::EINVAL];
const MEMORY: &[Errno] = &[Errno::ENOMEM];
const AWAIT: &[Errno] = &[Errno::EINTR];
const POLL: &[Errno] = &[Errno::EINTR, Errno::ENOMEM];
const SETTING: &[Errno] = &[Errno::EPERM, Errno::ENOMEM];
const SEND: &[Errno] = &[Errno::EPIPE, Errno::EINTR, Errno::ENOBUFS, Errno::ENOMEM];

macro_rules! listed {
    ($($errnos:ident: $($call:ident $number:ident),+ $(,)?);+ $(;)?) => {
        &[$($((libc::$number, stringify!($call), $errnos)),+),+]
    };
}

const LISTED: &[(i64, &str, &[Errno])] = listed![
    OPEN: open SYS_open, openat SYS_openat, openat2 SYS_openat2, open_tree SYS_open_tree;
    MAKE_FD: dup SYS_dup, dup2 SYS_dup2, dup3 SYS_dup3, pipe2 SYS_pipe2, socket SYS_socket, socketpair SYS_socketpair,
        memfd_create SYS_memfd_create, eventfd2 SYS_eventfd2, epoll_create1 SYS_epoll_create1, signalfd4 SYS_signalfd4,
        timerfd_create SYS_timerfd_create, inotify_init1 SYS_inotify_init1, accept4 SYS_accept4,
        pidfd_open SYS_pidfd_open, pidfd_getfd SYS_pidfd_getfd, fsopen SYS_fsopen;
    READ: read SYS_read, pread64 SYS_pread64, readv SYS_readv, recvfrom SYS_recvfrom, recvmsg SYS_recvmsg,
        getdents64 SYS_getdents64;
    WRITE: write SYS_write, writev SYS_writev, pwrite64 SYS_pwrite64, splice SYS_splice, sendfile SYS_sendfile;
    SEND: sendto SYS_sendto, sendmsg SYS_sendmsg, connect SYS_connect, bind SYS_bind, listen SYS_listen;
    CHANGE: mkdir SYS_mkdir, mkdirat SYS_mkdirat, rmdir SYS_rmdir, unlink SYS_unlink, unlinkat SYS_unlinkat,
        mknodat SYS_mknodat, symlinkat SYS_symlinkat, linkat SYS_linkat, rename SYS_rename, renameat SYS_renameat,
        renameat2 SYS_renameat2, fchmod SYS_fchmod, fchmodat SYS_fchmodat, chmod SYS_chmod, fchown SYS_fchown,
        fchownat SYS_fchownat, ftruncate SYS_ftruncate, fsync SYS_fsync, fdatasync SYS_fdatasync,
        fallocate SYS_fallocate;
    LOOK: stat SYS_stat, fstat SYS_fstat, lstat SYS_lstat, newfstatat SYS_newfstatat, statx SYS_statx, statfs SYS_statfs,
        fstatfs SYS_fstatfs, access SYS_access, faccessat SYS_faccessat, faccessat2 SYS_faccessat2,
        readlink SYS_readlink, readlinkat SYS_readlinkat, getcwd SYS_getcwd, chdir SYS_chdir, fchdir SYS_fchdir,
        chroot SYS_chroot;
    MOUNT: mount SYS_mount, pivot_root SYS_pivot_root, move_mount SYS_move_mount,
        mount_setattr SYS_mount_setattr, fsconfig SYS_fsconfig, fsmount SYS_fsmount;
    BIRTH: clone SYS_clone, clone3 SYS_clone3, fork SYS_fork, vfork SYS_vfork, unshare SYS_unshare, setns SYS_setns,
        execve SYS_execve, execveat SYS_execveat;
    IDENTITY: setuid SYS_setuid, setgid SYS_setgid, setresuid SYS_setresuid, setresgid SYS_setresgid,
        setgroups SYS_setgroups, capset SYS_capset, setsid SYS_setsid, sethostname SYS_sethostname,
        setdomainname SYS_setdomainname, setpriority SYS_setpriority, keyctl SYS_keyctl;
    UNMOUNT: umount2 SYS_umount2;
    LOCK: flock SYS_flock;
    MEMORY: mmap SYS_mmap, mprotect SYS_mprotect, madvise SYS_madvise;
    AWAIT: epoll_wait SYS_epoll_wait, epoll_pwait SYS_epoll_pwait, wait4 SYS_wait4, waitid SYS_waitid;
    POLL: poll SYS_poll, ppoll SYS_ppoll;
    SETTING: fcntl SYS_fcntl, ioctl SYS_ioctl, prctl SYS_prctl, prlimit64 SYS_prlimit64, epoll_ctl SYS_epoll_ctl,
        setsockopt SYS_setsockopt, getsockopt SYS_getsockopt, shutdown SYS_shutdown, kill SYS_kill,
        pidfd_send_signal SYS_pidfd_send_signal, close_range SYS_close_range, capget SYS_capget, seccomp SYS_seccomp,
        bpf SYS_bpf, timerfd_settime SYS_timerfd_settime, lseek SYS_lseek;
];
