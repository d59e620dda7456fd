//! The words for a launch that failed: the step in words, the system call, the errno.

use std::sync::atomic::Ordering;

use nix::errno::Errno;
use rsrun_init::page::Failure;
use rsrun_init::step::Step;

use crate::error::{Error, ErrorKind, errno_text};
use crate::plan::{Plan, PlanStep, ProgramWords, words_in};
use crate::process::Exit;
use crate::sys::arena::SharedPage;
use crate::sys::birth::Stillborn;

/// How long each step has taken that is over, as messages for debugging.
pub fn tell_times(plan: &Plan, page: &SharedPage, pid: i32) {
    let times = page.times.iter().map(|time| time.load(Ordering::Acquire));
    let begun: Vec<_> = times.take_while(|time| *time > 0).collect();
    for (step, times) in plan.steps.iter().zip(begun.windows(2)) {
        if let [from, to] = times {
            let took = to.saturating_sub(*from) / 1000;
            log::debug!("process {pid}: {took} µs: {}", words_in(plan, step));
        }
    }
}

/// A step of the child failed.
pub fn failed_step(plan: &Plan, program: &ProgramWords, failure: Failure) -> Error {
    let errno = Errno::from_raw(failure.errno);
    let Some(step) = usize::try_from(failure.step)
        .ok()
        .and_then(|index| plan.steps.get(index))
    else {
        return Error::new(
            ErrorKind::Internal,
            format!("step {} is not in the plan", failure.step),
        );
    };
    let text = match step {
        Step::FindProgram { .. } | Step::Execute { .. } => program_text(program, step, errno),
        _ => plain_text(&words_in(plan, step), failure, errno),
    };
    Error::new(
        ErrorKind::Init {
            step: words_in(plan, step),
            errno: failure.errno,
        },
        text,
    )
}

fn plain_text(words: &str, failure: Failure, errno: Errno) -> String {
    match call_name(failure.syscall) {
        Some(call) => format!("{words}: {call}: {}", errno_text(errno)),
        None => format!("{words}: {}", errno_text(errno)),
    }
}

/// Clients match runc's words here: `exec: "foo": executable file not found in $PATH`.
fn program_text(program: &ProgramWords, step: &PlanStep, errno: Errno) -> String {
    match step {
        Step::Execute { .. } => format!("exec {}: {}", program.name, errno_text(errno)),
        _ => program.failure(errno),
    }
}

/// The child ended, and no step said why.
pub fn ended_early(plan: &Plan, step: u32, exit: Option<Exit>) -> Error {
    let words = usize::try_from(step)
        .ok()
        .and_then(|index| plan.steps.get(index))
        .map(|step| words_in(plan, step));
    let at = words.unwrap_or_else(|| "an unknown step".into());
    match exit {
        Some(Exit {
            signal: Some(libc::SIGKILL),
            ..
        }) => Error::new(
            ErrorKind::Exhausted,
            format!("the process was killed (SIGKILL, perhaps out of memory) at: {at}"),
        ),
        Some(Exit {
            signal: Some(signal),
            ..
        }) => Error::new(
            ErrorKind::Internal,
            format!("the process was ended by signal {signal} at: {at}"),
        ),
        Some(Exit { code, .. }) => Error::new(
            ErrorKind::Internal,
            format!("the process ended with status {code} at: {at}"),
        ),
        None => Error::new(
            ErrorKind::Internal,
            format!("the process vanished at: {at}"),
        ),
    }
}

/// It was not even born.
pub fn stillborn(cause: Stillborn) -> Error {
    Error::os(cause.errno, format!("launch thread: {}", cause.call))
}

/// Names of the calls that steps make.
fn call_name(number: u32) -> Option<&'static str> {
    let known: &[(libc::c_long, &str)] = &[
        (libc::SYS_capget, "capget"),
        (libc::SYS_capset, "capset"),
        (libc::SYS_chdir, "chdir"),
        (libc::SYS_chroot, "chroot"),
        (libc::SYS_clock_gettime, "clock_gettime"),
        (libc::SYS_clone3, "clone3"),
        (libc::SYS_close, "close"),
        (libc::SYS_close_range, "close_range"),
        (libc::SYS_dup3, "dup3"),
        (libc::SYS_execve, "execve"),
        (libc::SYS_exit_group, "exit_group"),
        (libc::SYS_faccessat2, "faccessat2"),
        (libc::SYS_fchdir, "fchdir"),
        (libc::SYS_fchmod, "fchmod"),
        (libc::SYS_fchownat, "fchownat"),
        (libc::SYS_fcntl, "fcntl"),
        (libc::SYS_fgetxattr, "fgetxattr"),
        (libc::SYS_flistxattr, "flistxattr"),
        (libc::SYS_fsconfig, "fsconfig"),
        (libc::SYS_fsetxattr, "fsetxattr"),
        (libc::SYS_fsmount, "fsmount"),
        (libc::SYS_fsopen, "fsopen"),
        (libc::SYS_fstatfs, "fstatfs"),
        (libc::SYS_getcwd, "getcwd"),
        (libc::SYS_getdents64, "getdents64"),
        (libc::SYS_getpid, "getpid"),
        (libc::SYS_getpriority, "getpriority"),
        (libc::SYS_ioctl, "ioctl"),
        (libc::SYS_ioprio_set, "ioprio_set"),
        (libc::SYS_keyctl, "keyctl"),
        (libc::SYS_kill, "kill"),
        (libc::SYS_mkdirat, "mkdirat"),
        (libc::SYS_mknodat, "mknodat"),
        (libc::SYS_mount_setattr, "mount_setattr"),
        (libc::SYS_move_mount, "move_mount"),
        (libc::SYS_nanosleep, "nanosleep"),
        (libc::SYS_open_tree, "open_tree"),
        (libc::SYS_openat, "openat"),
        (libc::SYS_openat2, "openat2"),
        (libc::SYS_personality, "personality"),
        (libc::SYS_pidfd_open, "pidfd_open"),
        (libc::SYS_pivot_root, "pivot_root"),
        (libc::SYS_prctl, "prctl"),
        (libc::SYS_prlimit64, "prlimit64"),
        (libc::SYS_read, "read"),
        (libc::SYS_readlinkat, "readlinkat"),
        (libc::SYS_rt_sigaction, "rt_sigaction"),
        (libc::SYS_rt_sigprocmask, "rt_sigprocmask"),
        (libc::SYS_rt_sigreturn, "rt_sigreturn"),
        (libc::SYS_sched_setaffinity, "sched_setaffinity"),
        (libc::SYS_sched_setattr, "sched_setattr"),
        (libc::SYS_seccomp, "seccomp"),
        (libc::SYS_sendfile, "sendfile"),
        (libc::SYS_sendmsg, "sendmsg"),
        (libc::SYS_sendto, "sendto"),
        (libc::SYS_set_mempolicy, "set_mempolicy"),
        (libc::SYS_setdomainname, "setdomainname"),
        (libc::SYS_setgroups, "setgroups"),
        (libc::SYS_sethostname, "sethostname"),
        (libc::SYS_setns, "setns"),
        (libc::SYS_setpriority, "setpriority"),
        (libc::SYS_setresgid, "setresgid"),
        (libc::SYS_setresuid, "setresuid"),
        (libc::SYS_setsid, "setsid"),
        (libc::SYS_socket, "socket"),
        (libc::SYS_statx, "statx"),
        (libc::SYS_symlinkat, "symlinkat"),
        (libc::SYS_umask, "umask"),
        (libc::SYS_umount2, "umount2"),
        (libc::SYS_unlinkat, "unlinkat"),
        (libc::SYS_unshare, "unshare"),
        (libc::SYS_utimensat, "utimensat"),
        (libc::SYS_write, "write"),
    ];
    known
        .iter()
        .find(|(known, _)| *known == libc::c_long::from(number))
        .map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_the_child_has_its_name() {
        let sources = [
            include_str!("../../init/src/raw.rs"),
            include_str!("../../init/src/raw/files.rs"),
            include_str!("../../init/src/raw/identity.rs"),
            include_str!("../../init/src/raw/messages.rs"),
            include_str!("../../init/src/raw/mounts.rs"),
            include_str!("../../init/src/raw/process.rs"),
            include_str!("../../init/src/raw/signals.rs"),
            include_str!("../../init/src/raw/xattrs.rs"),
        ];
        let named = include_str!("report.rs");
        for call in sources.iter().flat_map(|s| s.split("libc::SYS_").skip(1)) {
            let end = call.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let name = &call[..end.unwrap_or(call.len())];
            assert!(
                named.contains(&format!("(libc::SYS_{name}, \"{name}\")")),
                "{name}"
            );
        }
        assert_eq!(call_name(libc::SYS_statx as u32), Some("statx"));
    }
}
