//! The container's terminal, from both ends.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;

use rsrun_init::Step;
use rsrun_init::step::Wake;
use support::*;

const SCRIPT: &str = "
    read line; echo got $line; busybox tty; stty size
    echo session=$(busybox cut -d' ' -f5,6,7 /proc/self/stat)
    busybox ls -lL /dev/console; echo on the console > /dev/console
    busybox ls -l /proc/self/fd
";

#[test]
#[ignore = "needs root"]
fn the_peer_is_stdio_console_and_controlling_terminal() {
    let rootfs = Rootfs::new();
    let tree = rootfs.tree();
    let steps = vec![
        mount("proc", "/proc", &[]),
        mount("tmpfs", "/dev", &[("mode", "755")]),
        mount(
            "devpts",
            "/dev/pts",
            &[("mode", "0620"), ("ptmxmode", "0666")],
        ),
        Step::OpenConsole {
            rows: 31,
            columns: 97,
            uid: 1000,
            bind: true,
        },
        Step::NewSession { terminal: true },
        Step::PivotRoot,
        Step::Identity {
            uid: 1000,
            gid: 1000,
            groups: &[],
        },
        Step::FindProgram {
            candidates: texts(&["/bin/sh"]),
        },
        Step::CloseOnExec { from: 3 },
        Step::Execute {
            argv: texts(&["sh", "-c", SCRIPT]),
            env: texts(&["PATH=/bin"]),
        },
    ];
    let mut child = launch(in_root(&tree, steps), NEW_NAMESPACES);
    let mut master = child.receive_console();
    master.write_all(b"hello\n").unwrap();
    let mut said = Vec::new();
    // EIO is how a master says that the last peer has gone.
    let _ = master.read_to_end(&mut said);
    let said = String::from_utf8(said).unwrap().replace('\r', "");
    assert_eq!(child.wait(), 0, "{said} {:?}", child.page.failure());
    for line in [
        "got hello",
        "/dev/pts/0",
        "31 97",
        "session=1 1 34816",
        "crw--w----    1 1000",
        "on the console",
        "0 -> /dev/pts/0",
        "1 -> /dev/pts/0",
        "2 -> /dev/pts/0",
    ] {
        assert!(said.contains(line), "{line:?} is missing in\n{said}");
    }
    assert!(!said.contains("/ptmx"), "the master is inherited:\n{said}");
}

/// CVE-2025-52565: what lies at /dev/pts/0 is not the peer.
#[test]
#[ignore = "needs root"]
fn the_console_is_the_peer_and_not_what_has_its_name() {
    let rootfs = Rootfs::new();
    fs::write(rootfs.join("etc/other"), "").unwrap();
    let tree = rootfs.tree();
    let other = clone_tree(&rootfs.join("etc/other"));
    let steps = vec![
        mount("tmpfs", "/dev", &[]),
        mount("devpts", "/dev/pts", &[("ptmxmode", "0666")]),
        Step::OpenConsole {
            rows: 0,
            columns: 0,
            uid: 0,
            bind: false,
        },
        attach(&other, "/dev/pts/0"),
        Step::OpenConsole {
            rows: 0,
            columns: 0,
            uid: 0,
            bind: true,
        },
        Step::Ready { wait: true },
    ];
    let mut child = launch(in_root(&tree, steps), NEW_NAMESPACES);
    let _first = child.receive_console();
    let _second = child.receive_console();
    child.expect(Wake::Ready);
    // The old root is the child's root before the pivot, so ask by its mount table.
    let mounts = child.proc("mountinfo");
    assert!(
        mounts
            .lines()
            .any(|line| line.contains(" /1 /dev/console ")),
        "{mounts}"
    );
    let stdin = fs::metadata(format!("/proc/{}/fd/0", child.pid)).unwrap();
    assert_eq!(stdin.rdev(), (136 << 8) | 1);
}
