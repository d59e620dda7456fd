//! Namespaces that are new, joined, or entered by being born again.

mod support;

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

use rsrun_init::Step;
use rsrun_init::step::{CapabilitySets, Wake};
use support::*;

const NEWUSER: u64 = libc::CLONE_NEWUSER as u64;

fn write_maps(pid: i32, first: u32) {
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{pid}/{file}"), format!("0 {first} 65536\n")).unwrap();
    }
}

fn everything_mounted() -> Steps {
    vec![
        mount("proc", "/proc", &[]),
        mount("tmpfs", "/dev", &[("mode", "755")]),
        mount(
            "devpts",
            "/dev/pts",
            &[("ptmxmode", "0666"), ("mode", "0620")],
        ),
        mount("mqueue", "/dev/mqueue", &[]),
        mount("sysfs", "/sys", &[]),
        mount("cgroup2", "/sys/fs/cgroup", &[]),
        Step::MaskPath {
            path: text("/proc/timer_list"),
        },
        Step::MaskPath {
            path: text("/sys/firmware"),
        },
        Step::ReadonlyPath {
            path: text("/proc/sys"),
        },
    ]
}

fn run(script: &str) -> Steps {
    vec![
        Step::FindProgram {
            candidates: texts(&["/bin/sh"]),
        },
        Step::CloseOnExec { from: 3 },
        Step::Execute {
            argv: texts(&["sh", "-ec", script]),
            env: texts(&["PATH=/bin"]),
        },
    ]
}

#[test]
#[ignore = "needs root"]
fn a_new_user_namespace_mounts_masks_and_pivots() {
    let rootfs = Rootfs::new();
    let tree = rootfs.tree();
    let (mut output, writer) = pipe();
    let mut steps = vec![
        Step::ResetSignals,
        Step::AwaitAdoption,
        Step::BecomeRoot,
        Step::ResetInherited,
        Step::SessionKeyring {
            name: text("_ses.user"),
        },
        Step::OpenProc,
        Step::TimeNamespace {
            offsets: text("monotonic 86400 0\nboottime 172800 0\n"),
        },
        Step::Hostname {
            name: text("mapped"),
        },
        Step::AttachRoot {
            tree: tree.as_raw_fd(),
            at: c"/",
        },
    ];
    steps.extend(everything_mounted());
    steps.extend([
        Step::Sysctl {
            path: text("net/ipv4/ip_forward"),
            value: text("1"),
        },
        Step::PivotRoot,
        Step::MaskPath {
            path: text("/proc/keys"),
        },
        Step::PlaceFd {
            fd: writer.as_raw_fd(),
            to: 1,
            owner: Some(5),
        },
        Step::PlaceFd {
            fd: writer.as_raw_fd(),
            to: 2,
            owner: Some(5),
        },
        Step::BoundingSet { keep: 1 },
        Step::Identity {
            uid: 5,
            gid: 6,
            groups: &[7][..],
        },
        Step::Capabilities(CapabilitySets::default()),
    ]);
    steps.extend(run(
        "id; busybox hostname; cat /proc/timer_list /proc/keys | busybox wc -c; \
         cat /proc/self/uid_map /proc/self/timens_offsets; busybox ls -ld /dev /sys/firmware; \
         busybox grep Cap /proc/self/status",
    ));
    let mut child = launch(steps, NEW_NAMESPACES | NEWUSER);
    drop(writer);
    child.expect(Wake::Adopted);
    write_maps(child.pid, 200_000);
    child.answer(Wake::Adopted);
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait(), 0, "{said} {:?}", child.page.failure());
    for line in [
        "uid=5 gid=6 groups=7",
        "mapped\n0\n",
        "monotonic       86400",
        "200000      65536",
    ] {
        assert!(said.contains(line), "{line:?} is missing in\n{said}");
    }
    assert_eq!(said.matches("0000000000000000").count(), 4, "{said}");
}

#[test]
#[ignore = "needs root"]
fn setgroups_that_a_namespace_denies_is_no_error_where_no_groups_are_wanted() {
    let with = |proc: bool, groups: &'static [u32]| {
        let mut steps = vec![Step::AwaitAdoption, Step::BecomeRoot];
        if proc {
            steps.push(Step::OpenProc);
        }
        steps.push(Step::Identity {
            uid: 0,
            gid: 0,
            groups,
        });
        let last = steps.len() - 1;
        let mut child = launch(steps, NEW_NAMESPACES | NEWUSER);
        child.expect(Wake::Adopted);
        fs::write(format!("/proc/{}/setgroups", child.pid), "deny").unwrap();
        write_maps(child.pid, 200_000);
        child.answer(Wake::Adopted);
        let (step, errno) = child.failure();
        assert_eq!(step, last);
        errno
    };
    assert_eq!(with(true, &[]), libc::ENOEXEC);
    assert_eq!(with(false, &[]), libc::ENOEXEC);
    assert_eq!(with(true, &[1]), libc::EPERM);
    assert_eq!(with(false, &[1]), libc::EPERM);
}

#[test]
#[ignore = "needs root"]
fn a_time_namespace_has_its_offsets() {
    let steps = vec![
        Step::OpenProc,
        Step::TimeNamespace {
            offsets: text("monotonic 100000 5\nboottime 7 0\n"),
        },
        Step::Ready { wait: true },
    ];
    let mut child = launch(steps, NEW_NAMESPACES);
    child.expect(Wake::Ready);
    assert!(
        child
            .proc("timens_offsets")
            .contains("monotonic      100000         5")
    );
    let own = fs::read_link(format!("/proc/{}/ns/time", child.pid)).unwrap();
    assert_ne!(own, fs::read_link("/proc/self/ns/time").unwrap());
}

/// A process that holds namespaces for others to join.
fn holder(flags: u64) -> Running {
    let mut holder = launch(vec![Step::ResetSignals, Step::Ready { wait: true }], flags);
    holder.expect(Wake::Ready);
    holder
}

#[test]
#[ignore = "needs root"]
fn namespaces_are_joined_by_pidfd() {
    let other = holder(NEW_NAMESPACES);
    let pidfd = pidfd(other.pid);
    let join = |flag: i32| Step::JoinNamespace {
        fd: pidfd.as_raw_fd(),
        flag: flag as u64,
    };
    let steps = vec![
        Step::ResetSignals,
        join(libc::CLONE_NEWUTS),
        join(libc::CLONE_NEWNET),
        Step::Ready { wait: true },
    ];
    let mut child = launch(steps, 0);
    child.expect(Wake::Ready);
    for kind in ["uts", "net"] {
        let of = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert_eq!(of(child.pid), of(other.pid));
    }
}

#[test]
#[ignore = "needs root"]
fn a_foreign_pid_namespace_is_entered_by_a_second_birth() {
    let other = holder(NEW_NAMESPACES);
    let pidfd = pidfd(other.pid);
    let rootfs = Rootfs::new();
    let tree = rootfs.tree();
    let (mut output, writer) = pipe();
    let mut steps = vec![
        Step::ResetSignals,
        Step::OpenProc,
        Step::AttachRoot {
            tree: tree.as_raw_fd(),
            at: c"/",
        },
        mount("tmpfs", "/dev", &[]),
        Step::PivotRoot,
        Step::JoinNamespace {
            fd: pidfd.as_raw_fd(),
            flag: libc::CLONE_NEWPID as u64,
        },
        Step::Reborn,
        Step::OpenProc,
        mount("proc", "/proc", &[]),
        Step::MaskPath {
            path: text("/proc/timer_list"),
        },
        Step::ReadonlyPath {
            path: text("/proc/sys"),
        },
        Step::PlaceFd {
            fd: writer.as_raw_fd(),
            to: 1,
            owner: None,
        },
        Step::Ready { wait: true },
    ];
    steps.extend(run("echo pid=$$; busybox ps -o pid; cat /proc/timer_list"));
    let mut child = launch(steps, libc::CLONE_NEWNS as u64);
    drop(writer);
    child.expect(Wake::Ready);
    assert_eq!(child.wait(), 0, "the intermediate process");
    let second = child.page.reborn.load(Ordering::Acquire);
    assert!(second > 0);
    let parent = fs::read_to_string(format!("/proc/{second}/stat")).unwrap();
    let parent = parent
        .rsplit(')')
        .next()
        .unwrap()
        .split(' ')
        .nth(2)
        .unwrap();
    assert_eq!(parent, std::process::id().to_string());
    child.answer(Wake::Ready);
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    let mut second = Running::adopt(second, child.page);
    assert_eq!(second.wait(), 0);
    assert!(said.starts_with("pid=2\n"), "{said}");
}

/// As on an initramfs, where pivot_root is refused.
#[test]
#[ignore = "needs root"]
fn without_a_pivot_the_hosts_mounts_are_gone_all_the_same() {
    let rootfs = Rootfs::new();
    stay_without_pivot(&rootfs, c"/");
    // Below a mount of the host, which goes with the others.
    stay_without_pivot(&rootfs, c"/dev/shm");
    stay_without_pivot(&rootfs, text(rootfs.path.to_str().unwrap()));
}

fn stay_without_pivot(rootfs: &Rootfs, at: &'static std::ffi::CStr) {
    let tree = rootfs.tree();
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut steps = in_root(&tree, everything_mounted());
    steps[2] = Step::AttachRoot {
        tree: tree.as_raw_fd(),
        at,
    };
    steps.extend([Step::MoveRoot, Step::Ready { wait: true }]);
    steps.extend(run(
        // A procfs that is whole, wherever it lies, would allow another one.
        "if busybox unshare -Urmpf busybox mount -t proc proc /work 2>/dev/null; then exit 4; fi; \
         test -e /bin/busybox; test ! -e /usr; cd /; \
         busybox chroot /work /bin/true 2>/dev/null && exit 3; busybox mkdir -p /work/bin; \
         busybox cp /bin/busybox /work/bin/busybox; \
         busybox chroot /work /bin/busybox sh -c 'cd ../../..; test -e bin/busybox; test ! -e usr'",
    ));
    let mut child = launch(steps, NEW_NAMESPACES);
    child.expect(Wake::Ready);
    let mounts = child.proc("mountinfo");
    assert_eq!(mounts.matches(" - proc ").count(), 2, "{mounts}");
    assert_eq!(mounts.matches(" - sysfs ").count(), 1, "{mounts}");
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    child.answer(Wake::Ready);
    assert_eq!(child.wait(), 0, "{:?}", child.page.failure());
}

/// New namespaces below a foreign user namespace: they are made inside, so that they belong to it.
#[test]
#[ignore = "needs root"]
fn a_foreign_user_namespace_is_entered_and_gets_a_pid_namespace_of_its_own() {
    let mut other = launch(
        vec![
            Step::ResetSignals,
            Step::AwaitAdoption,
            Step::Ready { wait: true },
        ],
        NEW_NAMESPACES | NEWUSER,
    );
    other.expect(Wake::Adopted);
    write_maps(other.pid, 300_000);
    other.answer(Wake::Adopted);
    other.expect(Wake::Ready);
    let pidfd = pidfd(other.pid);
    let rootfs = Rootfs::new();
    let tree = rootfs.tree();
    let (mut output, writer) = pipe();
    let mut steps = vec![
        Step::ResetSignals,
        Step::Undumpable,
        Step::JoinNamespace {
            fd: pidfd.as_raw_fd(),
            flag: NEWUSER,
        },
        Step::BecomeRoot,
        Step::Unshare {
            flags: NEW_NAMESPACES,
        },
        Step::Reborn,
        Step::OpenProc,
        Step::AttachRoot {
            tree: tree.as_raw_fd(),
            at: c"/",
        },
    ];
    steps.extend(everything_mounted());
    steps.extend([
        Step::PivotRoot,
        Step::PlaceFd {
            fd: writer.as_raw_fd(),
            to: 1,
            owner: None,
        },
        Step::Ready { wait: true },
    ]);
    steps.extend(run(
        "echo pid=$$; cat /proc/self/uid_map; busybox ps -o pid,args",
    ));
    let mut child = launch(steps, 0);
    drop(writer);
    child.expect(Wake::Ready);
    assert_eq!(child.wait(), 0, "the intermediate process");
    let mut second = Running::adopt(child.page.reborn.load(Ordering::Acquire), child.page);
    for kind in ["user", "pid"] {
        let of = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert_eq!(of(second.pid) == of(other.pid), kind == "user", "{kind}");
    }
    child.answer(Wake::Ready);
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    assert_eq!(second.wait(), 0, "{said}");
    assert!(said.starts_with("pid=1\n"), "{said}");
    assert!(said.contains("300000"), "{said}");
}

#[test]
#[ignore = "needs root"]
fn an_undumpable_child_stays_so_when_its_ids_change() {
    let steps = vec![
        Step::Undumpable,
        Step::Identity {
            uid: 1000,
            gid: 1000,
            groups: &[][..],
        },
        Step::Ready { wait: true },
    ];
    let mut child = launch(steps, 0);
    child.expect(Wake::Ready);
    // Files of an undumpable process belong to root.
    let owner = fs::metadata(format!("/proc/{}/fd", child.pid)).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), 0);
}
