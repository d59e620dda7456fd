//! What a launch that fails or dies leaves for its parent.

mod support;

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rsrun_init::Step;
use rsrun_init::page::failpoint;
use rsrun_init::step::{CapabilitySets, Wake};
use support::*;

fn execute(program: &str) -> Steps {
    vec![
        Step::ResetSignals,
        Step::FindProgram {
            candidates: texts(&[program]),
        },
        Step::CloseOnExec { from: 3 },
        Step::Execute {
            argv: texts(&[program]),
            env: texts(&[]),
        },
    ]
}

/// Written by another process: one that this writes would be open in children that other threads clone
/// (ETXTBSY).
fn executable(path: &Path, content: &str) {
    let mut shell = Command::new("/bin/sh");
    shell
        .arg("-c")
        .arg("echo \"$1\" > \"$0\" && chmod 755 \"$0\"")
        .arg(path)
        .arg(content);
    assert!(shell.status().unwrap().success());
}

fn find(candidates: &[&str]) -> Option<(usize, i32)> {
    let steps = vec![
        Step::FindProgram {
            candidates: texts(candidates),
        },
        Step::Execute {
            argv: texts(&["true"]),
            env: texts(&[]),
        },
    ];
    let mut child = launch(steps, 0);
    let status = child.wait();
    (status != 0).then(|| {
        let failure = child.page.failure().unwrap();
        (failure.step as usize, failure.errno)
    })
}

#[test]
fn a_step_that_fails_is_named_with_errno_and_system_call() {
    let steps = vec![
        Step::Umask { mask: 0o22 },
        Step::JoinNamespace { fd: 999, flag: 0 },
    ];
    let mut child = launch(steps, 0);
    assert_eq!(child.failure(), (1, libc::EBADF));
    let failure = child.page.failure().unwrap();
    assert_eq!(i64::from(failure.syscall), libc::SYS_setns);
}

#[test]
fn steps_that_use_what_was_never_set_fail_with_ebadf() {
    for step in [
        Step::PivotRoot,
        Step::MakeDirectory { path: text("/x") },
        Step::Sysctl {
            path: text("kernel/hostname"),
            value: text("x"),
        },
        Step::Label {
            file: text("exec"),
            value: text("x"),
        },
    ] {
        let mut child = launch(vec![step], 0);
        assert_eq!(child.failure(), (0, libc::EBADF), "{step:?}");
    }
}

#[test]
fn a_plan_without_execute_ends_as_a_failure() {
    let mut child = launch(vec![Step::ResetSignals], 0);
    assert_eq!(child.failure(), (0, libc::ENOEXEC));
}

#[test]
fn a_parent_that_is_gone_ends_the_child() {
    let mut child = launch(vec![Step::ResetSignals, Step::AwaitAdoption], 0);
    child.expect(Wake::Adopted);
    let (other, _) = pipe();
    drop(std::mem::replace(&mut child.wake, other));
    assert_eq!(child.failure(), (1, libc::EPIPE));
}

#[test]
fn an_answer_to_another_question_is_refused() {
    let mut child = launch(vec![Step::AwaitAdoption], 0);
    child.expect(Wake::Adopted);
    child.answer(Wake::Ready);
    assert_eq!(child.failure(), (0, libc::EPROTO));
}

#[test]
fn an_execve_that_works_leaves_no_failure() {
    let mut child = launch(execute("/bin/true"), 0);
    assert_eq!(child.wait(), 0);
    assert_eq!(child.page.failure(), None);
    assert_eq!(child.page.program.load(Ordering::Acquire), 0);
}

#[test]
fn an_execve_that_fails_is_the_last_step() {
    let dir = Rootfs::new();
    let script = dir.join("script");
    executable(&script, "#!/no/interpreter");
    let mut child = launch(execute(script.to_str().unwrap()), 0);
    assert_eq!(child.failure(), (3, libc::ENOENT));
    executable(&script, "no magic number");
    let mut child = launch(execute(script.to_str().unwrap()), 0);
    assert_eq!(child.failure(), (3, libc::ENOEXEC));
}

#[test]
fn a_program_is_found_as_go_finds_it() {
    let dir = Rootfs::new();
    let plain = dir.join("plain");
    fs::write(&plain, "").unwrap();
    let plain = plain.to_str().unwrap();
    assert_eq!(find(&["/bin/true"]), None);
    assert_eq!(find(&["/nowhere", "/bin", "/bin/true"]), None);
    assert_eq!(find(&[plain, "/bin/true"]), None);
    assert_eq!(find(&["/nowhere"]), Some((0, libc::ENOENT)));
    assert_eq!(find(&["/bin/true/x"]), Some((0, libc::ENOTDIR)));
    assert_eq!(find(&["/bin"]), Some((0, libc::EISDIR)));
    assert_eq!(find(&[plain]), Some((0, libc::EACCES)));
    assert_eq!(find(&["/dev/null"]), Some((0, libc::EACCES)));
    assert_eq!(find(&["/nowhere", "/bin"]), Some((0, libc::ENOENT)));
    assert_eq!(find(&[plain, "/nowhere"]), Some((0, libc::EACCES)));
    assert_eq!(find(&[]), Some((0, libc::ENOENT)));
}

#[test]
#[ignore = "needs root"]
fn a_failure_after_the_gate_is_told_through_the_fifo() {
    let dir = Rootfs::new();
    let fifo = dir.join("exec.fifo");
    let path = text(fifo.to_str().unwrap());
    // SAFETY: `path` is NUL-terminated and outlives the call.
    #[allow(unsafe_code, reason = "std can't make a fifo")]
    let made = unsafe { libc::mkfifo(path.as_ptr(), 0o622) };
    assert_eq!(made, 0);
    fs::set_permissions(&fifo, fs::Permissions::from_mode(0o622)).unwrap();
    let handle = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(&fifo)
        .unwrap();
    let gate = |program: &str| {
        let mut steps = execute(program);
        // The least that the child may have by then: no privileges, files of its own in procfs that
        // belong to root.
        let before: Steps = vec![
            Step::OpenProc,
            Step::Undumpable,
            Step::Identity {
                uid: 1000,
                gid: 1000,
                groups: &[],
            },
            Step::Capabilities(CapabilitySets::default()),
            Step::Gate {
                fifo: handle.as_raw_fd(),
            },
        ];
        steps.splice(1..1, before);
        launch(steps, 0)
    };
    let read = || {
        let mut bytes = Vec::new();
        fs::File::open(&fifo)
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        bytes
    };
    let mut child = gate("/bin/true");
    assert_eq!(read(), b"");
    assert_eq!(child.wait(), 0);

    let script = dir.join("script");
    executable(&script, "no magic number");
    let mut child = gate(script.to_str().unwrap());
    let mut expected = 8u32.to_ne_bytes().to_vec();
    expected.extend(libc::ENOEXEC.to_ne_bytes());
    assert_eq!(read(), expected);
    assert_eq!(child.failure(), (8, libc::ENOEXEC));
}

#[test]
fn a_signal_ends_a_parked_child_with_its_number() {
    for signal in [
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGPIPE,
        libc::SIGSEGV,
        64,
    ] {
        let mut child = launch(vec![Step::ResetSignals, Step::Ready { wait: true }], 0);
        child.expect(Wake::Ready);
        child.kill(signal);
        let status = child.wait();
        assert!(libc::WIFEXITED(status), "{signal}: {status:x}");
        assert_eq!(libc::WEXITSTATUS(status), 128 + signal);
    }
    for signal in [libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH] {
        let mut child = launch(vec![Step::ResetSignals, Step::Ready { wait: true }], 0);
        child.expect(Wake::Ready);
        child.kill(signal);
        child.answer(Wake::Ready);
        assert_eq!(child.failure(), (1, libc::ENOEXEC), "{signal}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_signal_ends_a_parked_pid_1_too() {
    let steps = vec![Step::ResetSignals, Step::Ready { wait: true }];
    let mut child = launch(steps, NEW_NAMESPACES);
    child.expect(Wake::Ready);
    child.kill(libc::SIGTERM);
    assert_eq!(libc::WEXITSTATUS(child.wait()), 128 + libc::SIGTERM);
}

#[test]
#[ignore = "needs root"]
fn a_failpoint_stops_a_pid_1_until_the_page_changes_or_kills_it() {
    let stopped_at_1 = |kind| {
        let page = page();
        page.failpoint_step.store(1, Ordering::Release);
        page.failpoint_kind.store(kind, Ordering::Release);
        let steps = vec![Step::ResetSignals, Step::Ready { wait: false }];
        launch_with(steps, NEW_NAMESPACES, page)
    };
    let mut child = stopped_at_1(failpoint::STOP);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(child.page.step.load(Ordering::Acquire), 1);
    child
        .page
        .failpoint_kind
        .store(failpoint::NONE, Ordering::Release);
    child.expect(Wake::Ready);
    assert_eq!(child.failure(), (1, libc::ENOEXEC));

    let status = stopped_at_1(failpoint::KILL).wait();
    assert!(libc::WIFSIGNALED(status), "{status:x}");
    assert_eq!(libc::WTERMSIG(status), libc::SIGKILL);
}

#[test]
fn each_step_has_its_time() {
    let mut child = launch(execute("/bin/true"), 0);
    child.wait();
    let times: Vec<u64> = child
        .page
        .times
        .iter()
        .take(5)
        .map(|time| time.load(Ordering::Relaxed))
        .collect();
    assert!(times[..4].is_sorted(), "{times:?}");
    assert!(times[0] > 0);
    assert_eq!(times[4], 0);
}
