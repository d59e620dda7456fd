//! A whole create, from clone3 to the program, seen from outside and from inside.

mod support;

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;

use rsrun_init::Step;
use rsrun_init::step::{CapabilitySets, MountAttributes, Wake};
use support::*;

const DEFAULT_MASKS: [&str; 7] = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/sys/firmware",
    "/nothing/here",
];

fn early() -> Steps {
    vec![
        Step::ResetSignals,
        Step::ResetInherited,
        Step::AwaitAdoption,
    ]
}

fn mounts(tree: i32) -> Steps {
    let mut steps = vec![
        Step::OpenProc,
        Step::AttachRoot { tree, at: c"/" },
        mount("proc", "/proc", &[]),
        mount("tmpfs", "/dev", &[("mode", "755"), ("size", "65536k")]),
        mount(
            "devpts",
            "/dev/pts",
            &[("mode", "0620"), ("ptmxmode", "0666")],
        ),
        mount("tmpfs", "/dev/shm", &[("mode", "1777"), ("size", "65536k")]),
        mount("mqueue", "/dev/mqueue", &[]),
        mount("sysfs", "/sys", &[]),
        mount("cgroup2", "/sys/fs/cgroup", &[]),
    ];
    for (name, minor) in [
        ("null", 3),
        ("zero", 5),
        ("full", 7),
        ("random", 8),
        ("urandom", 9),
    ] {
        steps.push(Step::MakeNode {
            path: text(&format!("/dev/{name}")),
            mode: libc::S_IFCHR | 0o666,
            major: 1,
            minor,
            uid: 0,
            gid: 0,
        });
    }
    for (path, points_to) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/ptmx", "pts/ptmx"),
    ] {
        steps.push(Step::MakeLink {
            path: text(path),
            points_to: text(points_to),
            replace: true,
        });
    }
    for path in DEFAULT_MASKS {
        steps.push(Step::MaskPath { path: text(path) });
    }
    for path in ["/proc/sys", "/proc/bus", "/proc/sysrq-trigger", "/gone"] {
        steps.push(Step::ReadonlyPath { path: text(path) });
    }
    steps.push(Step::PivotRoot);
    steps
}

fn late(script: &str) -> Steps {
    vec![
        Step::Hostname {
            name: text("inside"),
        },
        Step::Sysctl {
            path: text("net/ipv4/ip_forward"),
            value: text("1"),
        },
        Step::NewSession { terminal: false },
        Step::SessionKeyring {
            name: text("_ses.test"),
        },
        Step::Rlimit {
            resource: libc::RLIMIT_NOFILE,
            soft: 777,
            hard: 999,
        },
        Step::Umask { mask: 0o027 },
        Step::Affinity { mask: &[] },
        Step::BoundingSet {
            keep: 0b1_0000_0000 | 1,
        },
        Step::Cwd {
            path: text("/work"),
            retry: true,
        },
        Step::Identity {
            uid: 1000,
            gid: 1001,
            groups: &[5, 6],
        },
        Step::Cwd {
            path: text("/work"),
            retry: false,
        },
        Step::FindProgram {
            candidates: texts(&["/nowhere/sh", "/work", "/bin/sh"]),
        },
        Step::Ready { wait: true },
        Step::CloseOnExec { from: 3 },
        Step::NoNewPrivileges,
        Step::Capabilities(CapabilitySets {
            effective: 1,
            permitted: 1,
            inheritable: 1,
            ambient: 1,
        }),
        Step::Execute {
            argv: texts(&["sh", "-c", script]),
            env: texts(&["A=b", "PATH=/bin"]),
        },
    ]
}

const ASK: &str = "
    echo pid=$$ a=$A pwd=$(pwd) umask=$(umask) nofile=$(ulimit -n) host=$(busybox hostname)
    id
    cat /proc/self/status
    echo forward=$(cat /proc/sys/net/ipv4/ip_forward)
    echo masked=$(cat /proc/timer_list 2>&1 | busybox wc -c)
    busybox ls -la /sys/firmware /proc/acpi /dev
    (echo x > /proc/sys/kernel/domainname) 2>&1
    busybox ls -l /proc/self/fd
";

#[test]
#[ignore = "needs root"]
fn a_whole_create_ends_in_the_program_with_what_was_planned() {
    let rootfs = Rootfs::new();
    let tree = rootfs.tree();
    let (mut output, writer) = pipe();
    let mut steps = early();
    steps.extend(mounts(tree.as_raw_fd()));
    for to in [1, 2] {
        steps.push(Step::PlaceFd {
            fd: writer.as_raw_fd(),
            to,
            owner: Some(1000),
        });
    }
    steps.extend(late(ASK));
    let mut child = launch(steps, NEW_NAMESPACES);
    drop(writer);
    child.agree(Wake::Adopted);
    child.expect(Wake::Ready);
    assert_eq!(
        child
            .page
            .program
            .load(std::sync::atomic::Ordering::Acquire),
        2
    );
    let mountinfo = child.proc("mountinfo");
    assert!(
        !mountinfo.contains(" /work/"),
        "the host shows through:\n{mountinfo}"
    );
    assert!(
        mountinfo.contains(" /null /proc/timer_list ro,"),
        "{mountinfo}"
    );
    assert_eq!(child.status("SigBlk"), "0000000000000000");
    child.answer(Wake::Ready);
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait(), 0, "{said}");
    for line in [
        "pid=1 a=b pwd=/work umask=0027 nofile=777 host=inside",
        "uid=1000 gid=1001 groups=5,6",
        "forward=1",
        "masked=0",
        "NoNewPrivs:\t1",
        "CapInh:\t0000000000000001",
        "CapPrm:\t0000000000000001",
        "CapEff:\t0000000000000001",
        "CapBnd:\t0000000000000101",
        "CapAmb:\t0000000000000001",
        "SigIgn:\t0000000000000000",
        "can't create /proc/sys/kernel/domainname: Read-only file system",
    ] {
        assert!(said.contains(line), "{line:?} is missing in\n{said}");
    }
    let fds = said
        .lines()
        .filter(|line| line.contains(" -> ") && line.contains("pipe:"))
        .count();
    assert_eq!(fds, 2, "{said}");
}

#[test]
#[ignore = "needs root"]
fn the_root_stays_the_old_one_until_the_pivot_and_the_host_sees_no_mount() {
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let rootfs = Rootfs::new();
    let tree = rootfs.tree();
    let mut steps = early();
    let mut middle = mounts(tree.as_raw_fd());
    middle.insert(middle.len() - 1, Step::AwaitHooks);
    steps.extend(middle);
    steps.push(Step::Ready { wait: true });
    let mut child = launch(steps, NEW_NAMESPACES);
    child.agree(Wake::Adopted);
    child.expect(Wake::HooksDue);
    assert!(child.inside("/usr/bin").exists(), "not the old root");
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    child.answer(Wake::HooksDue);
    child.expect(Wake::Ready);
    assert!(!child.inside("/usr/bin").exists());
    assert!(child.inside("/bin/busybox").exists());
    let shm = child.proc("mountinfo");
    assert!(shm.contains(" /dev/shm "), "{shm}");
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
}

#[test]
#[ignore = "needs root"]
fn attributes_hold_for_the_root_and_below() {
    let rootfs = Rootfs::new();
    let tree = rootfs.tree();
    let mut steps = early();
    steps.extend(mounts(tree.as_raw_fd()));
    steps.push(Step::SetMountAttributes {
        target: text("/"),
        change: MountAttributes {
            set: libc::MOUNT_ATTR_RDONLY,
            ..MountAttributes::default()
        },
    });
    steps.push(Step::MakeDirectory {
        path: text("/new/one"),
    });
    let at = steps.len() - 1;
    let mut child = launch(steps, NEW_NAMESPACES);
    child.agree(Wake::Adopted);
    assert_eq!(child.failure(), (at, libc::EROFS));
    assert!(!rootfs.join("new").exists());
}
