//! What a process of ours has while it stands before execve: not the shim's heap (I13), no descriptor
//! but its own (I14), no way to write the shim's binary (I12).

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use nix::unistd::Pid;
use rsrun_core::sys::mount::{MOUNT_ATTR_RDONLY, MountAttr, mount_setattr};
use rsrun_tests::by_hand::ByHand;
use rsrun_tests::suite::{Case, Check};
use rsrun_tests::task::{Streams, Task};

use crate::binary::{prepared, shim_of};

pub fn cases() -> Vec<Case<ByHand>> {
    rsrun_tests::cases![
        60 s: a_parked_init_has_no_memory_of_another_container, a_parked_init_has_only_its_own_descriptors,
            the_binary_of_a_parked_init_can_not_be_written;
    ]
}

const SECRET: &str = "the-secret-of-the-first-container-0123456789";

/// The second container of a pod, parked, beside a first one whose environment holds the secret.
fn second_of_a_pod(s: &ByHand) -> Check<(Task, Task, Pid)> {
    let mut spec = s.spec("first", &["/bin/sleep", "1000"]);
    spec["annotations"]["io.kubernetes.cri.sandbox-id"] = "pod".into();
    let many: Vec<_> = (0..2000).map(|n| format!("SECRET_{n}={SECRET}")).collect();
    spec["process"]["env"] = serde_json::to_value(&many)?;
    s.prepare("first", &spec)?;
    let started = s.start("first")?;
    let first = s.task(&started, "first")?;
    first.create(&s.rootfs(), &Streams::default())?;
    first.start("")?;
    prepared(s, "second", "pod")?;
    let started = s.start("second")?;
    let second = s.task(&started, "second")?;
    let pid = second.create(&s.rootfs(), &Streams::default())?;
    Ok((first, second, Pid::from_raw(pid.try_into()?)))
}

fn put_away(tasks: [Task; 2]) -> Check {
    for task in tasks {
        task.kill("", 9)?;
        task.wait("")?;
        task.delete("")?;
    }
    Ok(())
}

/// Whether `text` is anywhere in the writable memory of `pid`.
fn memory_holds(pid: Pid, text: &str) -> Check<bool> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    for line in fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        let mut fields = line.split_whitespace();
        let (Some(range), Some(access)) = (fields.next(), fields.next()) else {
            continue;
        };
        let Some((from, to)) = range.split_once('-').filter(|_| access.starts_with("rw")) else {
            continue;
        };
        let (from, to) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?);
        // By pieces: the arena reserves far more than it touches.
        let mut at = from;
        let mut piece = vec![0; 1 << 20];
        while at < to {
            let length = usize::try_from((to - at).min(1 << 20))?;
            let read = memory.read_at(&mut piece[..length], at).unwrap_or(0);
            let found = piece[..read]
                .windows(text.len())
                .any(|w| w == text.as_bytes());
            if found {
                return Ok(true);
            }
            at += length as u64;
        }
    }
    Ok(false)
}

fn a_parked_init_has_no_memory_of_another_container(s: &ByHand) -> Check {
    let (first, second, pid) = second_of_a_pod(s)?;
    // The test can see what it looks for: the first container itself has it.
    let (_, first_pid) = first.connect()?;
    assert!(memory_holds(Pid::from_raw(first_pid.try_into()?), SECRET)?);
    assert!(!memory_holds(pid, SECRET)?);
    put_away([first, second])
}

fn a_parked_init_has_only_its_own_descriptors(s: &ByHand) -> Check {
    let (first, second, pid) = second_of_a_pod(s)?;
    let mut held = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let target = fs::read_link(entry.path())?.display().to_string();
        held.push((entry.file_name().to_string_lossy().into_owned(), target));
    }
    // Streams, what the plan names (mount trees, procfs, the gate's fifo, its root), the wake socket: and
    // nothing of the shim's, whose sockets, fifos and pidfds are many.
    let sockets = held
        .iter()
        .filter(|(_, to)| to.starts_with("socket:"))
        .count();
    assert!(sockets <= 1, "{held:?}");
    let foreign = [
        "eventpoll",
        "eventfd",
        "signalfd",
        "pidfd",
        "bpf",
        "inotify",
    ];
    let leaked: Vec<_> = held
        .iter()
        .filter(|(_, to)| foreign.iter().any(|kind| to.contains(kind)))
        .collect();
    assert!(leaked.is_empty(), "{leaked:?}");
    let first_of_pod = held.iter().any(|(_, to)| to.contains("/first/"));
    assert!(!first_of_pod, "{held:?}");
    put_away([first, second])
}

fn the_binary_of_a_parked_init_can_not_be_written(s: &ByHand) -> Check {
    let (first, second, pid) = second_of_a_pod(s)?;
    for process in [pid, shim_of(&first)?] {
        let path = format!("/proc/{process}/exe");
        let opened = File::options().write(true).open(&path);
        assert!(opened.is_err(), "the binary is open for writing");
        // While it runs the kernel says ETXTBSY before it looks at the mount; the mount is what holds
        // when the last such process has ended (CVE-2019-5736).
        let mount = nix::sys::statvfs::fstatvfs(&File::open(&path)?)?;
        let read_only = mount
            .flags()
            .contains(nix::sys::statvfs::FsFlags::ST_RDONLY);
        assert!(read_only, "process {process}");
        // A detached mount that is held still is anybody's to change who is root in a user namespace.
        let writable = MountAttr {
            attr_clr: MOUNT_ATTR_RDONLY,
            ..MountAttr::default()
        };
        let changed = mount_setattr(File::open(&path)?.as_fd(), 0, &writable);
        assert!(changed.is_err() || s.places.is_runc(), "process {process}");
    }
    put_away([first, second])
}
