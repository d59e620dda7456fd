//! The container's profile: what still runs under it, and how its listener is taken.

mod support;

use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rsrun_init::Step;
use rsrun_init::step::{CapabilitySets, FilterLine, Wake};
use support::*;

const LOAD_NUMBER: FilterLine = FilterLine {
    code: 0x20,
    jt: 0,
    jf: 0,
    k: 0,
};

fn answer(action: u32) -> FilterLine {
    FilterLine {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: action,
    }
}

/// `action` for `calls`, anything else is allowed.
fn filter(calls: &[i64], action: u32) -> &'static [FilterLine] {
    let mut lines = vec![LOAD_NUMBER];
    for call in calls {
        lines.push(FilterLine {
            code: 0x15,
            jt: 0,
            jf: 1,
            k: *call as u32,
        });
        lines.push(answer(action));
    }
    lines.push(answer(libc::SECCOMP_RET_ALLOW));
    Box::leak(lines.into_boxed_slice())
}

fn seccomp(filter: &'static [FilterLine], listener: bool) -> Step<rsrun_init::InArena<'static>> {
    Step::Seccomp {
        filter,
        flags: 0,
        listener,
    }
}

fn capabilities() -> Step<rsrun_init::InArena<'static>> {
    Step::Capabilities(CapabilitySets {
        effective: 3,
        permitted: 3,
        inheritable: 2,
        ambient: 2,
    })
}

fn execute() -> [Step<rsrun_init::InArena<'static>>; 1] {
    [Step::Execute {
        argv: texts(&["true"]),
        env: texts(&[]),
    }]
}

/// What the child itself is fond of, and a static `true` does not need.
const DEADLY: [i64; 12] = [
    libc::SYS_clock_gettime,
    libc::SYS_close,
    libc::SYS_getpid,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_nanosleep,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_statx,
    libc::SYS_fcntl,
    libc::SYS_close_range,
    libc::SYS_rt_sigaction,
];

#[test]
#[ignore = "needs root"]
fn under_the_profile_only_capset_prctl_and_execve_are_called() {
    let deadly = filter(&DEADLY, libc::SECCOMP_RET_KILL_PROCESS);
    let mut steps = vec![
        Step::ResetSignals,
        Step::FindProgram {
            candidates: texts(&["/bin/busybox"]),
        },
        seccomp(deadly, false),
        capabilities(),
    ];
    steps.extend(execute());
    assert_eq!(launch(steps, 0).wait(), 0);
    // The filter is what it is taken for.
    let mut child = launch(
        vec![seccomp(deadly, false), Step::CloseOnExec { from: 3 }],
        0,
    );
    let status = child.wait();
    assert_eq!(libc::WTERMSIG(status), libc::SIGSYS, "{status:x}");
}

#[test]
fn an_unprivileged_filter_needs_no_new_privileges() {
    let nothing = filter(&[], 0);
    let mut steps = vec![
        Step::NoNewPrivileges,
        Step::Capabilities(CapabilitySets::default()),
        Step::FindProgram {
            candidates: texts(&["/bin/busybox"]),
        },
        seccomp(nothing, false),
    ];
    steps.extend(execute());
    assert_eq!(launch(steps.clone(), 0).wait(), 0);
    steps.remove(0);
    assert_eq!(launch(steps, 0).failure(), (2, libc::EACCES));
}

#[test]
fn a_failure_under_the_profile_is_in_the_page() {
    let deadly = filter(&DEADLY, libc::SECCOMP_RET_KILL_PROCESS);
    let steps = vec![
        Step::NoNewPrivileges,
        Step::FindProgram {
            candidates: texts(&["/bin/busybox"]),
        },
        seccomp(deadly, false),
        Step::Execute {
            argv: texts(&[&"x".repeat(1 << 20)]),
            env: texts(&[]),
        },
    ];
    assert_eq!(launch(steps, 0).failure(), (3, libc::E2BIG));
}

#[test]
#[ignore = "needs root"]
fn the_listener_is_taken_before_the_child_goes_on() {
    let mut deadly = DEADLY.to_vec();
    // Ready comes after it, as in a real plan.
    deadly.retain(|call| *call != libc::SYS_sendto && *call != libc::SYS_close_range);
    let notify = filter(&[libc::SYS_sethostname], libc::SECCOMP_RET_USER_NOTIF);
    let mut steps = vec![
        Step::FindProgram {
            candidates: texts(&["/bin/busybox"]),
        },
        seccomp(filter(&deadly, libc::SECCOMP_RET_KILL_PROCESS), false),
        seccomp(notify, true),
        Step::Ready { wait: true },
    ];
    steps.extend(execute());
    let mut child = launch(steps, 0);
    child.expect(Wake::Listener);
    let number = loop {
        match child.page.listener.load(Ordering::Acquire) {
            -1 => std::thread::sleep(Duration::from_micros(50)),
            number => break number,
        }
    };
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(
        child.page.step.load(Ordering::Acquire),
        2,
        "it did not wait"
    );
    let pidfd = pidfd(child.pid);
    // SAFETY: numbers only.
    #[allow(unsafe_code, reason = "as the core takes it")]
    let listener = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) };
    assert!(listener >= 0, "{}", std::io::Error::last_os_error());
    let name = std::fs::read_link(format!("/proc/self/fd/{listener}")).unwrap();
    assert_eq!(name.to_str().unwrap(), "anon_inode:seccomp notify");
    child.page.listener_taken.store(1, Ordering::Release);
    child.agree(Wake::Ready);
    assert_eq!(child.wait(), 0);
}

#[test]
#[ignore = "needs root"]
fn a_signal_ends_the_wait_for_the_listener() {
    let steps = vec![Step::ResetSignals, seccomp(filter(&[], 0), true)];
    let mut child = launch(steps, NEW_NAMESPACES);
    child.expect(Wake::Listener);
    child.kill(libc::SIGTERM);
    assert_eq!(libc::WEXITSTATUS(child.wait()), 128 + libc::SIGTERM);
}
